"""A prediction request as it is published: headers, key and body of one record."""

from ondemand.contract.claim import Claim, claim_headers
from ondemand.contract.codec import Body
from ondemand.contract.headers import (
    DEADLINE,
    MODEL_VERSION,
    ROUTING,
    TRACEPARENT,
    TRACESTATE,
    ReplyAddress,
    Terms,
    encode_partition,
    form_headers,
)
from ondemand.contract.record import OutgoingRecord


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
    names = ROUTING[address.dialect]
    headers: list[tuple[str, bytes | None]] = [
        (names.correlation, address.correlation_id),
        (names.topic, address.topic.encode()),
    ]
    if address.partition is not None:
        headers.append((names.partition, encode_partition(address.partition, names)))
    headers += form_headers(body.head_length)
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
