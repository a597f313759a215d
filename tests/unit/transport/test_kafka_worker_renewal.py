"""A producer that has aborted is replaced; one that does not get going is not waited for."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from ondemand.settings import Security
from ondemand.transport import kafka_worker_renewal, kafka_worker_transaction
from ondemand.transport.base import TransactionAbortedError
from ondemand.transport.kafka_worker_config import KafkaAddress
from ondemand.transport.kafka_worker_errors import News
from ondemand.transport.kafka_worker_transaction import TransactionalProducer


class Library:
    """What is asked of librdkafka's producer; *starts* says whether it gets the right to begin."""

    def __init__(self, *, starts: bool) -> None:
        self.starts = starts
        self.committed = 0

    def init_transactions(self, _: float) -> None:
        if not self.starts:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "later", retriable=True))

    def begin_transaction(self) -> None:
        pass

    def send_offsets_to_transaction(self, *_: object) -> None:
        pass

    def produce(self, *_: object, **__: object) -> None:
        pass

    def flush(self, _: float) -> int:
        return 0

    def commit_transaction(self, _: float) -> None:
        self.committed += 1


def test_a_new_producer_that_does_not_get_going_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt begins with another one: it need not get out of whatever that one is in."""
    made = [Library(starts=True), Library(starts=False), Library(starts=True)]
    left = iter(made)
    monkeypatch.setattr(kafka_worker_renewal, "_made", lambda *_: next(left))
    monkeypatch.setattr(kafka_worker_transaction, "RENEW_SECONDS", 0.0)
    address = KafkaAddress("127.0.0.1:9", "test", 1.0, {}, Security())
    producer = TransactionalProducer(address, News(), transactional_id="t", timeout_seconds=1.0)
    producer.handle.spent = True

    with pytest.raises(TransactionAbortedError, match="no transaction could be begun"):
        producer.transact((), [], None)
    producer.transact((), [], None)

    assert [each.committed for each in made] == [0, 0, 1]
