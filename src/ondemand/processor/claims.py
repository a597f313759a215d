"""Bodies that are in the object store: read by a few threads, while the loop goes on.

What waits here waits for the store. A store that does not answer costs its own requests their
answers, by ``overloaded``, and nobody else a moment. Requests of one key on one partition keep
their order: what comes after a claim check of its key waits behind it, decoded.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from ondemand.contract.record import Partition, Record
from ondemand.errors import ObjectMissingError, Status, StoreError
from ondemand.limits import CLAIM_READERS, CLAIMS_WAITING_MAX
from ondemand.processor.outcome import Rejected
from ondemand.processor.request import Claimed, Located, Request
from ondemand.telemetry.events import Event
from ondemand.telemetry.logging import EventLog

Redeemed = Request | Rejected

_SILENT = "the object store did not give the body in time: try later"


@dataclass(slots=True, eq=False)
class _Place:
    """One request's place in the line. A *claimed* of None: it only waits behind another."""

    located: Located
    claimed: Claimed | None
    redeemed: Redeemed | None
    since: float
    reading_since: float | None = None

    @property
    def order(self) -> tuple[int, bytes] | None:
        return _order_of(self.located.record)

    @property
    def size_bytes(self) -> int:
        """What it holds, or will hold once it is read."""
        if self.redeemed is not None:
            return self.redeemed.size_bytes if isinstance(self.redeemed, Request) else 0
        if self.claimed is None or self.reading_since is None:
            return 0
        return self.claimed.claim.size_bytes


