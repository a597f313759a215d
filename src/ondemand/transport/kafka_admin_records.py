"""Records for operators: a topic read from its start to its end, one record at its place, and one
record published at a time. No group is joined, nothing is committed."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import ConfigurationError, TransportError
from ondemand.settings import Settings
from ondemand.transport.kafka_worker_config import KafkaAddress, log
from ondemand.transport.kafka_worker_errors import News, error_of, publish_error, start_error
from ondemand.transport.kafka_worker_records import record_of
from ondemand.transport.kafka_worker_topics import PartitionCounts

CLIENT_ID: Final = "ondemand-admin"
POLL_SECONDS: Final = 0.2
CHUNK_RECORDS: Final = 500
SKIP_RECORDS: Final = 1_000
"""Passing over so many costs less than to fetch anew."""
BUFFER_KIBIBYTES: Final = 16_384
SLACK_MS: Final = 3_600_000
"""How far a record's timestamp may lie before the time that its headers tell."""

_READING: Final[Mapping[str, Any]] = {
    # The library wants a name, and only looks up who would coordinate the group: partitions are
    # assigned by hand, so it is never joined, and there are no offsets to commit.
    "group.id": CLIENT_ID,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    # The last offset of a partition may be a transaction's marker, which is never handed over.
    "enable.partition.eof": True,
    # A fetch that is under way is waited for when another place is to be read.
    "fetch.wait.max.ms": 50,
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": BUFFER_KIBIBYTES,
}

_REFUSALS: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - public constants, named with an underscore
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
"""Reading on would not help: the topic is gone, or somebody else's."""

_NO_ANSWER: Final = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError._SSL,  # noqa: SLF001
    }
)
"""No broker has let us in."""


class Span(NamedTuple):
    """What a partition holds: offsets from *low* to before *end*."""

    low: int
    end: int


@dataclass(frozen=True, slots=True)
class Published:
    """Where the broker has put a record."""

    partition: Partition
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"


