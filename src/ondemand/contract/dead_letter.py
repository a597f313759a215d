"""Records that nobody could answer, or that a model failed on, kept as they came."""

from collections.abc import Sequence

from ondemand.contract.headers import Dialect
from ondemand.contract.record import OutgoingRecord, Record

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
    (``-reason``, ``-message``, ``-source``, ``-worker``, ``-time``, ``-dialect``)."""
    raise NotImplementedError
