"""Sending requests: each acknowledged by all replicas, or told why not, within a time limit."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from random import choice, random
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.partitioner import murmur2

from ondemand.contract.record import OutgoingRecord
from ondemand.errors import TransportError
from ondemand.transport.base import NotTakenError, OnSent
from ondemand.transport.kafka_client_config import ClientAddress, log
from ondemand.transport.kafka_client_lane import Attempt, Batch, Lane
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

_HASH_MASK: Final = 0x7FFFFFFF
_STOPPED: Final = "this transport is not started, or stopped"


class _Running:
    """A producer, and what is under way with it."""

    __slots__ = ("batches", "producer")

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self.batches: set[Batch] = set()


class RequestProducer:
    """An idempotent producer that is replaced when it cannot go on.

    What waits for one partition travels as one batch, and the next one gathers meanwhile: aiokafka
    has one produce request under way for each broker anyway.

    After a batch was refused, aiokafka's idempotent producer refuses all that follows on that
    partition; and while brokers are down it never gives up. So sends have a deadline of their own.
    """

    def __init__(self, address: ClientAddress, *, send_timeout_seconds: float) -> None:
        self._address = address
        self._record_bytes_max: int = address.producer()["max_request_size"]
        self._send_timeout_seconds = send_timeout_seconds
        self._running: _Running | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._untold: dict[Attempt, None] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._acknowledged_at = 0.0
        self._stopped = False

    @property
    def client(self) -> Any:
        """The connections, for look-ups. Raises ``TransportError`` before start and after stop."""
        if self._running is None:
            raise TransportError(_STOPPED)
        return self._running.producer.client

    async def start(self) -> None:
        """Connect. Raises ``TransportError`` where no broker answers within the time limit."""
        self._running = _Running(await self._started())

    def send(self, record: OutgoingRecord, partition: int, on_sent: OnSent) -> None:
        """Send *record* to *partition*; *on_sent* as ``ClientTransport.send`` says."""
        until = time.monotonic() + self._send_timeout_seconds
        attempt = Attempt(record, on_sent, until)
        self._untold[attempt] = None
        if self._timer is None:
            self._watch(self._send_timeout_seconds)
        place = (record.topic, partition)
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = Lane(record.topic, partition)
        lane.waiting.append(attempt)
        self._keep_going(lane)

    def partition_for(self, record: OutgoingRecord, count: int) -> int:
        """The partition of *count* that the default partitioner chooses for *record*."""
        if count == 1:
            return 0
        if record.key is not None:
            return int(murmur2(record.key) & _HASH_MASK) % count
        index = int(random() * count)  # noqa: S311 - it spreads load, and keeps no secret
        if self._running is None:
            return index
        cluster = self._running.producer.client.cluster
        if cluster.leader_for_partition(TopicPartition(record.topic, index)) in {None, -1}:
            led = cluster.available_partitions_for_topic(record.topic)
            return choice(list(led)) if led else index  # noqa: S311 - as above
        return index

    async def stop(self) -> None:
        """Flush and disconnect, within a bound; then tell whoever was not told yet."""
        flushed_until = time.monotonic() + FLUSH_SECONDS
        drivers = [lane.driver for lane in self._lanes.values() if lane.driver is not None]
        if drivers:
            await asyncio.wait(drivers, timeout=FLUSH_SECONDS)
        self._stopped = True
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait([self._replacing])
        running, self._running = self._running, None
        if running is not None:
            self._retire(running, max(flushed_until - time.monotonic(), 0.0))
        if self._closing:
            await asyncio.wait(self._closing)
        self._fail_all(list(self._untold), "this transport was stopped")
        if self._timer is not None:
            self._timer.cancel()

    def _keep_going(self, lane: Lane) -> None:
        if lane.driver is None:
            lane.driver = asyncio.get_running_loop().create_task(self._drive(lane))

    async def _drive(self, lane: Lane) -> None:
        """Send what waits in *lane*, batch after batch, until nothing does."""
        try:
            while lane.waiting:
                running = await self._current()
                if running is None:
                    self._fail_all(lane.take(), _STOPPED)
                    return
                batch = lane.load(running.producer.create_batch(), self._record_bytes_max)
                await self._deliver(running, batch)
        finally:
            lane.driver = None
            if not lane.waiting:
                self._lanes.pop((lane.topic, lane.partition), None)

    async def _deliver(self, running: _Running, batch: Batch) -> None:
        """Return when *batch* is settled, or another producer is there for what comes next."""
        lane, producer = batch.lane, running.producer
        for attempt, reason in batch.unfit:
            self._fail(attempt, str(reason), reason)
        if not batch.attempts:
            return
        try:
            await _know(producer, lane.topic, lane.partition)
            acknowledged: asyncio.Future[Any] = await producer.send_batch(
                batch.builder, lane.topic, partition=lane.partition
            )
        except Exception as error:  # noqa: BLE001 - whoever sent one of these must hear it
            self._judge(running, batch, error)
            return
        batch.open()
        running.batches.add(batch)
        acknowledged.add_done_callback(partial(self._settle, running, batch))
        await batch.over

    def _settle(self, running: _Running, batch: Batch, acknowledged: "asyncio.Future[Any]") -> None:
        running.batches.discard(batch)
        batch.leave()
        error = errors.ProducerClosed() if acknowledged.cancelled() else acknowledged.exception()
        if error is not None:
            self._judge(running, batch, error)
            return
        self._acknowledged_at = time.monotonic()
        for attempt in batch.attempts:
            self._tell(attempt, None)

    def _judge(self, running: _Running, batch: Batch, error: BaseException) -> None:
        """Tell what is certain of *batch*, or put it before what waits, for another attempt."""
        reached = batch.is_open
        refused = isinstance(error, _REFUSED) or not reached
        if reached or isinstance(error, _BROKEN):
            self._replace(running)
        # The batch was too large for the topic, not for certain each of its records.
        split = reached and isinstance(error, _TOO_LARGE) and len(batch.attempts) > 1
        again = []
        for attempt in batch.untold():
            attempt.open = not refused
            attempt.alone = attempt.alone or split
            attempt.count += 1
            if attempt.count < ATTEMPTS and (split or isinstance(error, _BROKEN)):
                again.append(attempt)
            else:
                topic = batch.lane.topic
                self._fail(
                    attempt, f"a record for topic {topic!r} was not acknowledged: {error!r}", error
                )
        if again:
            lane = self._lanes.setdefault((batch.lane.topic, batch.lane.partition), batch.lane)
            lane.waiting.extendleft(reversed(again))
            self._keep_going(lane)

    def _fail_all(self, attempts: Sequence[Attempt], message: str) -> None:
        for attempt in attempts:
            self._fail(attempt, message)

    def _fail(self, attempt: Attempt, message: str, cause: BaseException | None = None) -> None:
        """Tell that *attempt* failed; that it was not taken only where that is certain."""
        error = (TransportError if attempt.open else NotTakenError)(message)
        error.__cause__ = cause
        self._tell(attempt, error)

    def _tell(self, attempt: Attempt, error: TransportError | None) -> None:
        on_sent, attempt.on_sent = attempt.on_sent, None
        if on_sent is not None:
            del self._untold[attempt]
            on_sent(error)

    def _watch(self, delay_seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_seconds, self._expire)

    def _expire(self) -> None:
        """Tell whoever waits for too long. All wait equally long, so the oldest comes first."""
        self._timer = None
        now = time.monotonic()
        late = []
        for attempt in self._untold:
            if attempt.until > now:
                self._watch(attempt.until - now)
                break
            late.append(attempt)
        for attempt in late:
            self._fail(
                attempt,
                f"no broker acknowledged a record for topic {attempt.record.topic!r} within "
                f"{self._send_timeout_seconds:g} s",
                TimeoutError(),
            )
        if late:
            self._suspect()

    async def _current(self) -> _Running | None:
        """The producer to send with, once it is there; None after the end."""
        if self._replacing is not None:
            await asyncio.wait([self._replacing])
        return self._running

    def _suspect(self) -> None:
        """A send took too long. Where nothing else is acknowledged either, begin anew."""
        if time.monotonic() - self._acknowledged_at > STUCK_SECONDS and self._running is not None:
            self._acknowledged_at = time.monotonic()
            self._replace(self._running)

    def _replace(self, running: _Running) -> None:
        """Begin anew in the place of *running*, unless that has been done."""
        if running is self._running and self._replacing is None and not self._stopped:
            self._replacing = asyncio.get_running_loop().create_task(self._begin_anew(running))

    async def _begin_anew(self, old: _Running) -> None:
        """Senders wait for this, each until its own deadline."""
        try:
            while True:
                try:
                    self._running = _Running(await self._started())
                except TransportError as error:
                    log.warning("Kafka: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    self._retire(old, FLUSH_SECONDS)
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

    def _retire(self, old: _Running, flush_seconds: float) -> None:
        """Close *old* in the background: what is under way gets some time to end."""
        for batch in old.batches:
            batch.leave()
        closing = asyncio.get_running_loop().create_task(_close(old.producer, flush_seconds))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _know(producer: AIOKafkaProducer, topic: str, partition: int) -> None:
    """A partition that was added: aiokafka would refuse it with an ``AssertionError``."""
    if partition not in await producer.partitions_for(topic):
        await producer.client.force_metadata_update()
        if partition not in await producer.partitions_for(topic):
            raise errors.UnknownTopicOrPartitionError


async def _close(producer: AIOKafkaProducer, flush_seconds: float = FLUSH_SECONDS) -> None:
    """Flush and disconnect. While brokers are down ``stop`` never returns: it is given up then."""
    loop = asyncio.get_running_loop()
    stopping = loop.create_task(producer.stop())
    await asyncio.wait([stopping], timeout=flush_seconds)
    if not stopping.done():
        log.warning("Kafka: sends were not acknowledged in time, and are given up")
        # Otherwise its task runs for ever, and what it still has is sent to nobody's use.
        ending = [stopping, loop.create_task(producer._sender.close())]  # noqa: SLF001
        stopping.cancel()
        await asyncio.wait(ending, timeout=CLOSE_SECONDS)
        await asyncio.wait([loop.create_task(producer.client.close())], timeout=CLOSE_SECONDS)
    # A batch that came while the producer stopped would never be settled; now it is sent anew.
    producer._message_accumulator.fail_all(errors.ProducerClosed())  # noqa: SLF001 - there is no other way
