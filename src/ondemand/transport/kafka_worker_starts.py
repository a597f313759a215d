"""Where partitions are read from: asked here, not left to the library.

While a transaction that moves a stored position is open, the broker answers "not yet" (KIP-447).
The library asks again; but where its assignment changes meanwhile it takes that answer for "none is
stored" and begins at the first record: every request would be answered once more. So a partition is
assigned with its position. One whose position is not known yet is assigned at its end and paused,
until a seek puts it right.

Asked is the coordinator that gave the assignment, never another connection's: one that has been
replaced and does not know it yet would tell positions of the past.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from ondemand.contract.record import Partition
from ondemand.transport.kafka_worker_errors import error_of

FIRST_SECONDS: Final = 0.25
"""How long an assignment waits for all positions: long enough for a second try by the library, as
the end of a transaction that has just been committed is still being written."""

AGAIN_SECONDS: Final = 0.05
AGAIN_SECONDS_MAX: Final = 0.5
"""How long the intake thread waits for one position, at first and at most. "Not yet" takes all of
it, and cannot be told from a slow broker: so every round that brings nothing doubles it."""

REST_FACTOR: Final = 2.0
"""After waiting in vain the intake thread does other work for so many times as long."""

_NOT_YET: Final = frozenset(
    {
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._TIMED_OUT,  # noqa: SLF001 - public constants, named with an underscore
        KafkaError._STATE,  # noqa: SLF001 - what was assigned a moment ago cannot be sought yet
    }
)


class Starts:
    """The stored positions of what is assigned. For the intake thread only.

    A transaction that is open for good cannot be waited out here: such a partition counts as
    ``unknown`` until it is given up. *tell* takes the errors that are news.
    """

    def __init__(
        self,
        consumer: Consumer,
        tell: Callable[[KafkaError], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer = consumer
        self._tell = tell
        self._clock = clock
        self._unknown: deque[Partition] = deque()
        self._ask_seconds = AGAIN_SECONDS
        self._fruitless = 0
        self._ask_at = 0.0

    def unknown(self) -> Collection[Partition]:
        """Those that wait for their position, and must stay paused."""
        return self._unknown

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Let the consumer read *partitions*, each from its stored position."""
        stored = self._stored(partitions, FIRST_SECONDS) if partitions else []
        self._unknown = deque() if stored is not None else deque(map(_partition, partitions))
        self._ask_seconds, self._fruitless, self._ask_at = AGAIN_SECONDS, 0, self._clock()
        if stored is None:
            stored = [_at(each, OFFSET_END) for each in self._unknown]
        self._consumer.assign(stored)
        if self._unknown:
            self._consumer.pause(stored)

    def found(self) -> Sequence[Partition]:
        """Ask for what is unknown, unless that was in vain a moment ago. What is found now has been
        sought, and is still paused."""
        found: list[Partition] = []
        while self._unknown and self._clock() >= self._ask_at:
            if self._sought(self._unknown[0]):
                found.append(self._unknown.popleft())
                self._fruitless = 0
            else:
                self._rest()
        return found

    def forget(self, partitions: Collection[Partition]) -> None:
        """These are not read here any more."""
        self._unknown = deque(each for each in self._unknown if each not in partitions)

    def _rest(self) -> None:
        """Another one is asked for next, as one dead worker's must not hold up all others."""
        self._ask_at = self._clock() + self._ask_seconds * REST_FACTOR
        self._unknown.rotate(-1)
        self._fruitless += 1
        if self._fruitless >= len(self._unknown):
            self._fruitless = 0
            self._ask_seconds = min(self._ask_seconds * 2, AGAIN_SECONDS_MAX)

    def _sought(self, partition: Partition) -> bool:
        asked = TopicPartition(partition.topic, partition.index)
        stored = self._stored([asked], self._ask_seconds)
        if stored is None:
            return False
        try:
            self._consumer.seek(stored[0])
        except KafkaException as failure:
            self._take_note(error_of(failure))
            return False
        return True

    def _stored(
        self, asked: Sequence[TopicPartition], timeout_seconds: float
    ) -> list[TopicPartition] | None:
        """The positions to begin at; None where the broker does not say all of them."""
        try:
            answers = self._consumer.committed(list(asked), timeout=timeout_seconds)
        except KafkaException as failure:
            errors = [error_of(failure)]
        else:
            errors = [each.error for each in answers if each.error is not None]
            if not errors:
                return [_at(_partition(each), each.offset) for each in answers]
        for error in errors:
            self._take_note(error)
        return None

    def _take_note(self, error: KafkaError) -> None:
        if error.code() not in _NOT_YET:
            self._tell(error)


def _partition(at: TopicPartition) -> Partition:
    return Partition(at.topic, at.partition)


def _at(partition: Partition, offset: int) -> TopicPartition:
    # Nothing is stored in a new group, which must not skip the requests that already wait.
    begin = OFFSET_BEGINNING if offset == OFFSET_INVALID else offset
    return TopicPartition(partition.topic, partition.index, begin)
