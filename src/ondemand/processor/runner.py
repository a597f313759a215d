"""What waits for the model, and who runs it: a thread of its own, or the one that took the records.

A run in the model thread lets the intake thread poll and decode meanwhile, and costs a hand-over
between the two. A model that is done in less is run by the intake thread itself, as the cost model
says, batch by batch. Whoever does not run watches over whoever does.
"""

import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence

from ondemand.contract.record import Partition
from ondemand.errors import Status, StuckError
from ondemand.processor.cost import CostModel
from ondemand.processor.delivery import Tracks
from ondemand.processor.encode import Answer, Desk, refuse
from ondemand.processor.guard import Guard
from ondemand.processor.infer import infer
from ondemand.processor.micro_batch import MicroBatcher
from ondemand.processor.outbox import Outbox
from ondemand.processor.outcome import Rejected
from ondemand.processor.replies import Ran, Replies
from ondemand.processor.report import Reporter
from ondemand.processor.request import Request

TICK_SECONDS = 0.05
"""How late the model thread may see that it is told to stop, or that a window has closed."""

INLINE_SECONDS = 0.003
"""A batch that is done sooner is run by the intake thread. See docs/decisions/0011."""

TRY_SECONDS = 0.02
"""What seems to cost no more is tried in the intake thread now and then: in the model thread a run
also waits for the interpreter's lock, and seems to cost more than it does."""

LOCK_SECONDS = sys.getswitchinterval()
"""How much of a run in the intake thread may have been a wait for the interpreter's lock, where it
took no processor's time: with exactly-once the commit thread wants the lock, too."""

TRY_EVERY_SECONDS = 1.0
TRY_WAIT_SECONDS = 0.005
"""How long the model thread leaves a batch lying, so that the intake thread can try it."""


