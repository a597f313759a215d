"""Sending requests: each acknowledged by all replicas, or told why not, within a time limit."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaProducer, errors
from aiokafka.partitioner import DefaultPartitioner

from ondemand.contract.record import OutgoingRecord
from ondemand.errors import TransportError
from ondemand.transport.base import NotTakenError
from ondemand.transport.kafka_client_config import ClientAddress, log
from ondemand.transport.kafka_client_metadata import create_nothing

FLUSH_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 1.0
STUCK_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.2
ATTEMPTS: Final = 10

_REFUSED: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.InvalidTopicError,
    errors.InvalidTimestampError,
    errors.PolicyViolationError,
    errors.OutOfOrderSequenceNumber,
)
"""The broker says that it has not stored the record."""

_TOO_LARGE: Final = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)

_BROKEN: Final = (errors.OutOfOrderSequenceNumber, errors.ProducerClosed)
"""Not this record's fault: an earlier one's, or the producer's. Another producer may succeed."""

_partition_for = DefaultPartitioner()


@dataclass(slots=True)
class _Attempt:
    """One record on its way. *open*: whether the broker may have stored it."""

    record: OutgoingRecord
    open: bool = False
    alone: bool = False


class RequestProducer:
    """An idempotent producer that is replaced when it cannot go on.

    After a batch was refused, aiokafka's idempotent producer refuses all that follows on that
    partition; and while brokers are down it never gives up. So sends have a deadline of their own.
    """

    def __init__(self, address: ClientAddress, *, send_timeout_seconds: float) -> None:
        self._address = address
        self._send_timeout_seconds = send_timeout_seconds
        self._producer: AIOKafkaProducer | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._acknowledged_at = 0.0
        self._stopped = False

    @property
    def client(self) -> Any:
        """The connections, for look-ups. Raises ``TransportError`` before start and after stop."""
        if self._producer is None:
            raise TransportError("this transport is not started, or stopped")
        return self._producer.client

    async def start(self) -> None:
        """Connect. Raises ``TransportError`` where no broker answers within the time limit."""
        self._producer = await self._started()

    async def send(self, record: OutgoingRecord) -> None:
        """Return when *record* is acknowledged; raises as ``ClientTransport.send`` says."""
        attempt = _Attempt(record)
        try:
            async with asyncio.timeout(self._send_timeout_seconds):
                await self._deliver(attempt)
        except TimeoutError as error:
            self._suspect()
            raise self._too_late(attempt) from error
        self._acknowledged_at = time.monotonic()

    async def stop(self) -> None:
        """Flush and disconnect, within a bound."""
        self._stopped = True
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait([self._replacing])
        producer, self._producer = self._producer, None
        if producer is not None:
            self._retire(producer)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _deliver(self, attempt: _Attempt) -> None:
        """Send until the record is stored or refused for good."""
        for last in (False,) * (ATTEMPTS - 1) + (True,):
            producer = await self._current()
            try:
                future = await _put(producer, attempt)
                attempt.open = True
                await future
            except errors.KafkaError as error:
                self._judge(producer, attempt, error, last=last)
            else:
                return

    def _judge(
        self, producer: AIOKafkaProducer, attempt: _Attempt, error: errors.KafkaError, *, last: bool
    ) -> None:
        """Return where another attempt is due; otherwise raise what the caller is told."""
        reached = attempt.open
        refused = isinstance(error, _REFUSED) or not reached
        attempt.open = not refused
        if reached or isinstance(error, _BROKEN):
            self._replace(producer)
        if isinstance(error, _TOO_LARGE) and reached and not attempt.alone:
            # The batch was too large for the topic, not for certain this record.
            attempt.alone = True
            if not last:
                return
        elif isinstance(error, _BROKEN) and not last:
            return
        kind = NotTakenError if refused else TransportError
        topic = attempt.record.topic
        raise kind(f"a record for topic {topic!r} was not acknowledged: {error!r}") from error

    async def _current(self) -> AIOKafkaProducer:
        if self._replacing is not None:
            await asyncio.shield(self._replacing)
        if self._producer is None:
            raise NotTakenError("this transport is not started, or stopped")
        return self._producer

    def _too_late(self, attempt: _Attempt) -> TransportError:
        kind = TransportError if attempt.open else NotTakenError
        return kind(
            f"no broker acknowledged a record for topic {attempt.record.topic!r} within "
            f"{self._send_timeout_seconds:g} s"
        )

    def _suspect(self) -> None:
        """A send took too long. Where nothing else is acknowledged either, begin anew."""
        if time.monotonic() - self._acknowledged_at > STUCK_SECONDS and self._producer is not None:
            self._acknowledged_at = time.monotonic()
            self._replace(self._producer)

    def _replace(self, producer: AIOKafkaProducer) -> None:
        """Begin anew in the place of *producer*, unless that has been done."""
        if producer is self._producer and self._replacing is None and not self._stopped:
            self._replacing = asyncio.get_running_loop().create_task(self._begin_anew(producer))

    async def _begin_anew(self, old: AIOKafkaProducer) -> None:
        """Senders wait for this, each until its own deadline."""
        try:
            while True:
                try:
                    self._producer = await self._started()
                except TransportError as error:
                    log.warning("Kafka: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    self._retire(old)
                    return
        finally:
            self._replacing = None

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._address.producer(), **self._address.secured())
        create_nothing(producer)
        try:
            async with asyncio.timeout(self._address.connect_timeout_seconds):
                await producer.start()
        except (errors.KafkaError, OSError, TimeoutError) as error:
            await _close(producer)
            raise TransportError(await self._address.unreachable()) from error
        except BaseException:
            await _close(producer)
            raise
        return producer

    def _retire(self, producer: AIOKafkaProducer) -> None:
        """Close *producer* in the background: what is under way gets some time to end."""
        closing = asyncio.get_running_loop().create_task(_close(producer))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _put(producer: AIOKafkaProducer, attempt: _Attempt) -> "asyncio.Future[Any]":
    """Hand the record to aiokafka's buffer; the future is done when it is acknowledged."""
    record = attempt.record
    if record.partition is not None:
        await _know(producer, record.topic, record.partition)
    if not attempt.alone:
        future: asyncio.Future[Any] = await producer.send(
            record.topic, record.value, record.key, record.partition, headers=list(record.headers)
        )
        return future
    batch = producer.create_batch()
    batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
    partition = record.partition
    if partition is None:
        known = sorted(await producer.partitions_for(record.topic))
        partition = _partition_for(record.key, known, known)
    alone: asyncio.Future[Any] = await producer.send_batch(batch, record.topic, partition=partition)
    return alone


