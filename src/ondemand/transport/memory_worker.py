"""The worker's side of the memory broker."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import ConfigurationError, TransportError
from ondemand.transport.base import (
    Membership,
    Note,
    NotTakenError,
    OnSettled,
    Positions,
    PublishFailure,
    RebalanceListener,
    TransactionAbortedError,
)
from ondemand.transport.memory_group import Group, Member

if TYPE_CHECKING:
    from ondemand.transport.memory import MemoryBroker

_log = logging.getLogger(__name__)


class MemorySource:
    """A ``WorkerTransport`` on a ``MemoryBroker``: what all of its workers share."""

    def __init__(self, broker: "MemoryBroker", group: str) -> None:
        self.group = group
        self.member = Member(topic="")
        self._broker = broker
        self._listener: RebalanceListener | None = None
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.group} | {len(self._positions)} partitions]>"

    def subscribe(self, topic: str, listener: RebalanceListener) -> None:
        """Join the group and read *topic*. Raises ``ConfigurationError`` where it is not there."""
        with self._broker.changed:
            if self._broker.partition_count(topic) is None:
                raise ConfigurationError(f"topic {topic!r} is not there: create it first")
            self.member = Member(topic)
            self._listener = listener
            self._group.join(self.member)
            self._broker.notify()

    def fetch(self, records_max: int, timeout_seconds: float) -> Sequence[Record]:
        """At most *records_max* records, waiting for a first one; calls the listener."""
        self._require_open()
        deadline = time.monotonic() + timeout_seconds
        while True:
            self._serve()
            self._follow_group()
            with self._broker.changed:
                records = self._read(records_max)
                if records:
                    return records
                if self._group_wants_something():
                    continue
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._broker.changed.wait(remaining):
                    return ()

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch nothing from these until ``resume``."""
        self._paused |= set(partitions) & self._positions.keys()

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch from these again."""
        self._paused -= set(partitions)

    def partition_count(self, topic: str, *, at_least: int = 0) -> int | None:
        """How many partitions *topic* has; None if it is not there. Always as of now."""
        del at_least
        return self._broker.partition_count(topic)

    def lag(self) -> Mapping[Partition, int]:
        """Records not yet fetched, for each assigned partition."""
        with self._broker.changed:
            logs = ((each, self._broker.log(each)) for each in self._positions)
            return {
                partition: max(log.end - self._positions[partition], 0)
                for partition, log in logs
                if log is not None
            }

    def problems(self) -> Sequence[str]:
        """None: this broker is always there."""
        return ()

    def notes(self, partitions: Collection[Partition]) -> Mapping[Partition, Note]:
        """What the group has stored for *partitions*."""
        with self._broker.changed:
            stored = {each: self._group.stored(each) for each in partitions}
        return {partition: note for partition, note in stored.items() if note is not None}

    def note(self, notes: Mapping[Partition, Note]) -> None:
        """Store positions and texts; raises ``TransportError`` for what is not owned."""
        self._require_open()
        with self._broker.changed:
            self._require_owned(notes.keys())
            self._group.store(notes)

    def close(self) -> None:
        """Settle, give up what is assigned, leave. Idempotent."""
        if self._closed:
            return
        try:
            self._serve()
            self._give_up(lambda listener, lost: listener.on_revoked(lost))
            self._serve()
        finally:
            self._closed = True
            with self._broker.changed:
                self._group.leave(self.member)
                self._broker.notify()

    @property
    def _group(self) -> Group:
        return self._broker.group(self.group)

    def _serve(self) -> None:
        """Tell what is to be told in the thread that fetches."""

    def _require_owned(self, partitions: Collection[Partition]) -> None:
        if not self._group.may_commit(self.member, partitions):
            named = ", ".join(map(str, sorted(partitions)))
            raise TransportError(f"{named}: not (all) assigned to this worker any more")

    def _require_open(self) -> None:
        if self._closed:
            raise TransportError("this transport is closed")

    def _group_wants_something(self) -> bool:
        if self._listener is None:
            return False
        evicted = self.member not in self._group.members
        return (
            evicted or self._group.must_give_up(self.member) or self._group.must_take(self.member)
        )

    def _follow_group(self) -> None:
        """Let go of, or take, what the group says. The listener is called outside the lock."""
        if self._listener is None:
            return
        if self.member not in self._group.members:
            self._give_up(lambda listener, lost: listener.on_lost(lost))
            self.member = Member(self.member.topic)
            self._group_call(lambda group: group.join(self.member))
        if self._group.must_give_up(self.member):
            self._give_up(lambda listener, gone: listener.on_revoked(gone))
            self._group_call(lambda group: group.give_up(self.member, self._broker.partitions()))
        if self._group.must_take(self.member):
            self._take()

    def _group_call(self, call: Callable[[Group], None]) -> None:
        with self._broker.changed:
            call(self._group)
            self._broker.notify()

    def _give_up(self, tell: Callable[[RebalanceListener, Collection[Partition]], None]) -> None:
        if self._listener is not None and self._positions:
            # Still readable by nobody else: the listener may commit before these are cleared.
            try:
                tell(self._listener, tuple(self._positions))
            finally:
                self._positions.clear()
                self._paused.clear()

    def _take(self) -> None:
        with self._broker.changed:
            self.member.generation = self._group.generation
            committed = self._group.committed
            self._positions = {each: committed.get(each, 0) for each in self.member.assigned}
        if self._listener is not None:
            self._listener.on_assigned(tuple(self._positions))

    def _read(self, records_max: int) -> list[Record]:
        """Each partition in turn; the one read first goes to the end of the row."""
        taken: list[Record] = []
        for partition in tuple(self._positions):
            log = self._broker.log(partition)
            if partition in self._paused or log is None or len(taken) >= records_max:
                continue
            records = log.read(self._positions[partition], records_max - len(taken))
            if records:
                del self._positions[partition]
                self._positions[partition] = records[-1].next_offset
                taken += records
        return taken


class MemoryWorkerTransport(MemorySource):
    """A ``PublishingTransport`` on a ``MemoryBroker``; made by ``MemoryBroker.worker``."""

    def __init__(self, broker: "MemoryBroker", group: str) -> None:
        super().__init__(broker, group)
        self._settled: deque[tuple[OnSettled, Sequence[PublishFailure]]] = deque()

    def publish(self, records: Sequence[OutgoingRecord], on_settled: OnSettled) -> None:
        """Append *records*; which of them failed is told to *on_settled* from ``serve``."""
        self._require_open()
        with self._broker.changed:
            failures = [failed for record in records if (failed := self._append(record))]
            self._settled.append((on_settled, failures))
            self._broker.notify()

    def serve(self, timeout_seconds: float = 0.0) -> None:
        """Call the ``on_settled`` of what was published."""
        with self._broker.changed:
            self._broker.changed.wait_for(lambda: bool(self._settled), timeout_seconds)
        while self._settled:
            on_settled, failures = self._settled.popleft()
            on_settled(failures)

    def commit(self, positions: Positions) -> None:
        """Store *positions*; where these partitions are not owned any more, only log it."""
        try:
            self.commit_and_wait(positions)
        except TransportError as error:
            _log.warning("offsets were not committed: %s", error)

    def commit_and_wait(self, positions: Positions) -> None:
        """Store *positions*; raises ``TransportError`` for partitions that are not owned."""
        self._require_open()
        self.serve()
        with self._broker.changed:
            self._require_owned(positions.keys())
            self._group.committed.update(positions)

    def _serve(self) -> None:
        self.serve()

    def _append(self, record: OutgoingRecord) -> PublishFailure | None:
        try:
            self._broker.append(record)
        except NotTakenError as error:
            return PublishFailure(record, error, permanent=True)
        return None


class MemoryTransactionalTransport(MemorySource):
    """A ``TransactionalTransport`` on a ``MemoryBroker``; made by
    ``MemoryBroker.transactional_worker``."""

    @property
    def membership(self) -> Membership:
        """Which member of the group this is, and by which of its assignments."""
        return self.member, self.member.generation

    def transact(
        self, records: Sequence[OutgoingRecord], positions: Positions, membership: Membership
    ) -> None:
        """Append *records* and store *positions*, or do nothing and raise
        ``TransactionAbortedError``."""
        self._require_open()
        with self._broker.changed:
            if membership != self.membership:
                raise TransactionAbortedError("the group has moved on")
            try:
                self._require_owned(positions.keys())
            except TransportError as error:
                raise TransactionAbortedError(str(error)) from error
            failures = [
                PublishFailure(record, refusal, permanent=True)
                for record in records
                if (refusal := self._broker.refusal(record))
            ]
            if failures:
                raise TransactionAbortedError(
                    f"a transaction was aborted: {failures[0].error}", failures
                )
            for record in records:
                self._broker.append(record)
            self._group.committed.update(positions)
            self._broker.notify()
