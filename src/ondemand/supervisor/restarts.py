"""When a process that ended is started again: soon at first, then less and less often."""

from typing import Final

FIRST_DELAY_SECONDS: Final = 0.5
DELAY_SECONDS_MAX: Final = 30.0

STEADY_SECONDS: Final = 60.0
"""Who lived so long had started well: the next end counts as a first one."""


def delay_seconds(previous_seconds: float | None, *, lived_seconds: float) -> float:
    """How long to wait now: twice as long as before, between the bounds above.

    *previous_seconds*: what was waited before the process that has ended now; None for a first
    one. *lived_seconds*: how long that process was there.
    """
    if previous_seconds is None or lived_seconds >= STEADY_SECONDS:
        return FIRST_DELAY_SECONDS
    return min(2 * previous_seconds, DELAY_SECONDS_MAX)
