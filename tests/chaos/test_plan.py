"""Plans and loads: replayable, complete, and within what makes a fault a fault."""

from collections import Counter

import numpy as np
import pytest
from chaos import load, model
from chaos.load import Kind
from chaos.plan import (
    BROKERS,
    EXTRA_SLOTS_MAX,
    FULL,
    SESSION_SECONDS,
    SHORT_KILL,
    SHORT_ROLL,
    Act,
    draw,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ondemand.contract.headers import index_headers

SEEDS = st.integers(min_value=0, max_value=2**32)
SCALES = st.sampled_from([FULL, SHORT_KILL, SHORT_ROLL])


@settings(deadline=None)
@given(SEEDS, SCALES)
def test_a_seed_is_a_plan(seed, scale):
    """The same seed gives the same plan, in the order of its times, with everything in it."""
    plan = draw(seed, scale)
    assert plan == draw(seed, scale)
    assert [fault.at_seconds for fault in plan.faults] == sorted(
        fault.at_seconds for fault in plan.faults
    )
    assert Counter(fault.act for fault in plan.faults) == Counter(
        {
            Act.KILL: scale.kills,
            Act.PAUSE: scale.pauses,
            Act.JOIN: scale.joins,
            Act.LEAVE: scale.joins,
            Act.BROKER_KILL: scale.broker_kills,
            Act.BROKER_ROLL: scale.rolls,
            Act.VISIT: scale.visits,
        }
    )


@settings(deadline=None)
@given(SEEDS, SCALES)
def test_there_are_always_enough_workers_to_hit(seed, scale):
    """Acts name slots that are there and awake; joins and leaves keep the number in bounds."""
    slots = dict.fromkeys(range(scale.workers), 0.0)
    for fault in draw(seed, scale).faults:
        if fault.act is Act.JOIN:
            slots[fault.target] = 0.0
        elif fault.act in (Act.KILL, Act.PAUSE, Act.LEAVE):
            assert slots[fault.target] <= fault.at_seconds
            slots[fault.target] = fault.at_seconds + fault.seconds
            if fault.act is Act.LEAVE:
                del slots[fault.target]
        elif fault.act is Act.BROKER_KILL:
            assert 1 <= fault.target <= BROKERS
        assert scale.workers <= len(slots) <= scale.workers + EXTRA_SLOTS_MAX


@settings(deadline=None)
@given(SEEDS)
def test_pauses_outlast_the_session(seed):
    """Whoever is paused is evicted: otherwise the pause would prove nothing."""
    pauses = [fault for fault in draw(seed, FULL).faults if fault.act is Act.PAUSE]
    assert all(fault.seconds > SESSION_SECONDS for fault in pauses)


def test_the_full_scale_is_what_is_promised():
    """At least so many of everything, for each guarantee (docs/reliability.md)."""
    assert FULL.requests >= 100_000
    assert FULL.workers >= 3
    assert FULL.kills >= 50
    assert FULL.pauses >= 50
    assert FULL.joins >= 20
    assert FULL.broker_kills >= 5
    assert FULL.rolls >= 1


@pytest.mark.parametrize("kind", Kind)
def test_a_request_says_which_it_is(kind):
    """Number and kind are read back from the record as it stands in the topic, in either form."""
    for number in (0, 1, 999_999):
        ask = load.Ask(number, kind, b"k")
        made = load.record(ask, run="r", topic="r.requests", reply=("r.replies", 0), now_ms=5)
        fields = index_headers(made.headers)
        assert load.read(fields, made.value) == (number, kind)
        if kind in load.CODES:
            bare = {name: value for name, value in fields.items() if name != load.KIND_HEADER}
            assert load.read(bare, made.value) == (number, kind)


def test_every_kind_is_asked_and_the_seed_decides():
    """A load of the short version's size holds every kind."""
    asks = load.draw(3, SHORT_KILL.requests)
    assert asks == load.draw(3, SHORT_KILL.requests)
    assert {ask.kind for ask in asks} == set(Kind)


def test_the_oracle_agrees_with_the_worker(tmp_path):
    """What the model must say is computed from its weights, not by the runtime under test."""
    from ondemand.runtime.package import load_package  # noqa: PLC0415 - costs a model runtime

    rows = [load.row(number, Kind.PLAIN) for number in (0, 7, 123_456, 999_999)]
    package = load_package(model.write_worker(tmp_path / "worker"), threads=1)
    outputs = package.model.run({load.INPUT: np.concatenate(rows)})
    package.model.close()
    assert np.allclose(outputs[model.SCORES], model.scores(rows), atol=model.TOLERANCE)
    assert outputs[model.NUMBER].tolist() == [0, 7, 123_456, 999_999]
