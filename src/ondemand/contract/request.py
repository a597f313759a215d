"""A prediction request as it is published: headers, key and body of one record."""

from ondemand.contract.codec import Body
from ondemand.contract.headers import ReplyAddress, Terms
from ondemand.contract.record import OutgoingRecord


def request_record(
    topic: str, *, key: bytes | None, address: ReplyAddress, terms: Terms, body: Body
) -> OutgoingRecord:
    """The record to publish, in the address's dialect. ``terms.head_length`` is taken from *body*."""
    raise NotImplementedError
