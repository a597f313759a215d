"""Records read without a group, on real Kafka: where a topic ends, and what was never there."""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.errors import TransportError
from ondemand.settings import Settings
from ondemand.transport.base import NotTakenError
from ondemand.transport.kafka_admin_records import CHUNK_RECORDS, RecordPublisher, TopicReader

pytestmark = pytest.mark.kafka

BOUND_SECONDS = 30.0
HOUR_MS = 3_600_000


@pytest.fixture
def reader(kafka) -> Iterator[TopicReader]:
    """Reads on the test's broker."""
    made = TopicReader(Settings(kafka=kafka.address), timeout_seconds=BOUND_SECONDS)
    yield made
    made.close()


@pytest.fixture
def topic(topic_name, create_topic) -> str:
    """Two partitions of one's own."""
    return create_topic(topic_name(), partitions=2)


def write(kafka, topic: str, *values: bytes, partition: int = 0, time_ms: int = 0) -> None:
    """Records on one partition, acknowledged."""
    failures = []

    def taken(error, _) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer({"bootstrap.servers": kafka.address})
    for value in values:
        producer.produce(topic, value, partition=partition, timestamp=time_ms, callback=taken)
    assert producer.flush(BOUND_SECONDS) == 0
    assert failures == []


def test_what_comes_later_is_not_read(kafka, reader, topic):
    """A topic that is written to all the time has an end: the one that it had at the start."""
    write(kafka, topic, b"a", b"b")
    write(kafka, topic, b"c", partition=1)
    spans = reader.spans(topic)
    write(kafka, topic, b"d", b"e")
    assert spans == {0: (0, 2), 1: (0, 1)}
    assert [record.value for record in reader.read(topic, spans)] == [b"a", b"b", b"c"]


def test_single_records_are_found_in_any_order(kafka, reader, topic):
    """Forwards, backwards, across partitions; None for what is not there; and all of it again
    after a read that was broken off."""
    write(kafka, topic, *(b"%d" % offset for offset in range(9)))
    write(kafka, topic, b"x", partition=1)
    for partition, offset in ((0, 3), (0, 4), (0, 8), (0, 0), (1, 0), (0, 8), (0, 2)):
        found = reader.read_at(topic, partition, offset)
        assert found is not None
        assert (found.partition, found.offset) == (partition, offset)
    assert reader.read_at(topic, 0, 99) is None
    assert reader.read_at(topic, 1, 1) is None
    reading = reader.read(topic, reader.spans(topic))
    assert next(reading).offset == 0
    found = reader.read_at(topic, 0, 7)
    assert found is not None
    assert found.value == b"7"


def test_transactions_are_read_when_they_are_committed(kafka, reader, topic):
    """What was aborted was never there, what is open is not there yet, and a transaction's marker
    at the end of a partition is no record to wait for."""
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": topic})
    producer.init_transactions(BOUND_SECONDS)
    for value, end in (
        (b"aborted", producer.abort_transaction),
        (b"kept", producer.commit_transaction),
    ):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        assert producer.flush(BOUND_SECONDS) == 0
        end(BOUND_SECONDS)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    assert producer.flush(BOUND_SECONDS) == 0
    spans = reader.spans(topic)
    found = list(reader.read(topic, spans))
    assert [(record.offset, record.value) for record in found] == [(2, b"kept")]
    assert reader.read_at(topic, 0, 0) is None
    assert reader.read_at(topic, 0, 2) == found[0]
    producer.abort_transaction(BOUND_SECONDS)


def test_old_records_may_be_left_out_and_new_ones_not(kafka, reader, topic):
    """`since_ms` begins an hour early: clocks of workers and brokers may differ."""
    now_ms = int(time.time() * 1000)
    for hours in (9, 5, 1, 0):
        write(kafka, topic, b"%d" % hours, time_ms=now_ms - hours * HOUR_MS)
    since_ms = now_ms - 2 * HOUR_MS
    read = reader.read(topic, reader.spans(topic), since_ms=since_ms)
    assert [record.value for record in read] == [b"1", b"0"]
    assert list(reader.read(topic, reader.spans(topic), since_ms=now_ms + 2 * HOUR_MS)) == []


def test_a_topic_that_is_not_there_is_none(reader, topic_name):
    """Looked up, not tried: nothing is created."""
    missing = topic_name()
    for _ in range(2):
        assert reader.partition_count(missing) is None
        assert reader.spans(missing) == {}


def test_reading_is_bounded_in_time(kafka, topic):
    """A topic that takes longer than the limit is not read on for ever; how far it got is said."""
    write(kafka, topic, *[b"x"] * (3 * CHUNK_RECORDS))
    hasty = TopicReader(Settings(kafka=kafka.address), timeout_seconds=0.0)
    try:
        with pytest.raises(TransportError, match=rf"reached {topic}/0/\d+ and not the end"):
            list(hasty.read(topic, hasty.spans(topic)))
    finally:
        hasty.close()


def test_a_published_record_is_where_it_is_said_to_be(kafka, reader, topic):
    """Partition and offset come from the broker; null and repeated headers arrive."""
    headers = [("a", None), ("a", b"1"), ("b", b"\xff")]
    record = OutgoingRecord(topic, None, b"key", None, headers)
    published = RecordPublisher(Settings(kafka=kafka.address)).publish(record)
    at = published.partition
    found = reader.read_at(topic, at.index, published.offset)
    assert found is not None
    assert (at.topic, found.key, found.value, list(found.headers)) == (topic, b"key", None, headers)
    assert str(published) == f"{Partition(topic, at.index)}/0"


def test_a_record_that_is_refused_was_certainly_not_taken(kafka, topic_name, create_topic):
    """Too large for its topic: nothing is open."""
    small = create_topic(topic_name(), config={"max.message.bytes": "200"})
    record = OutgoingRecord(small, None, None, bytes(1000), [])
    with pytest.raises(NotTakenError, match=small):
        RecordPublisher(Settings(kafka=kafka.address)).publish(record)
