"""The largest records that a broker takes, and those that become large only where they are read."""

import random
from collections.abc import Sequence

from fuzz.targets import REPLIES, REQUESTS

from ondemand import limits
from ondemand.contract.record import Headers, Record

# A record batch of one record: 61 bytes of its own, and some for lengths.
FRAMING_BYTES = 100
INFLATED_BYTES = 40_000_000
"""Of a body that the broker holds compressed, and whose size it does not look at."""


def extremes() -> Sequence[Record]:
    """Each of them must be answered or buried, and stop nobody behind it."""
    full = limits.RECORD_BYTES_MAX - FRAMING_BYTES
    routed = _routing(b"extreme-%d")
    return (
        _record(_noise(full), ()),
        _record(_noise(full - 200), routed(1)),
        _record(b"{}", routed(2), key=_noise(full - 120)),
        _record(b"{}", (), key=_noise(full)),
        _record(b"{}", (*routed(3), ("h", _noise(full - 200)))),
        _record(b"{}", (("h", _noise(full - 200)),)),
        _record(b"{}", [("h", b"v" * 100)] * 9_000),
        _record(b" " * INFLATED_BYTES, routed(4)),
        _record(bytes(INFLATED_BYTES), ()),
        _record(b"{}", routed(5), key=bytes(INFLATED_BYTES)),
    )


def _routing(name: bytes):
    def routing(number: int) -> Headers:
        return (("correlation-id", name % number), ("reply-topic", REPLIES.encode()))

    return routing


def _record(value: bytes, headers: Headers, key: bytes | None = None) -> Record:
    return Record(REQUESTS, 0, 0, key, value, tuple(headers), 1_000)


def _noise(count: int) -> bytes:
    """Bytes that no compression makes smaller: the same ones in every run."""
    return random.Random(count).randbytes(count)
