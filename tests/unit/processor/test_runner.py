"""Who runs the model: the intake thread what is cheap, a thread of its own the rest."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator

from unit.processor.builders import DoublingModel, request

from ondemand.contract.reply import Served
from ondemand.errors import ModelError
from ondemand.processor.cost import CostModel
from ondemand.processor.encode import Desk
from ondemand.processor.guard import Guard
from ondemand.processor.micro_batch import BatchLimits, MicroBatcher
from ondemand.processor.outbox import Outbox
from ondemand.processor.report import Reporter
from ondemand.processor.runner import (
    INLINE_SECONDS,
    LOCK_SECONDS,
    TRY_EVERY_SECONDS,
    TRY_SECONDS,
    Runner,
)
from ondemand.telemetry.logging import EventLog
from ondemand.telemetry.metrics import WorkerMetrics

BOUND_SECONDS = 10.0
HERE = threading.main_thread()


class Delivery:
    """Takes note of what is sent, and in which thread."""

    def __init__(self):
        self.sent = []
        self.threads = []
        self.arrived = threading.Semaphore(0)
        self.before_sending = lambda: None

    def open(self):
        return {}

    def send(self, consignment):
        self.before_sending()
        self.sent += consignment.answers
        self.threads.append(threading.current_thread())
        self.arrived.release()

    def statuses(self):
        return [answer.status for answer in self.sent]


class Stubborn(DoublingModel):
    """Once told to hang, runs until it is released; it may listen when it is told to stop."""

    def __init__(self, *, listens: bool):
        super().__init__()
        self.listens = listens
        self.hangs = False
        self.begun = lambda: None
        self.released = threading.Event()

    def run(self, inputs):
        if self.hangs:
            self.begun()
            assert self.released.wait(BOUND_SECONDS)
            raise ModelError("terminated")
        return super().run(inputs)

    def stop(self):
        if self.listens:
            self.released.set()


@contextlib.contextmanager
def running(
    model,
    *,
    run_seconds: float,
    clock=time.monotonic,
    leave=None,
    started=True,
    limits=BatchLimits(),  # noqa: B008 - frozen
) -> Iterator:
    """A runner that has learnt that one row costs *run_seconds*, with what it sends."""
    cost, delivery = CostModel(), Delivery()
    cost.learn(rows=1, seconds=run_seconds)
    reporter = Reporter(EventLog(), WorkerMetrics())
    runner = Runner(
        model=Guard(model, timeout_seconds=0.5, cost=cost, clock=clock),
        batcher=MicroBatcher(limits, cost),
        cost=cost,
        desk=Desk(Served("m", "1"), "m.dead-letters"),
        outbox=Outbox(delivery, reporter),
        reporter=reporter,
        now_ms=lambda: 0,
        clock=clock,
        leave=leave or (lambda error: None),
    )
    if started:
        runner.start()
    try:
        yield runner, delivery
    finally:
        runner.stop()
        if started:
            runner.join(BOUND_SECONDS)


def test_a_cheap_batch_is_run_by_the_thread_that_offers_it():
    """No hand-over: when ``turn`` returns, all that was offered is answered."""
    with running(DoublingModel(), run_seconds=INLINE_SECONDS / 2) as (runner, delivery):
        runner.offer([request(0), request(1)])
        runner.turn()
        assert delivery.statuses() == ["ok", "ok"]
        assert delivery.threads == [HERE]


def test_an_expensive_batch_is_run_by_the_model_thread():
    """The intake thread goes on polling meanwhile."""
    with running(DoublingModel(), run_seconds=INLINE_SECONDS * 1000) as (runner, delivery):
        runner.offer([request(0)])
        runner.turn()
        assert delivery.arrived.acquire(timeout=BOUND_SECONDS)
        assert HERE not in delivery.threads


def test_the_next_batch_runs_while_replies_are_made():
    """A model that costs more than its replies does not wait for them."""
    second_run = threading.Event()

    class Expensive(DoublingModel):
        begun = 0

        def run(self, inputs):
            self.begun += 1
            if self.begun == 2:
                second_run.set()
            time.sleep(INLINE_SECONDS * 2)  # what it costs
            return super().run(inputs)

    limits = BatchLimits(rows_max=1)
    with running(Expensive(), run_seconds=1.0, limits=limits) as (runner, delivery):
        delivery.before_sending = lambda: second_run.wait(BOUND_SECONDS)
        runner.offer([request(0), request(1)])
        assert delivery.arrived.acquire(timeout=BOUND_SECONDS)
        assert second_run.is_set()
        assert delivery.arrived.acquire(timeout=BOUND_SECONDS)
        assert [answer.record.offset for answer in delivery.sent] == [0, 1]


def test_waiting_for_the_lock_makes_a_model_no_dearer(monkeypatch):
    """What took no processor's time may have been another thread's, as the commit thread's."""
    now = [100.0]

    class Waiting(DoublingModel):
        def run(self, inputs):
            now[0] += LOCK_SECONDS  # by the clock; by the processor nothing
            return super().run(inputs)

    monkeypatch.setattr(time, "thread_time", lambda: 0.0)
    with running(Waiting(), run_seconds=0.0, clock=lambda: now[0]) as (runner, delivery):
        for offset in range(5):
            runner.offer([request(offset)])
            runner.turn()
        assert delivery.threads == [HERE] * 5


