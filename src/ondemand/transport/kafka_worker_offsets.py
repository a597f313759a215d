"""Committing: in the background while records flow, for certain where partitions change hands."""

import time
from collections.abc import Collection, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ondemand.contract.record import Partition
from ondemand.errors import TransportError
from ondemand.transport.base import Note
from ondemand.transport.kafka_worker_config import log
from ondemand.transport.kafka_worker_errors import COMMIT_AGAIN, error_of
from ondemand.transport.kafka_worker_notes import offset_of

WAIT_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.1
REPEAT_SECONDS: Final = 1.0


class Offsets:
    """What is to be committed, until the broker has said that it is.

    A background commit that fails stays here and goes along with the next one. Used by the intake
    thread only; *on_commit* comes to it through the consumer's poll.
    """

    def __init__(self) -> None:
        self._wanted: dict[Partition, int] = {}
        self._notes: dict[Partition, Note] = {}
        self._failed = False
        self._sent_at = 0.0

    def commit(self, consumer: Consumer, positions: Mapping[Partition, int]) -> None:
        """Send *positions*, and what failed before."""
        self._wanted.update(positions)
        if not self._wanted:
            return
        self._failed = False
        self._sent_at = time.monotonic()
        try:
            consumer.commit(offsets=self._offsets(), asynchronous=True)
        except KafkaException as error:
            self._failed = True
            log.warning("offsets were not committed, and will be again: %s", error_of(error).str())

    def repeat_failed(self, consumer: Consumer) -> None:
        """Send what failed once more, a moment later: nobody else might ask for it again."""
        if self._failed and time.monotonic() - self._sent_at >= REPEAT_SECONDS:
            self.commit(consumer, {})

    def commit_and_wait(self, consumer: Consumer, positions: Mapping[Partition, int]) -> None:
        """Store *positions*, and what failed before. Raises ``TransportError`` if they are not."""
        self._wanted.update(positions)
        deadline = time.monotonic() + WAIT_SECONDS
        while self._wanted:
            error = self._try(consumer)
            if error is None:
                return
            if error.code() not in COMMIT_AGAIN or time.monotonic() >= deadline:
                raise TransportError(f"offsets were not stored: {error.str()}") from KafkaException(
                    error
                )
            time.sleep(RETRY_SECONDS)

    def on_commit(self, error: KafkaError | None, stored: list[TopicPartition]) -> None:
        """The broker's answer to a background commit."""
        for each in stored:
            failed = each.error or error
            partition = Partition(each.topic, each.partition)
            if failed is None:
                if self._wanted.get(partition) == each.offset:
                    del self._wanted[partition]
            elif partition in self._wanted:
                self._failed = True
                log.warning("%s: not committed, and will be again: %s", partition, failed.str())

    def forget(self, partitions: Collection[Partition]) -> None:
        """These belong to another worker: nothing of them may be committed here."""
        for partition in partitions:
            self._wanted.pop(partition, None)
            self._notes.pop(partition, None)

    def noted(self, notes: Mapping[Partition, Note]) -> None:
        """These are stored: whatever was wanted before is behind them."""
        self._notes.update(notes)
        for partition in notes:
            self._wanted.pop(partition, None)

    def _try(self, consumer: Consumer) -> KafkaError | None:
        try:
            stored = consumer.commit(offsets=self._offsets(), asynchronous=False)
        except KafkaException as error:
            return error_of(error)
        failed = [each.error for each in stored or () if each.error is not None]
        for each in stored or ():
            if each.error is None:
                self._wanted.pop(Partition(each.topic, each.partition), None)
        return failed[0] if failed else None

    def _offsets(self) -> list[TopicPartition]:
        return [
            offset_of(partition, self._note(partition, position))
            for partition, position in self._wanted.items()
        ]

    def _note(self, partition: Partition, position: int) -> Note:
        """The text beside a position lasts until that moves."""
        noted = self._notes.get(partition)
        if noted is not None and noted.position == position:
            return noted
        return Note(position, "")