class Runner:
    """Batches requests and runs the model on them.

    ``offer``, ``turn`` and all that takes requests out again belong to the intake thread. *leave*
    ends the process, where the intake thread itself hangs in a run; it does not return.
    """

    def __init__(
        self,
        *,
        model: Guard,
        batcher: MicroBatcher,
        cost: CostModel,
        desk: Desk,
        outbox: Outbox,
        reporter: Reporter,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
        leave: Callable[[StuckError], None],
    ) -> None:
        self._model = model
        self._cost = cost
        self._inline_cost = CostModel()  # of runs in the intake thread alone
        self._try_at = 0.0
        self._desk = desk
        self._outbox = outbox
        self._replies = Replies(
            desk=desk, outbox=outbox, reporter=reporter, now_ms=now_ms, failed=self._fail
        )
        self._now_ms = now_ms
        self._clock = clock
        self._leave = leave
        # Guards the batcher and `_busy`. The delivery has a lock of its own, taken inside this one.
        self.changed = threading.Condition()
        self.batcher = batcher
        self._busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.failure: BaseException | None = None

    def __repr__(self) -> str:
        state = "running" if self._busy else "free"
        return f"<Runner [{state} | {self.batcher.rows} rows waiting]>"

    def start(self) -> None:
        """Start the model thread, and that of replies."""
        self._replies.start()
        self._thread.start()

    def stop(self) -> None:
        """Begin no batch any more. Takes no lock, so that a signal handler may call it."""
        self._stopping = True

    def join(self, timeout_seconds: float) -> None:
        """Wait until both threads have ended, at most so long."""
        deadline = self._clock() + timeout_seconds
        self._thread.join(timeout_seconds)
        self._replies.close(max(deadline - self._clock(), 0.0))

    # --- the intake thread -------------------------------------------------------------------

    def offer(self, requests: Sequence[Request]) -> None:
        """Let *requests* wait. A model thread that will be needed begins at once."""
        with self.changed:
            for request in requests:
                self.batcher.offer(request)
            if not (self._is_cheap() or self._is_to_be_tried()):
                self.changed.notify()

    def turn(self) -> None:
        """Run what is cheap here and now; stop a run of the model thread that is overdue.

        Raises ``StuckError`` where such a run does not stop.
        """
        while self._take_cheap():
            pass
        self._model.check()

    def due_seconds(self) -> float | None:
        """In how many seconds the window of a batch closes that is the intake thread's to run; None
        where there is no such batch."""
        if not len(self.batcher):
            return None
        with self.changed:
            ready_at = self.batcher.ready_at()
            if ready_at is None or not self._is_cheap():
                return None
            return max(ready_at - self._clock(), 0.0)

    def take_expired(self) -> Sequence[Request]:
        """Requests whose deadline passed while they waited: to be answered unrun."""
        deadline_ms = self.batcher.deadline_ms  # only this thread changes it
        if deadline_ms is None or (now_ms := self._now_ms()) < deadline_ms:
            return ()
        with self.changed:
            return self.batcher.take_expired(now_ms=now_ms)

    def drop(self, partitions: Collection[Partition]) -> None:
        """Forget what waits of *partitions*: whoever reads them next answers it."""
        with self.changed:
            self.batcher.drop(partitions)

    def _take_cheap(self) -> bool:
        """Run one batch in this thread, or leave it to the model thread. Whether one was run."""
        if not len(self.batcher):  # only this thread adds to it
            return False
        with self.changed:
            batch = self._take() if self._is_cheap() or self._is_to_be_tried() else ()
            if not batch:
                self.changed.notify()
                return False
            tracks = self._outbox.open()
        try:
            cpu_seconds = time.thread_time()
            ran = self._ran(batch, tracks)
            cpu_seconds = time.thread_time() - cpu_seconds
            self._replies.send(ran)
        finally:
            self._busy = False
        rows = sum([request.rows for request in batch])
        seconds = max(cpu_seconds, ran.model_seconds - LOCK_SECONDS)
        self._inline_cost.learn(rows=rows, seconds=seconds)
        self._try_at = self._clock() + TRY_EVERY_SECONDS
        return True

    def _is_cheap(self) -> bool:
        """Whether the next batch is the intake thread's."""
        cost = self._inline_cost if self._inline_cost.known else self._cost
        rows = min(self.batcher.rows, self.batcher.rows_max)
        return cost.known and cost.seconds(rows) <= INLINE_SECONDS

    def _is_to_be_tried(self) -> bool:
        """Whether it may be, and it is time to find out."""
        rows = min(self.batcher.rows, self.batcher.rows_max)
        may_be = self._cost.known and self._cost.seconds(rows) <= TRY_SECONDS
        return may_be and self._clock() >= self._try_at

    # --- the model thread --------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._goes_on():
                self._next()
        except BaseException as error:  # noqa: BLE001 - the processor raises it, in the main thread
            self._fail(error)

    def _goes_on(self) -> bool:
        """Until there is nothing to run, and nothing to watch either."""
        with self.changed:
            return self._busy or not self._stopping

    def _next(self) -> None:
        """Run the next batch; return after a while where there is none."""
        with self.changed:
            batch = self._take_expensive()
            if not batch:
                self.changed.wait(self._patience_seconds())
            else:
                self.changed.notify()  # the queue has room
                tracks = self._outbox.open()
        if not batch:
            self._watch()
            return
        try:
            ran = self._ran(batch, tracks)
            if ran.model_seconds > INLINE_SECONDS:
                self._replies.send_meanwhile(ran)
            else:
                self._replies.send(ran)
        finally:
            self._busy = False

    def _take_expensive(self) -> Sequence[Request]:
        """The next batch, unless it is the intake thread's."""
        if self._is_to_be_tried() and len(self.batcher) and not self._busy:
            self.changed.wait(TRY_WAIT_SECONDS)  # it comes by after each fetch
            self._try_at = max(self._try_at, self._clock() + TRY_EVERY_SECONDS)
        return () if self._is_cheap() else self._take()

    def _watch(self) -> None:
        """Stop a run of the intake thread that is overdue; only the process's end stops some."""
        try:
            self._model.check()
        except StuckError as error:
            self._leave(error)

    def _patience_seconds(self) -> float:
        ready_at = None if self._busy or self._is_cheap() else self.batcher.ready_at()
        if ready_at is None:
            return TICK_SECONDS
        return min(max(ready_at - self._clock(), 0.0), TICK_SECONDS)

    # --- either ------------------------------------------------------------------------------

    def _take(self) -> Sequence[Request]:
        """The next batch, and with it the model. Under the lock."""
        if self._busy or self._stopping:
            return ()
        batch = self.batcher.take(now=self._clock(), now_ms=self._now_ms())
        self._busy = bool(batch)
        return batch

    def _ran(self, batch: Sequence[Request], tracks: Tracks) -> Ran:
        """Run the model on what is still awaited."""
        now_ms = self._now_ms()
        if late := [r for r in batch if r.deadline_ms is not None and r.deadline_ms <= now_ms]:
            batch = [request for request in batch if request not in late]
        refused = [too_late(request, self._desk, now_ms=now_ms) for request in late]
        started = self._clock()
        outcomes = infer(self._model, batch) if batch else ()
        return Ran(batch, outcomes, started, self._clock() - started, refused, tracks)

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self._stopping = True


def too_late(request: Request, desk: Desk, *, now_ms: int) -> Answer:
    """The answer to a request whose deadline has passed."""
    overdue_ms = now_ms - (request.deadline_ms or now_ms)
    outcome = Rejected(
        Status.DEADLINE_EXCEEDED,
        f"the deadline passed {overdue_ms} ms ago, before the model was free",
    )
    return refuse(request.located, outcome, desk, now_ms=now_ms)
