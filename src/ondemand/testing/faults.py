"""Doubles that break on demand: what brokers, networks and models do on a bad day.

    transport = FaultyTransport(broker.worker(), fate=first(1, Fate.LOST))
    model = SlowModel(model, seconds=0.2)

Transports: acknowledgements that are lost, records that are refused, commits that fail, replies
that come twice. Models: slow, stuck, wrong, poisoned. Each wraps one that works.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import ModelError, TransportError
from ondemand.runtime.base import Array, Arrays, Model, Signature, rows_of
from ondemand.transport.base import (
    ClientTransport,
    Follower,
    Note,
    NotTakenError,
    OnSent,
    OnSettled,
    Positions,
    PublishFailure,
    PublishingTransport,
    RebalanceListener,
)


class Fate(StrEnum):
    """What becomes of a record that is published."""

    TAKEN = "taken"
    """Stored, and acknowledged."""

    LOST = "lost"
    """Not stored, for now: published again, it may be."""

    UNACKNOWLEDGED = "unacknowledged"
    """Stored, but the acknowledgement does not arrive: for the sender this looks like ``LOST``."""

    REFUSED = "refused"
    """Not stored, and it never will be."""


Decide = Callable[[OutgoingRecord], Fate]
"""The fate of each record, in the order in which they are published."""


def taken(_: OutgoingRecord) -> Fate:
    """Nothing breaks."""
    return Fate.TAKEN


def first(count: int, fate: Fate, *, topic: str | None = None) -> Decide:
    """*fate* for the first *count* records (to *topic*, where one is named), and none later."""
    return _counted(topic, lambda number: fate if number <= count else Fate.TAKEN)


def after(count: int, fate: Fate, *, topic: str | None = None) -> Decide:
    """*fate* for all records (to *topic*, where one is named) but the first *count*."""
    return _counted(topic, lambda number: Fate.TAKEN if number <= count else fate)


def _counted(topic: str | None, by_number: Callable[[int], Fate]) -> Decide:
    number = 0

    def decide(record: OutgoingRecord) -> Fate:
        nonlocal number
        if topic is not None and record.topic != topic:
            return Fate.TAKEN
        number += 1
        return by_number(number)

    return decide


def _never() -> bool:
    return False


class FaultyTransport:
    """A ``PublishingTransport`` on top of *inner*, whose records have the fates that *fate* names.

    A background commit is lost, and one that is waited for raises, where *commit_fails* says so.
    """

    def __init__(
        self,
        inner: PublishingTransport,
        *,
        fate: Decide = taken,
        commit_fails: Callable[[], bool] = _never,
    ) -> None:
        self._inner = inner
        self._fate = fate
        self._commit_fails = commit_fails

    def __repr__(self) -> str:
        return f"<FaultyTransport [{self._inner!r}]>"

    def publish(self, records: Sequence[OutgoingRecord], on_settled: OnSettled) -> None:
        """Publish what is to be stored, and report what is to fail, in one settlement."""
        stored: list[OutgoingRecord] = []
        failures: list[PublishFailure] = []
        for record in records:
            fate = self._fate(record)
            if fate in {Fate.TAKEN, Fate.UNACKNOWLEDGED}:
                stored.append(record)
            if fate is not Fate.TAKEN:
                failures.append(_failure(record, fate))
        # A record may be stored, and fail for a reason of its own as well: once is enough.
        told = {id(failure.record) for failure in failures}
        self._inner.publish(
            stored,
            lambda others: on_settled(
                [*failures, *(f for f in others if id(f.record) not in told)]
            ),
        )

    def commit(self, positions: Positions) -> None:
        """Store *positions*, or lose them."""
        if not self._commit_fails():
            self._inner.commit(positions)

    def commit_and_wait(self, positions: Positions) -> None:
        """Store *positions*, or raise ``TransportError``."""
        if self._commit_fails():
            raise TransportError("the broker does not store the positions")
        self._inner.commit_and_wait(positions)

    def serve(self, timeout_seconds: float = 0.0) -> None:
        """As the transport below."""
        self._inner.serve(timeout_seconds)

    def subscribe(self, topic: str, listener: RebalanceListener) -> None:
        """As the transport below."""
        self._inner.subscribe(topic, listener)

    def fetch(self, records_max: int, timeout_seconds: float) -> Sequence[Record]:
        """As the transport below."""
        return self._inner.fetch(records_max, timeout_seconds)

    def pause(self, partitions: Collection[Partition]) -> None:
        """As the transport below."""
        self._inner.pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """As the transport below."""
        self._inner.resume(partitions)

    def partition_count(self, topic: str, *, at_least: int = 0) -> int | None:
        """As the transport below."""
        return self._inner.partition_count(topic, at_least=at_least)

    def lag(self) -> Mapping[Partition, int]:
        """As the transport below."""
        return self._inner.lag()

    def problems(self) -> Sequence[str]:
        """As the transport below."""
        return self._inner.problems()

    def notes(self, partitions: Collection[Partition]) -> Mapping[Partition, Note]:
        """As the transport below."""
        return self._inner.notes(partitions)

    def note(self, notes: Mapping[Partition, Note]) -> None:
        """Store *notes*, or raise ``TransportError``."""
        if self._commit_fails():
            raise TransportError("the broker does not store the notes")
        self._inner.note(notes)

    def close(self) -> None:
        """As the transport below."""
        self._inner.close()


def _failure(record: OutgoingRecord, fate: Fate) -> PublishFailure:
    if fate is Fate.REFUSED:
        error: TransportError = NotTakenError(f"the broker refuses records for {record.topic!r}")
        return PublishFailure(record, error, permanent=True)
    error = TransportError(f"no acknowledgement of a record for {record.topic!r}")
    return PublishFailure(record, error, permanent=False)


class RepeatingTransport:
    """A ``ClientTransport`` on top of *inner* that hands over every record twice, as a worker that
    crashed before its commit makes a reply topic do."""

    def __init__(self, inner: ClientTransport) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"<RepeatingTransport [{self._inner!r}]>"

    async def fetch(self, timeout_seconds: float) -> Sequence[Record]:
        """Each record, and each once more."""
        return [
            record
            for record in await self._inner.fetch(timeout_seconds)
            for record in (record,) * 2
        ]

    async def start(self) -> None:
        """As the transport below."""
        await self._inner.start()

    async def partition_count(self, topic: str) -> int | None:
        """As the transport below."""
        return await self._inner.partition_count(topic)

    async def listen(self, replies: Partition) -> None:
        """As the transport below."""
        await self._inner.listen(replies)

    async def follow(self, partition: Partition) -> Follower:
        """As the transport below: replies are repeated, nothing else."""
        return await self._inner.follow(partition)

    def send(self, record: OutgoingRecord, on_sent: OnSent) -> None:
        """As the transport below."""
        self._inner.send(record, on_sent)

    async def stop(self) -> None:
        """As the transport below."""
        await self._inner.stop()


class _Wrapper:
    """A model that is, but for its faults, the one inside."""

    def __init__(self, inner: Model) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self._inner!r}]>"

    @property
    def name(self) -> str:
        """The inner model's."""
        return self._inner.name

    @property
    def version(self) -> str:
        """The inner model's."""
        return self._inner.version

    @property
    def signature(self) -> Signature:
        """The inner model's."""
        return self._inner.signature

    @property
    def finite_only(self) -> bool:
        """The inner model's."""
        return self._inner.finite_only

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """What the inner model gives."""
        return self._inner.run(inputs)

    def stop(self) -> None:
        """Stop the inner model's run."""
        self._inner.stop()

    def close(self) -> None:
        """Close the inner model."""
        self._inner.close()


