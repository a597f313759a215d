"""Reading replies: one partition, without a group, from its end on."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ondemand.contract.record import Partition, Record
from ondemand.errors import TransportError
from ondemand.transport.kafka_client_config import ClientAddress, log
from ondemand.transport.kafka_client_metadata import create_nothing, look_up

WATCH_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.1
CLOSE_SECONDS: Final = 3.0


class ReplyReader:
    """Reads *partition* from its end on, and heals by itself.

    aiokafka's calls are never cancelled: one that was turns its watchdog off for good. So what is
    under way belongs to a task of its own, and a caller who gives up leaves it to the next one.
    """

    def __init__(self, address: ClientAddress, partition: Partition) -> None:
        self._address = address
        self._partition = partition
        self._tp = TopicPartition(partition.topic, partition.index)
        self._consumer: AIOKafkaConsumer | None = None
        self._next_offset = 0
        self._under_way: asyncio.Task[Sequence[Record]] | None = None
        self._careful = False
        self._left_out = False
        self._watch_at = 0.0
        self._was_behind = False

    async def start(self) -> None:
        """Be at the end of the partition. Raises ``TransportError`` where that takes too long."""
        self._consumer = await self._started()
        try:
            async with asyncio.timeout(self._address.connect_timeout_seconds):
                await self._find_place(self._consumer)
        except (KafkaError, TimeoutError) as error:
            await self.stop()
            raise TransportError(
                f"{self._partition} cannot be read: its end was not found within "
                f"{self._address.connect_timeout_seconds:g} s"
            ) from error
        self._watch_at = time.monotonic() + WATCH_SECONDS

    async def fetch(self, timeout_seconds: float) -> Sequence[Record]:
        """The records that are there; waits for a first one."""
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_task(self._read(timeout_seconds))
        try:
            records = await asyncio.shield(self._under_way)
        except asyncio.CancelledError:
            raise  # the caller gave up; what is under way, or has come, belongs to the next call
        except BaseException:
            self._under_way = None
            raise
        self._under_way = None
        return records

    async def stop(self) -> None:
        """Disconnect, within a bound."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _close(consumer)
        if self._under_way is not None:
            await asyncio.wait([self._under_way], timeout=CLOSE_SECONDS)

    async def _find_place(self, consumer: AIOKafkaConsumer) -> None:
        await consumer.seek_to_end(self._tp)
        # Only now is it known where to read: a reply that comes next cannot be missed.
        self._next_offset = await consumer.position(self._tp)

    async def _read(self, timeout_seconds: float) -> Sequence[Record]:
        records = await self._records(timeout_seconds)
        if not records and time.monotonic() >= self._watch_at:
            self._watch_at = time.monotonic() + WATCH_SECONDS
            await self._watch()
        return records

    async def _records(self, timeout_seconds: float) -> Sequence[Record]:
        consumer = self._opened()
        try:
            got = await consumer.getmany(
                self._tp,
                timeout_ms=round(timeout_seconds * 1000),
                max_records=1 if self._careful else None,
            )
        except (KafkaError, UnicodeDecodeError) as error:
            await self._recover(consumer, error)
            return ()
        messages = got.get(self._tp, ())
        if messages:
            self._next_offset = messages[-1].offset + 1
            self._watch_at = time.monotonic() + WATCH_SECONDS
            self._was_behind = False
            self._careful = self._careful and not self._left_out
            self._left_out = False
        return [_record_of(message) for message in messages]

    async def _recover(self, consumer: AIOKafkaConsumer, error: Exception) -> None:
        """After an error aiokafka may have dropped good records: go back to where we know we are.

        A record that cannot be decoded is come by in small steps, and then left out; so are those
        that follow it in its batch, since aiokafka reads a batch in one piece.
        """
        if isinstance(error, UnicodeDecodeError):
            if self._careful:
                log.warning(
                    "%s/%d: a header's name is not UTF-8; the record is left out",
                    self._partition,
                    self._next_offset,
                )
                self._next_offset += 1
                self._left_out = True
            self._careful = True
        else:
            log.warning("Kafka: reading %s again: %r", self._partition, error)
            await asyncio.sleep(RETRY_SECONDS)
        consumer.seek(self._tp, self._next_offset)

    async def _watch(self) -> None:
        """In silence: is the topic still there, and is there nothing that we should have got?

        Raises ``TransportError`` where the topic is gone. A broker that does not answer is news.
        """
        consumer = self._opened()
        try:
            count = await look_up(
                consumer._client,  # noqa: SLF001 - it has no public name
                self._partition.topic,
                timeout_seconds=ANSWER_SECONDS,
            )
        except TransportError as error:
            log.warning("Kafka: %s", error)
            return
        if count is None or count <= self._partition.index:
            raise TransportError(f"{self._partition} is not there any more: listen again")
        behind = await self._is_behind(consumer)
        if behind and self._was_behind:
            log.warning("Kafka: %s has records that do not come; reconnecting", self._partition)
            await self._reconnect(consumer)
        self._was_behind = behind

    async def _is_behind(self, consumer: AIOKafkaConsumer) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                ends = await consumer.end_offsets([self._tp])
                return bool(ends[self._tp] > await consumer.position(self._tp))
        except (KafkaError, TimeoutError):
            return False

    async def _reconnect(self, old: AIOKafkaConsumer) -> None:
        try:
            consumer = await self._started()
        except TransportError as error:
            log.warning("Kafka: %s", error)
            return
        consumer.seek(self._tp, self._next_offset)
        if self._consumer is None:  # stopped meanwhile
            old = consumer
        else:
            self._consumer = consumer
        await _close(old)

    async def _started(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(**self._address.consumer(), **self._address.secured())
        create_nothing(consumer)
        try:
            async with asyncio.timeout(self._address.connect_timeout_seconds):
                await consumer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await _close(consumer)
            raise TransportError(await self._address.unreachable()) from error
        except BaseException:
            await _close(consumer)
            raise
        consumer.assign([self._tp])
        return consumer

    def _opened(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise TransportError("this transport is stopped")
        return self._consumer


def _record_of(message: Any) -> Record:
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.key,
        message.value,
        message.headers,
        message.timestamp,
    )


async def _close(consumer: AIOKafkaConsumer) -> None:
    """Disconnect. In an outage ``stop`` may hang, or end by a cancellation of its own making."""
    stopping = asyncio.get_running_loop().create_task(consumer.stop())
    await asyncio.wait([stopping], timeout=CLOSE_SECONDS)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    stopping.cancel()
    closing = asyncio.get_running_loop().create_task(consumer._client.close())  # noqa: SLF001 - it has no public name
    await asyncio.wait([stopping, closing], timeout=CLOSE_SECONDS)