class Claims:
    """Requests that wait for their bodies. For the intake thread only.

    *read* gives the object of a key, cut after so many bytes, and may block; it runs in threads of
    its own, and so does *redeem*, which makes a request of it.
    """

    def __init__(
        self,
        read: Callable[[str, int], bytes],
        redeem: Callable[[Claimed, bytes], Redeemed],
        *,
        timeout_seconds: float,
        bytes_max: int,
        clock: Callable[[], float],
        log: EventLog,
    ) -> None:
        self._read = read
        self._redeem = redeem
        self._timeout_seconds = timeout_seconds
        self._bytes_max = bytes_max
        self._clock = clock
        self._log = log
        self._line: deque[_Place] = deque()
        self._orders: set[tuple[int, bytes]] = set()
        self._answered_at = clock()  # when the store last answered, or was not being asked
        self._busy = 0  # threads that read, also for places that were given up
        self._threads: list[threading.Thread] = []
        self._work: SimpleQueue[_Place | None] = SimpleQueue()
        self._read_done: SimpleQueue[tuple[_Place, Redeemed | Exception]] = SimpleQueue()

    def __repr__(self) -> str:
        return f"<Claims [{len(self)} waiting | {self._busy}/{CLAIM_READERS} being read]>"

    def __len__(self) -> int:
        return len(self._line)

    @property
    def active(self) -> bool:
        """Whether ``turn`` has something to do."""
        return bool(self._line) or self._busy > 0

    @property
    def full(self) -> bool:
        """Whether to stop adding: a bound is reached."""
        return len(self) >= CLAIMS_WAITING_MAX or self._size_bytes() >= self._bytes_max

    @property
    def roomy(self) -> bool:
        """Whether to start adding again: at most half of every bound is used."""
        return len(self) <= CLAIMS_WAITING_MAX // 2 and self._size_bytes() <= self._bytes_max // 2

    def add(self, claimed: Claimed) -> None:
        """Let *claimed* wait for its body."""
        self._append(_Place(claimed.located, claimed, None, self._clock()))

    def holds_back(self, record: Record) -> bool:
        """Whether *record* has to wait behind another of its key."""
        return bool(self._orders) and _order_of(record) in self._orders

    def follow(self, request: Request) -> None:
        """Let *request*, which is held back, wait for its turn."""
        self._append(_Place(request.located, None, request, self._clock()))

    def turn(self, *, room_bytes: int, now_ms: int) -> list[tuple[Located, Redeemed]]:
        """Begin to read what *room_bytes* allow; what is to be batched or answered now, in order.

        Raises what a reading thread died of: a fault of ours.
        """
        now = self._clock()
        self._collect(now)
        if self._busy == 0:
            self._answered_at = now  # it is not silent that was not asked, for want of room
        for place in self._line:
            if place.redeemed is None:
                place.redeemed = self._given_up(place, now, now_ms)
        self._begin(room_bytes, now)
        return self._release()

    def drop(self, partitions: Collection[Partition]) -> None:
        """Forget what waits of *partitions*: whoever reads them next answers it."""
        gone = {(partition.topic, partition.index) for partition in partitions}
        self._line = deque(
            place
            for place in self._line
            if (place.located.record.topic, place.located.record.partition) not in gone
        )
        self._recount()

    def close(self) -> None:
        """Begin no read any more. A thread that hangs in one ends with the process."""
        for _ in self._threads:
            self._work.put(None)

    def _append(self, place: _Place) -> None:
        self._line.append(place)
        if place.order is not None:
            self._orders.add(place.order)

    def _recount(self) -> None:
        self._orders = {place.order for place in self._line if place.order is not None}

    def _size_bytes(self) -> int:
        return sum(place.size_bytes for place in self._line)

    def _collect(self, now: float) -> None:
        """Take what the threads have read. What was given up meanwhile stays so."""
        while True:
            try:
                place, result = self._read_done.get_nowait()
            except Empty:
                return
            self._busy -= 1
            if isinstance(result, StoreError):
                self._log.warning(Event.CLAIM_UNREADABLE, message=str(result))
                result = Rejected(Status.OVERLOADED, "the object store cannot be read: try later")
            else:
                self._answered_at = now
            if isinstance(result, Exception):
                raise result
            if place.redeemed is None:
                place.redeemed = result

    def _given_up(self, place: _Place, now: float, now_ms: int) -> Rejected | None:
        """Why nobody waits for *place* any more; None where somebody does."""
        claimed = place.claimed
        if claimed is not None and claimed.deadline_ms is not None:
            overdue_ms = now_ms - claimed.deadline_ms
            if overdue_ms >= 0:
                return Rejected(
                    Status.DEADLINE_EXCEEDED,
                    f"the deadline passed {overdue_ms} ms ago, before the body was read",
                )
        # In a line that moves, waiting is no sign of trouble: only the store's silence counts.
        silent_since = place.reading_since
        if silent_since is None:
            silent_since = max(place.since, self._answered_at)
        if now - silent_since <= self._timeout_seconds:
            return None
        message = f"nothing was read within {self._timeout_seconds:g} s"
        self._log.warning(Event.CLAIM_UNREADABLE, message=message)
        return Rejected(Status.OVERLOADED, _SILENT)

    def _begin(self, room_bytes: int, now: float) -> None:
        """Hand to the threads what there are threads and room for, in order: none is passed."""
        room_bytes -= sum(place.size_bytes for place in self._line if place.claimed is not None)
        for place in self._line:
            if place.claimed is None or place.redeemed or place.reading_since is not None:
                continue
            room_bytes -= place.claimed.claim.size_bytes
            if self._busy >= CLAIM_READERS or room_bytes < 0:
                return
            place.reading_since = now
            self._busy += 1
            self._start_threads()
            self._work.put(place)

    def _release(self) -> list[tuple[Located, Redeemed]]:
        released: list[tuple[Located, Redeemed]] = []
        kept: deque[_Place] = deque()
        held_back: set[tuple[int, bytes]] = set()
        for place in self._line:
            order = place.order
            if place.redeemed is not None and (order is None or order not in held_back):
                released.append((place.located, place.redeemed))
                continue
            kept.append(place)
            if order is not None:
                held_back.add(order)
        if released:
            self._line = kept
            self._recount()
        return released

    # --- the threads -------------------------------------------------------------------------

    def _start_threads(self) -> None:
        """With the first claim check. Daemons: a store that hangs must not hold up an end."""
        while len(self._threads) < CLAIM_READERS:
            name = f"claims-{len(self._threads)}"
            thread = threading.Thread(target=self._read_on, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _read_on(self) -> None:
        while (place := self._work.get()) is not None:
            if place.claimed is not None:
                self._read_done.put((place, self._redeemed(place.claimed)))

    def _redeemed(self, claimed: Claimed) -> Redeemed | Exception:
        claim = claimed.claim
        try:
            return self._redeem(claimed, self._read(claim.key, claim.size_bytes))
        except ObjectMissingError:
            return Rejected(
                Status.INVALID_REQUEST,
                f"there is no object {claim.key!r} in this worker's store: it has expired, was "
                "deleted, or is in another store",
            )
        except Exception as error:  # noqa: BLE001 - raised, or answered, in the intake thread
            return error


def _order_of(record: Record) -> tuple[int, bytes] | None:
    """What keeps its order: a key on a partition."""
    return None if record.key is None else (record.partition, record.key)
