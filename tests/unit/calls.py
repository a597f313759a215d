"""How many functions a piece of work calls: a cost that does not depend on the computer."""

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType


def calls_of(work: Callable[[], object]) -> Counter[str]:
    """How often *work* calls functions: ``call`` are Python's own, ``c_call`` a library's."""
    counted: Counter[str] = Counter()

    def count(_: FrameType, event: str, __: object) -> None:
        if event in {"call", "c_call"}:
            counted[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return counted
