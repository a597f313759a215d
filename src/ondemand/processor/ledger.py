"""What may be committed: per partition, everything before the first record that is not finished.

Records finish in any order; a position moves only past an unbroken run of finished ones. A track
lives for one assignment of its partition: what settles after that changes nothing.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from ondemand.contract.record import Partition

T = TypeVar("T")


class Track(Generic[T]):
    """The unfinished records of one partition, for one assignment of it to this worker.

    A record may be finished with something that waits for its turn: ``finish`` gives it back once
    all records before it are finished.
    """

    __slots__ = ("_finished", "_taken", "last", "position")

    def __init__(self) -> None:
        self._taken: deque[int] = deque()
        self._finished: dict[int, T | None] = {}
        self.position: int | None = None  # the next offset to commit; None until one is finished
        self.last: int | None = None  # the offset taken last

    def __len__(self) -> int:
        """How many records are taken and not passed: unfinished, or finished behind a gap."""
        return len(self._taken)

    @property
    def unfinished(self) -> int:
        """How many records are taken and not finished."""
        return len(self._taken) - len(self._finished)

    def take(self, offset: int) -> None:
        """*offset* was read. Offsets come in ascending order, with gaps where topics have them."""
        if self._taken and offset <= self._taken[-1]:
            raise ValueError(f"offset {offset} came after {self._taken[-1]}")
        self._taken.append(offset)
        self.last = offset

    def finish(self, offset: int, held: T | None = None) -> list[T]:
        """*offset* is finished. What was held by it, and by those that it held up, in order."""
        if not self._taken or offset < self._taken[0] or offset in self._finished:
            raise ValueError(f"offset {offset} is not unfinished")
        if offset == self._taken[0] and not self._finished:  # nearly always
            self._taken.popleft()
            self.position = offset + 1
            return [] if held is None else [held]
        self._finished[offset] = held
        passed: list[T] = []
        while self._taken and self._taken[0] in self._finished:
            first = self._taken.popleft()
            if (released := self._finished.pop(first)) is not None:
                passed.append(released)
            self.position = first + 1
        return passed


class Ledger(Generic[T]):
    """The tracks of the request topic's partitions that are assigned now, by partition index."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._tracks: dict[int, Track[T]] = {}
        self._committed: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Ledger [{self.unfinished} unfinished | {len(self._tracks)} partitions]>"

    @property
    def unfinished(self) -> int:
        """Records taken and not finished, over all partitions."""
        return sum(track.unfinished for track in self._tracks.values())

    def waiting(self) -> dict[int, int]:
        """By partition, the records taken that no position has passed yet."""
        return {index: len(track) for index, track in self._tracks.items()}

    @property
    def held(self) -> int:
        """Records taken that no position has passed yet: what memory is needed for."""
        return sum([len(track) for track in self._tracks.values()])

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """What is assigned now."""
        # Copied in one step: other threads ask while partitions come and go.
        return tuple(Partition(self._topic, index) for index in tuple(self._tracks))

    def is_current(self, partition: int, track: Track[T]) -> bool:
        """Whether *track* is the one of the partition's assignment now."""
        return self._tracks.get(partition) is track

    def tracks(self) -> dict[int, Track[T]]:
        """The tracks as they are now. A batch keeps them until it settles: if a partition goes and
        comes back meanwhile, the batch moves the old track, and that is nobody's position."""
        return dict(self._tracks)

    def assign(self, partitions: Collection[Partition]) -> None:
        """Begin a track for each partition."""
        for partition in partitions:
            self._tracks[partition.index] = Track()
            self._committed.pop(partition.index, None)

    def take(self, partition: int, offset: int) -> bool:
        """A record was read; False if its partition is not assigned any more: leave it alone."""
        track = self._tracks.get(partition)
        if track is None:
            return False
        track.take(offset)
        return True

    def release(self, partitions: Collection[Partition]) -> None:
        """End the tracks: whatever settles later no longer moves a position."""
        for partition in partitions:
            self._tracks.pop(partition.index, None)
            self._committed.pop(partition.index, None)

    def committable(self) -> dict[Partition, int]:
        """Positions that moved since they were last handed to the broker."""
        return {
            Partition(self._topic, index): track.position
            for index, track in self._tracks.items()
            if track.position is not None and track.position != self._committed.get(index)
        }

    def marks(self) -> dict[int, tuple[int | None, int | None]]:
        """By partition, its position and the last offset taken: they change with any progress."""
        return {index: (track.position, track.last) for index, track in self._tracks.items()}

    def positions(self) -> dict[Partition, int]:
        """All positions, handed to the broker or not: what a last commit makes certain of."""
        return {
            Partition(self._topic, index): track.position
            for index, track in self._tracks.items()
            if track.position is not None
        }

    def committed(self, positions: Mapping[Partition, int]) -> None:
        """These were handed to the broker."""
        for partition, position in positions.items():
            if partition.index in self._tracks:
                self._committed[partition.index] = position
