"""The broker's unit, as every transport hands it over and takes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes | None]]
"""Names may repeat, values may be null, empty or not UTF-8: a record never breaks its batch."""


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic."""

    topic: str
    index: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.index}"


class Record(NamedTuple):
    """A record as it was read. A NamedTuple: made once per request, three times as fast."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int  # since the epoch; -1 where the broker gave none

    @property
    def source(self) -> str:
        """``topic/partition/offset``, as dead letters and logs name a record."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def next_offset(self) -> int:
        """What is committed when this record is finished."""
        return self.offset + 1


class OutgoingRecord(NamedTuple):
    """A record to be written. Without a partition, the default partitioner chooses by key."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers
