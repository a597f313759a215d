"""Where processes died of a request: fewer records at once, until it is known which one it was.

``CarefulSource`` stands between a transport and the loop. It costs nothing but a look at two empty
sets for each fetch, and one look-up and one commit where a partition begins (``attempts`` says what
is stored there, and why).
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from ondemand.contract.record import Partition, Record
from ondemand.errors import TransportError
from ondemand.processor.attempts import Marker, Suspects, at_rest, interrupted
from ondemand.processor.report import Reporter
from ondemand.telemetry.events import Event
from ondemand.transport.base import Note, RebalanceListener, WorkerTransport

TURN_SECONDS = 0.005  # how late it may be noticed that a group is settled
AGAIN_SECONDS = 0.2  # after the broker did not tell, or did not store, what this goes by
PATIENCE_SECONDS = 2.0  # for suspects that are not there any more: expired, or compacted away

Offset = tuple[int, int]
"""Partition and offset of a record of the request topic."""


class CarefulSource:
    """A ``WorkerTransport`` on top of *inner*, and the listener of its rebalances.

    *unsettled* counts the records that the loop has and that no position has passed yet, *running*
    says whether a run of the model goes on, and *doomed* whether the process leaves for something
    that a request may have done to it. For the intake thread only.
    """

    def __init__(
        self,
        inner: WorkerTransport,
        *,
        attempts_max: int,
        unsettled: Callable[[], int],
        running: Callable[[], bool],
        doomed: Callable[[], bool],
        clock: Callable[[], float],
        reporter: Reporter,
    ) -> None:
        self.verdicts: dict[Offset, str] = {}
        """Requests that are answered without another run, each with the reason."""
        self._inner = inner
        self._attempts_max = attempts_max
        self._unsettled = unsettled
        self._running = running
        self._doomed = doomed
        self._clock = clock
        self._log = reporter.log
        self._listener: RebalanceListener | None = None
        self._assigned: frozenset[Partition] = frozenset()
        self._paused: set[Partition] = set()  # by the loop
        self._careful = False
        self._new: dict[int, Partition] = {}  # by index; nothing of them was handed out yet
        self._forget()

    def __repr__(self) -> str:
        return f"<CarefulSource [{len(self._suspects)} suspected | {self._inner!r}]>"

    def subscribe(self, topic: str, listener: RebalanceListener) -> None:
        """As the transport below."""
        self._listener = listener
        self._inner.subscribe(topic, self)

    def fetch(self, records_max: int, timeout_seconds: float) -> Sequence[Record]:
        """As the transport below; where requests are under suspicion, a group of them, alone."""
        patience = TURN_SECONDS if self._careful else timeout_seconds
        records = self._inner.fetch(records_max, min(timeout_seconds, patience))
        if not self._careful and not self._are_first(records):
            return records
        self._held.extend(records)
        handed_out = self._next(records_max)
        self._set_careful()
        return handed_out

    def pause(self, partitions: Collection[Partition]) -> None:
        """As the transport below."""
        self._paused |= set(partitions)
        self._inner.pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """As the transport below, but later where requests are under suspicion."""
        self._paused -= set(partitions)
        if not self._careful:
            self._inner.resume(partitions)

    def partition_count(self, topic: str, *, at_least: int = 0) -> int | None:
        """As the transport below."""
        return self._inner.partition_count(topic, at_least=at_least)

    def lag(self) -> Mapping[Partition, int]:
        """As the transport below; what is held here counts as not fetched."""
        lag = dict(self._inner.lag())
        for record in self._held:
            partition = _partition(record)
            lag[partition] = lag.get(partition, 0) + 1
        return lag

    def problems(self) -> Sequence[str]:
        """As the transport below."""
        return self._inner.problems()

    def notes(self, partitions: Collection[Partition]) -> Mapping[Partition, Note]:
        """As the transport below."""
        return self._inner.notes(partitions)

    def note(self, notes: Mapping[Partition, Note]) -> None:
        """As the transport below."""
        self._inner.note(notes)

    def close(self) -> None:
        """As the transport below."""
        self._inner.close()

    # --- rebalances --------------------------------------------------------------------------

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        """Every partition begins anew."""
        self._forget()
        self._assigned = frozenset(partitions)
        self._new = {partition.index: partition for partition in partitions}
        self._told.on_assigned(partitions)

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        """Nobody is to be suspected of what a rebalance has interrupted.

        Nor of a stop, where the transport can still tell positions while it leaves the group.
        """
        self._told.on_revoked(partitions)
        if self._marked and not self._doomed():
            try:
                self._put_back()
            except TransportError as error:
                self._log.warning(Event.COMMIT_FAILED, message=str(error))
        self._forget()

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """What is stored is another worker's."""
        self._forget()
        self._told.on_lost(partitions)

    @property
    def _told(self) -> RebalanceListener:
        if self._listener is None:
            raise TransportError("partitions came before `subscribe`")
        return self._listener

    def _forget(self) -> None:
        self.verdicts.clear()
        self._new = {}
        self._held: deque[Record] = deque()
        self._suspects: dict[Partition, Suspects] = {}
        self._out: tuple[Partition, Suspects, int] | None = None  # and the last offset of the group
        self._marked: dict[Partition, int] = {}  # and how often a run from there was spared
        self._asked_for: Partition | None = None
        self._waits_since: float | None = None
        self._again_at = -math.inf
        self._paused.clear()
        self._careful = False

    def _put_back(self) -> None:
        """Store what is true while nothing is being run; or, where a run was interrupted, that."""
        suspects = dict(self._suspects)
        if self._out is not None:
            suspects[self._out[0]] = self._out[1]
        running, notes = self._running(), {}
        for partition, found in self._inner.notes(self._marked.keys()).items():
            spared = self._marked[partition]
            rest = at_rest(suspects.get(partition), spared, found.position)
            if running and found.text:
                rest = interrupted(rest) or Marker.parse(found.text)
            text = "" if rest is None else str(rest)
            if text != found.text:
                notes[partition] = Note(found.position, text)
        self._inner.note(notes)

    # --- what is handed out ------------------------------------------------------------------

    def _are_first(self, records: Sequence[Record]) -> bool:
        """Whether one of *records* is the first of its partition. Asked for each fetch."""
        if not self._new:
            return False
        return not self._new.keys().isdisjoint({record.partition for record in records})

    def _next(self, records_max: int) -> Sequence[Record]:
        if self._clock() < self._again_at:
            return ()
        try:
            if self._out is not None and not self._survived():
                return ()
            self._begin()
            if not self._suspects:
                return self._take(lambda _: True, records_max)
            # Also a run that an earlier assignment left behind: what is marked is run alone.
            if self._unsettled() or self._running():
                return ()
            return self._group(records_max)
        except TransportError as error:
            # What cannot be marked is not begun: nobody could tell what the process died of.
            self._again_at = self._clock() + AGAIN_SECONDS
            self._log.warning(Event.BROKER_SILENT, message=str(error))
            return ()

    def _begin(self) -> None:
        """Look whether somebody died of the first records of a partition, and mark them."""
        here = {record.partition for record in self._held}
        fresh = [self._new[index] for index in sorted(here & self._new.keys())]
        if not fresh:
            return
        found, lag = self._inner.notes(fresh), self._inner.lag()
        begun: dict[Partition, Note] = {}
        for partition in fresh:
            offsets = [each.offset for each in self._held if _partition(each) == partition]
            marker = Marker.parse(found[partition].text) if partition in found else None
            end = offsets[-1] + 1 + lag.get(partition, 0)
            self._marked[partition] = 0 if marker is None else marker.spared
            if suspects := Suspects.of(marker, first=offsets[0], end=end):
                self._suspects[partition] = suspects
                self._tell(partition, suspects)
            else:
                text = str(Marker(1, spared=self._marked[partition]))
                begun[partition] = Note(offsets[0], text)
        self._inner.note(begun)
        for partition in fresh:
            del self._new[partition.index]

    def _tell(self, partition: Partition, suspects: Suspects) -> None:
        self._log.warning(
            Event.REQUESTS_SUSPECTED,
            partition=str(partition),
            attempt=suspects.attempt,
            first=suspects.first,
            last=suspects.last,
        )

    def _group(self, records_max: int) -> Sequence[Record]:
        """The next suspects; one of them alone where it is the culprit, with its verdict."""
        partition, suspects = next(iter(self._suspects.items()))
        mine = [each.offset for each in self._held if _partition(each) == partition]
        if not mine and not self._given_up(partition):
            return ()
        self._wait_no_longer()
        if not mine or mine[0] > suspects.last:
            self._clear(partition)
            return ()
        suspects = replace(suspects, first=mine[0])
        last = mine[: min(suspects.group_size(self._attempts_max), records_max)][-1]
        last = min(last, suspects.last)
        if suspects.are_one(self._attempts_max):
            self.verdicts[partition.index, last] = (
                f"{suspects.attempt} processes ended while they ran this request, the last one "
                "while it ran nothing else: it is not run again"
            )
        else:
            self._inner.note({partition: Note(mine[0], str(suspects.begun(last)))})
        self._out = partition, suspects, last
        return self._take(lambda r: _partition(r) == partition and r.offset <= last, records_max)

    def _survived(self) -> bool:
        """Whether the group that is out is settled; then nobody of it is suspected any more."""
        if self._out is None or self._unsettled():
            return False
        partition, suspects, last = self._out
        rest = suspects.behind(last)
        self._inner.note({partition: Note(last + 1, "" if rest is None else str(rest.marker))})
        self._out = None
        self.verdicts.clear()
        if rest is None:
            self._clear(partition)
        else:
            self._suspects[partition] = rest
        return True

    def _clear(self, partition: Partition) -> None:
        """Go on with *partition* as with one that was just assigned."""
        del self._suspects[partition]
        self._new[partition.index] = partition

    def _given_up(self, partition: Partition) -> bool:
        """Suspects were on the broker when this began: if they do not come, they are gone."""
        if self._waits_since is None:
            self._waits_since = self._clock()
            self._asked_for = partition
            self._inner.resume([partition])
        return self._clock() - self._waits_since >= PATIENCE_SECONDS

    def _wait_no_longer(self) -> None:
        self._waits_since = None
        if self._asked_for is not None:
            self._inner.pause([self._asked_for])
            self._asked_for = None

    def _take(self, wanted: Callable[[Record], bool], records_max: int) -> Sequence[Record]:
        taken: list[Record] = []
        left: deque[Record] = deque()
        for record in self._held:
            (taken if len(taken) < records_max and wanted(record) else left).append(record)
        self._held = left
        return taken

    def _set_careful(self) -> None:
        """While something is held here or under suspicion, nothing else comes in."""
        careful = bool(self._held or self._suspects or self._out is not None)
        if careful and not self._careful:
            self._inner.pause(self._assigned)
        elif self._careful and not careful:
            self._inner.resume(self._assigned - self._paused)
        self._careful = careful


def _partition(record: Record) -> Partition:
    return Partition(record.topic, record.partition)
