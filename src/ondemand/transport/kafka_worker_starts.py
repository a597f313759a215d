"""Where partitions are read from: asked here, not left to the library.

While a transaction that moves a stored position is open, the broker answers "not yet" (KIP-447).
The library asks again; but where its assignment changes meanwhile it takes that answer for "none is
stored" and begins at the first record: every request would be answered once more. So the library is
told each position, and of a partition only once its position is known.

(Never "at the end, paused, and put right by a seek": a look-up of the end that a pause has made
outdated is repeated by the library half a second later, and undoes the seek. That loses requests.)

Asked is the coordinator that gave the assignment, never another connection's: one that has been
replaced and does not know it yet would tell positions of the past.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
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
        KafkaError._TIMED_OUT,  # noqa: SLF001 - a public constant, named with an underscore
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
        self._known: dict[Partition, int] = {}
        self._unknown: deque[Partition] = deque()
        self._ask_seconds = AGAIN_SECONDS
        self._fruitless = 0
        self._ask_at = 0.0

    def unknown(self) -> Collection[Partition]:
        """Those that wait for their position, and are not read yet."""
        return self._unknown

    def assign(self, partitions: Collection[Partition]) -> None:
        """Let the consumer read *partitions*, each from its stored position."""
        stored = self._stored(partitions, FIRST_SECONDS) if partitions else {}
        self._known = stored or {}
        self._unknown = deque(each for each in partitions if each not in self._known)
        self._ask_seconds, self._fruitless, self._ask_at = AGAIN_SECONDS, 0, self._clock()
        self._consumer.assign([_at(each, offset) for each, offset in self._known.items()])

    def found(self) -> bool:
        """Ask for what is unknown, unless that was in vain a moment ago. Whether something was
        found: then the consumer reads that, too, and nothing is paused any more."""
        found: dict[Partition, int] = {}
        while self._unknown and self._clock() >= self._ask_at:
            stored = self._stored([self._unknown[0]], self._ask_seconds)
            if stored is None:
                self._rest()
            else:
                self._fruitless = 0
                found[self._unknown.popleft()] = next(iter(stored.values()))
        if found:
            self._go_on_with(found)
        return bool(found)

    def forget(self, partitions: Collection[Partition]) -> None:
        """These are not read here any more."""
        self._unknown = deque(each for each in self._unknown if each not in partitions)
        self._known = {p: offset for p, offset in self._known.items() if p not in partitions}

    def _go_on_with(self, found: Mapping[Partition, int]) -> None:
        """Assign *found* besides the others, which go on behind what they have handed over."""
        others = [TopicPartition(each.topic, each.index) for each in self._known]
        for each in self._consumer.position(others) if others else ():
            if each.offset >= 0:
                self._known[Partition(each.topic, each.partition)] = each.offset
        self._known |= found
        self._consumer.assign([_at(each, offset) for each, offset in self._known.items()])

    def _rest(self) -> None:
        """Another one is asked for next, as one dead worker's must not hold up all others."""
        self._ask_at = self._clock() + self._ask_seconds * REST_FACTOR
        self._unknown.rotate(-1)
        self._fruitless += 1
        if self._fruitless >= len(self._unknown):
            self._fruitless = 0
            self._ask_seconds = min(self._ask_seconds * 2, AGAIN_SECONDS_MAX)

    def _stored(
        self, asked: Collection[Partition], timeout_seconds: float
    ) -> dict[Partition, int] | None:
        """The positions to begin at; None where the broker does not say all of them."""
        try:
            answers = self._consumer.committed(
                [TopicPartition(each.topic, each.index) for each in asked], timeout=timeout_seconds
            )
        except KafkaException as failure:
            errors = [error_of(failure)]
        else:
            errors = [each.error for each in answers if each.error is not None]
            if not errors:
                return {Partition(each.topic, each.partition): each.offset for each in answers}
        for error in errors:
            if error.code() not in _NOT_YET:
                self._tell(error)
        return None


def _at(partition: Partition, offset: int) -> TopicPartition:
    # Nothing is stored in a new group, which must not skip the requests that already wait.
    begin = OFFSET_BEGINNING if offset == OFFSET_INVALID else offset
    return TopicPartition(partition.topic, partition.index, begin)
