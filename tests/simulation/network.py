"""Between a worker and the broker: records under way, faults by the plan's rates, and witnesses."""

import random
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

import greenlet
from simulation.asked import DEAD_LETTERS
from simulation.plan import Plan
from simulation.promises import Promises
from simulation.scheduler import Scheduler
from simulation.threads import Condition

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import TransportError
from ondemand.testing.faults import Fate, FaultyTransport
from ondemand.transport.base import (
    Membership,
    Note,
    OnSettled,
    Positions,
    PublishFailure,
    PublishingTransport,
    RebalanceListener,
    TransactionAbortedError,
)
from ondemand.transport.memory import MemoryBroker
from ondemand.transport.memory_group import Member
from ondemand.transport.memory_worker import MemorySource

GROUP = "ondemand.m"
SILENCE_SECONDS = 0.3
STALL_SECONDS = 0.4


class Weather:
    """Whether things fail now, and which."""

    def __init__(self, plan: Plan, chance: random.Random) -> None:
        self._plan = plan
        self._chance = chance
        self.calm = False
        self.outage = False

    def fate(self, record: OutgoingRecord) -> Fate:
        """Of a record that is published now."""
        if self.calm:
            return Fate.TAKEN
        if self.outage:
            return Fate.LOST
        plan, drawn = self._plan, self._chance.random()
        if drawn < plan.lost:
            return Fate.LOST
        if drawn < plan.lost + plan.unacknowledged:
            return Fate.UNACKNOWLEDGED
        if drawn < plan.lost + plan.unacknowledged + plan.refused and record.topic != DEAD_LETTERS:
            return Fate.REFUSED
        return Fate.TAKEN

    def fails(self, rate: float) -> bool:
        """Whether something that fails at *rate* does so now."""
        return not self.calm and (self.outage or self._chance.random() < rate)

    def happens(self, rate: float) -> bool:
        """Whether something that an outage does not matter to happens now."""
        return not self.calm and self._chance.random() < rate

    def travel_seconds(self) -> float:
        """How long a record is under way."""
        if self.happens(self._plan.stalled):
            return STALL_SECONDS
        return self._chance.expovariate(1 / self._plan.travel_seconds)


class Network:
    """The reading half, and what both guarantees share. Once *dead*, nothing gets through."""

    def __init__(
        self, broker: MemoryBroker, scheduler: Scheduler, weather: Weather, promises: Promises
    ) -> None:
        self.memory = self._made(broker)
        self.dead = False
        self.before_fetch: Callable[[], None] = lambda: None
        self._broker = broker
        self._scheduler = scheduler
        self._weather = weather
        self._promises = promises

    def subscribe(self, topic: str, listener: RebalanceListener) -> None:
        self.memory.subscribe(topic, listener)

    def fetch(self, records_max: int, timeout_seconds: float) -> Sequence[Record]:
        records = self.memory.fetch(records_max, timeout_seconds)
        self._promises.read(records)
        return records

    def pause(self, partitions: Collection[Partition]) -> None:
        self.memory.pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        self.memory.resume(partitions)

    def lag(self) -> Mapping[Partition, int]:
        return self.memory.lag()

    def partition_count(self, topic: str, *, at_least: int = 0) -> int | None:
        if self._weather.fails(self._silent_rate):
            self._scheduler.sleep(SILENCE_SECONDS)
            raise TransportError("the broker does not answer")
        return self.memory.partition_count(topic, at_least=at_least)

    def problems(self) -> Sequence[str]:
        return self.memory.problems()

    def notes(self, partitions: Collection[Partition]) -> Mapping[Partition, Note]:
        if self._weather.fails(self._silent_rate):
            self._scheduler.sleep(SILENCE_SECONDS)
            raise TransportError("the broker does not answer")
        return self.memory.notes(partitions)

    def note(self, notes: Mapping[Partition, Note]) -> None:
        if self._weather.fails(self._silent_rate):
            raise TransportError("the broker does not store the notes")
        self.memory.note(notes)

    def close(self) -> None:
        if self.dead:
            raise greenlet.GreenletExit
        self.memory.close()

    def _made(self, broker: MemoryBroker) -> MemorySource:
        raise NotImplementedError

    @property
    def _silent_rate(self) -> float:
        return self._weather._plan.silent


