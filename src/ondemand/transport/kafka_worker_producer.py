"""Writing replies: many records handed over at once, one call when all of them have settled."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ondemand.contract.record import OutgoingRecord
from ondemand.transport.base import NotTakenError, OnSettled, PublishFailure
from ondemand.transport.kafka_worker_config import KafkaAddress, log
from ondemand.transport.kafka_worker_errors import (
    REFUSED,
    News,
    error_of,
    publish_error,
    start_error,
)

BUFFER_WAIT_SECONDS: Final = 10.0
BUFFER_POLL_SECONDS: Final = 0.01
TICK_SECONDS: Final = 0.005

_ANY_PARTITION: Final = -1


class _Settlement:
    """Counts down the records of one ``publish``; goes to *settled* after the last."""

    __slots__ = ("_left", "_settled", "failures", "on_settled")

    def __init__(self, count: int, on_settled: OnSettled, settled: "deque[_Settlement]") -> None:
        self.on_settled = on_settled
        self.failures: list[PublishFailure] = []
        self._left = count
        self._settled = settled

    def report(
        self, record: OutgoingRecord, error: KafkaError | None, message: Message | None
    ) -> None:
        """Take librdkafka's delivery report for *record*."""
        del message  # it would say what *record* says
        if error is not None:
            permanent = error.code() in REFUSED
            self.failures.append(
                PublishFailure(record, publish_error(error, record.topic), permanent)
            )
        self.count()

    def count(self) -> None:
        """One more record is settled, one way or the other."""
        self._left -= 1
        if self._left == 0:
            self._settled.append(self)


class RecordProducer:
    """An idempotent producer, all replicas acknowledging.

    ``publish`` may be called from any thread. What has settled is told from ``serve`` only, in the
    thread that calls it.
    """

    def __init__(self, address: KafkaAddress, news: News) -> None:
        try:
            self._producer = Producer({**address.producer(), "error_cb": news}, logger=log)
        except KafkaException as error:
            raise start_error(error) from error
        self._settled: deque[_Settlement] = deque()
        # Delivery reports count down without a lock of their own: one thread at a time polls.
        self._polling = threading.Lock()

    @property
    def handle(self) -> Producer:
        """The library's producer, for look-ups that must be as fresh as what it sends by."""
        return self._producer

    def publish(self, records: Sequence[OutgoingRecord], on_settled: OnSettled) -> None:
        """Hand *records* to the library; waits only where its buffer is full."""
        settlement = _Settlement(len(records), on_settled, self._settled)
        if not records:
            self._settled.append(settlement)
        deadline = 0.0
        for record in records:
            try:
                self._produce(record, settlement)
            except BufferError:
                deadline = deadline or time.monotonic() + BUFFER_WAIT_SECONDS
                self._produce_when_there_is_room(record, settlement, deadline)

    def serve(self, timeout_seconds: float = 0.0) -> None:
        """Tell what has settled; wait up to the timeout for a first report."""
        deadline = time.monotonic() + timeout_seconds if timeout_seconds > 0 else 0.0
        self._poll(0)
        while deadline and not self._settled and (left := deadline - time.monotonic()) > 0:
            self._poll(min(left, TICK_SECONDS))
        while self._settled:
            settlement = self._settled.popleft()
            settlement.on_settled(settlement.failures)

    def flush(self, timeout_seconds: float) -> int:
        """Serve until nothing is under way; how many records still are when the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while len(self._producer) and time.monotonic() < deadline:
            self.serve(TICK_SECONDS)
        self.serve()
        return len(self._producer)

    def abandon(self, timeout_seconds: float) -> None:
        """Give up what is still under way, and settle it so."""
        self._producer.purge()
        self.flush(timeout_seconds)

    def _produce(self, record: OutgoingRecord, settlement: _Settlement) -> None:
        topic, partition, key, value, headers = record
        try:
            self._producer.produce(
                topic,
                value,
                key,
                _ANY_PARTITION if partition is None else partition,
                partial(settlement.report, record),
                headers=list(headers) if headers else None,
            )
        except KafkaException as error:
            with self._polling:
                settlement.report(record, error_of(error), None)

    def _produce_when_there_is_room(
        self, record: OutgoingRecord, settlement: _Settlement, deadline: float
    ) -> None:
        while time.monotonic() < deadline:
            # From whatever thread this is: reports only free buffers here, serve tells of them.
            self._poll(BUFFER_POLL_SECONDS)
            try:
                self._produce(record, settlement)
            except BufferError:
                continue
            return
        error = NotTakenError(
            f"a record for topic {record.topic!r} found no room in the send buffer: it has been "
            "full for too long; are the brokers up?"
        )
        with self._polling:
            settlement.failures.append(PublishFailure(record, error, permanent=False))
            settlement.count()

    def _poll(self, timeout_seconds: float) -> None:
        with self._polling:
            self._producer.poll(timeout_seconds)
