"""Requests that processes die of, over the memory broker: found, answered, nobody else harmed."""

import contextlib
import threading
from functools import partial

import pytest
from component.builders import ask, broker, eventually, processing, replies, status
from unit.processor.builders import DoublingModel

from ondemand.contract.record import Partition
from ondemand.transport.base import Note

P0 = Partition("m.requests", 0)
GROUP = "ondemand.m"
ATTEMPTS_MAX = 3
DEADLY = -1.0


class Death(BaseException):
    """The end of a process, as far as a thread can have one."""


def die(*_, **__):
    """What a call to the broker comes to in a process that has ended."""
    raise Death


class DeadlyModel(DoublingModel):
    """Ends its process for `DEADLY` inputs: from then on it reaches the broker no more."""

    def __init__(self, transport):
        super().__init__()
        self._transport = transport
        self.rows = []

    def run(self, inputs):
        self.rows.append(inputs["x"][:, 0].tolist())
        if (inputs["x"] == DEADLY).any():
            for name in (
                "fetch",
                "notes",
                "note",
                "publish",
                "commit",
                "commit_and_wait",
                "transact",
            ):
                setattr(self._transport, name, die)
            raise Death
        return super().run(inputs)


def live(kafka, done, *, transactional=False, attempts_max=ATTEMPTS_MAX):
    """One process after the other, until *done*: how many of them died, and the last one's runs."""
    make = kafka.transactional_worker if transactional else kafka.worker
    for deaths in range(20):
        transport = make(group=GROUP)
        model = DeadlyModel(transport)
        with (
            contextlib.suppress(Death),
            processing(transport, model, attempts_max=attempts_max) as processor,
        ):
            eventually(partial(done_or_dead, processor, done), "done, or dead")
            if not processor.failed:
                return deaths, model.rows
        kafka.evict(transport)
    raise AssertionError("a crash loop")


def done_or_dead(processor, done):
    """Whether there is nothing more to wait for."""
    return processor.failed or (done() and processor.unsettled == 0)


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("attempts_max", [2, 3, 5])
def test_a_deadly_request_ends_so_many_processes_and_no_more(attempts_max, transactional):
    """Neighbours on all sides get their answers, the culprit gets `model-error` and a dead letter,
    and the group goes on."""
    kafka = broker()
    for i in range(30):
        ask(kafka, f"r{i}", [[DEADLY if i == 17 else i, i]], partition=i % 2)

    deaths, _ = live(
        kafka,
        lambda: len(statuses(kafka)) == 30,
        transactional=transactional,
        attempts_max=attempts_max,
    )

    assert deaths == attempts_max
    assert statuses(kafka) == {
        f"r{i}": {"model-error" if i == 17 else "ok"} for i in range(30)
    }  # also those that were answered twice, by processes that died before they had committed
    assert len(kafka.records("m.dead-letters")) == 1
    assert kafka.committed(GROUP) == {P0: 15, Partition("m.requests", 1): 15}


def test_several_deadly_requests_are_found_one_after_the_other():
    """Each one costs as many processes as are allowed, plus at most the one that is not told from
    a kill."""
    kafka = broker()
    for i in range(60):
        ask(kafka, f"r{i}", [[DEADLY if i in {7, 8, 40} else i, i]])

    deaths, _ = live(kafka, lambda: len(statuses(kafka)) == 60)

    assert deaths <= 3 * (ATTEMPTS_MAX + 1)
    assert {name for name, found in statuses(kafka).items() if found != {"ok"}} == {
        "r7", "r8", "r40"
    }  # fmt: skip