class AtLeastOnceNetwork(Network):
    """A ``PublishingTransport``: what is published is under way for a while, in order."""

    def __init__(
        self,
        broker: MemoryBroker,
        scheduler: Scheduler,
        weather: Weather,
        promises: Promises,
        plan: Plan,
    ) -> None:
        super().__init__(broker, scheduler, weather, promises)
        self._under_way: deque[tuple[Sequence[OutgoingRecord], OnSettled]] = deque()
        self._changed = Condition(scheduler)
        self._faulty: PublishingTransport = FaultyTransport(
            self.memory,
            fate=weather.fate,
            commit_fails=lambda: weather.fails(plan.commit_fails),
        )

    def _made(self, broker: MemoryBroker) -> MemorySource:
        return broker.worker(group=GROUP)

    def publish(self, records: Sequence[OutgoingRecord], on_settled: OnSettled) -> None:
        self._promises.published(records)
        with self._changed:
            self._under_way.append((tuple(records), on_settled))
            self._changed.notify_all()

    def carry(self) -> None:
        """Bring what is under way to the broker, for ever; the work of a task of its own."""
        while True:
            with self._changed:
                while not self._under_way:
                    self._changed.wait()
            self._scheduler.sleep(self._weather.travel_seconds())
            if not self._arrive():
                return

    def crash(self, arrived: int) -> None:
        """The worker is gone; the first *arrived* publishes under way are stored all the same."""
        self.dead = True
        for _ in range(min(arrived, len(self._under_way))):
            self._arrive()

    def serve(self, timeout_seconds: float = 0.0) -> None:
        self._faulty.serve(timeout_seconds)

    def commit(self, positions: Positions) -> None:
        self._faulty.commit(positions)

    def commit_and_wait(self, positions: Positions) -> None:
        self._faulty.commit_and_wait(positions)

    def _arrive(self) -> bool:
        records, on_settled = self._under_way.popleft()
        try:
            self._faulty.publish(
                records, lambda failures: self._settled(records, failures, on_settled)
            )
        except TransportError:
            return False  # closed meanwhile: what was not flushed by then is lost
        return True

    def _settled(
        self,
        records: Sequence[OutgoingRecord],
        failures: Sequence[PublishFailure],
        on_settled: OnSettled,
    ) -> None:
        failed = {id(failure.record) for failure in failures}
        self._promises.acknowledged(record for record in records if id(record) not in failed)
        for failure in failures:
            if failure.permanent:
                self._promises.refused(failure.record)
        on_settled(failures)


class ExactlyOnceNetwork(Network):
    """A ``TransactionalTransport``: all of a transaction is there, or nothing."""

    def __init__(
        self,
        broker: MemoryBroker,
        scheduler: Scheduler,
        weather: Weather,
        promises: Promises,
        plan: Plan,
    ) -> None:
        super().__init__(broker, scheduler, weather, promises)
        self._plan = plan

    def _made(self, broker: MemoryBroker) -> MemorySource:
        return broker.transactional_worker(group=GROUP)

    @property
    def membership(self) -> Membership:
        return self.memory.member, self.memory.member.generation

    def transact(
        self, records: Sequence[OutgoingRecord], positions: Positions, membership: Membership
    ) -> None:
        self._promises.published(records)
        self._scheduler.sleep(self._weather.travel_seconds())
        # The broker compares when it stores the positions, however old the membership is by then.
        member, generation = membership
        self._scheduler.sleep(self._weather.travel_seconds())
        self._maybe_abort(records)
        with self._broker.changed:
            if not self._is_member(member, generation, positions):
                raise TransactionAbortedError("the group has moved on")
            for record in records:
                self._broker.append(record)
            self._promises.acknowledged(records)
            self._broker.group(GROUP).committed.update(positions)
            self._broker.notify()
        if self._weather.happens(self._plan.unacknowledged / 4):
            raise TransportError("the outcome of the transaction is unknown")

    def crash(self, arrived: int) -> None:
        """The worker is gone, and its open transaction with it."""
        del arrived
        self.dead = True

    def _is_member(self, member: Member, generation: int, positions: Positions) -> bool:
        """Whether the group is as it was, and *member* reads what it is about to commit."""
        group = self._broker.group(GROUP)
        moved = self.memory.member is not member or group.generation != generation
        return not moved and group.may_commit(member, positions.keys())

    def _maybe_abort(self, records: Sequence[OutgoingRecord]) -> None:
        fates = [(record, self._weather.fate(record)) for record in records]
        refused = [record for record, fate in fates if fate is Fate.REFUSED]
        for record in refused:
            self._promises.refused(record)
        if refused or self._weather.fails(self._plan.aborted):
            never = TransportError("the broker refuses it")
            failures = [PublishFailure(record, never, permanent=True) for record in refused]
            raise TransactionAbortedError("the transaction was aborted", failures)
