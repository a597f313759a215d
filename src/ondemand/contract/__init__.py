"""What travels: the wire contract of ``docs/contract.md``, in the order a request meets it.

``record``       the broker's unit: key, value, headers
``topics``       which topic carries what, and who may be answered where
``headers``      where to answer and on which terms, in three dialects
``tensor``       datatypes and named arrays
``document``     JSON read within bounds
``json_data``    tensors as JSON ``data``
``binary_data``  tensors as bytes
``layout``       heads of binary bodies that were read before
``codec``        V2 bodies: both forms, both directions
``rows``         the responses to the rows of one batch
``claim``        a body that is elsewhere: its key, length and digest
``request``      a request as a record
``reply``        a reply as a record, and back
``dead_letter``  what nobody could answer, as a record

Everything here is pure: no clock, no I/O, no logging.
"""
