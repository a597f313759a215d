"""``LocalKafka``: one broker or three, gone with the process that started them."""

import contextlib
import shutil
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ondemand.errors import ConfigurationError
from ondemand.local import ports, storage
from ondemand.local.broker import Broker, Command
from ondemand.local.jars import OnProgress, fetch
from ondemand.local.java import find_java
from ondemand.local.memory import require_memory
from ondemand.local.metadata import known_brokers
from ondemand.local.properties import Node
from ondemand.local.security import BrokerSecurity

# Measured: 374 MB for one at rest, 2.2 GB for three under load.
BROKER_MEMORY_BYTES = 600_000_000
PORT_ATTEMPTS = 3
POLL_SECONDS = 0.05
PROBE_SECONDS = 1.0
LOG_LINES_SHOWN = 12

_JVM_OPTIONS = (
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)
# The serial collector costs least where two processors are shared with workers and clients.
_BROKER_OPTIONS = ("-Xmx768m", "-Xms384m", "-Xmn256m", "-XX:+UseSerialGC", *_JVM_OPTIONS)
# Formatting takes one second like this, and three with a broker's own options.
_TOOL_OPTIONS = ("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *_JVM_OPTIONS)

# What a broker that cannot start says, and what to do about it.
_ADVICE = {
    "Address already in use": "another program took its port: start again, or choose another port",
    "insufficient memory": "close other programs, or use a broker on another computer",
    "No space left on device": "make room on the disk, or name a folder on another",
}
_PORT_TAKEN = "Address already in use"


class LocalKafka:
    """A real Apache Kafka on this computer: ``with LocalKafka() as kafka: … kafka.address``.

    ``brokers`` is 1 or 3, numbered from 1. Data goes to ``folder``, which survives a restart,
    otherwise to a temporary folder that is removed with the broker. ``port`` is the first broker's,
    the others take those after it; without it free ports are taken. ``properties`` are Kafka's own,
    by name, and go to every broker. ``security`` puts secured listeners beside the inner one; then
    clients connect to those. ``on_progress`` hears about downloads: bytes done, bytes in
    all, and the file.

    Every process ends with this one, by whatever death.
    """

    def __init__(
        self,
        *,
        brokers: int = 1,
        folder: Path | None = None,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        security: BrokerSecurity | None = None,
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
        self._security = security
        self._start_timeout_seconds = start_timeout_seconds
        self._stop_timeout_seconds = stop_timeout_seconds
        self._on_progress = on_progress
        self._nodes: list[Node] = []
        self._brokers: dict[int, Broker] = {}
        self._folder: Path | None = None
        self._lock: BinaryIO | None = None
        self._java = Path()
        self._jars: list[Path] = []

    def __repr__(self) -> str:
        state = self.address or "not started"
        return f"<LocalKafka [{len(self._brokers)}/{self._count} brokers | {state}]>"

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
        if self._security is not None:
            return self.address_of(self._security.listeners[0].name)
        return ",".join(node.address for node in self._nodes)

    def address_of(self, listener: str) -> str:
        """As ``address``, for the secured listener of that name. Raises ``ValueError`` where there
        is none."""
        names = [each.name for each in self._security.listeners] if self._security else []
        place = names.index(listener)
        return ",".join(f"{ports.HOST}:{node.secured_ports[place]}" for node in self._nodes)

    @property
    def folder(self) -> Path | None:
        """Where data and logs are; None before the start and after a temporary one is removed."""
        return self._folder

    @property
    def process_ids(self) -> dict[int, int]:
        """The JVMs' process IDs, by the number of the broker; a dead broker is not in it."""
        return {number: broker.pid for number, broker in self._brokers.items() if broker.running}

    def start(self) -> None:
        """Start all brokers; return when each answers and knows all the others.

        Raises ``ConfigurationError`` if that cannot be, and then leaves nothing behind.
        """
        if self._brokers:
            raise ConfigurationError(f"this local Kafka runs already, on {self.address}")
        self._java = find_java()
        require_memory(
            self._count * BROKER_MEMORY_BYTES, what=f"a local Kafka of {self._count} broker(s)"
        )
        self._jars = fetch(on_progress=self._on_progress)
        self._folder = storage.prepared_folder(self._named_folder, self._count)
        try:
            self._lock = storage.lock(self._folder)
            self._start_on_free_ports(self._folder)
        except BaseException:  # Ctrl-C too: nothing may be left behind
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all brokers in order, kill those that do not stop in time, remove temporary data."""
        for broker in self._brokers.values():
            broker.ask_to_stop()
        deadline = time.monotonic() + self._stop_timeout_seconds
        for number in list(self._brokers):
            self._brokers[number].wait(timeout_seconds=max(0.0, deadline - time.monotonic()))
            self.kill(number)
        if self._lock is not None:
            self._lock.close()
        if self._named_folder is None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def stop_broker(self, number: int) -> None:
        """Stop one broker in order; its data stays for ``restart``."""
        broker = self._brokers[number]
        broker.ask_to_stop()
        broker.wait(timeout_seconds=self._stop_timeout_seconds)
        self.kill(number)

    def kill(self, number: int) -> None:
        """Kill one broker, as a power cut would; its data stays for ``restart``."""
        self._brokers[number].kill()
        del self._brokers[number]

    def restart(self, number: int) -> None:
        """Start one broker again on its data and port; return when all that run know each other."""
        if self._folder is None:
            raise ConfigurationError("this local Kafka was not started")
        if number in self._brokers:
            self.kill(number)
        self._launch(self._nodes[number - 1], self._folder)
        self._wait_until_ready()

    def _start_on_free_ports(self, folder: Path) -> None:
        """Start all; where ports were chosen here and another program was faster, choose again."""
        attempts_left = PORT_ATTEMPTS if self._port is None else 1
        while True:
            attempts_left -= 1
            self._nodes = self._chosen_nodes()
            storage.write_properties(folder, self._nodes, self._properties, self._security)
            homes = [storage.home_of(folder, node) for node in self._nodes]
            users = list(self._security.format_options()) if self._security else []
            storage.format_new(homes, [str(self._java), *_TOOL_OPTIONS], self._jars, users)
            for node in self._nodes:
                self._launch(node, folder)
            try:
                self._wait_until_ready()
            except _PortTakenError:
                if not attempts_left:
                    raise
                for number in list(self._brokers):
                    self.kill(number)
            else:
                return

    def _chosen_nodes(self) -> list[Node]:
        numbers = range(1, self._count + 1)
        doors = len(self._security.listeners) if self._security else 0
        spare = iter(ports.free((2 + doors) * self._count))
        serving = list(islice(spare, self._count))
        voting = list(islice(spare, self._count))
        if self._port is not None:
            serving = [self._port + number - 1 for number in numbers]
            for port in serving:
                ports.require_free(port)
        return [
            Node(number, port, controller_port, tuple(islice(spare, doors)))
            for number, port, controller_port in zip(numbers, serving, voting, strict=True)
        ]

    def _launch(self, node: Node, folder: Path) -> None:
        home = storage.home_of(folder, node)
        command = Command(
            line=[
                *(str(self._java), *_BROKER_OPTIONS),
                *(self._security.jvm_options() if self._security else ()),
                *("kafka.Kafka", str(home.properties)),
            ],
            jars=self._jars,
            log=home.log,
            scratch=None if self._named_folder else folder,
        )
        self._brokers[node.id] = Broker(command)

    def _wait_until_ready(self) -> None:
        """Until every running broker answers metadata that lists every running broker."""
        deadline = time.monotonic() + self._start_timeout_seconds
        waiting = set(self._brokers)
        while True:
            waiting = {number for number in waiting if not self._is_ready(number)}
            if not waiting:
                return
            for number, broker in self._brokers.items():
                if not broker.running:
                    raise self._failed(number, "ended while it started")
            if time.monotonic() > deadline:
                late = f"did not answer within {self._start_timeout_seconds:g} s"
                raise self._failed(min(waiting), late)
            time.sleep(POLL_SECONDS)

    def _is_ready(self, number: int) -> bool:
        port = self._nodes[number - 1].port
        with contextlib.suppress(OSError, ValueError):
            return known_brokers(ports.HOST, port, timeout_seconds=PROBE_SECONDS) >= set(
                self._brokers
            )
        return False

    def _failed(self, number: int, what: str) -> ConfigurationError:
        """An error that shows what the broker itself said last, and what to do about it."""
        broker = self._brokers[number]
        lines = broker.log_tail(LOG_LINES_SHOWN)
        said = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        advice = next(
            (advice for cause, advice in _ADVICE.items() if cause in said),
            "start again; if it fails in the same way, these lines say why",
        )
        where = f" ({broker.log})" if self._named_folder else ""
        kind = _PortTakenError if _PORT_TAKEN in said else ConfigurationError
        return kind(f"Kafka's broker {number} {what}: {advice}. Its log{where} ends:\n{said}")


class _PortTakenError(ConfigurationError):
    """Another program took a port between its choice and its use."""