async def _know(producer: AIOKafkaProducer, topic: str, partition: int) -> None:
    """A partition that was added: aiokafka would refuse it with an ``AssertionError``."""
    if partition not in await producer.partitions_for(topic):
        await producer.client.force_metadata_update()
        if partition not in await producer.partitions_for(topic):
            raise errors.UnknownTopicOrPartitionError


async def _close(producer: AIOKafkaProducer) -> None:
    """Flush and disconnect. While brokers are down ``stop`` never returns: it is given up then."""
    loop = asyncio.get_running_loop()
    stopping = loop.create_task(producer.stop())
    await asyncio.wait([stopping], timeout=FLUSH_SECONDS)
    if not stopping.done():
        log.warning("Kafka: sends were not acknowledged in time, and are given up")
        # Otherwise its task runs for ever, and what it still has is sent to nobody's use.
        ending = [stopping, loop.create_task(producer._sender.close())]  # noqa: SLF001
        stopping.cancel()
        await asyncio.wait(ending, timeout=CLOSE_SECONDS)
        await asyncio.wait([loop.create_task(producer.client.close())], timeout=CLOSE_SECONDS)
    # A batch that came while the producer stopped would never be settled; now it is sent anew.
    producer._message_accumulator.fail_all(errors.ProducerClosed())  # noqa: SLF001 - there is no other way
