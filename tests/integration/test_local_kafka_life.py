"""How brokers of this computer live and die, with real processes and signals.

Each test has brokers of its own: what is killed here must not be the one that other tests use.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from ondemand.errors import ConfigurationError
from ondemand.local import LocalKafka, ports
from ondemand.local.cache import cache_folder
from ondemand.local.metadata import known_brokers

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

GONE_SECONDS = 10
START_SECONDS = 120
ONDEMAND = (sys.executable, "-c", "from ondemand.cli import main; main()")

OWNER = """
import json, sys
from ondemand.local import LocalKafka
with LocalKafka() as kafka:
    print(json.dumps([kafka.address, kafka.process_ids[1], str(kafka.folder)]), flush=True)
    sys.stdin.read()
"""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = GONE_SECONDS) -> None:
    """Wait on a condition, and fail with what it was when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def ps(column: str, pid: int) -> str:
    """One column of the system's list of processes; empty if the process is not in it."""
    command = ["/bin/ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    state = ps("stat", pid)
    return bool(state) and not state.startswith("Z")


def listens(address: str) -> bool:
    host, port = address.split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


@pytest.fixture
def owner() -> Iterator[tuple["subprocess.Popen[bytes]", str, int, Path]]:
    """A process that holds a broker: the process, the address, the JVM's ID and the data folder."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        address, pid, folder = json.loads(process.stdout.readline())
        assert is_running(pid)
        yield process, address, pid, Path(folder)
        process.kill()


def test_a_killed_owner_takes_its_broker_along(
    owner: tuple["subprocess.Popen[bytes]", str, int, Path],
) -> None:
    """SIGKILL lets the owner do nothing: still no JVM, no port and no data are left."""
    process, address, pid, folder = owner

    process.kill()

    wait_until(lambda: not is_running(pid), "the JVM ends")
    wait_until(lambda: not listens(address), "the port is free")
    wait_until(lambda: not folder.exists(), "the temporary data is removed")


def test_a_killed_guard_takes_its_broker_along(
    owner: tuple["subprocess.Popen[bytes]", str, int, Path],
) -> None:
    """The guard is no weak point: Linux kills the JVM with it, elsewhere the owner's stop does."""
    process, address, pid, _ = owner

    os.kill(int(ps("ppid", pid)), signal.SIGKILL)
    if sys.platform != "linux":
        process.communicate(timeout=GONE_SECONDS)

    wait_until(lambda: not is_running(pid), "the JVM ends")
    wait_until(lambda: not listens(address), "the port is free")


def test_ctrl_c_stops_in_order(owner: tuple["subprocess.Popen[bytes]", str, int, Path]) -> None:
    """The terminal's SIGINT reaches the owner, not the JVM, which is in a group of its own."""
    process, address, pid, folder = owner

    assert os.getpgid(pid) != os.getpgid(process.pid)
    process.send_signal(signal.SIGINT)
    process.wait(GONE_SECONDS)

    assert not is_running(pid)
    assert not listens(address)
    assert not folder.exists()


def test_a_taken_port_leaves_nothing_behind(tmp_path: Path) -> None:
    """The refusal names the port, and no process was started for it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        kafka = LocalKafka(port=port, folder=tmp_path)
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 cannot be used"):
            kafka.start()

    assert kafka.process_ids == {}
    assert not list(tmp_path.rglob("*.log"))


def test_a_named_folder_survives_and_ports_are_chosen_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics are there after a restart; a port that another program took meanwhile is replaced."""
    with LocalKafka(folder=tmp_path) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.address})
        admin.create_topics([NewTopic("kept", num_partitions=2)])["kept"].result(30)

    real_free = ports.free
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        answers = [[taken, real_free(1)[0]]]
        monkeypatch.setattr(ports, "free", lambda n: answers.pop() if answers else real_free(n))
        with LocalKafka(folder=tmp_path) as kafka:
            assert str(taken) not in kafka.address
            topics = (
                AdminClient({"bootstrap.servers": kafka.address}).list_topics(timeout=10).topics
            )

    assert len(topics["kept"].partitions) == 2


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error shows the broker's own last words, and nothing keeps running."""
    kafka = LocalKafka(folder=tmp_path, properties={"log.retention.ms": "soon"})

    with pytest.raises(ConfigurationError, match=r"log\.retention\.ms"):
        kafka.start()

    assert kafka.process_ids == {}


def test_two_brokers_on_one_folder(tmp_path: Path) -> None:
    """The second is refused with advice, and the first goes on."""
    with LocalKafka(folder=tmp_path) as first:
        with pytest.raises(ConfigurationError, match="another local Kafka runs on"):
            LocalKafka(folder=tmp_path).start()

        assert AdminClient({"bootstrap.servers": first.address}).list_topics(timeout=10).brokers


def test_one_of_three_dies_and_comes_back() -> None:
    """With three brokers one may be killed: topics can still be made, and it joins again."""
    with LocalKafka(brokers=3) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.address})
        admin.create_topics([NewTopic("before", num_partitions=3)])["before"].result(30)

        kafka.kill(2)
        assert sorted(kafka.process_ids) == [1, 3]
        host, port = kafka.address.split(",")[0].split(":")
        wait_until(
            lambda: known_brokers(host, int(port), timeout_seconds=1) == {1, 3},
            "the dead broker is missed",
        )
        # A client of before may hold on to the dead broker as the one that makes topics.
        admin = AdminClient({"bootstrap.servers": kafka.address})
        admin.create_topics([NewTopic("after", replication_factor=2)])["after"].result(30)

        kafka.restart(2)
        kafka.stop_broker(1)
        kafka.restart(1)

        assert sorted(kafka.process_ids) == [1, 2, 3]
        found = AdminClient({"bootstrap.servers": kafka.address}).list_topics(timeout=10)
        assert {"before", "after"} <= set(found.topics)
        assert len(found.brokers) == 3


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    """Runs `ondemand kafka …` with a cache of the test's own that has the real jars."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "jars").symlink_to(cache_folder() / "jars")
    environment = {**os.environ, "ONDEMAND_CACHE": str(tmp_path / "cache"), "COLUMNS": "200"}

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*ONDEMAND, "kafka", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    yield run
    run("stop")


def test_start_status_stop(command: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    """A broker outlives the command that started it, is there once, and is gone when told to."""
    port = str(ports.free(1)[0])
    address = f"127.0.0.1:{port}"

    assert command("status").returncode == 1
    started = command("start", "--port", port)
    assert started.returncode == 0, started.stderr
    assert started.stdout == f"Kafka answers on {address}; stop it with `ondemand kafka stop`.\n"

    again = command("start", "--port", port)
    assert again.returncode == 1
    assert f"runs already, on {address}" in again.stderr
    assert "Traceback" not in again.stderr

    facts = json.loads(command("status", "--json").stdout)
    assert facts["answers"]
    assert facts["address"] == address
    assert facts["memory_bytes"] > 100_000_000
    assert address in command("status").stdout

    assert command("stop").returncode == 0
    assert not listens(address)
    assert not Path(facts["folder"]).exists()
    assert command("stop").stdout == "No local Kafka runs.\n"


def test_a_killed_daemon_is_not_taken_for_a_running_one(
    command: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    """What is left in its file counts for nothing: its process ID may be another's by now."""
    command("start", "--port", str(ports.free(1)[0]))
    facts = json.loads(command("status", "--json").stdout)

    os.kill(facts["pid"], signal.SIGKILL)

    wait_until(lambda: not listens(facts["address"]), "the port is free")
    assert json.loads(command("status", "--json").stdout) == {"running": False}
    assert command("stop").stdout == "No local Kafka runs.\n"
