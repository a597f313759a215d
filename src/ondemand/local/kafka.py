"""``LocalKafka``: one broker or three, gone with the process that started them."""

import contextlib
import shutil
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ondemand.errors import ConfigurationError
from ondemand.local import ports
from ondemand.local.broker import Broker, Command
from ondemand.local.jars import OnProgress, jar_paths, pinned
from ondemand.local.java import find_java
from ondemand.local.memory import require_memory
from ondemand.local.metadata import known_brokers
from ondemand.local.properties import Node, rendered, server_properties

# Measured at rest after a start: 374 MB for one, 2.2 GB for three under load.
BROKER_MEMORY_BYTES = 600_000_000
DISK_BYTES = 500_000_000
PORT_ATTEMPTS = 3
POLL_SECONDS = 0.05
PROBE_SECONDS = 1.0
FORMAT_SECONDS = 60.0
LOG_LINES_SHOWN = 12

_JVM_OPTIONS = (
    "-Xmx768m",
    "-Xms128m",
    "-XX:+UseG1GC",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)


class LocalKafka:
    """A real Apache Kafka on this computer: ``with LocalKafka() as kafka: … kafka.address``.

    ``brokers`` is 1 or 3. Data goes to ``folder``, which survives a restart, otherwise to a
    temporary folder that is removed with the broker. ``port`` is the first broker's, the others
    take those after it; without it free ports are taken. ``properties`` are Kafka's own, by name,
    and go to every broker. ``on_progress`` hears about downloads: bytes done, in all, and the file.

    Every process ends with this one, by whatever death.
    """

    def __init__(
        self,
        *,
        brokers: int = 1,
        folder: Path | None = None,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        start_timeout_seconds: float = 60.0,
        stop_timeout_seconds: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> None:
        if brokers not in {1, 3}:
            raise ConfigurationError(f"a local Kafka has 1 broker or 3, not {brokers}")
        self._count = brokers
        self._named_folder = folder
        self._port = port
        self._properties = dict(properties or {})
        self._start_timeout_seconds = start_timeout_seconds
        self._stop_timeout_seconds = stop_timeout_seconds
        self._on_progress = on_progress
        self._nodes: list[Node] = []
        self._running: dict[int, Broker] = {}
        self._folder = Path()
        self._java = Path()
        self._jars: list[Path] = []

    def __repr__(self) -> str:
        state = self.address if self._nodes else "not started"
        return f"<LocalKafka [{len(self._running)}/{self._count} brokers | {state}]>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where clients connect: ``127.0.0.1:PORT``, one for each broker, with commas between."""
        return ",".join(node.address for node in self._nodes)

    @property
    def folder(self) -> Path:
        """Where the data and the logs are."""
        return self._folder

    @property
    def process_ids(self) -> dict[int, int]:
        """The JVMs' process IDs, by the number of the broker."""
        return {number: broker.pid for number, broker in self._running.items()}

    def start(self) -> None:
        """Start all brokers; return when each answers and knows all the others.

        Raises ``ConfigurationError`` if that cannot be, and then leaves nothing behind.
        """
        if self._running:
            raise ConfigurationError(f"this local Kafka runs already, on {self.address}")
        self._java = find_java()
        require_memory(
            self._count * BROKER_MEMORY_BYTES, what=f"a local Kafka with {self._count} broker(s)"
        )
        self._jars = jar_paths(pinned(), on_progress=self._on_progress)
        self._folder = self._prepared_folder()
        try:
            self._start_on_free_ports()
        except BaseException:  # Ctrl-C too: nothing may be left behind
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all brokers in order, kill those that do not stop in time, remove temporary data."""
        brokers = list(self._running.values())
        for broker in brokers:
            broker.ask_to_stop()
        deadline = time.monotonic() + self._stop_timeout_seconds
        for broker in brokers:
            broker.wait(timeout_seconds=max(0.0, deadline - time.monotonic()))
        for broker in brokers:
            broker.kill()
        self._running.clear()
        if self._named_folder is None and self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)

    def stop_broker(self, number: int) -> None:
        """Stop one broker in order; its data stays for ``restart``. Numbers start at 1."""
        broker = self._running.pop(number)
        broker.ask_to_stop()
        broker.wait(timeout_seconds=self._stop_timeout_seconds)
        broker.kill()

    def kill(self, number: int) -> None:
        """Kill one broker, as a power cut would; its data stays for ``restart``."""
        self._running.pop(number).kill()

    def restart(self, number: int) -> None:
        """Start one broker again on its data and port; return when it is back among the others."""
        if broker := self._running.pop(number, None):
            broker.kill()
        self._launch(self._nodes[number - 1])
        self._wait_until_ready()

    def _prepared_folder(self) -> Path:
        """The folder to run in, refused if it was made for another number of brokers."""
        if self._named_folder is None:
            folder = Path(tempfile.mkdtemp(prefix="ondemand-kafka-"))
        else:
            folder = self._named_folder.expanduser().absolute()
            self._require_same_count(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise ConfigurationError(
                f"the folder {folder} cannot be used ({error.strerror}): name another"
            ) from error
        if free < DISK_BYTES:
            raise ConfigurationError(
                f"a local Kafka needs {DISK_BYTES // 1_000_000} MB of disk, and {folder} has "
                f"{free // 1_000_000} MB: make room, or name a folder on another disk"
            )
        return folder

    def _require_same_count(self, folder: Path) -> None:
        found = len(list(folder.glob("broker-*/data/meta.properties")))
        if found not in {0, self._count}:
            raise ConfigurationError(
                f"{folder} holds the data of {found} broker(s), not of {self._count}: start as "
                "many, or name another folder"
            )

    def _start_on_free_ports(self) -> None:
        """Start all; where ports were chosen here and another program was faster, choose again."""
        attempts = PORT_ATTEMPTS if self._port is None else 1
        for attempt in range(1, attempts + 1):
            self._nodes = self._chosen_nodes()
            self._format_all()
            for node in self._nodes:
                self._launch(node)
            try:
                self._wait_until_ready()
            except _PortTakenError:
                if attempt == attempts:
                    raise
                self._kill_all()
            else:
                return

    def _chosen_nodes(self) -> list[Node]:
        wanted = [] if self._port is None else [self._port + n for n in range(self._count)]
        for port in wanted:
            ports.require_free(port)
        spare = ports.free(2 * self._count)
        serving = wanted or spare[: self._count]
        return [
            Node(number, port, controller)
            for number, port, controller in zip(
                range(1, self._count + 1), serving, spare[self._count :], strict=True
            )
        ]

    def _home(self, node: Node) -> Path:
        return self._folder / f"broker-{node.id}"

    def _format_all(self) -> None:
        """Give every new data folder its cluster's ID, and every broker its properties."""
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        for node in self._nodes:
            home = self._home(node)
            (home / "data").mkdir(parents=True, exist_ok=True)
            properties = server_properties(node, self._nodes, home / "data", self._properties)
            (home / "server.properties").write_text(rendered(properties), encoding="utf-8")
            if not (home / "data" / "meta.properties").exists():
                self._format(home, cluster_id)

    def _format(self, home: Path, cluster_id: str) -> None:
        done = subprocess.run(  # noqa: S603 - our own Java and jars
            [
                *self._java_line("kafka.tools.StorageTool"),
                *("format", "--cluster-id", cluster_id),
                *("--config", str(home / "server.properties")),
            ],
            env={"CLASSPATH": ":".join(map(str, self._jars))},
            capture_output=True,
            text=True,
            timeout=FORMAT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise ConfigurationError(
                f"Kafka could not format its data folder in {home}: "
                f"{_last(done.stderr.splitlines())}"
            )

    def _java_line(self, main_class: str) -> Sequence[str]:
        return [str(self._java), *_JVM_OPTIONS, main_class]

    def _launch(self, node: Node) -> None:
        home = self._home(node)
        self._running[node.id] = Broker(
            Command(
                line=[*self._java_line("kafka.Kafka"), str(home / "server.properties")],
                jars=self._jars,
                log=home / "broker.log",
                scratch=self._folder if self._named_folder is None else None,
            )
        )

    def _wait_until_ready(self) -> None:
        """Until every running broker answers metadata that lists every running broker."""
        deadline = time.monotonic() + self._start_timeout_seconds
        waiting = set(self._running)
        while waiting:
            for number in sorted(waiting):
                if self._is_ready(number):
                    waiting.discard(number)
            self._require_running()
            if time.monotonic() > deadline:
                raise self._failed(
                    min(waiting),
                    f"did not answer within {self._start_timeout_seconds:g} s",
                )
            time.sleep(POLL_SECONDS)

    def _is_ready(self, number: int) -> bool:
        node = self._nodes[number - 1]
        with contextlib.suppress(OSError, ValueError):
            known = known_brokers(ports.HOST, node.port, timeout_seconds=PROBE_SECONDS)
            return known >= set(self._running)
        return False

    def _require_running(self) -> None:
        for number, broker in self._running.items():
            if not broker.running:
                raise self._failed(number, "ended while starting")

    def _failed(self, number: int, what: str) -> ConfigurationError:
        """An error that shows what the broker itself said last."""
        broker = self._running[number]
        lines = broker.log_tail(LOG_LINES_SHOWN)
        kind = (
            _PortTakenError
            if any("Address already in use" in x for x in lines)
            else ConfigurationError
        )
        shown = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return kind(
            f"Kafka's broker {number} {what}. The last lines of its log, {broker.log}:\n{shown}"
        )

    def _kill_all(self) -> None:
        for broker in self._running.values():
            broker.kill()
        self._running.clear()


class _PortTakenError(ConfigurationError):
    """Another program took a port between its choice and its use."""


def _last(lines: Sequence[str]) -> str:
    return lines[-1] if lines else "it said nothing"
