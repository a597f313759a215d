"""From where partitions are read, without a broker: what the library may be told, and when."""

from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
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

UNSTABLE = KafkaError.UNSTABLE_OFFSET_COMMIT
ALL = [TopicPartition("requests", index) for index in range(3)]


class FakeConsumer:
    """Answers as *stored* says: a position, or the code of an error; *silent*: none at all."""

    def __init__(self, **stored: int | KafkaError) -> None:
        self.stored: dict[int, int | KafkaError] = {int(n[1:]): at for n, at in stored.items()}
        self.silent: KafkaError | None = None
        self.seek_error: KafkaError | None = None
        self.now = 0.0
        self.asked: list[tuple[list[int], float]] = []
        self.did: list[tuple[str, dict[int, int]]] = []

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[Any]:
        self.asked.append(([each.partition for each in asked], timeout))
        if self.silent is not None:
            self.now += timeout
            raise KafkaException(self.silent)
        return [self._answer(each.partition) for each in asked]

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.did.append(("assign", _by_index(partitions)))

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.did.append(("pause", _by_index(partitions)))

    def seek(self, partition: TopicPartition) -> None:
        if self.seek_error is not None:
            raise KafkaException(self.seek_error)
        self.did.append(("seek", _by_index([partition])))

    def _answer(self, index: int) -> Any:
        at = self.stored[index]
        if isinstance(at, int):
            return TopicPartition("requests", index, at)
        return _Answer("requests", index, OFFSET_INVALID, at)


class _Answer:
    """A ``TopicPartition`` with an error, which only the library can make."""

    def __init__(self, topic: str, partition: int, offset: int, error: KafkaError) -> None:
        self.topic, self.partition, self.offset, self.error = topic, partition, offset, error


def _by_index(partitions: list[TopicPartition]) -> dict[int, int]:
    return {each.partition: each.offset for each in partitions}


def _starts(consumer: FakeConsumer) -> tuple[Starts, list[int]]:
    told: list[int] = []
    starts = Starts(
        consumer,  # type: ignore[arg-type] # as much of one as is used
        lambda error: told.append(error.code()),
        clock=lambda: consumer.now,
    )
    return starts, told


def _rounds(starts: Starts, consumer: FakeConsumer, seconds: float) -> list[Partition]:
    found: list[Partition] = []
    until = consumer.now + seconds
    while consumer.now < until:
        found += starts.found()
        consumer.now += 0.01
    return found


def test_partitions_begin_where_they_were_left() -> None:
    """Each at its stored position, and a new group's at the first record: requests wait there."""
    consumer = FakeConsumer(p0=5, p1=OFFSET_INVALID, p2=0)
    starts, _ = _starts(consumer)
    starts.assign(ALL)
    assert consumer.did == [("assign", {0: 5, 1: OFFSET_BEGINNING, 2: 0})]
    assert not starts.unknown()
    assert not starts.found()


def test_not_yet_is_never_taken_for_nothing_stored() -> None:
    """An open transaction hides a position: the partition is read by nobody until it is told."""
    consumer = FakeConsumer(p0=5, p1=KafkaError(UNSTABLE), p2=7)
    starts, told = _starts(consumer)
    starts.assign(ALL)
    end = dict.fromkeys(range(3), OFFSET_END)
    assert consumer.did == [("assign", end), ("pause", end)]
    assert _rounds(starts, consumer, 5.0) == [Partition("requests", 0), Partition("requests", 2)]
    assert list(starts.unknown()) == [Partition("requests", 1)]
    consumer.stored[1] = 6
    assert _rounds(starts, consumer, 5.0) == [Partition("requests", 1)]
    assert consumer.did[2:] == [("seek", {0: 5}), ("seek", {2: 7}), ("seek", {1: 6})]
    assert not starts.unknown()
    assert told == []


def test_asking_leaves_the_intake_thread_its_time() -> None:
    """A coordinator that is away costs a third of the thread's time at most, in short pieces; as it
    may only be slow, the pieces grow, up to a bound."""
    consumer = FakeConsumer(p0=5, p1=6, p2=7)
    consumer.silent = KafkaError(KafkaError._TIMED_OUT)
    starts, _ = _starts(consumer)
    starts.assign(ALL)
    consumer.asked.clear()
    began = consumer.now
    assert _rounds(starts, consumer, 30.0) == []
    waits = [seconds for _, seconds in consumer.asked]
    assert waits[0] == AGAIN_SECONDS
    assert max(waits) == waits[-1] == AGAIN_SECONDS_MAX
    assert sum(waits) <= (consumer.now - began) / (1 + REST_FACTOR) + AGAIN_SECONDS_MAX
    assert {index for asked, _ in consumer.asked for index in asked} == {0, 1, 2}
    consumer.silent = None
    assert len(_rounds(starts, consumer, 5.0)) == 3


def test_what_is_news_is_told() -> None:
    """Rights that were withdrawn look like no other trouble: someone must be told."""
    consumer = FakeConsumer(p0=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), p1=1, p2=2)
    starts, told = _starts(consumer)
    starts.assign(ALL)
    assert told == [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    consumer.silent = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    _rounds(starts, consumer, 1.0)
    assert set(told[1:]) == {KafkaError.GROUP_AUTHORIZATION_FAILED}


def test_a_seek_that_comes_too_early_is_repeated() -> None:
    """What was assigned a moment ago cannot be sought yet: it stays unknown, and paused."""
    consumer = FakeConsumer(p0=5, p1=6, p2=7)
    consumer.silent = KafkaError(KafkaError._TIMED_OUT)
    starts, told = _starts(consumer)
    starts.assign(ALL)
    consumer.silent, consumer.seek_error = None, KafkaError(KafkaError._STATE)
    assert starts.found() == []
    assert len(starts.unknown()) == 3
    consumer.seek_error = None
    assert len(_rounds(starts, consumer, 5.0)) == 3
    assert told == []


def test_the_next_assignment_asks_anew() -> None:
    """What was unknown in the last assignment is not sought in this one: it may not be ours."""
    consumer = FakeConsumer(p0=5, p1=KafkaError(UNSTABLE), p2=7)
    starts, _ = _starts(consumer)
    starts.assign(ALL)
    starts.forget([Partition("requests", index) for index in range(3)])
    assert _rounds(starts, consumer, 5.0) == []
    consumer.stored[1] = 6
    starts.assign(ALL[1:])
    assert consumer.did[-1] == ("assign", {1: 6, 2: 7})
    starts.assign([])
    assert consumer.did[-1] == ("assign", {})
    assert not starts.unknown()
