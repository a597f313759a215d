"""What a worker does to its process before it serves, and what signals do to it."""

import gc
import os
import signal
import weakref
from collections.abc import Iterator

import pytest

from ondemand.processor.lifecycle import COLLECT_AFTER_OBJECTS, _Signals, spare_collector
from ondemand.settings import WorkerSettings
from ondemand.telemetry.logging import EventLog


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector as it was, for the tests that follow."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Knot:
    """Refers to itself: only the collector frees it."""

    def __init__(self) -> None:
        self.self = self


def test_cycles_are_looked_for_seldom_and_still_freed() -> None:
    """Sparing the collector is not switching it off: what fails in a circle is freed in the end."""
    spare_collector()
    knot = weakref.ref(Knot())
    assert gc.isenabled()
    assert gc.get_threshold()[0] == COLLECT_AFTER_OBJECTS
    assert gc.get_freeze_count() > 0

    kept = [[] for _ in range(COLLECT_AFTER_OBJECTS // 2)]
    assert knot() is not None, "collected after half of the objects"
    kept += [[] for _ in range(COLLECT_AFTER_OBJECTS)]

    assert knot() is None
    assert kept


class Stoppable:
    """A processor, as far as signals are concerned."""

    stopping = False

    def stop(self) -> None:
        """Take note."""
        self.stopping = True


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes by which the process would have left."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_the_first_signal_drains_and_the_second_leaves(left: list[int]) -> None:
    """Whichever they are."""
    processor = Stoppable()
    with _Signals(processor, WorkerSettings(), EventLog()):
        os.kill(os.getpid(), signal.SIGINT)
        assert processor.stopping
        assert left == []
        os.kill(os.getpid(), signal.SIGTERM)
    assert left == [128 + signal.SIGTERM]


def test_a_signal_beside_an_overseers_word_is_not_a_second_one(left: list[int]) -> None:
    """Both ask for the same drain, in either order: some signal every process of a service."""
    processor = Stoppable()
    with _Signals(processor, WorkerSettings(), EventLog()) as signals:
        signals.drain()
        assert processor.stopping
        os.kill(os.getpid(), signal.SIGTERM)
        signals.drain()
        assert left == []
        os.kill(os.getpid(), signal.SIGTERM)
    assert left == [128 + signal.SIGTERM]
