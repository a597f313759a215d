"""Redriving: what is planned and refused, the pace, and what is told where it stops."""

import os
import signal
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.cli.letters import ADDRESS, NOW_MS, letter

from ondemand.cli.deadletters_filter import LetterId
from ondemand.cli.deadletters_redrive import (
    TICK_SECONDS,
    Effects,
    Interruption,
    Outcome,
    Pace,
    Terms,
    make_plan,
    redrive,
    request_of,
)
from ondemand.contract.dead_letter import REDRIVE_ATTEMPTS
from ondemand.contract.headers import DEADLINE
from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.errors import ConfigurationError, TransportError
from ondemand.limits import HEADERS_MAX
from ondemand.transport.base import NotTakenError
from ondemand.transport.kafka_admin_records import Published

TERMS = Terms("m.requests", 3, unanswerable=False, keep_deadline=False, now_ms=NOW_MS)


def tried(times: int) -> tuple[tuple[str, bytes | None], ...]:
    """The headers of a request that was redriven *times* times before."""
    return (*ADDRESS, (REDRIVE_ATTEMPTS, b"%d" % times))


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (letter(reason="unanswerable"), "come straight back"),
        (letter(source="other.requests"), "did not come from m.requests"),
        (letter(source="__consumer_offsets"), "did not come from m.requests"),
        (letter(reason=""), "no worker wrote it"),
        (letter(source="x y"), "did not come from"),
        (letter(headers=tried(3)), "redriven 3 times or more"),
        (letter(headers=tried(10**9)), "redriven 3 times or more"),
        (letter(headers=[(f"h{i}", b"") for i in range(HEADERS_MAX)]), "headers"),
    ],
)
def test_what_must_not_go_back_is_refused_with_its_reason(found, why):
    """Records that no worker wrote, or that name another topic, choose nothing; known failures are
    not repeated for ever."""
    plan = make_plan([found], TERMS)
    assert plan.planned == []
    (told,) = plan.refused
    assert why in told
    assert plan.refused[told].examples == [LetterId(0, 0)]


def test_an_operator_can_say_otherwise():
    """--unanswerable and --attempts-max take what is refused without them."""
    terms = replace(TERMS, unanswerable=True, attempts_max=4)
    plan = make_plan([letter(0, reason="unanswerable"), letter(1, headers=tried(3))], terms)
    assert [each.attempt for each in plan.planned] == [1, 4]
    assert plan.refused == {}


def test_a_request_is_planned_once():
    """A killed worker repeats its last dead letters: the same source and content is one request;
    the same source with other content is a topic that was made anew."""
    twice = [letter(0, source_offset=7), letter(1, source_offset=7)]
    plan = make_plan([*twice, letter(2, source_offset=7, value=b"[]")], TERMS)
    assert [each.id.offset for each in plan.planned] == [0, 2]
    (told,) = plan.refused
    assert "more than once" in told


def test_the_limit_counts_what_can_be_redriven():
    """Refused ones use up no place; that there are more is said."""
    letters = [letter(0, reason="unanswerable"), letter(1), letter(2), letter(3)]
    plan = make_plan(letters, TERMS, limit=2)
    assert [each.id.offset for each in plan.planned] == [1, 2]
    assert plan.more
    assert not make_plan(letters, TERMS, limit=3).more


@given(st.integers(0, 2 * NOW_MS), st.booleans())
def test_a_deadline_goes_only_when_it_has_passed(deadline_ms, keep):
    """With a passed one the worker would refuse unrun; a later one still binds."""
    found = letter(headers=(*ADDRESS, (DEADLINE, b"%d" % deadline_ms)))
    terms = replace(TERMS, keep_deadline=keep)
    names = [name for name, _ in request_of(found, terms).headers]
    goes = deadline_ms <= NOW_MS and not keep
    assert (DEADLINE in names) is not goes
    assert make_plan([found], terms).planned[0].loses_deadline is goes


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= TICK_SECONDS
        self.now += seconds


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 5), min_size=1, max_size=10))
def test_the_pace_is_never_exceeded(rate, busy):
    """Between two records lies the rate's time at least, and a stall is not made up for."""
    clock = Clock()
    pace = Pace(rate, clock, clock.sleep)
    went = []
    for seconds in busy:
        pace.wait(lambda: False)
        went.append(clock.now)
        clock.now += seconds
    gaps = [later - earlier for earlier, later in pairwise(went)]
    assert all(gap >= 1 / rate - 1e-9 for gap in gaps)
    assert went[0] == 100.0


