"""From where partitions are read, without a broker: what the library may be told, and when."""

from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from ondemand.contract.record import Partition
from ondemand.transport.kafka_worker_starts import (
    AGAIN_SECONDS,
    AGAIN_SECONDS_MAX,
    REST_FACTOR,
    Starts,
)

UNSTABLE = KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT)
ALL = [Partition("requests", index) for index in range(3)]


class FakeConsumer:
    """Answers as *stored* says: a position, or an error; *silent*: none at all."""

    def __init__(self, *stored: int | KafkaError) -> None:
        self.stored = list(stored)
        self.silent: KafkaError | None = None
        self.now = 0.0
        self.asked: list[tuple[list[int], float]] = []
        self.assigned: list[dict[int, int]] = []
        self.consumed: dict[int, int] = {}

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[Any]:
        self.asked.append(([each.partition for each in asked], timeout))
        if self.silent is not None:
            self.now += timeout
            raise KafkaException(self.silent)
        return [self._answer(each.partition) for each in asked]

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned.append({each.partition: each.offset for each in partitions})
        self.consumed.clear()

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        indexes = [each.partition for each in partitions]
        assert set(indexes) <= self.assigned[-1].keys()
        return [
            TopicPartition("requests", index, self.consumed.get(index, OFFSET_INVALID))
            for index in indexes
        ]

    def _answer(self, index: int) -> Any:
        at = self.stored[index]
        if isinstance(at, int):
            return TopicPartition("requests", index, at)
        return _Answer("requests", index, OFFSET_INVALID, at)


class _Answer:
    """A ``TopicPartition`` with an error, which only the library can make."""

    def __init__(self, topic: str, partition: int, offset: int, error: KafkaError) -> None:
        self.topic, self.partition, self.offset, self.error = topic, partition, offset, error


def _starts(consumer: FakeConsumer) -> tuple[Starts, list[int]]:
    told: list[int] = []
    starts = Starts(
        consumer,  # type: ignore[arg-type] # as much of one as is used
        lambda error: told.append(error.code()),
        clock=lambda: consumer.now,
    )
    return starts, told


def _turns(starts: Starts, consumer: FakeConsumer, seconds: float) -> int:
    """Turns of the intake thread for so long; in how many of them something was found."""
    found, until = 0, consumer.now + seconds
    while consumer.now < until:
        found += starts.found()
        consumer.now += 0.01
    return found


def test_partitions_begin_where_they_were_left() -> None:
    """Each at its stored position, and a new group's at the first record: requests wait there."""
    consumer = FakeConsumer(5, OFFSET_INVALID, 0)
    starts, _ = _starts(consumer)
    starts.assign(ALL)
    assert consumer.assigned == [{0: 5, 1: OFFSET_BEGINNING, 2: 0}]
    assert not starts.unknown()
    assert not starts.found()


def test_not_yet_is_never_taken_for_nothing_stored() -> None:
    """An open transaction hides a position: the partition is read by nobody until it is told, and
    the others are read meanwhile."""
    consumer = FakeConsumer(5, UNSTABLE, OFFSET_INVALID)
    starts, told = _starts(consumer)
    starts.assign(ALL)
    assert _turns(starts, consumer, 5.0) == 2
    assert consumer.assigned == [{}, {0: 5}, {0: 5, 2: OFFSET_BEGINNING}]
    assert list(starts.unknown()) == ALL[1:2]
    assert told == []


def test_what_is_read_already_goes_on_where_it_is() -> None:
    """A position that comes late disturbs no other partition: nothing of it is read again, nothing
    passed over, whether anything of it has come yet or not."""
    consumer = FakeConsumer(5, UNSTABLE, 7)
    starts, _ = _starts(consumer)
    starts.assign(ALL)
    _turns(starts, consumer, 5.0)
    consumer.consumed[0] = 9
    consumer.stored[1] = 6
    assert _turns(starts, consumer, 5.0) == 1
    assert consumer.assigned[-1] == {0: 9, 1: 6, 2: 7}
    assert not starts.unknown()


def test_asking_leaves_the_intake_thread_its_time() -> None:
    """A coordinator that is away costs a third of the thread's time at most, in short pieces; as it
    may only be slow, the pieces grow, up to a bound."""
    consumer = FakeConsumer(5, 6, 7)
    consumer.silent = KafkaError(KafkaError._TIMED_OUT)
    starts, _ = _starts(consumer)
    starts.assign(ALL)
    consumer.asked.clear()
    began = consumer.now
    assert _turns(starts, consumer, 30.0) == 0
    waits = [seconds for _, seconds in consumer.asked]
    assert waits[0] == AGAIN_SECONDS
    assert max(waits) == waits[-1] == AGAIN_SECONDS_MAX
    assert sum(waits) <= (consumer.now - began) / (1 + REST_FACTOR) + AGAIN_SECONDS_MAX
    assert {index for asked, _ in consumer.asked for index in asked} == {0, 1, 2}
    consumer.silent = None
    assert _turns(starts, consumer, 5.0) == 1
    assert consumer.assigned[-1] == {0: 5, 1: 6, 2: 7}


def test_what_is_news_is_told() -> None:
    """Rights that were withdrawn look like no other trouble: someone must be told."""
    consumer = FakeConsumer(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), 1, 2)
    starts, told = _starts(consumer)
    starts.assign(ALL)
    assert told == [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    consumer.silent = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    _turns(starts, consumer, 1.0)
    assert set(told[1:]) == {KafkaError.GROUP_AUTHORIZATION_FAILED}


def test_the_next_assignment_asks_anew() -> None:
    """What was unknown in the last assignment is not asked for in this one: it may not be ours."""
    consumer = FakeConsumer(5, UNSTABLE, 7)
    starts, _ = _starts(consumer)
    starts.assign(ALL)
    starts.forget(ALL)
    asked = len(consumer.asked)
    assert _turns(starts, consumer, 5.0) == 0
    assert len(consumer.asked) == asked
    consumer.stored[1] = 6
    starts.assign(ALL[1:])
    assert consumer.assigned[-1] == {1: 6, 2: 7}
    starts.assign([])
    assert consumer.assigned[-1] == {}
    assert not starts.unknown()
