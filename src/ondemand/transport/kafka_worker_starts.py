"""Where partitions are read from: asked here, not left to the library.

While a transaction that moves a stored position is open, the broker answers "not yet". The library
then asks again; but where the assignment changes meanwhile, it takes that answer for "none is
stored", and begins at the first record: every request would be answered once more. So partitions
are assigned with a position. Those whose position is not known yet are assigned at their end,
paused, and put right by a seek.
"""

from collections.abc import Collection
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaException,
    TopicPartition,
)

from ondemand.contract.record import Partition
from ondemand.transport.kafka_worker_config import log
from ondemand.transport.kafka_worker_errors import error_of

ASK_SECONDS: Final = 0.25
"""How long the intake thread waits for one answer; "not yet" takes all of it."""


class Starts:
    """The stored positions of what is assigned. For the intake thread only."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._unknown: dict[Partition, TopicPartition] = {}

    def unknown(self, partition: Partition) -> bool:
        """Whether *partition* waits for its position, and must stay paused."""
        return partition in self._unknown

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Let the consumer read *partitions*, each from its stored position."""
        stored = self._stored(partitions)
        if stored is None:
            stored = [TopicPartition(each.topic, each.partition, OFFSET_END) for each in partitions]
            self._unknown = {Partition(each.topic, each.partition): each for each in stored}
        self._consumer.assign(stored)
        if self._unknown:
            self._consumer.pause(stored)

    def found(self) -> list[Partition]:
        """The partitions whose positions are known by now: sought, and still paused."""
        found = []
        for partition in tuple(self._unknown):
            asked = self._unknown.pop(partition)
            if not self._sought(asked):
                self._unknown[partition] = asked  # at the end of the row: others may be ready
                break
            found.append(partition)
        return found

    def forget(self, partitions: Collection[Partition]) -> None:
        """These are not read here any more."""
        for partition in partitions:
            self._unknown.pop(partition, None)

    def _sought(self, asked: TopicPartition) -> bool:
        stored = self._stored([asked])
        if stored is None:
            return False
        try:
            self._consumer.seek(stored[0])
        except KafkaException as error:  # what was assigned a moment ago cannot be sought yet
            log.debug("%s: no seek yet: %s", asked.topic, error_of(error).str())
            return False
        return True

    def _stored(self, asked: list[TopicPartition]) -> list[TopicPartition] | None:
        """The positions to begin at; None where the broker does not say all of them yet."""
        try:
            answers = self._consumer.committed(asked, timeout=ASK_SECONDS)
        except KafkaException as error:
            # An open transaction looks like this, too: the library asks until the time is over.
            log.debug("no stored positions yet: %s", error_of(error).str())
            return None
        if any(each.error is not None for each in answers):
            return None
        # A new group must not skip the requests that already wait.
        return [
            TopicPartition(
                each.topic,
                each.partition,
                OFFSET_BEGINNING if each.offset == OFFSET_INVALID else each.offset,
            )
            for each in answers
        ]
