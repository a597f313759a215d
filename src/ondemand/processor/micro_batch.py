"""Which requests travel together, and when: greedy, and bounded by rows and bytes.

While the model is busy, requests gather; when it is free it takes what there is. Rows are counted,
not records. The waiting window, where there is one, counts from the oldest request. A batch is
never made longer than the tightest deadline in it allows, by what runs have cost so far.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ondemand import limits
from ondemand.contract.record import Partition
from ondemand.processor.cost import CostModel
from ondemand.processor.request import Request

_NEVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one batch, and what the queue before it, may hold."""

    rows_max: int = limits.BATCH_ROWS_MAX
    bytes_max: int = limits.BATCH_BYTES_MAX
    wait_seconds: float = 0.0
    queue_rows_max: int = limits.QUEUE_ROWS_MAX
    queue_bytes_max: int = limits.QUEUE_BYTES_MAX


class MicroBatcher:
    """Requests that wait for the model. Not thread-safe: the loop holds a lock around it."""

    def __init__(self, batch_limits: BatchLimits, cost: CostModel | None = None) -> None:
        self._limits = batch_limits
        self._cost = cost or CostModel()
        self._waiting: deque[Request] = deque()
        self._deadline_ms = _NEVER_MS  # no waiting request has an earlier one
        self.rows = 0
        self.size_bytes = 0

    def __repr__(self) -> str:
        return f"<MicroBatcher [{self.rows}/{self._limits.queue_rows_max} rows]>"

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def rows_max(self) -> int:
        """The most rows that one batch may have."""
        return self._limits.rows_max

    @property
    def full(self) -> bool:
        """Whether to stop offering: a bound of the queue is reached."""
        return (
            self.rows >= self._limits.queue_rows_max
            or self.size_bytes >= self._limits.queue_bytes_max
        )

    @property
    def roomy(self) -> bool:
        """Whether to start offering again: at most half of every bound is used."""
        return (
            self.rows <= self._limits.queue_rows_max // 2
            and self.size_bytes <= self._limits.queue_bytes_max // 2
        )

    @property
    def room_rows(self) -> int:
        """Rows that may still be offered; never below 0."""
        return max(self._limits.queue_rows_max - self.rows, 0)

    @property
    def room_bytes(self) -> int:
        """Request bytes that may still be offered; never below 0."""
        return max(self._limits.queue_bytes_max - self.size_bytes, 0)

    @property
    def deadline_ms(self) -> int | None:
        """No waiting request's deadline is earlier than this; None if none has one."""
        return None if self._deadline_ms == _NEVER_MS else self._deadline_ms

    def offer(self, request: Request) -> None:
        """Let *request* wait for the model."""
        self._waiting.append(request)
        self.rows += request.rows
        self.size_bytes += request.size_bytes
        if request.deadline_ms is not None and request.deadline_ms < self._deadline_ms:
            self._deadline_ms = request.deadline_ms

    def ready_at(self) -> float | None:
        """When a batch may be taken, on ``Located.taken_at``'s clock; None if nothing waits."""
        if not self._waiting:
            return None
        oldest = self._waiting[0].located.taken_at
        return oldest if self._is_batch_full() else oldest + self._limits.wait_seconds

    def take(self, *, now: float, now_ms: int = 0) -> tuple[Request, ...]:
        """The next batch, of one kind and in order; empty if nothing waits or the window is open.

        A request of another kind is passed over, and with it all later ones of its partition and
        key: one key's answers on one partition keep their order.
        """
        ready_at = self.ready_at()
        if ready_at is None or now < ready_at:
            return ()
        kind = self._waiting[0].kind
        batch: list[Request] = []
        passed: list[Request] = []
        held_back: set[tuple[int, bytes]] = set()
        rows = size_bytes = 0
        tightest_ms = _NEVER_MS
        per_call_ms, per_row_ms = [seconds * 1000 for seconds in self._cost.coefficients()]
        while self._waiting and rows < self._limits.rows_max:
            request = self._waiting[0]
            if request.kind != kind or (held_back and _order_of(request) in held_back):
                passed.append(self._waiting.popleft())
                if (order := _order_of(request)) is not None:
                    held_back.add(order)
                continue
            rows += request.rows
            size_bytes += request.size_bytes
            if request.deadline_ms is not None and request.deadline_ms < tightest_ms:
                tightest_ms = request.deadline_ms
            too_long = now_ms + per_call_ms + per_row_ms * rows >= tightest_ms
            too_big = rows > self._limits.rows_max or size_bytes > self._limits.bytes_max
            if batch and (too_big or too_long):
                break
            batch.append(self._waiting.popleft())
        self._waiting.extendleft(reversed(passed))
        self._forget(batch)
        return tuple(batch)

    def take_expired(self, *, now_ms: int) -> Sequence[Request]:
        """Requests whose deadline has passed: they are answered unrun, also while a batch runs."""
        if now_ms < self._deadline_ms:
            return ()
        expired = self._take_where(
            lambda request: request.deadline_ms is not None and request.deadline_ms <= now_ms
        )
        deadlines = [r.deadline_ms for r in self._waiting if r.deadline_ms is not None]
        self._deadline_ms = min(deadlines, default=_NEVER_MS)
        return expired

    def take_oldest(self) -> Sequence[Request]:
        """Requests to shed so that the queue is roomy again: those that waited longest."""
        shed: list[Request] = []
        while self._waiting and not self.roomy:
            request = self._waiting.popleft()
            self._forget((request,))
            shed.append(request)
        return shed

    def take_hopeless(self, *, now_ms: int) -> Sequence[Request]:
        """Requests to shed because what waits before them will outlast their deadlines."""
        rows_max = self._limits.rows_max
        rows_before = 0

        def hopeless(request: Request) -> bool:
            nonlocal rows_before
            runs, rest = divmod(rows_before + request.rows, rows_max)
            wait_seconds = runs * self._cost.seconds(rows_max)
            wait_seconds += self._cost.seconds(rest) if rest else 0.0
            late = (
                request.deadline_ms is not None
                and now_ms + wait_seconds * 1000 > request.deadline_ms
            )
            rows_before += 0 if late else request.rows
            return late

        return self._take_where(hopeless)

    def drop(self, partitions: Collection[Partition]) -> Sequence[Request]:
        """Forget the waiting requests of *partitions*: whoever reads them next answers them."""
        gone = {(partition.topic, partition.index) for partition in partitions}
        return self._take_where(
            lambda request: (request.located.record.topic, request.located.record.partition) in gone
        )

    def _take_where(self, wanted: Callable[[Request], bool]) -> Sequence[Request]:
        taken: list[Request] = []
        kept: deque[Request] = deque()
        for request in self._waiting:
            (taken if wanted(request) else kept).append(request)
        self._waiting = kept
        self._forget(taken)
        return taken

    def _forget(self, requests: Sequence[Request]) -> None:
        self.rows -= sum([request.rows for request in requests])
        self.size_bytes -= sum([request.size_bytes for request in requests])

    def _is_batch_full(self) -> bool:
        return self.rows >= self._limits.rows_max or self.size_bytes >= self._limits.bytes_max


def _order_of(request: Request) -> tuple[int, bytes] | None:
    """What keeps its order: a key on a partition. Requests without a key promise none."""
    record = request.located.record
    return None if record.key is None else (record.partition, record.key)
