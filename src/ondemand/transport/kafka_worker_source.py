"""The reading half of a worker on Kafka, whatever its guarantee: group, records, rebalances."""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ondemand.contract.record import Partition, Record
from ondemand.errors import ConfigurationError, TransportError
from ondemand.transport.base import Note, RebalanceListener
from ondemand.transport.kafka_worker_config import KafkaAddress, log
from ondemand.transport.kafka_worker_errors import NOT_HEALING, News, start_error
from ondemand.transport.kafka_worker_notes import read_notes, write_notes
from ondemand.transport.kafka_worker_records import record_of
from ondemand.transport.kafka_worker_topics import PartitionCounts

LOOK_UP_SECONDS: Final = 5.0
CREATED_SECONDS: Final = 0.2
CREATED_ATTEMPTS: Final = 5
LOOK_AGAIN_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 0.2
SLICE_SECONDS: Final = 0.1
"""A poll is cut into slices, so that acknowledgements and Ctrl-C are served in between."""

WAKE_SECONDS: Final = 0.05


class KafkaSource(ABC):
    """A ``WorkerTransport`` without its end: whoever extends it publishes, commits and closes.

    *handle* is the producer by which replies are sent: topics are looked up through it, so that
    what is known of them is as fresh as what is sent by. *callbacks* are more of the consumer's.
    """

    def __init__(
        self,
        address: KafkaAddress,
        *,
        group: str,
        session_timeout_seconds: float,
        news: News,
        handle: Any,
        callbacks: Mapping[str, Any] | None = None,
    ) -> None:
        self._address = address
        self._group = group
        self._news = news
        self._handle = handle
        self._consumer = self._made_consumer(session_timeout_seconds, callbacks or {})
        self._counts = PartitionCounts(handle, timeout_seconds=LOOK_UP_SECONDS)
        self._listener: RebalanceListener | None = None
        self._listener_error: BaseException | None = None
        self._assigned: frozenset[Partition] = frozenset()
        self._rebalances = 0
        self._topic = ""
        self._look_at = 0.0
        self._wake_at = 0.0
        self._leaving = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self._group} | {len(self._assigned)} partitions]>"

    @abstractmethod
    def close(self) -> None:
        """Leave the group, calling ``on_revoked`` first, and free everything. Idempotent."""

    @abstractmethod
    def _start(self) -> None:
        """What must succeed before the group is joined. Raises ``ConfigurationError``."""

    @abstractmethod
    def _serve(self) -> None:
        """Let the producer's library call what waits to be called."""

    @abstractmethod
    def _forget(self, partitions: frozenset[Partition]) -> None:
        """Nothing of *partitions* may be stored any more: they go to another worker."""

    def subscribe(self, topic: str, listener: RebalanceListener) -> None:
        """Join the group and read *topic*. Raises ``ConfigurationError`` where that cannot be."""
        look_up = PartitionCounts(
            self._handle, timeout_seconds=self._address.connect_timeout_seconds
        )
        try:
            # A topic that was created a moment ago may not be known to every broker yet.
            for _ in range(CREATED_ATTEMPTS):
                count = look_up(topic)
                if count is not None:
                    break
                time.sleep(CREATED_SECONDS)
                look_up.forget(topic)
        except TransportError as error:
            self._serve()  # brings the reason, for example a wrong password
            raise ConfigurationError(self._address.unreachable(self._news.last)) from error
        if look_up.forbidden(topic):
            raise ConfigurationError(
                f"this worker may not use topic {topic!r} on the Kafka at {self._address.kafka}: "
                "give its login the rights that docs/security.md lists"
            )
        if count is None:
            raise ConfigurationError(
                f"topic {topic!r} is not on the Kafka at {self._address.kafka}: create it, for "
                "example with `ondemand topics apply`"
            )
        self._start()
        self._topic = topic
        self._listener = listener
        self._consumer.subscribe(
            [topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def fetch(self, records_max: int, timeout_seconds: float) -> Sequence[Record]:
        """At most *records_max* records, waiting for a first one. Calls the listener."""
        self._require_open()
        self._serve()
        if self._news.problem:
            self._look_again()
        self._wake()
        messages = self._messages(records_max, timeout_seconds)
        self._raise_listener_error()
        return self._sorted_out(messages)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch nothing from these until ``resume``."""
        if mine := self._mine(partitions):
            self._consumer.pause(mine)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch from these again."""
        if mine := self._mine(partitions):
            self._consumer.resume(mine)

    def partition_count(self, topic: str, *, at_least: int = 0) -> int | None:
        """How many partitions *topic* has; None if it is not there. Never creates it."""
        self._require_open()
        return self._counts(topic, at_least)

    def lag(self) -> Mapping[Partition, int]:
        """Records not yet fetched, as far as is known without asking the broker."""
        lags: dict[Partition, int] = {}
        for each in self._consumer.position(self._mine(self._assigned)):
            watermarks = self._consumer.get_watermark_offsets(each, cached=True)
            if each.offset >= 0 and watermarks[1] >= 0:
                partition = Partition(each.topic, each.partition)
                lags[partition] = max(watermarks[1] - each.offset, 0)
        return lags

    def problems(self) -> Sequence[str]:
        """What is known to keep records from coming now."""
        return [self._news.problem] if self._news.problem else []

    def notes(self, partitions: Collection[Partition]) -> Mapping[Partition, Note]:
        """What the group has stored for *partitions*; nothing while this leaves the group."""
        if self._leaving:  # the library would ask nobody, and keep the partitions till it times out
            return {}
        return read_notes(self._consumer, partitions, self._news.tell)

    def note(self, notes: Mapping[Partition, Note]) -> None:
        """Store these positions and texts, and wait."""
        self._require_open()
        write_notes(self._consumer, notes, self._news.tell)

    def _leave(self) -> None:
        """Leave the group, calling ``on_revoked`` first."""
        self._leaving = True
        self._consumer.close()

    def _look_again(self) -> None:
        """Ask what was in trouble whether it still is; now and then, and never for long."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AGAIN_SECONDS
        asked = TopicPartition(self._topic, 0)
        try:
            topic = self._consumer.list_topics(self._topic, timeout=PROBE_SECONDS)
            group = self._consumer.committed([asked], timeout=PROBE_SECONDS)
        except KafkaException:
            return
        if topic.topics[self._topic].error is None and group[0].error is None:
            self._news.problem = ""

    def _made_consumer(
        self, session_timeout_seconds: float, callbacks: Mapping[str, Any]
    ) -> Consumer:
        options = self._address.consumer(self._group, session_timeout_seconds)
        try:
            return Consumer({**options, "error_cb": self._news, **callbacks}, logger=log)
        except KafkaException as error:
            raise start_error(error) from error

    def _messages(self, records_max: int, timeout_seconds: float) -> list[Message]:
        """Wait for one, then take what is there: ``consume`` alone would wait for all of them."""
        deadline = time.monotonic() + timeout_seconds
        first = None
        while first is None and self._listener_error is None:
            left = max(deadline - time.monotonic(), 0.0)
            first = self._consumer.poll(min(left, SLICE_SECONDS))
            if left <= SLICE_SECONDS:
                break
            self._serve()
            self._wake()
        if first is None:
            return []
        if records_max <= 1:
            return [first]
        rebalances = self._rebalances
        more = self._consumer.consume(records_max - 1, 0)
        if rebalances != self._rebalances:
            # The partition of the first may be another worker's by now; or it is still ours, and
            # is read again from its committed offset. The library has dropped the others itself.
            return more
        return [first, *more]

    def _wake(self) -> None:
        """Wake the library's own thread, which looks whether a heartbeat is due only when something
        else has woken it (``rd_kafka_thread_main``), and that may be as late as a second later."""
        now = time.monotonic()
        if now >= self._wake_at:
            self._wake_at = now + WAKE_SECONDS
            self._consumer.assignment()

    def _sorted_out(self, messages: Sequence[Message]) -> list[Record]:
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(record_of(message))
            elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - a public constant
                self._take_note(error)
        if not records:
            self._news.raise_fatal()
        return records

    def _take_note(self, error: KafkaError) -> None:
        """Errors come among the records. What heals is logged; what does not is raised by the next
        ``fetch``, so that the records that came along are not lost."""
        if error.fatal() or error.code() in NOT_HEALING:
            self._news.fatal = error
        self._news.tell(error)

    # The library's rebalance callbacks, called inside of poll, consume and close. An exception in
    # one of them would end in the library: it is kept, and raised where the caller sees it.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        self._assign(consumer, partitions)  # before the listener is told, so that it may pause
        self._assigned = _partitions(partitions)
        self._call_listener("on_assigned", self._assigned)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Let the library find out where to begin."""
        consumer.assign(partitions)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._let_go("on_revoked", partitions)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(_partitions(partitions))
        self._let_go("on_lost", partitions)

    def _let_go(self, told: str, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        gone = _partitions(partitions)
        if gone:
            self._call_listener(told, gone)
            # In the library a pause outlives the assignment: what comes back would not be read.
            with suppress(KafkaException):
                self._consumer.resume(partitions)
        self._forget(gone)
        self._assigned -= gone

    def _call_listener(self, told: str, partitions: frozenset[Partition]) -> None:
        try:
            getattr(self._listener, told)(tuple(sorted(partitions)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, fetch raises it
            self._listener_error = self._listener_error or error

    def _raise_listener_error(self) -> None:
        error, self._listener_error = self._listener_error, None
        if error is not None:
            raise error

    def _mine(self, partitions: Collection[Partition]) -> list[TopicPartition]:
        return [
            TopicPartition(each.topic, each.index) for each in partitions if each in self._assigned
        ]

    def _require_open(self) -> None:
        if self._closed:
            raise TransportError("this transport is closed")


def _partitions(partitions: list[TopicPartition]) -> frozenset[Partition]:
    return frozenset(Partition(each.topic, each.partition) for each in partitions)
