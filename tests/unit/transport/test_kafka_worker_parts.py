"""The worker's Kafka transport without a broker: options, errors, look-ups, commits."""

import itertools
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from ondemand.contract.record import Partition
from ondemand.errors import ConfigurationError, TransportError
from ondemand.transport import kafka_worker_offsets, kafka_worker_source
from ondemand.transport.base import NotTakenError, PublishFailure
from ondemand.transport.kafka_worker import KafkaWorkerTransport
from ondemand.transport.kafka_worker_config import PROTECTED, KafkaAddress
from ondemand.transport.kafka_worker_errors import News, publish_error
from ondemand.transport.kafka_worker_offsets import Offsets
from ondemand.transport.kafka_worker_topics import PartitionCounts

ADDRESS = KafkaAddress("127.0.0.1:9092", "test", 10.0, {"fetch.wait.max.ms": "7"})
ZERO = Partition("requests", 0)
ONE = Partition("requests", 1)


def _message(error: KafkaError | None, value: bytes = b"value") -> Any:
    return SimpleNamespace(
        error=lambda: error,
        topic=lambda: "requests",
        partition=lambda: 0,
        offset=lambda: 5,
        key=lambda: None,
        value=lambda: value,
        headers=lambda: None,
        timestamp=lambda: (1, 1000),
    )


@pytest.fixture
def transport() -> KafkaWorkerTransport:
    """Never connects: nothing in these tests asks it to."""
    return KafkaWorkerTransport(kafka="127.0.0.1:9", group="unit")


@pytest.mark.parametrize("name", sorted(PROTECTED))
def test_protected_options_are_refused(name: str) -> None:
    """An option that delivery depends on is refused by name, with the reason."""
    with pytest.raises(ConfigurationError, match=f"'{name}' cannot be set: {PROTECTED[name]}"):
        KafkaWorkerTransport(kafka="127.0.0.1:9", group="unit", options={name: "1"})


def test_other_options_go_through() -> None:
    """Any other option of the library takes the place of ours; an unknown one is refused."""
    assert ADDRESS.consumer("group", 10.0)["fetch.wait.max.ms"] == "7"
    with pytest.raises(ConfigurationError, match=r"no\.such\.option"):
        KafkaWorkerTransport(kafka="127.0.0.1:9", group="unit", options={"no.such.option": "1"})


def test_the_options_that_were_measured() -> None:
    """Eager assignment, fast heartbeats, no waiting, every replica: as decided."""
    consumer, producer = ADDRESS.consumer("group", 10.0), ADDRESS.producer()
    assert consumer["partition.assignment.strategy"] == "range"
    assert consumer["heartbeat.interval.ms"] == 150
    assert consumer["session.timeout.ms"] == 10_000
    assert ADDRESS.consumer("group", 0.3)["heartbeat.interval.ms"] == 100
    assert consumer["fetch.queue.backoff.ms"] == 10
    assert consumer["isolation.level"] == "read_committed"
    assert (producer["acks"], producer["enable.idempotence"]) == ("all", True)
    assert producer["linger.ms"] == 0
    for options in (consumer, producer):
        assert options["allow.auto.create.topics"] is False
        assert options["socket.nagle.disable"] is True


