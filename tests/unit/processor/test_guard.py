"""Runs of the model, timed and stopped."""

import threading

import numpy as np
import pytest
from unit.processor.builders import DoublingModel, request

from ondemand.errors import ModelError, ModelStoppedError, Status, StuckError
from ondemand.processor.cost import CostModel
from ondemand.processor.guard import Guard
from ondemand.processor.infer import infer
from ondemand.processor.outcome import Completed, Failed

INPUTS = {"x": np.ones((4, 2), np.float32)}


class Slow(DoublingModel):
    """Runs until it is told to stop."""

    def __init__(self):
        super().__init__()
        self.running, self.told = threading.Event(), threading.Event()

    def run(self, inputs):
        self.running.set()
        assert self.told.wait(10)
        raise ModelError("terminated")

    def stop(self):
        self.told.set()


def guard(model, now):
    """A guard with a limit of one second, on a clock that the test sets."""
    return Guard(model, timeout_seconds=1.0, cost=CostModel(), clock=lambda: now[0])


def in_thread(run):
    """Starts *run*; the errors that it ends by are collected."""
    errors = []

    def collect():
        try:
            run()
        except ModelError as error:
            errors.append(error)

    thread = threading.Thread(target=collect)
    thread.start()
    return thread, errors


def test_what_a_run_cost_is_learnt():
    """Rows and seconds of every run, so that the batcher can judge the next one."""
    now, cost, model = [10.0], CostModel(), DoublingModel()
    guarded = Guard(model, timeout_seconds=1.0, cost=cost, clock=lambda: now[0])
    run = model.run
    model.run = lambda inputs: (now.__setitem__(0, now[0] + 0.25), run(inputs))[1]
    guarded.run(INPUTS)

    assert cost.seconds(4) == pytest.approx(0.25)


def test_an_overdue_run_is_stopped_and_says_so():
    """The run ends by the guard's word, and its request is told that it was the time limit."""
    now, model = [0.0], Slow()
    guarded = guard(model, now)
    thread, errors = in_thread(lambda: guarded.run(INPUTS))
    assert model.running.wait(10)
    now[0] = 0.9
    guarded.check()

    assert not model.told.is_set()

    now[0] = 1.1
    guarded.check()
    thread.join(10)

    assert [type(error) for error in errors] == [ModelStoppedError]
    guarded.check()


def test_a_run_that_does_not_obey_ends_the_process():
    """Only a new process helps: the check raises what the process leaves by."""
    now, model = [0.0], Slow()
    let_go, model.stop = model.stop, lambda: None
    guarded = guard(model, now)
    thread, _ = in_thread(lambda: guarded.run(INPUTS))
    assert model.running.wait(10)
    now[0] = 2.1
    with pytest.raises(StuckError, match="another worker"):
        guarded.check()
    let_go()
    thread.join(10)


def test_only_the_endless_request_times_out():
    """A batch that was stopped is halved, as a failing one is: its neighbours get answers."""
    model = DoublingModel()
    run = model.run

    def stops(inputs):
        if (inputs["x"] == 5.0).any():
            raise ModelStoppedError("the run was stopped after 1 s")
        return run(inputs)

    model.run = stops
    outcomes = infer(model, [request(i, fill=float(i)) for i in range(8)])

    assert outcomes[5] == Failed(Status.MODEL_TIMEOUT, "the run was stopped after 1 s")
    assert sum(isinstance(outcome, Completed) for outcome in outcomes) == 7
