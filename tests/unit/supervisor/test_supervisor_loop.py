"""What becomes of each process: with processes and a time that the tests make up."""

from itertools import pairwise

import pytest
from unit.supervisor.builders import DRAIN_SECONDS, HOPELESS, Nursery

from ondemand.supervisor.restarts import STEADY_SECONDS


@pytest.fixture
def two():
    """Two processes, started."""
    nursery = Nursery(2)
    nursery.turn()
    return nursery


def test_all_processes_start_at_once(two):
    """The first turn starts every one, and nothing more is due."""
    assert two.started == [(100.0, 0), (100.0, 1)]
    assert two.turn() > 1
    assert len(two.started) == 2


def test_a_process_that_ends_is_started_again_and_the_other_is_left_alone(two):
    """However it ended: killed, failed, or in order when nobody had asked it to."""
    first, second = two.child(0), two.child(1)
    first.code = -9
    assert two.turn() == pytest.approx(0.5)
    assert two.child(0) is None
    assert first.closed

    two.turn(after=0.4)
    assert two.child(0) is None, "too soon"
    two.turn(after=0.1)

    assert two.child(0) not in {None, first}
    assert two.child(1) is second
    assert second.asked == 0


def test_a_process_that_always_ends_is_started_ever_more_rarely():
    """It takes no processor from the others: at most one start in 30 s in the end."""
    starts = Nursery(1).starts_of(0, until=250.0)
    gaps = [round(later - sooner, 3) for sooner, later in pairwise(starts)]
    assert gaps[:7] == [0.5, 1, 2, 4, 8, 16, 30]
    assert set(gaps[7:]) == {30}


def test_each_process_has_a_patience_of_its_own(two):
    """One that crashes in a loop does not make another one wait that crashed once."""
    two.starts_of(0, until=150.0)
    two.child(1).code = -11
    two.turn()
    assert two.supervisor.members[1].due_at == two.now + 0.5


def test_a_first_start_that_cannot_work_ends_all(two):
    """An operator's mistake is told once, by the exit code; the others drain."""
    two.child(0).code = HOPELESS
    two.turn()
    two.turn()
    assert two.child(1).asked == 1
    assert not two.supervisor.done

    two.child(1).code = 0
    two.turn()

    assert two.supervisor.done
    assert two.supervisor.exit_code == HOPELESS
    assert len(two.started) == 2, "nothing is started again"


def test_the_same_exit_code_of_a_process_that_has_worked_restarts_it(two):
    """After a minute, or a restart, the configuration was good: what fails now may pass."""
    two.now += STEADY_SECONDS
    two.child(0).code = HOPELESS
    two.turn()
    two.turn(after=0.5)
    assert two.child(0) is not None

    two.child(0).code = HOPELESS
    two.turn()

    assert not two.supervisor.stopping


def test_a_drain_asks_each_process_once_and_waits_for_all(two):
    """Exit code 0 when all have left in order."""
    children = [two.child(0), two.child(1)]
    two.supervisor.stop()
    two.turn()
    two.turn(after=1)
    assert [child.asked for child in children] == [1, 1]
    assert not any(child.killed for child in children)

    children[0].code = 0
    two.turn()
    assert not two.supervisor.done
    children[1].code = 0
    two.turn()

    assert two.supervisor.done
    assert two.supervisor.exit_code == 0
    assert len(two.started) == 2


def test_nothing_is_started_while_draining(two):
    """A process that was to be started again stays away."""
    two.child(0).code = -9
    two.turn()
    two.supervisor.stop()
    two.turn(after=60)
    assert two.child(0) is None
    two.child(1).code = 0
    two.turn()
    assert two.supervisor.done


def test_who_does_not_drain_in_time_is_killed_and_told(two):
    """A drain has a limit, and an exit code of its own when it was reached."""
    two.supervisor.stop()
    two.turn()
    two.child(0).code = 0
    two.turn(after=DRAIN_SECONDS - 0.1)
    assert not two.child(1).killed
    two.turn(after=0.1)
    two.turn()

    assert two.supervisor.done
    assert two.supervisor.exit_code == 1


def test_a_system_that_cannot_start_a_process_is_asked_again(two):
    """Out of memory or of processes for now: the next try is after the same delays."""
    two.refuses = True
    two.child(0).code = -9
    two.turn()
    assert two.turn(after=0.5) == pytest.approx(1.0)
    assert two.turn(after=1.0) == pytest.approx(2.0)

    two.refuses = False
    two.turn(after=2.0)

    assert two.child(0) is not None


def test_metrics_say_who_is_there_and_how_often_it_was_started(two):
    """What an operator watches for a loop of crashes."""
    two.child(0).code = -9
    two.turn()
    page = two.metrics.exposition().decode()
    assert 'ondemand_process_up{process="0"} 0.0' in page
    assert 'ondemand_process_up{process="1"} 1.0' in page

    two.turn(after=0.5)
    page = two.metrics.exposition().decode()

    assert 'ondemand_process_up{process="0"} 1.0' in page
    assert 'ondemand_process_starts_total{process="0"} 2.0' in page
    assert 'ondemand_process_starts_total{process="1"} 1.0' in page
