"""Exactly once: replies and offsets in one transaction, by a thread of its own.

Answers go out in the order of their records: a position moves past a record in the same
transaction that holds its answer, so an answer that is ready early waits until all before it are.
While one transaction is being committed, the next one's answers gather.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence

from ondemand.contract.record import Partition, Record
from ondemand.processor.delivery import Consignment, Tracks, mend
from ondemand.processor.encode import Answer, Desk
from ondemand.processor.ledger import Ledger, Track
from ondemand.processor.progress import Marks
from ondemand.processor.report import Reporter
from ondemand.transport.base import TransactionAbortedError, TransactionalTransport

RETRY_SECONDS = 0.1
WAIT_SECONDS = 0.05
JOIN_SECONDS = 10.0

_Ready = tuple[Track[Answer], Answer]


class ExactlyOnce:
    """A ``Delivery`` on a ``TransactionalTransport``.

    A transaction that was aborted is tried again with the same answers, as long as their partitions
    are assigned here: nothing is fetched anew. What belongs to an assignment that has ended is
    dropped: whoever reads it next answers it.
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
        self._desk = desk
        self._clock = clock
        self._now_ms = now_ms
        self._reporter = reporter
        # Guards all below.
        self._changed = threading.Condition()
        self._ledger: Ledger[Answer] = Ledger(topic)
        self._ready: list[_Ready] = []
        self._running = 0  # consignments opened and not sent
        self._transacting = False
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
            return self._ledger.held + len(self._ready)

    @property
    def held(self) -> int:
        """Records that no position has passed yet."""
        with self._changed:
            return self._ledger.held

    def marks(self) -> Mapping[int, Marks]:
        """By partition, its position and the last offset taken."""
        with self._changed:
            return self._ledger.marks()

    def waiting(self) -> Mapping[int, int]:
        """By partition, records taken that no position has passed yet."""
        with self._changed:
            return self._ledger.waiting()

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
            for answer in consignment.answers:
                record = answer.record
                track = consignment.tracks[record.partition]
                if self._ledger.is_current(record.partition, track):
                    passed = track.finish(record.offset, answer)
                    self._ready += [(track, released) for released in passed]
            self._changed.notify_all()

    def turn(self) -> None:
        """Raises what the commit thread died of: a fenced producer, or an unknown outcome."""
        if self._failure is not None:
            raise self._failure

    def assign(self, partitions: Collection[Partition]) -> None:
        """Begin a track for each partition."""
        with self._changed:
            self._ledger.assign(partitions)

    def settle(self, deadline: float) -> int:
        """Wait until what runs is committed. What waits behind a gap is dropped with its track."""
        with self._changed:
            while self._busy() and self._failure is None and self._clock() < deadline:
                self._changed.wait(WAIT_SECONDS)
            return self._running + len(self._ready)

    def release(self, partitions: Collection[Partition]) -> None:
        """End the tracks: their answers go into no transaction any more."""
        with self._changed:
            self._ledger.release(partitions)
            self._drop_stale()

    def close(self) -> None:
        """End the commit thread. What it has not committed is the next worker's."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(JOIN_SECONDS)

    def _busy(self) -> bool:
        return bool(self._running or self._ready or self._transacting)

    def _drop_stale(self) -> None:
        self._ready = [
            (track, answer)
            for track, answer in self._ready
            if self._ledger.is_current(answer.record.partition, track)
        ]

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._commit(batch)
        except BaseException as error:  # noqa: BLE001 - raised again by turn, in the intake thread
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _next(self) -> list[_Ready] | None:
        """Wait for answers whose turn it is; None means stop."""
        with self._changed:
            self._transacting = False
            self._changed.notify_all()
            while not self._ready:
                if self._closing:
                    return None
                self._changed.wait()
            self._transacting = True
            batch, self._ready = self._ready, []
            return batch

    def _commit(self, batch: list[_Ready]) -> None:
        """One transaction, tried until it is committed or none of its partitions is ours."""
        while batch := self._current(batch):
            positions: dict[Partition, int] = {}
            for _, answer in batch:
                record = answer.record
                positions[Partition(record.topic, record.partition)] = record.next_offset
            outgoing = [record for _, answer in batch for record in answer.outgoing]
            try:
                self._transport.transact(outgoing, positions)
            except TransactionAbortedError as error:
                batch = self._mended(batch, error)
            else:
                return

    def _current(self, batch: list[_Ready]) -> list[_Ready]:
        with self._changed:
            if self._closing:
                return []
            return [
                (track, answer)
                for track, answer in batch
                if self._ledger.is_current(answer.record.partition, track)
            ]

    def _mended(self, batch: list[_Ready], error: TransactionAbortedError) -> list[_Ready]:
        """The same answers, but for those that the broker will never take; a moment later."""
        self._reporter.commit_failed(error)
        answers: Sequence[Answer] = [answer for _, answer in batch]
        for failure in error.failures:
            answers, _ = mend(
                answers, failure, self._desk, now_ms=self._now_ms, reporter=self._reporter
            )
        with self._changed:
            self._changed.wait(RETRY_SECONDS)
        return [(track, answer) for (track, _), answer in zip(batch, answers, strict=True)]
