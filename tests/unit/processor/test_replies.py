"""Answers to runs: in the order of the runs, also where a thread of their own makes them."""

import threading

import pytest
from unit.processor.builders import request

from ondemand.contract.reply import Served
from ondemand.errors import Status
from ondemand.processor.encode import Desk
from ondemand.processor.outbox import Outbox
from ondemand.processor.outcome import Rejected
from ondemand.processor.replies import WAITING_MAX, Ran, Replies
from ondemand.processor.report import Reporter
from ondemand.telemetry.logging import EventLog
from ondemand.telemetry.metrics import WorkerMetrics

BOUND_SECONDS = 10.0
HERE = threading.main_thread()


class Delivery:
    """Sends nothing before it is let; takes note of what it sends, and in which thread."""

    def __init__(self):
        self.may_send = threading.Event()
        self.begun = threading.Semaphore(0)
        self.sent = []
        self.threads = []

    def open(self):
        return {}

    def send(self, consignment):
        self.begun.release()
        assert self.may_send.wait(BOUND_SECONDS)
        self.sent += [answer.record.offset for answer in consignment.answers]
        self.threads.append(threading.current_thread())


@pytest.fixture
def delivery():
    return Delivery()


@pytest.fixture
def failures():
    return []


@pytest.fixture
def replies(delivery, failures):
    reporter = Reporter(EventLog(), WorkerMetrics())
    made = Replies(
        desk=Desk(Served("m", "1"), "m.dead-letters"),
        outbox=Outbox(delivery, reporter),
        reporter=reporter,
        now_ms=lambda: 0,
        failed=failures.append,
    )
    made.start()
    yield made
    delivery.may_send.set()
    made.close(BOUND_SECONDS)


def ran(offset: int) -> Ran:
    refused = Rejected(Status.INVALID_INPUT, "no")
    return Ran([request(offset)], [refused], 0.0, 0.001, (), {})


def test_a_run_is_answered_at_once_where_none_waits(replies, delivery):
    """A cheap model's replies cost no hand-over either."""
    delivery.may_send.set()
    replies.send(ran(0))
    assert (delivery.sent, delivery.threads) == ([0], [HERE])


def test_meanwhile_the_next_batch_can_run(replies, delivery):
    """Whoever ran the model has it free again while the answers are made."""
    replies.send_meanwhile(ran(0))
    assert delivery.begun.acquire(timeout=BOUND_SECONDS)
    assert delivery.sent == []  # and yet we are here
    delivery.may_send.set()
    replies.close(BOUND_SECONDS)
    assert delivery.sent == [0]
    assert delivery.threads != [HERE]


def test_nobody_overtakes(replies, delivery):
    """One key's answers keep their order, whichever thread ran the model."""
    replies.send_meanwhile(ran(0))
    assert delivery.begun.acquire(timeout=BOUND_SECONDS)
    replies.send(ran(1))
    delivery.may_send.set()
    replies.close(BOUND_SECONDS)
    assert delivery.sent == [0, 1]


def test_answers_do_not_pile_up(replies, delivery):
    """Where they take longer than runs, the model waits for them."""
    for offset in range(WAITING_MAX):
        replies.send_meanwhile(ran(offset))
    last = threading.Thread(target=replies.send_meanwhile, args=(ran(WAITING_MAX),))
    last.start()
    assert delivery.begun.acquire(timeout=BOUND_SECONDS)
    assert repr(replies) == f"<Replies [{WAITING_MAX} runs to answer]>"
    assert last.is_alive()
    delivery.may_send.set()
    last.join(BOUND_SECONDS)
    replies.close(BOUND_SECONDS)
    assert delivery.sent == list(range(WAITING_MAX + 1))


def test_what_waits_is_answered_before_the_end(replies, delivery):
    """A worker that is told to stop answers what its model has done."""
    replies.send_meanwhile(ran(0))
    replies.send_meanwhile(ran(1))
    delivery.may_send.set()
    replies.close(BOUND_SECONDS)
    assert delivery.sent == [0, 1]


def test_an_error_of_ours_is_told_and_nobody_waits_for_ever(replies, delivery, failures):
    """The process leaves by it, with what is unanswered: the next worker's."""
    replies.send_meanwhile(Ran([request(0)], [object()], 0.0, 0.001, (), {}))
    replies.close(BOUND_SECONDS)
    for offset in range(WAITING_MAX + 1):
        replies.send_meanwhile(ran(offset))
    assert len(failures) == 1
    assert delivery.sent == []
