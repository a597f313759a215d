"""The seams to the broker: small protocols, for either side.

Whoever implements them passes one conformance suite (``ondemand.testing.conformance``). Foreign
exceptions stop behind these seams: what comes out is a ``TransportError``, chained with ``from``.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import TransportError


class PublishFailure(NamedTuple):
    """A record that the broker has not acknowledged.

    *permanent*: the same record would be refused again (too large, topic gone, not authorised);
    otherwise it may be published again. Either way the broker may have stored it.
    """

    record: OutgoingRecord
    error: TransportError
    permanent: bool


class NotTakenError(TransportError):
    """The broker certainly has not taken the record: it refused it (too large, not authorised, no
    such topic), or was never asked (no connection). A plain ``TransportError`` leaves that open."""


OnSent = Callable[[Exception | None], None]
"""Called once for each ``ClientTransport.send``: with None when the broker has acknowledged the
record, otherwise with a ``TransportError``; with a ``NotTakenError`` where it is certain that the
record is not on the broker: only then may a caller be told "not sent". It never raises."""

OnSettled = Callable[[Sequence[PublishFailure]], None]
"""Called once for each ``publish``, with what the broker has not acknowledged: empty is success."""

Positions = Mapping[Partition, int]
"""The next offset to be read, for each partition: one past the last that is finished."""


class Note(NamedTuple):
    """A position that is stored, and the text beside it: at most a few hundred characters."""

    position: int
    text: str


class RebalanceListener(Protocol):
    """What a worker does when its partitions change. Called inside ``fetch`` or ``close``."""

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        """These partitions are now read here: the whole assignment. Possibly none, where there are
        more workers than partitions: joined, and waiting."""

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        """These go to another worker when this returns: the last moment to settle and to commit."""

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """These already belong to another worker: forget them and commit nothing."""


class WorkerTransport(Protocol):
    """The broker as a worker reads it, whatever its guarantee. For the intake thread only."""

    def subscribe(self, topic: str, listener: RebalanceListener) -> None:
        """Join the worker's consumer group and read *topic*; partitions come to *listener*.

        Raises ``ConfigurationError`` where the topic is not there or the broker is not reachable.
        """

    def fetch(self, records_max: int, timeout_seconds: float) -> Sequence[Record]:
        """Wait for at most *timeout_seconds* for a first record, then return what is there.

        Possibly nothing, never more than *records_max*, each partition's records in order. Must be
        called at least every ``max_poll_interval``: this is also what keeps the group membership
        alive, and where the listener is called. Raises ``TransportError`` only for errors that do
        not heal by themselves; others are logged and retried.
        """

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch nothing from these until ``resume``; membership and polling go on."""

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch from these again."""

    def partition_count(self, topic: str, *, at_least: int = 0) -> int | None:
        """How many partitions *topic* has; None if it is not there. Looked up, never tried (a
        broker that creates topics by itself is not made to), and cached for some seconds.

        Where fewer than *at_least* are known, the topic may have grown: then what is cached is a
        second old at most.

        Raises ``TransportError`` where the broker does not answer.
        """

    def lag(self) -> Mapping[Partition, int]:
        """Records not yet fetched, for each assigned partition, as far as is known."""

    def problems(self) -> Sequence[str]:
        """What is known to keep records from coming now, one sentence each. For any thread."""

    def notes(self, partitions: Collection[Partition]) -> Mapping[Partition, Note]:
        """What the group has stored for *partitions*, but for those where nothing is stored. Asks
        the broker; raises ``TransportError`` where it does not answer."""

    def note(self, notes: Mapping[Partition, Note]) -> None:
        """Store these positions and texts, and wait. Everything below the positions must be
        finished. A text stays until its position moves: a commit of the same one does not touch it.
        Raises ``TransportError`` where they are not stored."""

    def close(self) -> None:
        """Leave the group (calling ``on_revoked`` first), then free everything. Idempotent."""


class PublishingTransport(WorkerTransport, Protocol):
    """At least once: replies are acknowledged first, and offsets move later.

    All methods belong to the intake thread but ``publish``, which any thread may call.
    """

    def publish(self, records: Sequence[OutgoingRecord], on_settled: OnSettled) -> None:
        """Hand *records* to the broker and return; *on_settled* is called later, once.

        The call comes from ``serve`` (or ``fetch``, ``commit``, ``close``), in the intake thread.
        Thread-safe. Records of one partition keep their order. An empty sequence settles too.
        Waits only where the send buffer is full.
        """

    def serve(self, timeout_seconds: float = 0.0) -> None:
        """Run the acknowledgements that have arrived; wait up to the timeout for a first one."""

    def commit(self, positions: Positions) -> None:
        """Everything below these positions is finished. Returns when it is sent, not when it is
        stored; a failed commit is repeated by a later one."""

    def commit_and_wait(self, positions: Positions) -> None:
        """As ``commit``, but returns when it is stored; raises ``TransportError`` if it is not."""


class TransactionAbortedError(TransportError):
    """Nothing of a transaction became visible, neither records nor positions. It may be tried
    again; *failures* are the records that the broker refused, if that was the reason."""

    def __init__(self, message: str, failures: Sequence[PublishFailure] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


Membership = Any
"""Who a worker is in its group, for as long as one assignment lasts. What it holds is the
transport's affair."""


