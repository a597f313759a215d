"""Notes that cannot be read or stored, without a broker: who hears of it."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from ondemand.contract.record import Partition
from ondemand.errors import TransportError
from ondemand.transport.base import Note
from ondemand.transport.kafka_worker_errors import News
from ondemand.transport.kafka_worker_notes import read_notes, write_notes

HERE = Partition("requests", 0)
FORBIDDEN = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)


class Answer:
    """What the library says of one partition."""

    def __init__(self, error: KafkaError) -> None:
        self.error = error


class FakeConsumer:
    """Refuses, as a whole or partition by partition."""

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[Any]:
        del timeout
        return self._refused(asked)

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[Any]:
        assert not asynchronous
        return self._refused(offsets)

    def _refused(self, asked: list[TopicPartition]) -> list[Any]:
        if self._whole:
            raise KafkaException(FORBIDDEN)
        return [Answer(FORBIDDEN) for _ in asked]


CALLS: dict[str, Callable[[Any, News], object]] = {
    "read": lambda consumer, news: read_notes(consumer, [HERE], news.tell),
    "write": lambda consumer, news: write_notes(consumer, {HERE: Note(0, "seen")}, news.tell),
}


@pytest.mark.parametrize("consumer", [FakeConsumer(whole=True), FakeConsumer(whole=False)])
@pytest.mark.parametrize("call", list(CALLS))
def test_a_right_that_is_missing_is_a_problem_of_readiness(
    call: str, consumer: FakeConsumer
) -> None:
    """While nothing is fetched, for want of a note, the consumer itself never hears of it: a worker
    whose right was withdrawn at that moment has stayed ready."""
    news = News()
    with pytest.raises(TransportError, match="authorization failed"):
        CALLS[call](consumer, news)
    assert "may not read its request topic" in news.problem
