"""Records that nobody could answer, or that a model failed on, kept as they came; and the way back.

``dead_letter_record``  a record as a dead letter
``read_dead_letter``    a dead letter as an operator sees it
``redriven_record``     a dead letter as the request that it was, to be published again
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ondemand.contract.headers import (
    DEADLINE,
    ROUTING,
    Dialect,
    HeaderFields,
    index_headers,
)
from ondemand.contract.record import Headers, OutgoingRecord, Record
from ondemand.limits import (
    HEADER_VALUE_BYTES_MAX,
    RECORD_BYTES_MAX,
    REDRIVE_ATTEMPTS_MAX,
)

PREFIX: Final = "dead-letter-"
"""Header names that begin so are the worker's: what is redriven goes without them."""

REASON: Final = "dead-letter-reason"
MESSAGE: Final = "dead-letter-message"
SOURCE: Final = "dead-letter-source"
WORKER: Final = "dead-letter-worker"
TIME: Final = "dead-letter-time"
DIALECT: Final = "dead-letter-dialect"

REDRIVE_ATTEMPTS: Final = "redrive-attempts"
"""How often a request has come back from the dead letters. Workers do not read it, and it is not
copied to the reply."""

UNANSWERABLE = "unanswerable"
"""The reason for a record without a usable reply address; other reasons are reply statuses."""

_DIGITS_MAX = 19
_HEADER_FRAMING_BYTES = 4  # the lengths of a name and of a value
_DIALECTS: Final[Mapping[bytes | None, Dialect]] = {each.encode(): each for each in Dialect}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter, read. Texts are what the headers hold, never trusted: empty where a header is
    missing, with what is not UTF-8 replaced."""

    record: Record
    reason: str
    message: str
    source: str  # ``topic/partition/offset``
    worker: str  # ``model/version``
    time_ms: int  # since the epoch; the record's own time where the header is missing or malformed
    dialect: Dialect | None
    correlation_id: bytes | None
    attempts: int  # how often it has been redriven before

    @property
    def source_topic(self) -> str:
        """The topic that the source names; empty where it names none."""
        topic, *numbers = self.source.rsplit("/", 2)
        return topic if len(numbers) == 2 and all(map(_is_number, numbers)) else ""

    @property
    def version(self) -> str:
        """The model version of the worker that gave the record up."""
        return self.worker.partition("/")[2]


def dead_letter_record(
    topic: str,
    record: Record,
    *,
    reason: str,
    message: str,
    worker: str,
    time_ms: int,
    dialect: Dialect | None,
    extra: Sequence[tuple[str, bytes]] = (),
) -> OutgoingRecord:
    """*record* with key, value and headers untouched, and ``dead-letter-…`` headers added
    (``-reason``, ``-message``, ``-source``, ``-worker``, ``-time``, ``-dialect``).

    Added, not replaced: where a record has been a dead letter before, the last of each counts.
    Without a known dialect, that header is left out. *extra* comes last.

    A record larger than a broker takes (it was compressed on its way) can be kept nowhere: key,
    value and headers are left out, and the message says so.
    """
    if (size := _size_bytes(record)) > RECORD_BYTES_MAX:
        record = record._replace(key=None, value=None, headers=())
        message = (
            f"{message} (key, value and headers of {size} bytes are too large to be kept here: "
            "they stay in the topic that it came from, as long as that keeps them)"
        )
    headers = [
        *record.headers,
        (REASON, reason.encode()),
        (MESSAGE, _bounded(message)),
        (SOURCE, record.source.encode()),
        (WORKER, worker.encode()),
        (TIME, b"%d" % time_ms),
    ]
    if dialect is not None:
        headers.append((DIALECT, dialect.encode()))
    headers += extra
    return OutgoingRecord(topic, None, record.key, record.value, headers)


def read_dead_letter(record: Record) -> DeadLetter:
    """What a record of a dead-letter topic says. Never fails, whoever wrote it."""
    fields = index_headers(record.headers)
    time_ms = _number(fields.get(TIME))
    dialect = _dialect(fields)
    return DeadLetter(
        record,
        reason=_text(fields, REASON),
        message=_text(fields, MESSAGE),
        source=_text(fields, SOURCE),
        worker=_text(fields, WORKER),
        time_ms=record.timestamp_ms if time_ms is None else time_ms,
        dialect=dialect,
        correlation_id=_correlation_id(fields, dialect),
        attempts=redrive_attempts(fields),
    )


def redrive_attempts(fields: HeaderFields) -> int:
    """How often a record has been redriven: 0 to ``REDRIVE_ATTEMPTS_MAX``, whatever is claimed.

    Services can write this header too. What is no number counts as 0, what is beyond the bound as
    the bound.
    """
    return min(_number(fields.get(REDRIVE_ATTEMPTS)) or 0, REDRIVE_ATTEMPTS_MAX)


def deadline_passed(headers: Headers, now_ms: int) -> bool:
    """Whether the headers name a deadline, and *now_ms* (since the epoch) is not before it."""
    deadline_ms = _number(index_headers(headers).get(DEADLINE))
    return deadline_ms is not None and deadline_ms <= now_ms


def redriven_record(
    letter: DeadLetter, topic: str, *, without: frozenset[str] = frozenset()
) -> OutgoingRecord:
    """The request that *letter* was, for *topic*: key, value and headers as they came, correlation
    ID and reply address among them.

    Left out are what the worker added and the headers named in *without*; ``redrive-attempts`` is
    one more than before.
    """
    left_out = without | {REDRIVE_ATTEMPTS}
    headers: list[tuple[str, bytes | None]] = [
        (name, value)
        for name, value in letter.record.headers
        if name not in left_out and not name.startswith(PREFIX)
    ]
    attempts = min(letter.attempts + 1, REDRIVE_ATTEMPTS_MAX)
    headers.append((REDRIVE_ATTEMPTS, b"%d" % attempts))
    return OutgoingRecord(topic, None, letter.record.key, letter.record.value, headers)


def _size_bytes(record: Record) -> int:
    """What *record* takes on the broker, uncompressed; rather more than less."""
    headers = sum(
        len(name) + len(value or b"") + _HEADER_FRAMING_BYTES for name, value in record.headers
    )
    return len(record.key or b"") + len(record.value or b"") + headers


def _bounded(message: str) -> bytes:
    """*message* in UTF-8, cut between characters where it is too long for a header."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= HEADER_VALUE_BYTES_MAX:
        return encoded
    return encoded[:HEADER_VALUE_BYTES_MAX].decode("utf-8", "ignore").encode()


def _correlation_id(fields: HeaderFields, dialect: Dialect | None) -> bytes | None:
    """By the dialect that the worker found; otherwise by the first whose header is there."""
    names = [ROUTING[dialect]] if dialect is not None else ROUTING.values()
    return next((fields[each.correlation] for each in names if each.correlation in fields), None)


def _dialect(fields: HeaderFields) -> Dialect | None:
    return _DIALECTS.get(fields.get(DIALECT))


def _text(fields: HeaderFields, name: str) -> str:
    return (fields.get(name) or b"").decode("utf-8", "replace")


def _number(value: bytes | None) -> int | None:
    """The number in *value*; None where it is not one to nineteen ASCII digits."""
    if value is None or len(value) > _DIGITS_MAX or not value.isdigit():
        return None
    return int(value)


def _is_number(text: str) -> bool:
    return _number(text.encode("utf-8", "replace")) is not None
