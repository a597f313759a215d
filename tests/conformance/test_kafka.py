"""The Kafka transports do what every transport must do, on a real broker."""

import time
from collections.abc import Callable, Collection

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient, NewPartitions

from ondemand.testing.conformance import (
    ClientConformance,
    Features,
    NoteConformance,
    TransactionConformance,
    TransactionHarness,
    WorkerConformance,
)
from ondemand.testing.conformance_harness import PATIENCE_SECONDS
from ondemand.transport.base import (
    ClientTransport,
    PublishingTransport,
    TransactionalTransport,
    WorkerTransport,
)
from ondemand.transport.kafka_client import KafkaClientTransport
from ondemand.transport.kafka_worker import KafkaWorkerTransport
from ondemand.transport.kafka_worker_exactly_once import KafkaExactlyOnceTransport
from ondemand.transport.kafka_worker_source import KafkaSource

pytestmark = pytest.mark.kafka

SILENCE = {"max.poll.interval.ms": "1500"}
"""After this silence the library itself leaves the group: the shortest way to lose partitions."""


class KafkaHarness(TransactionHarness):
    """A real broker."""

    features = Features(
        no_record_without_key_and_value="aiokafka asserts that there is one of them"
    )

    def __init__(
        self, address: str, admin: AdminClient, name: Callable[[], str], create: Callable[..., str]
    ) -> None:
        self._address = address
        self._admin = admin
        self._name = name
        self._create = create

    def create_topic(self, partitions: int = 1) -> str:
        return self._create(self._name(), partitions=partitions)

    def add_partitions(self, topic: str, total: int) -> None:
        self._admin.create_partitions([NewPartitions(topic, total)])[topic].result(10)

    def delete_topic(self, topic: str) -> None:
        self._admin.delete_topics([topic], operation_timeout=10)[topic].result(10)

    def recreate_topic(self, topic: str, partitions: int = 1) -> None:
        self._create(topic, partitions=partitions)

    def topics(self) -> Collection[str]:
        return set(self._admin.list_topics(timeout=10).topics)

    def worker(self, group: str) -> PublishingTransport:
        return KafkaWorkerTransport(
            kafka=self._address, group=group, options=SILENCE, session_timeout_seconds=1.4
        )

    def transactional_worker(self, group: str) -> TransactionalTransport:
        return KafkaExactlyOnceTransport(
            kafka=self._address, group=group, options=SILENCE, session_timeout_seconds=1.4
        )

    def client(self) -> ClientTransport:
        return KafkaClientTransport(kafka=self._address)

    def lose(self, worker: WorkerTransport) -> None:
        """Let it be silent until it has no place in the group any more."""
        assert isinstance(worker, KafkaSource)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._state(worker._group) != ConsumerGroupState.EMPTY:
            assert time.monotonic() < deadline, "the silent worker is still a member"
            time.sleep(0.05)

    def _state(self, group: str) -> ConsumerGroupState:
        state: ConsumerGroupState = (
            self._admin.describe_consumer_groups([group], request_timeout=10)[group].result().state
        )
        return state


class TestKafka(NoteConformance, WorkerConformance, TransactionConformance, ClientConformance):
    """The whole suite, on Kafka."""

    @pytest.fixture
    def harness(
        self,
        kafka: object,
        kafka_admin: AdminClient,
        topic_name: Callable[[], str],
        create_topic: Callable[..., str],
    ) -> KafkaHarness:
        return KafkaHarness(kafka.address, kafka_admin, topic_name, create_topic)  # type: ignore[attr-defined]
