"""From what a run of the model gave to answers on their way, in the order of the runs.

Whoever ran the model may do it at once. A model that costs more than its replies leaves that to a
thread of its own, and the next batch runs meanwhile: ONNX Runtime needs no interpreter's lock.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ondemand.contract.reply import ServerTiming
from ondemand.processor.delivery import Tracks
from ondemand.processor.encode import Answer, Desk, encode
from ondemand.processor.outbox import Outbox
from ondemand.processor.outcome import Outcome
from ondemand.processor.report import Reporter
from ondemand.processor.request import Request

WAITING_MAX = 2
"""Runs whose answers are not made. Beyond, the model waits: replies that take longer than runs must
not pile up."""


class Ran(NamedTuple):
    """What became of one batch. *started* and *model_seconds*: of the run, on the worker's
    monotonic clock; *late*: the answers to requests that were not run any more."""

    batch: Sequence[Request]
    outcomes: Sequence[Outcome]
    started: float
    model_seconds: float
    late: Sequence[Answer]
    tracks: Tracks


class Replies:
    """Makes answers and sends them. *failed* is called, in the thread of replies, with what ended
    that."""

    def __init__(
        self,
        *,
        desk: Desk,
        outbox: Outbox,
        reporter: Reporter,
        now_ms: Callable[[], int],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._desk = desk
        self._outbox = outbox
        self._reporter = reporter
        self._now_ms = now_ms
        self._failed = failed
        # Guards the two below.
        self._changed = threading.Condition()
        self._waiting: deque[Ran] = deque()  # the first is being answered
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="replies", daemon=True)

    def __repr__(self) -> str:
        return f"<Replies [{len(self._waiting)} runs to answer]>"

    def start(self) -> None:
        """Start the thread of replies."""
        self._thread.start()

    def send(self, ran: Ran) -> None:
        """Answer now, in this thread; after those that wait, where some do."""
        with self._changed:
            if self._waiting:
                self._hand_over(ran)
                return
        self._answer(ran)

    def send_meanwhile(self, ran: Ran) -> None:
        """Answer in the thread of replies."""
        with self._changed:
            self._hand_over(ran)

    def close(self, timeout_seconds: float) -> None:
        """Answer what waits, and end; for at most so long."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)

    def _hand_over(self, ran: Ran) -> None:
        self._changed.wait_for(lambda: len(self._waiting) < WAITING_MAX or self._closing)
        self._waiting.append(ran)
        self._changed.notify_all()

    def _run(self) -> None:
        try:
            while (ran := self._next()) is not None:
                self._answer(ran)
                with self._changed:
                    self._waiting.popleft()
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - the processor raises it, in the main thread
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._failed(error)

    def _next(self) -> Ran | None:
        """Wait for a run's outcomes; None means stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return self._waiting[0] if self._waiting else None

    def _answer(self, ran: Ran) -> None:
        batch, _, started, model_seconds, late, tracks = ran
        rows = sum([request.rows for request in batch])
        answers = [*late, *self._encoded(ran, rows)] if batch else late
        self._outbox.send(answers, tracks)
        if batch:  # counted when the callers need not wait for it any more
            waited = started - batch[0].located.taken_at
            self._reporter.batch(rows=rows, model_seconds=model_seconds, queue_seconds=waited)

    def _encoded(self, ran: Ran, rows: int) -> list[Answer]:
        batch, outcomes, started, model_seconds, _, _ = ran
        now_ms = self._now_ms()
        timings: dict[float, ServerTiming] = {}  # requests of one fetch were taken together
        answers = []
        for request, outcome in zip(batch, outcomes, strict=True):
            taken_at = request.located.taken_at
            if (timing := timings.get(taken_at)) is None:
                queue_ms = (started - taken_at) * 1000
                timing = timings[taken_at] = ServerTiming(queue_ms, model_seconds * 1000, rows)
            answers.append(encode(request, outcome, self._desk, timing=timing, now_ms=now_ms))
        return answers
