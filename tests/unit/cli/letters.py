"""Dead letters for tests, made as a worker makes them."""

from ondemand.contract.dead_letter import DeadLetter, dead_letter_record, read_dead_letter
from ondemand.contract.headers import Dialect
from ondemand.contract.record import Headers, Record

NOW_MS = 1_800_000_000_000
ADDRESS: Headers = (("correlation-id", b"c-1"), ("reply-topic", b"shop.replies"))


def letter(
    offset: int = 0,
    *,
    partition: int = 0,
    reason: str = "model-error",
    time_ms: int = NOW_MS,
    version: str = "1.0.0",
    source: str = "m.requests",
    source_offset: int | None = None,
    headers: Headers = ADDRESS,
    value: bytes | None = b"{}",
) -> DeadLetter:
    """A dead letter of the model `m`; each one is of a request of its own unless told otherwise."""
    at = 1000 * partition + offset if source_offset is None else source_offset
    request = Record(source, 0, at, b"key", value, headers, time_ms)
    buried = dead_letter_record(
        "m.dead-letters",
        request,
        reason=reason,
        message="it broke",
        worker=f"m/{version}",
        time_ms=time_ms,
        dialect=Dialect.NATIVE,
    )
    read = Record(
        buried.topic, partition, offset, buried.key, buried.value, buried.headers, time_ms
    )
    return read_dead_letter(read)
