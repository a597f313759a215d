"""The lifeline between a supervisor and a process: real sockets, and processes that end."""

import contextlib
import os
import queue
import select
import signal
import socket
import subprocess
import sys

import pytest
from worker_process import BOUND_SECONDS, eventually

from ondemand.errors import ConfigurationError, StuckError
from ondemand.supervisor.lifeline import Lifeline
from ondemand.supervisor.member import MemberProcess

MEMBER = """
import signal, sys
from ondemand.supervisor.lifeline import Lifeline
signal.signal(signal.SIGINT, signal.SIG_IGN)
Lifeline(leave_seconds=30).listening("127.0.0.1:7")
signal.pause()
"""

PARENT = """
import select, sys
from ondemand.supervisor.member import MemberProcess
child = MemberProcess([sys.executable, "-c", sys.argv[1]])
while child.address is None:
    select.select([child], [], [], 30)
    child.listen()
print(child.address, flush=True)
select.select([], [], [], 30)
"""


@pytest.fixture
def ends():
    """The supervisor's end and the process's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def member():
    """A process on a lifeline; it does nothing else."""
    made = MemberProcess([sys.executable, "-c", MEMBER])
    with contextlib.closing(made):
        yield made
        made.kill()
        wait_end(made)


def wait_address(member):
    """Until it has said where it serves."""
    while member.address is None:
        readable, _, _ = select.select([member], [], [], BOUND_SECONDS)
        assert readable, "it says nothing"
        member.listen()
        assert member.speaks or member.address, "it ended"
    return member.address


def wait_end(member):
    """Its exit code."""
    eventually(lambda: member.exit_code() is not None, "the process has ended")
    return member.exit_code()


def test_its_end_lets_a_process_drain_and_then_leave(ends):
    """A drain that hangs is left: with the supervisor dead, nobody else would see it."""
    ours, theirs = ends
    told = queue.Queue()
    lifeline = Lifeline(theirs.fileno(), leave_seconds=0.01, leave=told.put)
    lifeline.on_end(lambda: told.put("drain"))
    assert told.empty()

    ours.shutdown(socket.SHUT_WR)

    assert told.get(timeout=BOUND_SECONDS) == "drain"
    assert told.get(timeout=BOUND_SECONDS) == StuckError.exit_code


def test_its_end_before_there_is_anything_to_drain_leaves_at_once(ends):
    """While the model is being loaded nothing is taken yet."""
    ours, theirs = ends
    told = queue.Queue()
    lifeline = Lifeline(theirs.fileno(), leave_seconds=60.0, leave=told.put)
    ours.close()
    assert told.get(timeout=BOUND_SECONDS) == 0

    lifeline.on_end(lambda: told.put("drain"))

    assert told.get(timeout=BOUND_SECONDS) == "drain", "an end between the two is not missed"


def test_a_supervisor_that_died_is_no_error_to_who_speaks_to_it(ends):
    """The address is told to nobody; the end of the line is what counts."""
    ours, theirs = ends
    told = queue.Queue()
    lifeline = Lifeline(theirs.fileno(), leave_seconds=60.0, leave=told.put)
    ours.close()
    for _ in range(3):
        lifeline.listening("127.0.0.1:1")
    assert told.get(timeout=BOUND_SECONDS) == 0


def test_without_a_supervisor_the_option_says_what_to_do(tmp_path):
    """Somebody copied the command line of a process from a list of them."""
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(ConfigurationError, match="--processes N"),
    ):
        Lifeline(file.fileno(), leave_seconds=1.0)


def test_a_process_says_where_it_serves_and_leaves_when_asked(member):
    """By the line alone: no signal is sent."""
    assert wait_address(member) == "127.0.0.1:7"
    assert member.exit_code() is None
    member.ask_to_drain()
    assert wait_end(member) == 0


def test_a_process_leads_a_group_of_its_own(member):
    """Ctrl-C reaches the supervisor alone, which asks for a drain once."""
    assert os.getpgid(member.pid) == member.pid != os.getpgrp()


def test_no_process_outlives_a_supervisor_that_was_killed():
    """SIGKILL leaves it no time to tell anybody."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, MEMBER], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "127.0.0.1:7\n"
        parent.send_signal(signal.SIGKILL)
        # The process has the same standard output: it ends when both have ended.
        rest, _ = parent.communicate(timeout=BOUND_SECONDS)
    assert rest == ""
    assert parent.returncode == -signal.SIGKILL


def test_a_program_that_is_not_there_is_an_error_of_the_system():
    """The supervisor tries again later; nothing is left open."""
    with pytest.raises(OSError, match="no-such-program"):
        MemberProcess(["/no-such-program"])
