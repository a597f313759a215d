"""When a process that ended is started again."""

from ondemand.supervisor.restarts import (
    DELAY_SECONDS_MAX,
    FIRST_DELAY_SECONDS,
    STEADY_SECONDS,
    delay_seconds,
)


def delays(count, lived_seconds):
    """What a process waits that ends *count* times after so long."""
    found = [delay_seconds(None, lived_seconds=lived_seconds)]
    while len(found) < count:
        found.append(delay_seconds(found[-1], lived_seconds=lived_seconds))
    return found


def test_the_first_restart_is_soon_and_later_ones_are_ever_rarer():
    """One crash costs half a second; a crash at every start costs one start in 30 s."""
    assert delays(9, 0.1) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert delays(9, 0.1)[0] == FIRST_DELAY_SECONDS
    assert delays(9, 0.1)[-1] == DELAY_SECONDS_MAX


def test_a_process_that_had_started_well_begins_anew():
    """What was up for a minute is not in a loop of crashes, whatever was before."""
    assert delay_seconds(30.0, lived_seconds=STEADY_SECONDS) == FIRST_DELAY_SECONDS
    assert delay_seconds(30.0, lived_seconds=STEADY_SECONDS - 0.1) == DELAY_SECONDS_MAX