class TopicReader:
    """Reads records without a group. All methods raise ``TransportError`` where the broker does not
    answer in time, and ``ConfigurationError`` where reading is not possible or not allowed."""

    def __init__(self, settings: Settings, *, timeout_seconds: float) -> None:
        self._address = _address(settings)
        self._timeout_seconds = timeout_seconds
        self._news = News()
        options = {**self._address.admin(), **_READING, "error_cb": self._news}
        try:
            self._consumer = Consumer(options, logger=log)
        except KafkaException as error:
            raise start_error(error) from error
        self._next: tuple[Partition, int] | None = None  # what a further poll would bring

    def __repr__(self) -> str:
        return f"<TopicReader [{self._address.kafka}]>"

    def partition_count(self, topic: str) -> int | None:
        """How many partitions *topic* has; None if it is not there."""
        seconds = self._address.connect_timeout_seconds
        try:
            return PartitionCounts(self._consumer, timeout_seconds=seconds)(topic)
        except TransportError as error:
            cause = error.__cause__
            if not isinstance(cause, KafkaException) or error_of(cause).code() not in _NO_ANSWER:
                raise
            self._consumer.poll(0)  # brings the reason, for example a wrong password
            raise TransportError(self._address.unreachable(self._news.last)) from error

    def spans(self, topic: str) -> dict[int, Span]:
        """What each partition of *topic* holds now; empty where the topic is not there."""
        return {
            index: self._span(topic, index) for index in range(self.partition_count(topic) or 0)
        }

    def read(
        self, topic: str, spans: Mapping[int, Span], *, since_ms: int | None = None
    ) -> Iterator[Record]:
        """The records in *spans*, in the order of partition and offset; what came later is not
        read. Holds a bounded buffer, whatever the topic's size.

        *since_ms*: records whose timestamp is well before it may be left out.
        """
        deadline = time.monotonic() + self._timeout_seconds
        for index, span in sorted(spans.items()):
            start = span.low
            if since_ms is not None and span.low < span.end:
                start = max(start, self._offset_at(topic, index, since_ms - SLACK_MS))
            if start < span.end:
                yield from self._read(Partition(topic, index), Span(start, span.end), deadline)

    def read_at(self, topic: str, partition: int, offset: int) -> Record | None:
        """The record at that place; None where there is none (any more)."""
        wanted = Partition(topic, partition)
        place, at = self._next or (None, 0)
        if place != wanted or not at <= offset <= at + SKIP_RECORDS:
            self._start(wanted, offset)
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            message = self._consumer.poll(POLL_SECONDS)
            if message is None:
                self._check_time(deadline, wanted, offset)
            elif (error := message.error()) is None:
                record = record_of(message)
                self._next = (wanted, record.next_offset)
                if record.offset >= offset:
                    return record if record.offset == offset else None
            elif self._is_end(error, wanted):
                return None

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _read(self, partition: Partition, span: Span, deadline: float) -> Iterator[Record]:
        for record in self._to_the_end(partition, span.low, deadline):
            if record.offset < span.end:
                yield record
            if record.next_offset >= span.end:
                return

    def _to_the_end(self, partition: Partition, offset: int, deadline: float) -> Iterator[Record]:
        self._start(partition, offset)
        while True:
            for message in self._chunk():
                if (error := message.error()) is None:
                    record = record_of(message)
                    offset = record.next_offset
                    yield record
                elif self._is_end(error, partition):
                    return
            self._check_time(deadline, partition, offset)

    def _chunk(self) -> list[Message]:
        """What is there, after waiting a moment for the first."""
        first = self._consumer.poll(POLL_SECONDS)
        if first is None:
            return []
        return [first, *self._consumer.consume(CHUNK_RECORDS - 1, 0)]

    def _start(self, partition: Partition, offset: int) -> None:
        """Read *partition*, and no other one, from *offset* on. What was fetched before is dropped
        by the library."""
        self._consumer.assign([TopicPartition(partition.topic, partition.index, offset)])
        self._next = None

    def _is_end(self, error: KafkaError, partition: Partition) -> bool:
        """Whether *error* says that the partition has been read to its end; others heal, or end
        it."""
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            return True
        if error.code() in _REFUSALS:
            raise ConfigurationError(f"{partition} cannot be read: {error.str()}")
        self._news.tell(error)
        return False

    def _check_time(self, deadline: float, partition: Partition, offset: int) -> None:
        self._news.raise_fatal()
        if time.monotonic() < deadline:
            return
        said = f" (the last error: {self._news.last})" if self._news.last else ""
        raise TransportError(
            f"reading reached {partition}/{offset} and not the end within "
            f"{self._timeout_seconds:g} s{said}: narrow it with --since, or raise --timeout"
        )

    def _span(self, topic: str, index: int) -> Span:
        place = TopicPartition(topic, index)
        seconds = self._address.connect_timeout_seconds
        try:
            return Span(*self._consumer.get_watermark_offsets(place, timeout=seconds))
        except KafkaException as error:
            raise self._failed(f"what {topic}/{index} holds", error) from error

    def _offset_at(self, topic: str, index: int, time_ms: int) -> int:
        """The first offset whose timestamp is *time_ms* or later; past the end where none is."""
        place = TopicPartition(topic, index, max(time_ms, 0))
        seconds = self._address.connect_timeout_seconds
        try:
            found = self._consumer.offsets_for_times([place], timeout=seconds)[0]
        except KafkaException as error:
            raise self._failed(f"the offsets of {topic}/{index} by time", error) from error
        return found.offset if found.offset >= 0 else self._span(topic, index).end

    def _failed(self, what: str, failure: KafkaException) -> TransportError:
        return TransportError(f"the broker does not say {what}: {error_of(failure).str()}")


class RecordPublisher:
    """Publishes one record at a time: idempotent, all replicas acknowledging."""

    def __init__(self, settings: Settings) -> None:
        self._news = News()
        options = {**_address(settings).producer(), "error_cb": self._news}
        try:
            self._producer = Producer(options, logger=log)
        except KafkaException as error:
            raise start_error(error) from error

    def publish(self, record: OutgoingRecord) -> Published:
        """Return when the broker has *record*, with where it is.

        Bounded by the library's own time limit for a message. Raises ``NotTakenError`` where the
        broker certainly has not taken it, and a plain ``TransportError`` where that is open.
        """
        reports: list[tuple[KafkaError | None, Any]] = []
        try:
            self._producer.produce(
                record.topic,
                record.value,
                record.key,
                -1 if record.partition is None else record.partition,
                lambda error, message: reports.append((error, message)),
                headers=list(record.headers),
            )
        except KafkaException as error:
            raise publish_error(error_of(error), record.topic) from error
        while not reports:
            self._news.raise_fatal()
            self._producer.poll(POLL_SECONDS)
        failed, message = reports[0]
        if failed is not None:
            raise publish_error(failed, record.topic)
        return Published(Partition(message.topic(), message.partition()), message.offset())


def _address(settings: Settings) -> KafkaAddress:
    return KafkaAddress(
        settings.kafka,
        CLIENT_ID,
        settings.connect_timeout_seconds,
        settings.kafka_options,
        settings,
    )
