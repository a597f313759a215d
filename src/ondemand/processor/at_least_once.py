"""At least once: replies first, offsets second.

A record is finished in the ledger only when the broker has acknowledged all that answers it, so a
crash in between repeats an answer and never loses one.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import TransportError
from ondemand.processor.delivery import Consignment, Tracks, mend
from ondemand.processor.encode import Answer, Desk
from ondemand.processor.ledger import Ledger
from ondemand.processor.progress import Marks
from ondemand.processor.report import Reporter
from ondemand.transport.base import PublishFailure, PublishingTransport

REPEAT_AFTER_SECONDS = 0.5
SERVE_SECONDS = 0.01


class AtLeastOnce:
    """A ``Delivery`` on a ``PublishingTransport``; commits in the background, at an interval."""

    def __init__(
        self,
        transport: PublishingTransport,
        topic: str,
        desk: Desk,
        *,
        commit_interval_seconds: float,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
        reporter: Reporter,
    ) -> None:
        self._transport = transport
        self._desk = desk
        self._commit_interval_seconds = commit_interval_seconds
        self._clock = clock
        self._now_ms = now_ms
        self._reporter = reporter
        # Guards the set of tracks and the count; tracks are moved by the intake thread alone.
        self._lock = threading.Lock()
        self._ledger: Ledger[Answer] = Ledger(topic)
        self._opened = 0
        self._settled = 0
        self._repeats: deque[tuple[float, Consignment, Sequence[OutgoingRecord]]] = deque()
        self._committed_at = clock() - commit_interval_seconds

    @property
    def partitions(self) -> Collection[Partition]:
        """What is assigned now."""
        return self._ledger.partitions

    @property
    def unsettled(self) -> int:
        """Records that were taken and whose answers the broker has not acknowledged."""
        return self._ledger.unfinished

    @property
    def held(self) -> int:
        """Records that no position has passed yet."""
        return self._ledger.held

    def marks(self) -> Mapping[int, Marks]:
        """By partition, its position and the last offset taken."""
        return self._ledger.marks()

    def waiting(self) -> Mapping[int, int]:
        """By partition, records taken that no position has passed yet."""
        return self._ledger.waiting()

    def take(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those of *records* whose partitions are assigned; the others are the next worker's."""
        take = self._ledger.take
        return [record for record in records if take(record.partition, record.offset)]

    def open(self) -> Tracks:
        """A consignment begins."""
        with self._lock:
            self._opened += 1
            return self._ledger.tracks()

    def send(self, consignment: Consignment) -> None:
        """Hand all records to the producer, and do not wait."""
        outgoing = [record for answer in consignment.answers for record in answer.outgoing]
        self._publish(consignment, outgoing)

    def turn(self) -> None:
        """Serve acknowledgements, repeat what was not taken, commit what is due."""
        self._transport.serve()
        self._repeat_due()
        now = self._clock()
        if now < self._committed_at + self._commit_interval_seconds:
            return
        # What is finished first after a pause, or after a start, is committed at once.
        if positions := self._ledger.committable():
            self._committed_at = now
            self._transport.commit(positions)
            self._ledger.committed(positions)

    def assign(self, partitions: Collection[Partition]) -> None:
        """Begin a track for each partition."""
        self._committed_at = self._clock() - self._commit_interval_seconds
        with self._lock:
            self._ledger.assign(partitions)

    def settle(self, deadline: float) -> int:
        """Serve until all is acknowledged or it is time, then store the positions."""
        while self._still_open() and self._clock() < deadline:
            self._transport.serve(SERVE_SECONDS)
            self._repeat_due()
        if positions := self._ledger.positions():
            try:
                self._transport.commit_and_wait(positions)
            except TransportError as error:
                # The answers are settled all the same: the next worker repeats them, none is lost.
                self._reporter.commit_failed(error)
        return self._still_open()

    def release(self, partitions: Collection[Partition]) -> None:
        """End the tracks."""
        with self._lock:
            self._ledger.release(partitions)

    def close(self) -> None:
        """Nothing runs here that the transport does not stop."""

    def _still_open(self) -> int:
        with self._lock:
            return self._opened - self._settled

    def _repeat_due(self) -> None:
        while self._repeats and self._repeats[0][0] <= self._clock():
            _, consignment, outgoing = self._repeats.popleft()
            self._publish(consignment, outgoing)

    def _publish(self, consignment: Consignment, outgoing: Sequence[OutgoingRecord]) -> None:
        self._transport.publish(outgoing, partial(self._on_settled, consignment))

    def _on_settled(self, consignment: Consignment, failures: Sequence[PublishFailure]) -> None:
        remaining: list[OutgoingRecord] = []
        for failure in failures:
            consignment.answers, instead = mend(
                consignment.answers,
                failure,
                self._desk,
                now_ms=self._now_ms,
                reporter=self._reporter,
            )
            remaining += instead
        if remaining:
            due = self._clock() + REPEAT_AFTER_SECONDS
            self._repeats.append((due, consignment, remaining))
            return
        for answer in consignment.answers:
            record = answer.record
            consignment.tracks[record.partition].finish(record.offset)
        with self._lock:
            self._settled += 1