def test_a_kill_accuses_nobody():
    """A process that was killed while it answered leaves a short suspicion: the next one answers
    all the same, in smaller groups, and then leaves nothing behind."""
    kafka = broker()
    for i in range(100):
        ask(kafka, f"r{i}", [[i, i]])
    kafka.group(GROUP).store({P0: Note(0, "ondemand attempt=1")})
    transport = kafka.worker(group=GROUP)
    model = DeadlyModel(transport)

    with processing(transport, model, attempts_max=ATTEMPTS_MAX):
        eventually(lambda: len(replies(kafka)) == 100, "100 replies")
        assert max(map(len, model.rows)) <= 10
        model.rows.clear()
        for i in range(100, 200):
            ask(kafka, f"r{i}", [[i, i]])
        eventually(lambda: len(replies(kafka)) == 200, "200 replies")

    assert {status(reply) for reply in replies(kafka).values()} == {"ok"}
    assert kafka.group(GROUP).stored(P0) == Note(200, "")


def test_a_guilty_request_is_not_run_again():
    """It was found by the processes before: this one never shows it to its model."""
    kafka = broker()
    ask(kafka, "culprit", [[DEADLY, 0]])
    ask(kafka, "next")
    kafka.group(GROUP).store({P0: Note(0, "ondemand attempt=3 last=0")})

    deaths, rows = live(kafka, lambda: len(replies(kafka)) == 2)

    assert (deaths, rows) == (0, [[1.0]])
    assert status(replies(kafka)["culprit"]) == "model-error"


def test_one_that_died_alone_is_not_guilty_before_so_many_deaths():
    """Twice is not thrice: it is run once more, alone, and may be answered."""
    kafka = broker()
    ask(kafka, "innocent", [[5.0, 0]])
    ask(kafka, "next")
    kafka.group(GROUP).store({P0: Note(0, "ondemand attempt=2 last=0")})

    deaths, rows = live(kafka, lambda: len(replies(kafka)) == 2)

    assert (deaths, rows) == (0, [[5.0], [1.0]])
    assert status(replies(kafka)["innocent"]) == "ok"


def test_a_stop_in_the_middle_of_a_suspicion_keeps_it():
    """What a deployment interrupts is neither forgiven nor made worse."""
    kafka = broker()
    for i in range(3):
        ask(kafka, f"r{i}", [[i, i]])
    kafka.group(GROUP).store({P0: Note(0, "ondemand attempt=1")})
    entered, gate = threading.Event(), threading.Event()
    model = DoublingModel()
    run = model.run
    model.run = lambda inputs: (entered.set(), gate.wait(10), run(inputs))[2]
    with processing(kafka, model, attempts_max=ATTEMPTS_MAX) as processor:
        assert entered.wait(10)
        assert kafka.group(GROUP).stored(P0) == Note(0, "ondemand attempt=2 last=1")
        processor.stop()
        gate.set()

    assert len(replies(kafka)) == 2
    assert kafka.group(GROUP).stored(P0) == Note(2, "ondemand attempt=1 last=2")


def test_a_stop_leaves_no_marker():
    """A worker that was drained before anything was finished has died of nothing."""
    kafka = broker()
    ask(kafka, "r")
    entered = threading.Event()
    model = DoublingModel()
    run = model.run
    model.run = lambda inputs: (entered.set(), run(inputs))[1]
    with processing(kafka, model, commit_interval_seconds=60.0):
        assert entered.wait(10)

    assert kafka.group(GROUP).stored(P0) == Note(1, "")


def test_suspects_that_are_not_there_any_more_hold_up_nobody():
    """Records expire: a suspicion against them ends by itself."""
    kafka = broker()
    kafka.group(GROUP).store({P0: Note(0, "ondemand attempt=1 last=500")})
    ask(kafka, "first")
    ask(kafka, "other", partition=1)

    with processing(kafka, attempts_max=ATTEMPTS_MAX):
        eventually(lambda: len(replies(kafka)) == 2, "both are answered")
        ask(kafka, "later", partition=1)
        eventually(lambda: len(replies(kafka)) == 3, "it goes on")


def statuses(kafka):
    """The statuses that each request was answered with."""
    found = {}
    for record in kafka.records("s.replies"):
        name = dict(record.headers)["correlation-id"].decode()
        found.setdefault(name, set()).add(status(record))
    return found
