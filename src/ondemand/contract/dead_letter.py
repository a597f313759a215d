"""Records that nobody could answer, or that a model failed on, kept as they came."""

from collections.abc import Sequence
from typing import Final

from ondemand.contract.headers import Dialect
from ondemand.contract.record import OutgoingRecord, Record
from ondemand.limits import HEADER_VALUE_BYTES_MAX

REASON: Final = "dead-letter-reason"
MESSAGE: Final = "dead-letter-message"
SOURCE: Final = "dead-letter-source"
WORKER: Final = "dead-letter-worker"
TIME: Final = "dead-letter-time"
DIALECT: Final = "dead-letter-dialect"

UNANSWERABLE = "unanswerable"
"""The reason for a record without a usable reply address; other reasons are reply statuses."""


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
    """
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


def _bounded(message: str) -> bytes:
    """*message* in UTF-8, cut between characters where it is too long for a header."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= HEADER_VALUE_BYTES_MAX:
        return encoded
    return encoded[:HEADER_VALUE_BYTES_MAX].decode("utf-8", "ignore").encode()
