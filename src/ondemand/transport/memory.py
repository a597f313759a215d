"""A broker in memory, for tests of services and workers that need no Kafka.

Topics with partitions and offsets, consumer groups with rebalances, commits. It starts no threads,
and does nothing but what its callers ask for, in their order: the same calls give the same outcome.
It passes the same conformance suite as Kafka (``ondemand.testing.conformance``).

    broker = MemoryBroker({"digits.requests": 2, "checkout.replies": 1})
    worker, client = broker.worker(group="ondemand.digits"), broker.client()
"""

import itertools
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ondemand import limits
from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.transport.base import NotTakenError
from ondemand.transport.memory_client import MemoryClientTransport
from ondemand.transport.memory_group import Group
from ondemand.transport.memory_worker import (
    MemorySource,
    MemoryTransactionalTransport,
    MemoryWorkerTransport,
)

__all__ = ["MemoryBroker"]


@dataclass(slots=True)
class _Log:
    """One partition. The oldest records are dropped where there are more than *records*' bound."""

    records: deque[Record]
    end: int = 0

    @property
    def start(self) -> int:
        return self.end - len(self.records)

    def read(self, position: int, records_max: int) -> list[Record]:
        """At most so many from *position* on; from the start where that is out of range."""
        first = position - self.start if self.start <= position <= self.end else 0
        return list(itertools.islice(self.records, first, first + records_max))


