"""What a worker does to its process before it serves."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from ondemand.processor.lifecycle import COLLECT_AFTER_OBJECTS, spare_collector


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
