"""What the conformance suite asks of a broker, and what its tests share."""

import itertools
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.transport.base import (
    ClientTransport,
    PublishFailure,
    PublishingTransport,
    TransactionalTransport,
    WorkerTransport,
)

PATIENCE_SECONDS: Final = 30.0
"""How long the suite waits for what must come."""

TURN_SECONDS: Final = 0.05

_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Features:
    """What an implementation cannot do: each field holds the reason, or is empty where it can.

    The suite then asks for the refusal instead: what is not possible must be said, not lost.
    """

    no_record_without_key_and_value: str = ""
    """The client cannot send a record that has neither key nor value."""


class Harness(ABC):
    """A broker for the suite, and the transports under test. Everything made is closed by the test
    that made it, but for what ``close`` is told to."""

    features: Features = Features()

    @abstractmethod
    def create_topic(self, partitions: int = 1) -> str:
        """A new topic with a name of its own."""

    @abstractmethod
    def add_partitions(self, topic: str, total: int) -> None:
        """Let *topic* have *total* partitions."""

    @abstractmethod
    def delete_topic(self, topic: str) -> None:
        """Return when *topic* is gone."""

    @abstractmethod
    def recreate_topic(self, topic: str, partitions: int = 1) -> None:
        """Create *topic* again, after ``delete_topic``."""

    @abstractmethod
    def topics(self) -> Collection[str]:
        """The names of all topics that are there."""

    @abstractmethod
    def worker(self, group: str) -> PublishingTransport:
        """A worker's transport in *group*, not subscribed."""

    @abstractmethod
    def client(self) -> ClientTransport:
        """A client's transport, not started."""

    @abstractmethod
    def lose(self, worker: WorkerTransport) -> None:
        """Let the group give *worker*'s partitions to others without its knowing."""


class TransactionHarness(Harness):
    """A broker with transactions. What its ``worker`` reads is committed."""

    @abstractmethod
    def transactional_worker(self, group: str) -> TransactionalTransport:
        """A worker's transport in *group* with the guarantee "exactly-once", not subscribed."""


def expect(condition: object, otherwise: str) -> None:
    """Fail the test with *otherwise*. (``assert`` would be stripped by ``python -O``.)"""
    if not condition:
        raise AssertionError(otherwise)


def expect_equal(found: object, wanted: object, what: str) -> None:
    """Fail the test where *found* is not *wanted*."""
    expect(found == wanted, f"{what}: {found!r}, not {wanted!r}")


def new_group() -> str:
    """A group's name that no other test and no earlier run uses."""
    return f"conformance-{os.getpid()}-{time.time_ns()}-{next(_serial)}"


def outgoing(
    topic: str,
    value: bytes | None = b"value",
    *,
    partition: int | None = 0,
    key: bytes | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> OutgoingRecord:
    """A record to be written, with few words."""
    return OutgoingRecord(topic, partition, key, value, headers)


@dataclass(slots=True)
class Listener:
    """Writes down what it is told; *while_revoked* runs inside ``on_revoked``."""

    events: list[tuple[str, frozenset[Partition]]] = field(default_factory=list)
    partitions: frozenset[Partition] = frozenset()
    while_revoked: Callable[[], None] = lambda: None
    while_assigned: Callable[[], None] = lambda: None

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        """Write it down."""
        self.events.append(("assigned", frozenset(partitions)))
        self.partitions = frozenset(partitions)
        self.while_assigned()

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        """Write it down, then let the test act while the partitions are still owned."""
        self.events.append(("revoked", frozenset(partitions)))
        self.while_revoked()
        self.partitions -= frozenset(partitions)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Write it down."""
        self.events.append(("lost", frozenset(partitions)))
        self.partitions -= frozenset(partitions)

    def told(self, event: str) -> list[frozenset[Partition]]:
        """What came with *event*, each time."""
        return [partitions for name, partitions in self.events if name == event]


@contextmanager
def joined(
    harness: Harness, topic: str, *, group: str | None = None, listener: Listener | None = None
) -> Iterator[PublishingTransport]:
    """A worker that has subscribed; closed in the end."""
    worker = harness.worker(group or new_group())
    try:
        worker.subscribe(topic, listener or Listener())
        yield worker
    finally:
        worker.close()


def until(
    happened: Callable[[], object],
    workers: Sequence[WorkerTransport],
    what: str,
    *,
    before: list[Record] | None = None,
) -> list[Record]:
    """Let *workers* fetch until it has *happened*; what they fetched, behind what was *before*."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    fetched = [] if before is None else before
    while not happened():
        expect(time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}")
        for worker in workers:
            fetched += worker.fetch(100, TURN_SECONDS)
    return fetched


def fetch(worker: WorkerTransport, count: int, *, records_max: int = 100) -> list[Record]:
    """Exactly *count* records: waits for them, and a moment longer for one too many."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    fetched: list[Record] = []
    while len(fetched) < count:
        left = deadline - time.monotonic()
        expect(left > 0, f"{len(fetched)} of {count} records within {PATIENCE_SECONDS:g} s")
        fetched += worker.fetch(records_max, TURN_SECONDS)
    fetched += worker.fetch(records_max, TURN_SECONDS)
    expect_equal(len(fetched), count, "records fetched")
    return fetched


def publish(worker: PublishingTransport, *records: OutgoingRecord) -> list[PublishFailure]:
    """Publish *records* and wait until they have settled; what failed."""
    settled: list[Sequence[PublishFailure]] = []
    worker.publish(records, settled.append)
    serve_until(lambda: settled, worker, "a publish settles")
    return list(settled[0])


def serve_until(happened: Callable[[], object], worker: PublishingTransport, what: str) -> None:
    """Let *worker* serve until it has *happened*."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        expect(time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}")
        worker.serve(TURN_SECONDS)


def fill(worker: PublishingTransport, topic: str, values: Mapping[int, Sequence[bytes]]) -> None:
    """Write *values*, by partition, and wait until the broker has them."""
    records = [
        outgoing(topic, value, partition=partition)
        for partition, of_partition in values.items()
        for value in of_partition
    ]
    expect_equal(publish(worker, *records), [], "records that were not acknowledged")


def values(records: Sequence[Record], partition: int = 0) -> list[bytes | None]:
    """The bodies of one partition's records, in the order in which they came."""
    return [record.value for record in records if record.partition == partition]


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Bodies that differ: ``b"0"``, ``b"1"``, …"""
    return [str(number).encode() for number in range(start, start + count)]
