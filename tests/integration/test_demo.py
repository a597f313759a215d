"""``ondemand demo`` can be ended at any time, by whatever signal, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.kafka

REPOSITORY = Path(__file__).parents[2]
STEP_SECONDS = 60.0
GONE_SECONDS = 10.0
MARK = "ONDEMAND_TEST_MARK"

Start = Callable[..., "Demo"]


class Demo:
    """A running demo; whatever it starts is known by a mark in the environment."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "ondemand", "demo", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, MARK: self.mark, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until_it_says(self, words: str) -> None:
        """Read on until *words* have come."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(STEP_SECONDS, self.process.kill)
        watchdog.start()
        try:
            while words not in self.said:
                line = self.process.stdout.readline()
                assert line, f"it ended before it said {words!r}: {self.said}"
                self.said += line
        finally:
            watchdog.cancel()

    def end(self, number: signal.Signals) -> int:
        """Send a signal; the exit code, once it is gone."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=STEP_SECONDS)
        self.said += rest
        return self.process.returncode

    @property
    def port(self) -> int:
        """The broker's."""
        return int(self.said.partition("Kafka answers on 127.0.0.1:")[2].split(".")[0])


def marked(mark: str) -> list[str]:
    """The running processes that have inherited *mark*."""
    listed = subprocess.run(
        ["ps", "axeww", "-o", "pid=,stat=,command="],  # noqa: S607 - the system's
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [line[:200] for line in listed.splitlines() if f"{MARK}={mark}" in line]


def assert_nothing_is_left(demo: Demo) -> None:
    """No process within a bound, and no port."""
    deadline = time.monotonic() + GONE_SECONDS
    while left := marked(demo.mark):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)
    if "Kafka answers on" in demo.said:
        with closing(socket.socket()) as port:
            assert port.connect_ex(("127.0.0.1", demo.port)) != 0


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts demos, and sees to it that none outlives the test."""
    started: list[Demo] = []

    def start_one(*arguments: str, **environment: str) -> Demo:
        started.append(Demo(*arguments, environment=environment))
        return started[-1]

    yield start_one
    for demo in started:
        demo.process.kill()
        demo.process.communicate()


@pytest.mark.parametrize(
    "moment",
    [
        "Starting a real Apache Kafka",
        "Starting the workers",
        "Both answer",
    ],
)
def test_ctrl_c_leaves_nothing_behind(start: Start, moment: str) -> None:
    """While the broker starts, while the workers start, while requests are under way."""
    demo = start()
    demo.wait_until_it_says(moment)
    assert demo.end(signal.SIGINT) == 130, demo.said
    assert "Traceback" not in demo.said
    assert_nothing_is_left(demo)


def test_termination_ends_in_order(start: Start) -> None:
    """As Ctrl-C: services are stopped so."""
    demo = start()
    demo.wait_until_it_says("Starting the workers")
    assert demo.end(signal.SIGTERM) == 130, demo.said
    assert_nothing_is_left(demo)


def test_a_killed_demo_takes_everything_with_it(start: Start, tmp_path: Path) -> None:
    """SIGKILL gives it no chance to stop anything: the processes see to that themselves."""
    demo = start(TMPDIR=str(tmp_path))
    demo.wait_until_it_says("Both answer")
    assert demo.end(signal.SIGKILL) == -signal.SIGKILL
    assert_nothing_is_left(demo)
    assert [path.name for path in tmp_path.iterdir() if "ondemand" in path.name] == []


def test_ctrl_c_while_the_network_is_stuck(start: Start, tmp_path: Path) -> None:
    """A server that never answers does not hold up whoever wants to leave."""
    with closing(socket.create_server(("127.0.0.1", 0))) as stuck:
        address = f"http://127.0.0.1:{stuck.getsockname()[1]}/maven"
        (tmp_path / ".m2").mkdir()
        (tmp_path / ".m2" / "settings.xml").write_text(
            "<settings xmlns='http://maven.apache.org/SETTINGS/1.2.0'><mirrors><mirror>"
            f"<mirrorOf>*</mirrorOf><url>{address}</url></mirror></mirrors></settings>",
            encoding="utf-8",
        )
        demo = start(HOME=str(tmp_path), ONDEMAND_CACHE=str(tmp_path / "cache"))
        stuck.settimeout(STEP_SECONDS)
        connection, _ = stuck.accept()  # it waits for an answer now
        with closing(connection):
            began = time.monotonic()
            assert demo.end(signal.SIGINT) == 130, demo.said
            assert time.monotonic() - began < GONE_SECONDS
        assert_nothing_is_left(demo)
