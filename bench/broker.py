"""A real Kafka, the topics on it, and what is written to and read from them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic
from workload import PARTITIONS, REPLIES, Backlog

from ondemand.local import LocalKafka

# What was read and judged is deleted soon: a run writes gigabytes.
_PROPERTIES = {"log.retention.check.interval.ms": "15000", "log.segment.delete.delay.ms": "1000"}
_REPLY_TOPIC = {"message.timestamp.type": "LogAppendTime", "segment.bytes": "67108864"}
_SILENCE_SECONDS = 5.0
MEMBERS_SECONDS, MEMBERS_EVERY_SECONDS = 60.0, 0.1
_READER = {
    "group.id": "bench-reader",
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 262_144,
}
_LOADER = {"linger.ms": 20, "batch.size": 1_000_000, "acks": "all"}
_SILENT = {"log_level": 2}  # that the broker ends with the benchmark is no news

Ends = dict[int, int]
"""The next offset, by partition."""


class Broker:
    """One broker; topics have four partitions and one replica."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._admin = AdminClient({"bootstrap.servers": address, **_SILENT})
        self._watcher = self._reader()
        self.create(REPLIES, config=_REPLY_TOPIC)

    def create(
        self, topic: str, partitions: int = PARTITIONS, config: dict[str, str] | None = None
    ) -> None:
        """A new topic."""
        new = NewTopic(topic, partitions, 1, config=config or {})
        for future in self._admin.create_topics([new]).values():
            future.result(30)

    def load(self, backlog: Backlog, numbers: range | None = None) -> None:
        """Write those requests of *backlog*, or all, evenly; returns when the broker has them."""
        producer = Producer({"bootstrap.servers": self.address, **_LOADER, **_SILENT})
        for number in numbers or range(backlog.records):
            _, _, key, value, headers = backlog.workload.record(number)
            place = number % backlog.partitions
            while True:
                try:
                    producer.produce(backlog.topic, value, key, place, headers=list(headers))
                    break
                except BufferError:
                    producer.poll(0.05)
        if producer.flush(120):
            raise TimeoutError(f"{backlog.topic}: the broker did not take the requests")

    def await_members(self, group: str, count: int) -> None:
        """Until *count* members share the group's topics, each with partitions.

        Raises ``TimeoutError``.
        """
        deadline = time.monotonic() + MEMBERS_SECONDS
        while self._at_work(group) != count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{group} has not {count} members with partitions")
            time.sleep(MEMBERS_EVERY_SECONDS)

    def _at_work(self, group: str) -> int:
        """Members of *group* that have partitions; 0 while it shares them out."""
        described = self._admin.describe_consumer_groups([group])[group]
        try:
            found = described.result(10)
        except KafkaException:
            return 0  # nobody has joined yet
        if found.state != ConsumerGroupState.STABLE:
            return 0
        return sum(bool(member.assignment.topic_partitions) for member in found.members)

    def ends(self, topic: str) -> Ends:
        """The next offset of each partition."""
        places = self._watcher.list_topics(topic, 10).topics[topic].partitions
        return {
            place: self._watcher.get_watermark_offsets(TopicPartition(topic, place), 10)[1]
            for place in sorted(places)
        }

    def read(self, topic: str, start: Ends, stop: Ends) -> Iterator[Any]:
        """Every committed message of *topic* in between, as librdkafka gives it."""
        consumer = self._reader()
        try:
            consumer.assign([TopicPartition(topic, *each) for each in start.items()])
            heard_at = time.monotonic()
            while time.monotonic() < heard_at + _SILENCE_SECONDS:
                messages = consumer.consume(10_000, 0.1)
                yield from (message for message in messages if message.error() is None)
                if messages:
                    heard_at = time.monotonic()
                positions = consumer.position([TopicPartition(topic, each) for each in stop])
                if all(each.offset >= stop[each.partition] for each in positions):
                    return
        finally:
            consumer.close()

    def trim(self, topic: str, ends: Ends) -> None:
        """Forget what lies before *ends*."""
        places = [TopicPartition(topic, *each) for each in ends.items()]
        for future in self._admin.delete_records(places).values():
            future.result(30)

    def _reader(self) -> Consumer:
        return Consumer({"bootstrap.servers": self.address, **_READER, **_SILENT})


@contextmanager
def open_broker() -> Iterator[Broker]:
    """A broker of its own, gone with the benchmark."""
    with LocalKafka(properties=_PROPERTIES) as kafka:
        yield Broker(kafka.address)


def between(start: Ends, stop: Ends) -> int:
    """Offsets in between, all partitions together."""
    return sum(stop[place] - start.get(place, 0) for place in stop)
