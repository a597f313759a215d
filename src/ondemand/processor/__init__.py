"""From records to replies, in the order that a record meets these modules.

1. ``decode``       a record becomes a request; a bad one becomes a refusal, not an exception
2. ``micro_batch``  which requests travel together, and when
3. ``infer``        one run of the model for all of them; a poisonous one is found and stands alone
4. ``encode``       an outcome becomes a reply, and a dead letter where there must be one
5. ``ledger``       once the replies are settled: what may be committed

Before them, where processes have died of a request, ``careful`` lets in fewer of them at once; what
it goes by is in ``attempts``.

Most records need no 1: what sound requests have said is remembered in ``forms``, which reads those
that say the same again, but for their numbers.

Where a body is not in the record but in the object store, ``claims`` fetches it between 1 and 2.

``request`` and ``outcome`` are the values that pass between them. ``loop`` joins the steps in the
intake thread; ``runner`` runs the model, there or in a thread of its own, and ``outbox`` hands over
what either of them has to send. ``lifecycle`` starts all this, stops it and tells the world how it
is; ``announcer`` tells clients that it is there.
"""