def test_what_only_seems_expensive_is_tried_in_the_thread_that_offers_it():
    """A run in the model thread waits for the interpreter's lock, too: by that alone a cheap model
    would stay there for good."""
    with running(DoublingModel(), run_seconds=TRY_SECONDS) as (runner, delivery):
        for offset in range(3):
            runner.offer([request(offset)])
            runner.turn()
        assert delivery.threads == [HERE] * 3


def test_what_is_cheap_is_left_to_the_thread_that_offers_it():
    """Under a backlog there is always something to take: a model thread that took it once would
    never stop, and both threads would want the interpreter's lock."""
    with running(DoublingModel(), run_seconds=0.0, started=False) as (runner, delivery):
        runner.offer([request(0)])
        runner._next()
        assert delivery.sent == []
        runner.turn()
        assert delivery.threads == [HERE]


def test_what_nobody_comes_to_try_is_run_by_the_model_thread():
    """The intake thread may be waiting for records: nobody waits long for it."""
    with running(DoublingModel(), run_seconds=TRY_SECONDS, started=False) as (runner, delivery):
        runner.offer([request(0)])
        runner._next()
        assert delivery.statuses() == ["ok"]


def test_the_thread_that_offers_knows_when_a_window_closes():
    """A cheap batch that waits for company is its own to run, and nobody wakes it."""
    now = [100.0]
    limits = BatchLimits(wait_seconds=0.25)
    with running(
        DoublingModel(), run_seconds=0.0, started=False, clock=lambda: now[0], limits=limits
    ) as (runner, delivery):
        assert runner.due_seconds() is None
        runner.offer([request(0, taken_at=100.0)])
        runner.turn()
        assert (runner.due_seconds(), delivery.sent) == (0.25, [])
        now[0] = 100.25
        assert runner.due_seconds() == 0.0
        runner.turn()
        assert delivery.threads == [HERE]


def test_what_is_expensive_is_tried_now_and_then():
    """It may have become cheap; until it has, the intake thread has better things to do."""
    now = [100.0]

    class Slow(DoublingModel):
        def run(self, inputs):
            now[0] += TRY_SECONDS
            return super().run(inputs)

    with running(Slow(), run_seconds=TRY_SECONDS / 2, clock=lambda: now[0]) as (runner, delivery):
        for offset in range(4):
            if offset == 2:
                now[0] += TRY_EVERY_SECONDS
            runner.offer([request(offset)])
            runner.turn()
            assert delivery.arrived.acquire(timeout=BOUND_SECONDS)
        assert [thread is HERE for thread in delivery.threads] == [True, False, True, False]


def test_what_costs_more_than_was_thought_moves_to_the_model_thread():
    """The choice is made batch by batch, by what runs have cost so far."""
    ticks = itertools.count()  # each look at the clock is a second later
    with running(DoublingModel(), run_seconds=0.0, clock=lambda: float(next(ticks))) as (
        runner,
        delivery,
    ):
        for offset in range(2):
            runner.offer([request(offset)])
            runner.turn()
            assert delivery.arrived.acquire(timeout=BOUND_SECONDS)
        assert delivery.threads[0] is HERE
        assert delivery.threads[1] is not HERE


def test_a_run_of_the_intake_thread_that_is_overdue_is_stopped():
    """The model thread watches: the caller is told that the model took too long."""
    model = Stubborn(listens=True)
    with running(model, run_seconds=0.0) as (runner, delivery):
        model.hangs = True
        runner.offer([request(0)])
        runner.turn()
        assert delivery.statuses() == ["model-timeout"]
        assert delivery.threads == [HERE]


def test_where_the_intake_thread_hangs_for_good_the_process_is_ended():
    """Nobody but the model thread can still act: it ends the process, once it is certain."""
    model, left = Stubborn(listens=False), []

    def leave(error):
        left.append(error)
        model.released.set()  # a process would be gone

    with running(model, run_seconds=0.0, leave=leave) as (runner, _):
        model.hangs = True
        runner.offer([request(0)])
        runner.turn()
    assert "does not stop" in str(left[0])


def test_a_run_that_hangs_is_watched_after_stop_too():
    """A worker that is told to stop in such a moment must not stay for ever."""
    model, left = Stubborn(listens=False), []

    def leave(error):
        left.append(error)
        model.released.set()

    with running(model, run_seconds=0.0, leave=leave) as (runner, _):
        model.hangs, model.begun = True, runner.stop
        runner.offer([request(0)])
        runner.turn()
    assert "does not stop" in str(left[0])


def test_nothing_is_begun_after_stop():
    """What waits is left to the next worker."""
    with running(DoublingModel(), run_seconds=0.0) as (runner, delivery):
        runner.stop()
        runner.offer([request(0)])
        runner.turn()
    assert delivery.sent == []
