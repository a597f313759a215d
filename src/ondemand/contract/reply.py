"""The one answer to a request, good or bad: headers, key and body of one record."""

from dataclasses import dataclass

from ondemand.contract.codec import Body
from ondemand.contract.headers import ReplyAddress
from ondemand.contract.record import OutgoingRecord, Record
from ondemand.errors import Status


@dataclass(frozen=True, slots=True)
class ServerTiming:
    """How long a request took in the worker, milliseconds, and how many rows its batch had."""

    queue_ms: float = 0.0
    model_ms: float = 0.0
    batch_rows: int = 0

    def header(self) -> bytes:
        """``queue;dur=1.2, model;dur=0.4, batch;desc=32``."""
        raise NotImplementedError

    @classmethod
    def parse(cls, value: bytes | None) -> "ServerTiming":
        """Zeroes for what is missing or malformed: timings never fail a prediction."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Served:
    """What stands on every reply of one worker: which model, which version."""

    model_name: str
    model_version: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as a client reads it."""

    status: Status
    model_name: str
    model_version: str
    timing: ServerTiming
    body: Body


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
    raise NotImplementedError


def correlation_of(record: Record) -> bytes | None:
    """The native correlation ID of a record on a reply topic; None if there is none."""
    raise NotImplementedError


def parse_reply(record: Record) -> Reply:
    """What a worker answered. Never raises: an unknown status or a malformed header is read as
    ``internal`` with a message that says so."""
    raise NotImplementedError