def test_errors_among_records(
    transport: KafkaWorkerTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """An error never costs the records beside it: healing is logged, a partition's end is no news,
    and what does not heal is raised by the next fetch."""
    end, transient = KafkaError(KafkaError._PARTITION_EOF), KafkaError(KafkaError._TRANSPORT)
    refused = KafkaError(KafkaError.INCONSISTENT_GROUP_PROTOCOL)
    messages = [_message(error) for error in (end, transient, None, refused, None)]
    with caplog.at_level(logging.WARNING, "ondemand.transport.kafka"):
        assert [record.offset for record in transport._sorted_out(messages)] == [5, 5]
    assert len(caplog.records) == 2
    with pytest.raises(TransportError, match="Inconsistent"):
        transport._sorted_out([])


def test_rights_that_are_withdrawn_are_waited_for(
    transport: KafkaWorkerTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """They may be given back: that is news, and no reason to leave."""
    withdrawn = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with caplog.at_level(logging.WARNING, "ondemand.transport.kafka"):
        assert transport._sorted_out([_message(withdrawn)]) == []
        assert transport._sorted_out([]) == []
    assert "authorization" in caplog.text


def test_the_same_news_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A broker that stays away does not fill the log; its being away is not fatal."""
    news = News()
    with caplog.at_level(logging.WARNING, "ondemand.transport.kafka"):
        for _ in range(100):
            news(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert len(caplog.records) == 1
    news.raise_fatal()


def test_fatal_errors_are_raised() -> None:
    """What the library itself calls fatal comes out as a ``TransportError``, with its cause."""
    news = News()
    news(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "fenced", fatal=True))
    with pytest.raises(TransportError, match="gave up") as raised:
        news.raise_fatal()
    assert isinstance(raised.value.__cause__, KafkaException)


def test_what_is_certain_of_a_failed_publish() -> None:
    """A refusal says that the record is not stored; a timeout leaves it open."""
    refused = publish_error(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), "replies")
    assert isinstance(refused, NotTakenError)
    open_ended = publish_error(KafkaError(KafkaError._MSG_TIMED_OUT), "replies")
    assert not isinstance(open_ended, NotTakenError)
    assert isinstance(open_ended.__cause__, KafkaException)


def test_an_empty_publish_settles(transport: KafkaWorkerTransport) -> None:
    """No record, no broker needed: it settles with the next ``serve``, not before."""
    settled: list[Sequence[PublishFailure]] = []
    transport.publish([], settled.append)
    assert settled == []
    transport.serve()
    assert settled == [[]]


class _Topics:
    """Answers look-ups like the library's clients, and counts them."""

    def __init__(self, **counts: int) -> None:
        self.counts = counts
        self.asked = 0
        self.failing = False

    def list_topics(self, topic: str, timeout: float) -> Any:
        self.asked += 1
        if self.failing:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        count = self.counts.get(topic)
        error = None if count else KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        found = SimpleNamespace(error=error, partitions=dict.fromkeys(range(count or 0)))
        return SimpleNamespace(topics={topic: found})


def test_look_ups_are_remembered() -> None:
    """A count is remembered for 30 s, an absence for 1 s, and so is a count that is too low."""
    now = [100.0]
    topics = _Topics(replies=2)
    counts = PartitionCounts(topics, timeout_seconds=1.0, clock=lambda: now[0])

    def asked(topic: str, at_least: int = 0) -> tuple[int | None, int]:
        before = topics.asked
        return counts(topic, at_least), topics.asked - before

    assert asked("replies") == (2, 1)
    assert asked("missing") == (None, 1)
    now[0] += 0.9
    assert asked("replies", 3) == (2, 0)
    assert asked("missing") == (None, 0)
    now[0] += 0.2
    assert asked("missing") == (None, 1)
    topics.counts["replies"] = 3
    assert asked("replies", 2) == (2, 0)
    assert asked("replies", 3) == (3, 1)
    now[0] += 30.0
    assert asked("replies") == (3, 1)


def test_a_look_up_that_fails_says_so() -> None:
    """No answer is an error, and nothing is remembered of it."""
    topics = _Topics(replies=2)
    topics.failing = True
    counts = PartitionCounts(topics, timeout_seconds=1.0)
    with pytest.raises(TransportError, match="'replies'"):
        counts("replies")
    topics.failing = False
    assert counts("replies") == 2


class _Consumer:
    """Takes commits like the library's consumer; *errors* are what the next ones end with."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.commits: list[dict[Partition, int]] = []

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> Any:
        self.commits.append({Partition(o.topic, o.partition): o.offset for o in offsets})
        if self.errors:
            raise KafkaException(KafkaError(self.errors.pop(0)))
        return None if asynchronous else offsets


def _answer(partition: Partition, offset: int) -> TopicPartition:
    return TopicPartition(partition.topic, partition.index, offset)


def test_a_failed_commit_goes_along_with_the_next() -> None:
    """What the broker did not store is sent again with what comes later, and only then."""
    offsets, consumer = Offsets(), _Consumer()
    offsets.commit(consumer, {ZERO: 1, ONE: 1})
    offsets.on_commit(KafkaError(KafkaError.NOT_COORDINATOR), [_answer(ONE, 1)])
    offsets.on_commit(None, [_answer(ZERO, 1)])
    offsets.commit(consumer, {ZERO: 2})
    assert consumer.commits == [{ZERO: 1, ONE: 1}, {ZERO: 2, ONE: 1}]
    offsets.on_commit(None, [_answer(ZERO, 2), _answer(ONE, 1)])
    offsets.commit(consumer, {})
    assert len(consumer.commits) == 2


def test_a_failed_commit_is_repeated_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no other commit follows, fetching repeats it, a moment later."""
    monkeypatch.setattr(kafka_worker_offsets, "REPEAT_SECONDS", 0.0)
    offsets, consumer = Offsets(), _Consumer()
    offsets.commit(consumer, {ZERO: 1})
    offsets.repeat_failed(consumer)
    assert len(consumer.commits) == 1, "it has not failed yet"
    offsets.on_commit(KafkaError(KafkaError._TRANSPORT), [_answer(ZERO, 1)])
    offsets.repeat_failed(consumer)
    assert consumer.commits == [{ZERO: 1}, {ZERO: 1}]


def test_a_late_answer_does_not_undo_a_later_commit() -> None:
    """The answer to an older commit leaves the newer position to be stored."""
    offsets, consumer = Offsets(), _Consumer()
    offsets.commit(consumer, {ZERO: 1})
    offsets.commit(consumer, {ZERO: 2})
    offsets.on_commit(None, [_answer(ZERO, 1)])
    offsets.commit_and_wait(consumer, {})
    assert consumer.commits[-1] == {ZERO: 2}


def test_a_commit_that_waits_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What heals by itself is tried again within a bound; what does not is raised at once."""
    monkeypatch.setattr(kafka_worker_offsets, "RETRY_SECONDS", 0.0)
    consumer = _Consumer(KafkaError._WAIT_COORD, KafkaError.REQUEST_TIMED_OUT)
    Offsets().commit_and_wait(consumer, {ZERO: 1})
    assert len(consumer.commits) == 3
    with pytest.raises(TransportError, match="not stored"):
        Offsets().commit_and_wait(_Consumer(KafkaError.ILLEGAL_GENERATION), {ZERO: 1})
    monkeypatch.setattr(kafka_worker_offsets, "WAIT_SECONDS", 0.0)
    with pytest.raises(TransportError, match="not stored"):
        Offsets().commit_and_wait(_Consumer(KafkaError._WAIT_COORD), {ZERO: 1})


def test_nothing_is_committed_for_what_was_lost() -> None:
    """A position of a partition that another worker has is forgotten, failed or not."""
    offsets, consumer = Offsets(), _Consumer(KafkaError._TRANSPORT)
    offsets.commit(consumer, {ZERO: 1, ONE: 1})
    offsets.forget([ZERO])
    offsets.commit(consumer, {})
    assert consumer.commits[-1] == {ONE: 1}


class IdleConsumer:
    """Has no records; a poll takes the time that it is given, on a clock of its own."""

    def __init__(self) -> None:
        self.now_seconds = 1000.0
        self.woken_at_seconds: list[float] = []

    def poll(self, timeout_seconds: float) -> None:
        """Nothing comes."""
        self.now_seconds += timeout_seconds

    def assignment(self) -> list[TopicPartition]:
        """What wakes the library."""
        self.woken_at_seconds.append(self.now_seconds)
        return []


def test_the_library_is_woken_while_nothing_comes(
    transport: KafkaWorkerTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least every 0.1 s: it sends heartbeats only when something has woken it."""
    consumer = IdleConsumer()
    monkeypatch.setattr(transport, "_consumer", consumer)
    monkeypatch.setattr(transport, "_look_again", lambda: None)  # no broker is there
    monkeypatch.setattr(kafka_worker_source.time, "monotonic", lambda: consumer.now_seconds)

    assert transport.fetch(10, 1.0) == []

    assert consumer.now_seconds == pytest.approx(1001)
    gaps = [b - a for a, b in itertools.pairwise([1000.0, *consumer.woken_at_seconds, 1001.0])]
    assert max(gaps) <= 0.1 + 1e-6
