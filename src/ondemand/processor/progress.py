"""Is every partition moving? Threads that are alive prove nothing: a partition can be deaf.

A partition with work to do (records that wait on the broker or here) whose marks do not change is
standing still. Time is an argument; what to do about it is the loop's to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Marks = tuple[int | None, int | None]
"""The position of a partition, and the last offset taken from it."""


@dataclass(frozen=True, slots=True)
class Standstill:
    """A partition with work to do that has not moved for *seconds*."""

    partition: int
    seconds: float
    waiting: int

    def __str__(self) -> str:
        return (
            f"partition {self.partition} has {self.waiting} records waiting and has not moved "
            f"for {self.seconds:.0f} s"
        )


class Progress:
    """Watches all partitions that are assigned."""

    def __init__(self, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._moved_at: dict[int, tuple[Marks, float]] = {}

    def observe(
        self, marks: Mapping[int, Marks], waiting: Mapping[int, int], *, now: float
    ) -> list[Standstill]:
        """Those that stand still. *marks* and *waiting* (records) are by partition."""
        seen = self._moved_at
        self._moved_at = {}
        for partition, mark in marks.items():
            before, since = seen.get(partition, (None, now))
            idle = waiting.get(partition, 0) == 0
            self._moved_at[partition] = (mark, now if idle or mark != before else since)
        standing = [
            Standstill(partition, now - since, waiting.get(partition, 0))
            for partition, (_, since) in self._moved_at.items()
        ]
        return [each for each in standing if each.seconds >= self._patience_seconds]