@dataclass(slots=True)
class _Topic:
    logs: list[_Log] = field(default_factory=list)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryBroker:
    """Topics, groups and the two transports that use them. Thread-safe, and usable from asyncio.

    *topics* are partition counts by name. A partition keeps its newest *records_max* records, as a
    Kafka topic with a retention limit does. *now_ms* stamps records (milliseconds since the epoch).
    """

    def __init__(
        self,
        topics: Mapping[str, int] | None = None,
        *,
        records_max: int = 100_000,
        now_ms: Callable[[], int] = _wall_clock_ms,
    ) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._records_max = records_max
        self._now_ms = now_ms
        self._topics: dict[str, _Topic] = {}
        self._groups: dict[str, Group] = {}
        self._watchers: list[Callable[[], None]] = []
        self._keyless = itertools.count()
        for name, partitions in (topics or {}).items():
            self.create_topic(name, partitions)

    def __repr__(self) -> str:
        return f"<MemoryBroker [{len(self._topics)} topics | {len(self._groups)} groups]>"

    def worker(self, *, group: str = "workers") -> MemoryWorkerTransport:
        """A worker's transport, a member of *group* once it has subscribed."""
        return MemoryWorkerTransport(self, group)

    def transactional_worker(self, *, group: str = "workers") -> MemoryTransactionalTransport:
        """As ``worker``, with the guarantee "exactly-once"."""
        return MemoryTransactionalTransport(self, group)

    def client(self) -> MemoryClientTransport:
        """A requesting service's transport."""
        return MemoryClientTransport(self)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Add a topic. Raises ``ValueError`` where it is already there or has no partition."""
        with self.changed:
            if name in self._topics:
                raise ValueError(f"topic {name!r} is already there")
            if partitions < 1:
                raise ValueError(f"topic {name!r} needs a partition, not {partitions}")
            self._topics[name] = _Topic()
            self.add_partitions(name, partitions)

    def add_partitions(self, name: str, total: int) -> None:
        """Let topic *name* have *total* partitions; raises ``ValueError`` unless that is more."""
        with self.changed:
            logs = self._topics[name].logs
            if total <= len(logs):
                raise ValueError(f"topic {name!r} has {len(logs)} partitions; {total} is not more")
            while len(logs) < total:
                logs.append(_Log(deque(maxlen=self._records_max)))
            self._rebalance_readers(name)

    def delete_topic(self, name: str) -> None:
        """Remove topic *name*, its records and the offsets committed for it."""
        with self.changed:
            del self._topics[name]
            for group in self._groups.values():
                group.forget(name)
            self._rebalance_readers(name)

    def append(self, record: OutgoingRecord) -> Record:
        """Write *record*; what a reader will get is returned. Raises ``NotTakenError`` where its
        topic or partition is not there, or it is larger than a broker takes by default."""
        with self.changed:
            index, log = self._log_for(record)
            _check_size(record)
            written = Record(
                record.topic,
                index,
                log.end,
                record.key,
                record.value,
                tuple(record.headers),
                self._now_ms(),
            )
            log.records.append(written)
            log.end += 1
            self.notify()
            return written

    def refusal(self, record: OutgoingRecord) -> NotTakenError | None:
        """Why ``append`` would refuse *record*; None if it would not."""
        with self.changed:
            try:
                self._log_for(record)
                _check_size(record)
            except NotTakenError as error:
                return error
            return None

    def records(self, topic: str) -> tuple[Record, ...]:
        """Everything that *topic* holds, partition by partition, each in order."""
        with self.changed:
            return tuple(record for log in self._topics[topic].logs for record in log.records)

    def committed(self, group: str) -> dict[Partition, int]:
        """The positions that *group* has committed: the next offset to be read, by partition."""
        with self.changed:
            return dict(self.group(group).committed)

    def evict(self, worker: MemorySource) -> None:
        """Throw *worker* out of its group, as Kafka does after its session timeout.

        The others get its partitions, and it learns of it from its next ``fetch``.
        """
        with self.changed:
            self.group(worker.group).leave(worker.member)
            self.notify()

    # What the transports use, under the lock ``changed``.

    def group(self, name: str) -> Group:
        """The group *name*, made on first use."""
        return self._groups.setdefault(name, Group())

    def partitions(self) -> tuple[Partition, ...]:
        """Every partition of every topic."""
        return tuple(
            Partition(name, index)
            for name, topic in self._topics.items()
            for index in range(len(topic.logs))
        )

    def partition_count(self, topic: str) -> int | None:
        """How many partitions *topic* has; None if it is not there."""
        with self.changed:
            found = self._topics.get(topic)
            return None if found is None else len(found.logs)

    def log(self, partition: Partition) -> _Log | None:
        """The records of *partition*; None if it is not there."""
        topic = self._topics.get(partition.topic)
        if topic is None or partition.index >= len(topic.logs):
            return None
        return topic.logs[partition.index]

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call *watcher*, from any thread, whenever something changes."""
        with self.changed:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """The opposite of ``watch``."""
        with self.changed:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def notify(self) -> None:
        """Wake whoever waits."""
        with self.changed:
            self.changed.notify_all()
            for watcher in self._watchers:
                watcher()

    def _log_for(self, record: OutgoingRecord) -> tuple[int, _Log]:
        topic = self._topics.get(record.topic)
        if topic is None:
            raise NotTakenError(f"topic {record.topic!r} is not there")
        index = self._choose(record, len(topic.logs))
        if not 0 <= index < len(topic.logs):
            raise NotTakenError(
                f"topic {record.topic!r} has no partition {index}; it has {len(topic.logs)}"
            )
        return index, topic.logs[index]

    def _choose(self, record: OutgoingRecord, count: int) -> int:
        if record.partition is not None:
            return record.partition
        if record.key is None:
            return next(self._keyless) % count
        return zlib.crc32(record.key) % count

    def _rebalance_readers(self, topic: str) -> None:
        for group in self._groups.values():
            if any(member.topic == topic for member in group.members):
                group.start_rebalance()
        self.notify()


def _check_size(record: OutgoingRecord) -> None:
    size = len(record.key or b"") + len(record.value or b"")
    size += sum(len(name) + len(value or b"") for name, value in record.headers)
    if size > limits.RECORD_BYTES_MAX:
        raise NotTakenError(
            f"a record of {size} bytes for {record.topic!r}: the broker takes at most "
            f"{limits.RECORD_BYTES_MAX}"
        )
