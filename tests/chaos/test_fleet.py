"""The fleet, with processes that do no more than log: what is done to them, and what is seen."""

import sys
import time
from collections.abc import Callable, Iterator

import pytest
from chaos.fleet import Fleet

BOUND_SECONDS = 30.0
WORKER = """
import signal
print('{"partitions": ["t/0", "t/1"], "event": "partitions.assigned"}', flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def fleet(tmp_path) -> Iterator[Fleet]:
    """Three processes that have been given partitions; all are gone afterwards."""
    fleet = Fleet([sys.executable, "-c", WORKER], tmp_path)
    try:
        for slot in range(3):
            fleet.start(slot)
        until(lambda: all(fleet.serves(slot) for slot in range(3)))
        yield fleet
    finally:
        fleet.abandon()


def until(condition: Callable[[], bool]) -> None:
    """Wait for *condition*, within a bound."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_pause_lasts_until_others_have_what_it_had(fleet):
    """Nobody counts as evicted before its partitions were given to another one."""
    fleet.pause(0)
    assert fleet.paused(0)
    assert not fleet.serves(0)
    assert not fleet.replaced(0)
    fleet.kill(1)  # the process that follows is given them
    until(lambda: fleet.replaced(0))
    assert fleet.evictions == 0
    fleet.resume(0)
    assert fleet.evictions == 1
    assert fleet.serves(0)
    fleet.resume(0)  # awake already
    assert fleet.evictions == 1


def test_who_is_killed_is_followed_and_who_leaves_is_not(fleet):
    """A kill starts another process in the same slot; a leave ends the slot, also of a process that
    was paused; what ends by itself comes back."""
    fleet.kill(0)
    until(lambda: fleet.serves(0))
    fleet.pause(1)
    fleet.leave(1)
    assert not fleet.has(1)
    fleet.resume(1)  # too late, and no fault
    fleet.stop()
    assert fleet.exits == {"killed": 1, "asked to leave, signal SIGTERM": 3}
