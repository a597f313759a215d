"""Following a partition from its start on: a compacted topic, read as the table that it is."""

import time
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import TopicAuthorizationFailedError

from ondemand.contract.record import Partition, Record
from ondemand.errors import TransportError
from ondemand.transport.kafka_client_config import ClientAddress
from ondemand.transport.kafka_client_reader import ReplyReader

TOUCH_SECONDS: Final = 2.0
"""A broker that has nothing to give answers a fetch every half second all the same."""


class PartitionFollower(ReplyReader):
    """A ``Follower`` on aiokafka: a ``ReplyReader`` that begins at the start."""

    def __init__(self, address: ClientAddress, partition: Partition) -> None:
        super().__init__(address, partition)
        self.caught_up = False
        self._end = 0
        self._polled: int | None = None
        self._touched_at = time.monotonic()

    @property
    def in_touch(self) -> bool:
        """Whether the broker has answered within the last seconds."""
        return time.monotonic() - self._touched_at < TOUCH_SECONDS

    async def _find_place(self, consumer: AIOKafkaConsumer) -> None:
        ends = await consumer.end_offsets([self._tp])
        self._end = ends[self._tp]
        await consumer.seek_to_beginning(self._tp)
        self._next_offset = await consumer.position(self._tp)
        self.caught_up = self._next_offset >= self._end

    async def _recover(self, consumer: AIOKafkaConsumer, error: Exception) -> None:
        if isinstance(error, TopicAuthorizationFailedError):
            raise TransportError(f"this login may not read {self._tp.topic!r} any more") from error
        await super()._recover(consumer, error)

    async def _read(self, timeout_seconds: float) -> Sequence[Record]:
        records = await super()._read(timeout_seconds)
        consumer = self._opened()
        polled = consumer.last_poll_timestamp(self._tp)
        if polled != self._polled:
            self._polled, self._touched_at = polled, time.monotonic()
        if not self.caught_up:
            # By position, not by the last record: what compaction left may end before the end.
            self.caught_up = await consumer.position(self._tp) >= self._end
        return records
