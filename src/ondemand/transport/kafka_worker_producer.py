"""Writing replies: many records handed over at once, one call when all of them have settled."""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

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
_TOO_LARGE: Final = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


class _Settlement:
    """Counts down the records of one ``publish``."""

    __slots__ = ("failures", "left", "on_settled")

    def __init__(self, count: int, on_settled: OnSettled) -> None:
        self.on_settled = on_settled
        self.failures: list[PublishFailure] = []
        self.left = count


class RecordProducer:
    """An idempotent producer, all replicas acknowledging.

    ``publish`` may be called from any thread. What has settled is told from ``serve`` only, in the
    thread that calls it.
    """

    def __init__(self, address: KafkaAddress, news: News) -> None:
        self._address = address
        self._news = news
        self._producer = self._made({})
        self._single: Producer | None = None
        self._settled: deque[_Settlement] = deque()
        # Delivery reports count down without a lock of their own: one thread at a time polls.
        self._polling = threading.Lock()

    @property
    def handle(self) -> Producer:
        """The library's producer, for look-ups that must be as fresh as what it sends by."""
        return self._producer

    def publish(self, records: Sequence[OutgoingRecord], on_settled: OnSettled) -> None:
        """Hand *records* to the library; waits only where its buffer is full."""
        settlement = _Settlement(len(records), on_settled)
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
        while self._under_way and time.monotonic() < deadline:
            self.serve(TICK_SECONDS)
        self.serve()
        return self._under_way

    def abandon(self, timeout_seconds: float) -> None:
        """Give up what is still under way, and settle it so."""
        self._producer.purge()
        if self._single is not None:
            self._single.purge()
        self.flush(timeout_seconds)

    @property
    def _under_way(self) -> int:
        return len(self._producer) + (0 if self._single is None else len(self._single))

    def _produce(self, record: OutgoingRecord, settlement: _Settlement) -> None:
        topic, partition, key, value, headers = record
        try:
            self._producer.produce(
                topic,
                value,
                key,
                _ANY_PARTITION if partition is None else partition,
                partial(self._report, record, settlement),
                headers=list(headers) if headers else None,
            )
        except KafkaException as error:
            with self._polling:
                self._fail(record, settlement, error_of(error))

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
        with self._polling:
            self._fail_for_want_of_room(record, settlement)

    # Delivery reports: called by the library while this thread polls.

    def _report(
        self,
        record: OutgoingRecord,
        settlement: _Settlement,
        error: KafkaError | None,
        _: Message,
    ) -> None:
        if error is None:  # as _count, in place: this is called for every reply
            settlement.left -= 1
            if not settlement.left:
                self._settled.append(settlement)
        elif error.code() in _TOO_LARGE:
            # The topic takes less than a batch: not for certain less than this record.
            self._produce_single(record, settlement)
        else:
            self._fail(record, settlement, error)

    def _report_single(
        self,
        record: OutgoingRecord,
        settlement: _Settlement,
        error: KafkaError | None,
        _: Message,
    ) -> None:
        if error is None:
            self._count(settlement)
        else:
            self._fail(record, settlement, error)

    def _produce_single(self, record: OutgoingRecord, settlement: _Settlement) -> None:
        """Send *record* once more, in a batch of its own: neighbours must not suffer."""
        if self._single is None:
            self._single = self._made({"batch.num.messages": 1})
        try:
            self._single.produce(
                record.topic,
                record.value,
                record.key,
                _ANY_PARTITION if record.partition is None else record.partition,
                partial(self._report_single, record, settlement),
                headers=list(record.headers) if record.headers else None,
            )
        except BufferError:
            self._fail_for_want_of_room(record, settlement)
        except KafkaException as error:
            self._fail(record, settlement, error_of(error))

    def _fail(self, record: OutgoingRecord, settlement: _Settlement, error: KafkaError) -> None:
        permanent = error.code() in REFUSED
        failure = PublishFailure(record, publish_error(error, record.topic), permanent)
        settlement.failures.append(failure)
        self._count(settlement)

    def _fail_for_want_of_room(self, record: OutgoingRecord, settlement: _Settlement) -> None:
        error = NotTakenError(
            f"a record for topic {record.topic!r} found no room in the send buffer: it has been "
            "full for too long; are the brokers up?"
        )
        settlement.failures.append(PublishFailure(record, error, permanent=False))
        self._count(settlement)

    def _count(self, settlement: _Settlement) -> None:
        settlement.left -= 1
        if settlement.left == 0:
            self._settled.append(settlement)

    def _poll(self, timeout_seconds: float) -> None:
        with self._polling:
            try:
                self._producer.poll(timeout_seconds)
                if self._single is not None:
                    self._single.poll(0)
            except KafkaException as error:
                # A fatal error, for example of a login that may write nothing: fetch raises it.
                self._news(error_of(error))

    def _made(self, more: Mapping[str, Any]) -> Producer:
        options = {**self._address.producer(), **more, "error_cb": self._news}
        try:
            return Producer(options, logger=log)
        except KafkaException as error:
            raise start_error(error) from error
