"""Exactly once: replies and offsets in one transaction, by a thread of its own.

Answers go out in the order of their records: a position moves past a record in the same
transaction that holds its answer, so an answer that is ready early waits until all before it are.
While one transaction is being committed, the next one's answers gather.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from ondemand.contract.record import Partition, Record
from ondemand.processor.delivery import Consignment, Tracks, mend
from ondemand.processor.encode import Answer, Desk
from ondemand.processor.ledger import Ledger, Track
from ondemand.processor.progress import Marks
from ondemand.processor.report import Reporter
from ondemand.transport.base import (
    Membership,
    TransactionAbortedError,
    TransactionalTransport,
)

RETRY_SECONDS = 0.1
WAIT_SECONDS = 0.05
JOIN_SECONDS = 10.0

# Together well within the broker's patience: one that outlasts it is aborted, again and again.
TRANSACTION_RECORDS_MAX = 2_000
TRANSACTION_BYTES_MAX = 16_000_000

_Ready = tuple[Track[Answer], Answer]


class ExactlyOnce:
    """A ``Delivery`` on a ``TransactionalTransport``.

    A transaction that was aborted is tried again with the same answers, as long as their partitions
    are assigned here: nothing is fetched anew. What belongs to an assignment that has ended is
    dropped: whoever reads it next answers it. A transaction may outlast its assignment: it carries
    the membership of that one, and whoever reads the partitions next begins where it left them.
    """

    def __init__(
        self,
        transport: TransactionalTransport,
        topic: str,
        desk: Desk,
        *,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
        reporter: Reporter,
    ) -> None:
        self._transport = transport
        self._topic = topic
        self._desk = desk
        self._clock = clock
        self._now_ms = now_ms
        self._reporter = reporter
        # Guards all below.
        self._changed = threading.Condition()
        self._ledger: Ledger[Answer] = Ledger(topic)
        self._ready: list[_Ready] = []
        self._running = 0  # consignments opened and not sent
        self._committing: list[_Ready] = []
        self._sifted = True  # no assignment has ended since what is being committed was looked at
        self._membership: Membership = None  # of the assignment that the tracks belong to
        self._closing = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    @property
    def partitions(self) -> Collection[Partition]:
        """What is assigned now."""
        with self._changed:
            return self._ledger.partitions

    @property
    def unsettled(self) -> int:
        """Records that were taken and whose answers are in no committed transaction."""
        with self._changed:
            return self._ledger.held + len(self._ready) + len(self._committing)

    @property
    def held(self) -> int:
        """The same: nothing is forgotten before its transaction is committed."""
        return self.unsettled

    def marks(self) -> Mapping[int, Marks]:
        """By partition, its position and the last offset taken."""
        with self._changed:
            return self._ledger.marks()

    def waiting(self) -> Mapping[int, int]:
        """By partition, records taken that are in no committed transaction."""
        with self._changed:
            waiting = Counter(self._ledger.waiting())
            waiting.update(answer.record.partition for _, answer in self._ready)
            waiting.update(answer.record.partition for _, answer in self._committing)
            return waiting

    def take(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those of *records* whose partitions are assigned; the others are the next worker's."""
        with self._changed:
            take = self._ledger.take
            return [record for record in records if take(record.partition, record.offset)]

    def open(self) -> Tracks:
        """A consignment begins."""
        with self._changed:
            self._running += 1
            return self._ledger.tracks()

    def send(self, consignment: Consignment) -> None:
        """Let the answers wait for their turn; those whose turn it is go out next."""
        with self._changed:
            self._running -= 1
            tracks, is_current, ready = consignment.tracks, self._ledger.is_current, self._ready
            for answer in consignment.answers:
                record = answer.record
                track = tracks[record.partition]
                if not is_current(record.partition, track):
                    continue
                for released in track.finish(record.offset, answer):
                    ready.append((track, released))
            self._changed.notify_all()

    def turn(self) -> None:
        """Raises what the commit thread died of: a fenced producer, or an unknown outcome."""
        if self._failure is not None:
            raise self._failure

    def assign(self, partitions: Collection[Partition]) -> None:
        """Begin a track for each partition."""
        with self._changed:
            self._membership = self._transport.membership
            self._ledger.assign(partitions)

    def settle(self, deadline: float) -> int:
        """Wait until what runs is committed. What waits behind a gap is dropped with its track."""
        with self._changed:
            while self._busy() and self._failure is None and self._clock() < deadline:
                self._changed.wait(WAIT_SECONDS)
            return self._running + len(self._ready) + len(self._committing)

    def release(self, partitions: Collection[Partition]) -> None:
        """End the tracks: their answers go into no transaction any more, but for one under way."""
        with self._changed:
            self._ledger.release(partitions)
            self._sifted = False
            self._ready = self._still_assigned(self._ready)
            self._changed.notify_all()

    def close(self) -> None:
        """End the commit thread. What it has not committed is the next worker's."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(JOIN_SECONDS)

    def _busy(self) -> bool:
        return bool(self._running or self._ready or self._committing)

    def _still_assigned(self, batch: Sequence[_Ready]) -> list[_Ready]:
        is_current = self._ledger.is_current
        return [each for each in batch if is_current(each[1].record.partition, each[0])]

    def _run(self) -> None:
        try:
            while batch := self._next():
                self._commit(batch)
        except BaseException as error:  # noqa: BLE001 - raised again by turn, in the intake thread
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _next(self) -> list[_Ready]:
        """Wait for answers whose turn it is; as many as one transaction holds. None means stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._over)
            if self._over:
                return []
            count = _that_fit(self._ready)
            self._committing, self._ready = self._ready[:count], self._ready[count:]
            self._sifted = True  # those that wait always are
            return self._committing

    @property
    def _over(self) -> bool:
        return self._closing or self._failure is not None

    def _commit(self, batch: list[_Ready]) -> None:
        """One transaction, tried until it is committed or none of its partitions is ours."""
        while True:
            batch, membership = self._begun(batch)
            if not batch:
                return
            # In order of offsets, so that a partition's last one stays.
            last = {answer.record.partition: answer.record.offset for _, answer in batch}
            positions = {Partition(self._topic, index): at + 1 for index, at in last.items()}
            outgoing = [record for _, answer in batch for record in answer.outgoing]
            try:
                self._transport.transact(outgoing, positions, membership)
            except TransactionAbortedError as error:
                batch = self._mended(batch, error)
            else:
                batch = []

    def _begun(self, batch: Sequence[_Ready]) -> tuple[list[_Ready], Membership]:
        """What of *batch* is ours, and by which membership: both of one moment, so that positions
        never go out as those of a later assignment."""
        with self._changed:
            if self._over:
                batch = []
            elif not self._sifted:
                batch = self._still_assigned(batch)
            self._sifted = True
            self._committing = list(batch)
            self._changed.notify_all()
            return self._committing, self._membership

    def _mended(self, batch: list[_Ready], error: TransactionAbortedError) -> list[_Ready]:
        """The same answers, but for those that the broker will never take; a moment later."""
        self._reporter.commit_failed(error)
        answers: Sequence[Answer] = [answer for _, answer in batch]
        for failure in error.failures:
            answers, _ = mend(
                answers, failure, self._desk, now_ms=self._now_ms, reporter=self._reporter
            )
        with self._changed:
            self._changed.wait_for(lambda: self._over, RETRY_SECONDS)
        return [(track, answer) for (track, _), answer in zip(batch, answers, strict=True)]


def _that_fit(ready: Sequence[_Ready]) -> int:
    """How many of *ready* go into one transaction: at least one."""
    if len(ready) <= TRANSACTION_RECORDS_MAX:  # nearly always all of them do
        outgoing = [record for _, answer in ready for record in answer.outgoing]
        size_bytes = sum([len(record.value or b"") for record in outgoing])
        if len(outgoing) <= TRANSACTION_RECORDS_MAX and size_bytes <= TRANSACTION_BYTES_MAX:
            return len(ready)
    records = size_bytes = 0
    for count, (_, answer) in enumerate(ready):
        records += len(answer.outgoing)
        size_bytes += sum(len(each.value or b"") for each in answer.outgoing)
        if count and (records > TRANSACTION_RECORDS_MAX or size_bytes > TRANSACTION_BYTES_MAX):
            return count
    return len(ready)
