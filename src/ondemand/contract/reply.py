"""The one answer to a request, good or bad: headers, key and body of one record."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from ondemand.contract.codec import Body, encode_error
from ondemand.contract.document import quoted
from ondemand.contract.headers import (
    CONTENT_TYPE,
    CORRELATION_ID,
    HEAD_LENGTH,
    MODEL_VERSION,
    ROUTING,
    TRACEPARENT,
    TRACESTATE,
    HeaderFields,
    ReplyAddress,
    form_headers,
    index_headers,
    parse_head_length,
)
from ondemand.contract.record import OutgoingRecord, Record
from ondemand.errors import RequestError, Status

STATUS: Final = "status"
MODEL_NAME: Final = "model-name"
SERVER_TIMING: Final = "server-timing"

_COMMON_KEPT = 256
_SHARED = (STATUS, MODEL_NAME, MODEL_VERSION, CONTENT_TYPE, HEAD_LENGTH)
"""The headers that many replies share, but for those with a JSON body."""
_SHARED_BYTES_KEPT = 512
_known: dict[tuple[bytes | None, ...], tuple[Status, str, str, int | None]] = {}
_STATUSES = {status.encode(): status for status in Status}
_TIMING = re.compile(rb"(queue|model|batch);(?:dur|desc)=([0-9]{1,12}(?:\.[0-9]{1,9})?)(?![0-9.])")


class ServerTiming(NamedTuple):
    """How long a request took in the worker, milliseconds, and how many rows its batch had."""

    queue_ms: float = 0.0
    model_ms: float = 0.0
    batch_rows: int = 0

    def header(self) -> bytes:
        """``queue;dur=1.200, model;dur=0.400, batch;desc=32``."""
        return _timing_header(self)

    @classmethod
    def parse(cls, value: bytes | None) -> "ServerTiming":
        """Zeroes for what is missing or malformed: timings never fail a prediction."""
        found = dict(_TIMING.findall(value or b""))
        return cls(
            queue_ms=float(found.get(b"queue", 0)),
            model_ms=float(found.get(b"model", 0)),
            batch_rows=int(float(found.get(b"batch", 0))),
        )


@dataclass(frozen=True, slots=True)
class Served:
    """What stands on every reply of one worker: which model, which version."""

    model_name: str
    model_version: str


class Reply(NamedTuple):
    """A reply as a client reads it. *server_timing*: as it came; read by ``timing``."""

    status: Status
    model_name: str
    model_version: str
    server_timing: bytes | None
    body: Body

    @property
    def timing(self) -> ServerTiming:
        """The worker's own account."""
        return ServerTiming.parse(self.server_timing)


def reply_record(
    address: ReplyAddress,
    *,
    key: bytes | None,
    status: Status,
    served: Served,
    timing: ServerTiming,
    body: Body,
    trace: tuple[bytes | None, bytes | None] = (None, None),
) -> OutgoingRecord:
    """The record to publish. *trace*: ``traceparent`` and ``tracestate``, continued if present."""
    # The correlation header of the request's own dialect and no other: SmallRye's reader takes a
    # record with its reply-topic header for a request, and dies of a null correlation header.
    headers: list[tuple[str, bytes | None]] = [
        (ROUTING[address.dialect].correlation, address.correlation_id),
        *_common_headers(status, served.model_name, served.model_version, body.head_length),
        (SERVER_TIMING, timing.header()),
    ]
    traceparent, tracestate = trace
    if traceparent:
        headers.append((TRACEPARENT, traceparent))
    if tracestate:
        headers.append((TRACESTATE, tracestate))
    return OutgoingRecord(address.topic, address.partition, key, body.value, headers)


@lru_cache(maxsize=_COMMON_KEPT)
def _timing_header(timing: ServerTiming) -> bytes:
    """Requests of one batch that were fetched together share it."""
    return b"queue;dur=%.3f, model;dur=%.3f, batch;desc=%d" % timing


@lru_cache(maxsize=_COMMON_KEPT)
def _common_headers(
    status: Status, model_name: str, model_version: str, head_length: int | None
) -> tuple[tuple[str, bytes], ...]:
    """The headers that many replies share."""
    return (
        (STATUS, status.encode()),
        (MODEL_NAME, model_name.encode()),
        (MODEL_VERSION, model_version.encode()),
        *form_headers(head_length),
    )


def correlation_of(record: Record) -> bytes | None:
    """The native correlation ID of a record on a reply topic; None if there is none."""
    return index_headers(record.headers).get(CORRELATION_ID) or None


def parse_reply(record: Record) -> Reply:
    """What a worker answered. Never raises: an unknown status or a malformed header is read as
    ``internal`` with a message that says so."""
    fields = index_headers(record.headers)
    shared = tuple([fields.get(name) for name in _SHARED])
    known = _known.get(shared)
    if known is not None and record.value:
        status, model_name, model_version, head_length = known
        body = Body(record.value, head_length)
        return Reply(status, model_name, model_version, fields.get(SERVER_TIMING), body)
    model_name, model_version = _readable(fields, MODEL_NAME), _readable(fields, MODEL_VERSION)
    try:
        status, body = _outcome(fields, record.value)
    except RequestError as error:
        status = Status.INTERNAL
        body = Body(encode_error(status, f"the reply is malformed: {error.message}"), None)
    else:
        _keep(shared, (status, model_name, model_version, body.head_length))
    return Reply(status, model_name, model_version, fields.get(SERVER_TIMING), body)


def _keep(shared: tuple[bytes | None, ...], said: tuple[Status, str, str, int | None]) -> None:
    """Remember what these headers say, if all are there and short."""
    if None in shared or sum([len(value or b"") for value in shared]) > _SHARED_BYTES_KEPT:
        return  # whether one is null or missing makes a difference
    if len(_known) >= _COMMON_KEPT:
        _known.clear()
    _known[shared] = said


def _outcome(fields: HeaderFields, value: bytes | None) -> tuple[Status, Body]:
    """Status and body. Raises ``RequestError`` that says where the reply breaks the contract."""
    named = fields.get(STATUS)
    status = _STATUSES.get(named or b"")
    if status is None:
        expected = ", ".join(Status)
        message = f"header {STATUS}: expected one of {expected}, got {quoted(named)}"
        raise RequestError(Status.INTERNAL, message)
    if not value:
        raise RequestError(Status.INTERNAL, f"status {status}, but no body")
    return status, Body(value, parse_head_length(fields))


def _readable(fields: HeaderFields, name: str) -> str:
    """A header for people: what is not UTF-8 in it is replaced."""
    return (fields.get(name) or b"").decode("utf-8", "replace")
