"""The memory broker does what every transport must do."""

import itertools
from collections.abc import Collection

import pytest

from ondemand.testing.conformance import (
    ClientConformance,
    NoteConformance,
    TransactionConformance,
    TransactionHarness,
    WorkerConformance,
)
from ondemand.transport.base import (
    ClientTransport,
    PublishingTransport,
    TransactionalTransport,
    WorkerTransport,
)
from ondemand.transport.memory import MemoryBroker
from ondemand.transport.memory_worker import MemorySource


class MemoryHarness(TransactionHarness):
    """A broker in memory, made for one test."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self._names: set[str] = set()
        self._serial = itertools.count()

    def create_topic(self, partitions: int = 1) -> str:
        name = f"topic-{next(self._serial)}"
        self.recreate_topic(name, partitions)
        return name

    def add_partitions(self, topic: str, total: int) -> None:
        self.broker.add_partitions(topic, total)

    def delete_topic(self, topic: str) -> None:
        self.broker.delete_topic(topic)

    def recreate_topic(self, topic: str, partitions: int = 1) -> None:
        self.broker.create_topic(topic, partitions)

    def topics(self) -> Collection[str]:
        return {partition.topic for partition in self.broker.partitions()}

    def worker(self, group: str) -> PublishingTransport:
        return self.broker.worker(group=group)

    def transactional_worker(self, group: str) -> TransactionalTransport:
        return self.broker.transactional_worker(group=group)

    def client(self) -> ClientTransport:
        return self.broker.client()

    def lose(self, worker: WorkerTransport) -> None:
        assert isinstance(worker, MemorySource)
        self.broker.evict(worker)


class TestMemory(NoteConformance, WorkerConformance, TransactionConformance, ClientConformance):
    """The whole suite, on the memory broker."""

    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()