class SlowModel(_Wrapper):
    """Takes its time before each run: *seconds*, or what it says for so many rows. Lets itself be
    stopped meanwhile, by ``ModelError``."""

    def __init__(self, inner: Model, seconds: float | Callable[[int], float]) -> None:
        super().__init__(inner)
        self._seconds = seconds
        self._stopped = threading.Event()

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """What the inner model gives, later. Raises ``ModelError`` where it was stopped."""
        seconds = self._seconds(rows_of(inputs)) if callable(self._seconds) else self._seconds
        self._stopped.clear()
        if self._stopped.wait(seconds):
            raise ModelError("the run was stopped")
        return super().run(inputs)

    def stop(self) -> None:
        """End the run that goes on now."""
        self._stopped.set()
        super().stop()


class StuckModel(_Wrapper):
    """Does not come back from a run that *is_stuck* names, and does not let itself be stopped;
    until ``release``."""

    def __init__(self, inner: Model, is_stuck: Callable[[Arrays], bool]) -> None:
        super().__init__(inner)
        self._is_stuck = is_stuck
        self._released = threading.Event()

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """What the inner model gives, if ever."""
        if self._is_stuck(inputs):
            self._released.wait()
        return super().run(inputs)

    def release(self) -> None:
        """Let what is stuck go on, and get stuck no more."""
        self._released.set()


class WrongModel(_Wrapper):
    """Leaves out the last row of every output, in the runs that *is_wrong* names."""

    def __init__(self, inner: Model, is_wrong: Callable[[Arrays], bool]) -> None:
        super().__init__(inner)
        self._is_wrong = is_wrong

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """What the inner model gives, or one row less."""
        outputs = super().run(inputs)
        if self._is_wrong(inputs):
            return {name: output[:-1] for name, output in outputs.items()}
        return outputs


class PoisonedModel(_Wrapper):
    """Raises ``ModelError`` for every run that holds what *is_poison* names."""

    def __init__(self, inner: Model, is_poison: Callable[[Arrays], bool]) -> None:
        super().__init__(inner)
        self._is_poison = is_poison

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """What the inner model gives. Raises ``ModelError`` where there is poison."""
        if self._is_poison(inputs):
            raise ModelError("the model cannot take this input")
        return super().run(inputs)