def test_the_rate_is_reached():
    """50 a second: a hundred and one records take two seconds, not more."""
    clock = Clock()
    pace = Pace(50, clock, clock.sleep)
    for _ in range(101):
        pace.wait(lambda: False)
    assert clock.now == pytest.approx(102.0)


def test_waiting_ends_when_asked_to_stop():
    """At one an hour, Ctrl-C is noticed within a tick."""
    clock = Clock()
    pace = Pace(1 / 3600, clock, clock.sleep)
    pace.wait(lambda: False)
    pace.wait(lambda: clock.now > 100.0)
    assert clock.now <= 100.0 + 2 * TICK_SECONDS


class World:
    """Five dead letters, a broker that takes records until told otherwise, and what was told."""

    def __init__(self, fails_at: int = 99, error: BaseException | None = None) -> None:
        self.letters = {LetterId(0, offset): letter(offset) for offset in range(5)}
        self.published: list[OutgoingRecord] = []
        self.told: list[LetterId] = []
        self.stop_after = 99
        self._fails_at, self._error = fails_at, error

    def publish(self, record: OutgoingRecord) -> Published:
        if len(self.published) == self._fails_at and self._error is not None:
            raise self._error
        self.published.append(record)
        return Published(Partition(record.topic, 0), len(self.published) - 1)

    def run(self) -> Outcome:
        """Plan all, then redrive what is there."""
        plan = make_plan([letter(offset) for offset in range(5)], TERMS)
        clock = Clock()
        effects = Effects(
            read=self.letters.get,
            publish=self.publish,
            told=lambda planned, _: self.told.append(planned.id),
            stopped=lambda: len(self.published) >= self.stop_after,
            now_ms=lambda: NOW_MS,
        )
        return redrive(plan.planned, TERMS, Pace(50, clock, clock.sleep), effects)


def test_all_are_taken_once():
    """Nothing is left, and each one was told."""
    world = World()
    outcome = world.run()
    assert (outcome.ending, outcome.taken, list(outcome.left)) == ("done", 5, [])
    assert world.told == sorted(world.letters)
    assert len(world.published) == 5


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (NotTakenError("refused"), "not taken"),
        (TransportError("no answer"), "unknown"),
        (KeyboardInterrupt(), "unknown"),
    ],
)
def test_it_stops_where_the_broker_does_not_take_one(error, ending):
    """What was taken, and what was not, is exact; where the answer is open, that is said."""
    world = World(2, error)
    outcome = world.run()
    assert (outcome.ending, outcome.taken, outcome.last) == (ending, 2, LetterId(0, 1))
    assert [each.id.offset for each in outcome.left] == [2, 3, 4]
    assert [each.offset for each in world.told] == [0, 1]
    assert outcome.error


def test_asked_to_stop_it_stops_between_two():
    """Ctrl-C: the one that is under way is finished, the next one not begun."""
    world = World()
    world.stop_after = 3
    outcome = world.run()
    assert (outcome.ending, outcome.taken) == ("interrupted", 3)
    assert [each.id.offset for each in outcome.left] == [3, 4]


def test_one_that_is_gone_is_told_and_passed_over():
    """Retention may take a dead letter between the plan and its turn."""
    world = World()
    del world.letters[LetterId(0, 1)]
    outcome = world.run()
    assert (outcome.ending, outcome.taken, outcome.gone) == ("done", 4, [LetterId(0, 1)])


def test_what_cannot_be_read_was_not_taken():
    """The dead-letter topic disappears: nothing is open, and the rest is named."""
    world = World()
    plan = make_plan([letter(0)], TERMS)

    def read(_: LetterId) -> None:
        raise ConfigurationError("the topic is gone")

    effects = Effects(read, world.publish, lambda *_: None, lambda: False, lambda: NOW_MS)
    outcome = redrive(plan.planned, TERMS, Pace(50), effects)
    assert (outcome.ending, outcome.taken, len(outcome.left)) == ("not taken", 0, 1)


def test_the_first_signal_asks_and_the_second_one_ends():
    """And afterwards signals mean what they meant before."""
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
