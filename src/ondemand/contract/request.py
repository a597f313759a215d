"""A prediction request as it is published: headers, key and body of one record."""

from functools import lru_cache

from ondemand.contract.claim import Claim, claim_headers
from ondemand.contract.codec import Body
from ondemand.contract.headers import (
    DEADLINE,
    MODEL_VERSION,
    ROUTING,
    TRACEPARENT,
    TRACESTATE,
    Dialect,
    ReplyAddress,
    Terms,
    encode_partition,
    form_headers,
)
from ondemand.contract.record import OutgoingRecord

_SHARED_KEPT = 256


def request_record(
    topic: str,
    *,
    key: bytes | None,
    address: ReplyAddress,
    terms: Terms,
    body: Body,
    claim: Claim | None = None,
) -> OutgoingRecord:
    """The record to publish, in the address's dialect. The head's length is taken from *body*.

    With *claim*, that is where the body is, and the record has none.
    """
    headers: list[tuple[str, bytes | None]] = [
        (ROUTING[address.dialect].correlation, address.correlation_id),
        *_shared_headers(address.dialect, address.topic, address.partition, body.head_length),
    ]
    if terms.deadline_ms is not None:
        headers.append((DEADLINE, b"%d" % terms.deadline_ms))
    if terms.model_version is not None:
        headers.append((MODEL_VERSION, terms.model_version.encode()))
    if terms.traceparent is not None:
        headers.append((TRACEPARENT, terms.traceparent))
    if terms.tracestate is not None:
        headers.append((TRACESTATE, terms.tracestate))
    if claim is not None:
        headers += claim_headers(claim)
    return OutgoingRecord(topic, None, key, b"" if claim else body.value, headers)


@lru_cache(maxsize=_SHARED_KEPT)
def _shared_headers(
    dialect: Dialect, topic: str, partition: int | None, head_length: int | None
) -> tuple[tuple[str, bytes], ...]:
    """The headers that many requests share."""
    names = ROUTING[dialect]
    headers = [(names.topic, topic.encode())]
    if partition is not None:
        headers.append((names.partition, encode_partition(partition, names)))
    return (*headers, *form_headers(head_length))