@runtime_checkable
class TransactionalTransport(WorkerTransport, Protocol):
    """Exactly once: replies and positions become visible together, or not at all.

    All methods belong to the intake thread but ``transact``, which one other thread may call.
    """

    @property
    def membership(self) -> Membership:
        """That of the assignment now: to be asked for in ``on_assigned``, before which it is set,
        and kept with the records that are fetched until the next one."""

    def transact(
        self, records: Sequence[OutgoingRecord], positions: Positions, membership: Membership
    ) -> None:
        """Publish *records* and store *positions* in one transaction; return when it is committed.

        *membership*: of the assignment by which the requests came. Once the group has moved on the
        broker refuses it, even where the same partitions are assigned to this worker again.

        Raises ``TransactionAbortedError`` where nothing of it became visible: also where the
        partitions belong to another worker already. Raises a plain ``TransportError`` where the
        outcome is unknown or this producer was fenced: the process must leave.
        """


class RecordWriter(Protocol):
    """Writes single records beside what a worker delivers. For one thread of its own, which may
    wait; what goes wrong here never touches the worker's own transport."""

    def partition_count(self, topic: str) -> int | None:
        """How many partitions *topic* has; None if it is not there, or not for this login. Looked
        up, never tried. Raises ``TransportError`` where the broker does not answer."""

    def write(self, record: OutgoingRecord, timeout_seconds: float) -> None:
        """Return when the broker has acknowledged *record*. Raises ``TransportError`` where it did
        not take it, or did not say so within *timeout_seconds*."""


class Follower(Protocol):
    """One partition, read from its start and then as it grows. One event loop, no group."""

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there when reading began has been handed over."""

    @property
    def in_touch(self) -> bool:
        """Whether the broker has answered within the last seconds: only then is silence news."""

    async def fetch(self, timeout_seconds: float) -> Sequence[Record]:
        """As ``ClientTransport.fetch``."""

    async def stop(self) -> None:
        """Read no more, within a bound. Idempotent."""


class ClientTransport(Protocol):
    """The broker as a requesting service sees it: one event loop, no group; creates nothing."""

    async def start(self) -> None:
        """Connect. Raises ``TransportError`` when no broker answers within the time limit."""

    async def partition_count(self, topic: str) -> int | None:
        """How many partitions *topic* has; None if it is not there. Never creates it. Cheap: what
        the broker said is remembered for some seconds. Raises ``TransportError`` where it does not
        answer in time."""

    async def listen(self, replies: Partition) -> None:
        """Read *replies* from its end on. When this returns, no later record can be missed."""

    async def fetch(self, timeout_seconds: float) -> Sequence[Record]:
        """Wait for at most *timeout_seconds* for records of the partition listened to; return all
        that are there. Heals by itself from broker restarts, leader moves and truncation; raises
        ``TransportError`` where the topic is gone."""

    async def follow(self, partition: Partition) -> Follower:
        """Read *partition* from its start on, beside what is listened to. Raises
        ``TransportError`` where it is not there, or not for this login. Stopped by ``stop``."""

    def send(self, record: OutgoingRecord, on_sent: OnSent) -> None:
        """Hand *record* to the broker and return; *on_sent* is called later, once, by the event
        loop, and at the latest when the send timeout is over. What is handed over in one turn of
        the event loop may travel together; records of one partition keep their order."""

    async def stop(self) -> None:
        """Flush and disconnect, within a bound: nobody is told anything later. Idempotent."""


async def send_and_wait(transport: ClientTransport, record: OutgoingRecord) -> None:
    """Return when the broker has acknowledged *record*; raises what ``on_sent`` would be told."""
    sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(error: Exception | None) -> None:
        if sent.done():
            return  # the caller has left
        if error is None:
            sent.set_result(None)
        else:
            sent.set_exception(error)

    transport.send(record, tell)
    await sent
