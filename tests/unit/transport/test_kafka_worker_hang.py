"""A transaction from which the library does not come back: the process leaves, unless it is right
to wait."""

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from ondemand.errors import TransportError
from ondemand.settings import Security
from ondemand.transport import kafka_worker_exactly_once, kafka_worker_renewal
from ondemand.transport.kafka_worker_config import KafkaAddress
from ondemand.transport.kafka_worker_errors import News
from ondemand.transport.kafka_worker_exactly_once import KafkaExactlyOnceTransport
from ondemand.transport.kafka_worker_transaction import STEP_SECONDS, TransactionalProducer

BOUND_SECONDS = 10.0


class Library:
    """librdkafka's producer; storing positions takes until it is let go."""

    def __init__(self) -> None:
        self.stores = threading.Event()
        self.goes_on = threading.Event()

    def begin_transaction(self) -> None:
        pass

    def send_offsets_to_transaction(self, *_: object) -> None:
        self.stores.set()
        assert self.goes_on.wait(BOUND_SECONDS)

    def produce(self, *_: object, **__: object) -> None:
        pass

    def flush(self, _: float) -> int:
        return 0

    def poll(self, _: float) -> int:
        return 0

    def commit_transaction(self, _: float) -> None:
        pass


class Group:
    """librdkafka's consumer, as far as a turn without records asks it."""

    def __init__(self) -> None:
        self.answers = False

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return asked

    def poll(self, _: float) -> None:
        return None

    def assignment(self) -> list[TopicPartition]:
        return []

    def close(self) -> None:
        pass


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    made = Library()
    monkeypatch.setattr(kafka_worker_renewal, "_made", lambda *_: made)
    yield made
    made.goes_on.set()


def test_a_call_that_does_not_return_is_overdue(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock, less the second that it was given; any thread can ask."""
    address = KafkaAddress("127.0.0.1:9", "test", 1.0, {}, Security())
    producer = TransactionalProducer(address, News(), transactional_id="t", timeout_seconds=1.0)
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert producer.overdue_seconds == 0.0
    commit = threading.Thread(target=producer.transact, args=((), [], None))
    commit.start()
    assert library.stores.wait(BOUND_SECONDS)
    assert producer.overdue_seconds == 0.0
    now[0] += STEP_SECONDS + 7.0
    assert producer.overdue_seconds == 7.0
    library.goes_on.set()
    commit.join(BOUND_SECONDS)
    assert producer.overdue_seconds == 0.0


def test_a_worker_whose_transaction_hangs_leaves_once_the_coordinator_answers(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the outage may be why: the call comes back when it is over."""
    del library
    monkeypatch.setattr(kafka_worker_exactly_once, "LOOK_AGAIN_SECONDS", 0.0)
    transport = KafkaExactlyOnceTransport(kafka="127.0.0.1:9", group="g")
    group = Group()
    monkeypatch.setattr(transport, "_consumer", group)
    overdue = [kafka_worker_exactly_once.HANG_SECONDS]
    monkeypatch.setattr(TransactionalProducer, "overdue_seconds", property(lambda _: overdue[0]))
    group.answers = True
    assert transport.fetch(1, 0.0) == []  # it may still come back
    group.answers, overdue[0] = False, kafka_worker_exactly_once.HANG_SECONDS + 0.1
    assert transport.fetch(1, 0.0) == []
    group.answers = True
    with pytest.raises(TransportError, match="must be replaced"):
        transport.fetch(1, 0.0)
