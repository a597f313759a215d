"""Which waiter a reply belongs to. Pure: time is an argument, and nothing here waits."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Literal, Protocol

from ondemand.contract.record import Record

PREFIX_BYTES: Final = 16
"""128 random bits in each client's prefix: nobody can guess the IDs of another."""

REMEMBERED_MAX: Final = 10_000
"""How many timed-out IDs are remembered, to tell a late reply from one that nobody asked for."""

COMPACTION_MIN: Final = 1_024
"""Below this many expiry entries, those that no longer count are not worth removing."""

Delivery = Literal["delivered", "late", "nobody waiting"]
"""What became of a reply. *late*: its waiter had timed out. *nobody waiting*: answered already (a
worker repeats an answer after a crash), given up by the caller, or never asked."""


class CorrelationIds:
    """The correlation IDs of one client instance: a random prefix, ``-`` and a counter, ASCII.

    *prefix* are the hexadecimal digits of ``PREFIX_BYTES`` random bytes. It also tells this
    instance's replies from those of others that share its reply partition.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._start = f"{prefix}-".encode("ascii")
        self._numbers: Iterator[int] = count(1)

    def issue(self) -> bytes:
        """A correlation ID that was never issued before."""
        return b"%b%d" % (self._start, next(self._numbers))

    def owns(self, correlation_id: bytes) -> bool:
        """Whether it was issued here."""
        return correlation_id.startswith(self._start)

    def partition_of(self, partition_count: int) -> int:
        """Which of the reply topic's partitions this instance reads: instances spread evenly, and
        share partitions where there are more of them."""
        return int(self.prefix, 16) % partition_count


class Cause(StrEnum):
    """Why a waiter goes without a reply."""

    NOT_TAKEN = "the broker has certainly not taken the request"
    SEND_FAILED = "the send failed, and the broker may still have taken the request"
    NOT_ACKNOWLEDGED = "the broker did not say in time that it took the request"
    NOT_ANSWERED = "the broker took the request, and no reply came in time"
    NOT_READ = "replies are no longer read"


@dataclass(frozen=True, slots=True)
class NoReply:
    """What a waiter is given instead of a reply. *error*: what brought it about, to be chained."""

    cause: Cause
    detail: str = ""
    error: BaseException | None = None


Arrival = Record | NoReply


class Waiter(Protocol):
    """Who waits for a reply; an ``asyncio.Future`` is one. Given a result once, unless done."""

    def done(self) -> bool:
        """Whether it has a result, or wants none any more."""

    def set_result(self, result: Arrival, /) -> None:
        """Take the reply, or the reason why there is none."""


@dataclass(slots=True)
class _Entry:
    waiter: Waiter
    expires_at: float
    acknowledged: bool = False


class PendingReplies:
    """The replies that are awaited, by correlation ID, and when each is given up.

    Register before publishing: a reply may overtake the send's acknowledgement. Whoever registers
    must forget. Times are seconds of any one monotonic clock.
    """

    def __init__(self, pending_max: int) -> None:
        self.pending_max = pending_max
        self.delivered = 0
        self.late = 0
        self.nobody_waiting = 0
        self.timeouts = 0
        self._waiting: dict[bytes, _Entry] = {}
        self._expiries: list[tuple[float, bytes]] = []
        self._timed_out: dict[bytes, None] = {}
        self._compact_above = COMPACTION_MIN

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<PendingReplies [{len(self)}/{self.pending_max} waiting]>"

    def register(self, correlation_id: bytes, waiter: Waiter, *, expires_at: float) -> None:
        """Await a reply, until *expires_at* if no acknowledgement of the send moves that.

        Raises ``ValueError`` for an ID that is awaited already, ``OverflowError`` where
        ``pending_max`` are: wait for a place first.
        """
        if correlation_id in self._waiting:
            raise ValueError(f"a reply to {correlation_id!r} is awaited already: use a new ID")
        if len(self._waiting) >= self.pending_max:
            raise OverflowError(f"{self.pending_max} replies are awaited already: wait for a place")
        self._waiting[correlation_id] = _Entry(waiter, expires_at)
        heappush(self._expiries, (expires_at, correlation_id))
        if len(self._expiries) > self._compact_above:
            self._compact()

    def acknowledge(self, correlation_id: bytes, *, expires_at: float) -> bool:
        """The broker has the request: the timeout counts from here. False: nobody waits."""
        entry = self._waiting.get(correlation_id)
        if entry is None:
            return False
        entry.acknowledged = True
        entry.expires_at = expires_at
        heappush(self._expiries, (expires_at, correlation_id))
        return True

    def resolve(self, correlation_id: bytes, reply: Record) -> Delivery:
        """Hand *reply* to whoever waits for it; never raises."""
        entry = self._waiting.pop(correlation_id, None)
        if entry is not None and not entry.waiter.done():
            self.delivered += 1
            entry.waiter.set_result(reply)
            return "delivered"
        if correlation_id in self._timed_out:
            self.late += 1
            return "late"
        self.nobody_waiting += 1
        return "nobody waiting"

    def give_up(self, correlation_id: bytes, no_reply: NoReply) -> None:
        """Tell the waiter, if there is one, why no reply will come."""
        entry = self._waiting.pop(correlation_id, None)
        if entry is not None and not entry.waiter.done():
            entry.waiter.set_result(no_reply)

    def give_up_all(self, no_reply: NoReply) -> None:
        """Tell every waiter why no reply will come."""
        for correlation_id in tuple(self._waiting):
            self.give_up(correlation_id, no_reply)
        self._expiries.clear()

    def forget(self, correlation_id: bytes) -> None:
        """Nobody waits for this any more. Idempotent."""
        self._waiting.pop(correlation_id, None)

    def expire(self, now: float) -> int:
        """Give up what was to come by *now*; how many waiters that were."""
        expired = 0
        while (expiry := self.next_expiry) is not None and expiry <= now:
            _, correlation_id = heappop(self._expiries)
            entry = self._waiting[correlation_id]
            self._remember(correlation_id)
            cause = Cause.NOT_ANSWERED if entry.acknowledged else Cause.NOT_ACKNOWLEDGED
            self.give_up(correlation_id, NoReply(cause))
            expired += 1
        self.timeouts += expired
        return expired

    @property
    def next_expiry(self) -> float | None:
        """When ``expire`` has something to do next; None while nothing is awaited."""
        expiries = self._expiries
        while expiries and not self._counts(*expiries[0]):
            heappop(expiries)
        return expiries[0][0] if expiries else None

    def _counts(self, expires_at: float, correlation_id: bytes) -> bool:
        entry = self._waiting.get(correlation_id)
        return entry is not None and entry.expires_at == expires_at

    def _compact(self) -> None:
        """Entries of what was answered stay until their time: at long timeouts that would be most.
        So whenever they may be three of four, they go."""
        waiting = self._waiting
        self._expiries = [
            (expires_at, correlation_id)
            for expires_at, correlation_id in self._expiries
            if (entry := waiting.get(correlation_id)) and entry.expires_at == expires_at
        ]
        heapify(self._expiries)
        self._compact_above = max(COMPACTION_MIN, 4 * len(self._expiries))

    def _remember(self, correlation_id: bytes) -> None:
        self._timed_out[correlation_id] = None
        if len(self._timed_out) > REMEMBERED_MAX:
            del self._timed_out[next(iter(self._timed_out))]
