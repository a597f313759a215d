"""A thousand seeds of trouble, in virtual time; and workers that are broken on purpose."""

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from simulation.broken import BREAKS, Break
from simulation.plan import Plan, draw
from simulation.promises import BrokenPromiseError
from simulation.world import simulate

SEEDS = 1_000
CHUNK = 50
BREAK_SEEDS = 100
TESTS = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Story:
    """What one seed led to."""

    guarantee: str
    statuses: frozenset[str]
    repeated: int


@functools.cache
def run(seed: int) -> Story:
    """The story of *seed*; fails with how to hear all of it."""
    try:
        world = simulate(draw(seed))
    except Exception as error:
        error.add_note(f"Replay: make simulate SEED={seed}")
        raise
    return Story(world.plan.guarantee, frozenset(world.promises.statuses), world.promises.repeated)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_promises_are_kept(first: int) -> None:
    """Whatever goes wrong: one kind of answer for each request, no commit before it is settled,
    every reply at its own address, and no limit exceeded; once all is calm, all is answered."""
    for seed in range(first, first + CHUNK):
        run(seed)


def test_there_is_trouble_enough() -> None:
    """Seeds that meet no fault prove nothing: among a hundred there is every kind of answer, in
    both guarantees, and requests that were answered again after a crash."""
    stories = [run(seed) for seed in range(100)]

    assert {status for story in stories for status in story.statuses} == {
        "ok",
        "invalid-request",
        "invalid-input",
        "too-large",
        "unsupported-version",
        "deadline-exceeded",
        "overloaded",
        "model-error",
        "model-timeout",
        "internal",
    }
    assert {story.guarantee for story in stories} == {"at-least-once", "exactly-once"}
    assert sum(story.repeated for story in stories) > 100


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: f"{broken[0].__name__}-{broken[1]}")
def test_a_broken_worker_is_caught(broken: Break) -> None:
    """A checker that passes a worker broken on purpose is broken itself."""
    breaks, guarantee = broken
    plans = (draw(seed, guarantee) for seed in range(BREAK_SEEDS))
    with breaks():
        caught = next(filter(_is_caught, plans), None)
    assert caught is not None, f"{BREAK_SEEDS} seeds did not notice"


def _is_caught(plan: Plan) -> bool:
    try:
        simulate(plan)
    except BrokenPromiseError:
        return True
    return False


def test_a_seed_tells_the_same_story_again() -> None:
    """In another process, with other hash values: every line of the trace is the same."""
    traces = [
        subprocess.run(
            [sys.executable, "-m", "simulation", "--seed", "11"],
            cwd=TESTS,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert traces[0].count(b"\n") > 50
