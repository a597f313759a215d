"""How all processes are, from how each is."""

import pytest
from unit.supervisor.builders import Nursery

from ondemand.supervisor.probes import LIVE_SECONDS, Probes
from ondemand.supervisor.scrape import Answer


@pytest.fixture
def two():
    """Two processes, started, that serve their health."""
    nursery = Nursery(2)
    nursery.turn()
    for index in range(2):
        nursery.child(index).address = f"127.0.0.1:{index}"
    return nursery


@pytest.fixture
def said():
    """What each address answers, by path; nothing where it says nothing."""
    return {
        (f"127.0.0.1:{index}", path): answer
        for index in range(2)
        for path, answer in {
            "/livez": Answer(200, "ok\n"),
            "/readyz": Answer(200, "ok\n"),
            "/metrics": Answer(200, "# TYPE x gauge\nx 1.0\n"),
        }.items()
    }


@pytest.fixture
def probes(two, said):
    """Of these."""

    def ask(addresses, path):
        answers = {index: said.get((address, path)) for index, address in addresses.items()}
        return {index: answer for index, answer in answers.items() if answer is not None}

    return Probes(two.supervisor, two.metrics, clock=lambda: two.now, ask=ask)


def test_all_are_ready_when_each_is(probes):
    """Nothing wrong anywhere."""
    assert probes.problems_of_readiness() == []
    assert probes.problems_of_life() == []


def test_readiness_says_which_is_not_and_why(probes, two, said):
    """In the words of the process itself."""
    said["127.0.0.1:1", "/readyz"] = Answer(503, "no partitions assigned yet\ndraining\n")
    assert probes.problems_of_readiness() == [
        "process 1: no partitions assigned yet",
        "process 1: draining",
    ]
    two.child(0).address = None
    assert probes.problems_of_readiness()[0] == "process 0: starting"


def test_a_process_that_is_being_replaced_is_not_ready_but_no_reason_to_restart_all(probes, two):
    """It is started again here; the orchestrator must not end the others for it."""
    two.child(0).code = -9
    two.turn()
    assert probes.problems_of_readiness() == ["process 0: not running, it is started again soon"]
    assert probes.problems_of_life() == []


def test_a_process_that_is_stuck_or_silent_is_a_reason_to_restart_all(probes, said):
    """Nobody else can help it."""
    said["127.0.0.1:0", "/livez"] = Answer(503, "the model thread has ended\n")
    del said["127.0.0.1:1", "/livez"]
    assert probes.problems_of_life() == [
        "process 0: the model thread has ended",
        "process 1: does not answer",
    ]


def test_a_process_that_ended_while_it_was_asked_is_not_called_silent(two):
    """Between the question and its answer somebody may go."""

    def ask(addresses, path):
        two.child(0).code = -9
        two.turn()
        return {1: Answer(200, "ok\n")}

    probes = Probes(two.supervisor, two.metrics, clock=lambda: two.now, ask=ask)
    assert probes.problems_of_life() == []


def test_a_supervisor_that_does_not_turn_is_not_alive(probes, two):
    """The orchestrator restarts it."""
    two.now += LIVE_SECONDS + 1
    assert probes.problems_of_life() == ["the supervisor has not turned for 31 s"]


def test_draining_is_not_ready_and_alive(probes, two, said):
    """Who drains stops to serve its health before it has left: that is not being stuck."""
    two.supervisor.stop()
    two.turn()
    said.clear()
    assert probes.problems_of_life() == []
    assert probes.problems_of_readiness()[-1] == "draining"


def test_metrics_of_who_is_away_are_missing_and_the_others_are_there(probes, said):
    """One that is frozen, or answers with an error, does not take the page with it."""
    said["127.0.0.1:0", "/metrics"] = Answer(500, "x 7.0\n")
    page = probes.metrics().decode()
    assert "x 7.0" not in page
    assert 'x{process="1"} 1.0' in page
    assert 'ondemand_process_up{process="0"} 1.0' in page
