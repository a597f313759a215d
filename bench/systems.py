"""The systems that are compared: how each is started and stopped, and what it costs meanwhile."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from environments import PEERS, python_of, streams_class_path
from workload import MODEL, REPLIES, Form

from ondemand.local.java import find_java

STOP_SECONDS = 20.0
HERE = str(Path(__file__).parents[1] / "src")
MLSERVER_TOPIC = "mlserver.requests"


@dataclass(frozen=True, slots=True)
class Place:
    """What a system is told: the broker, what to read, as whom, and where its own files go."""

    kafka: str
    requests: str
    group: str
    model: Path  # an ONNX file
    package: Path  # the same model as a folder for a worker
    folder: Path


@dataclass(frozen=True, slots=True)
class System:
    """One variant of one system. *live*: it reads only what comes after its start.
    *infers*: it answers with the model's scores, which are compared with the right ones."""

    name: str
    form: Form
    guarantee: str
    command: Callable[[Place], list[str]]
    processes: int = 1
    share: float = 1.0  # of the records that ours gets: slow ones need fewer for as many seconds
    live: bool = False
    infers: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}, {self.form}, {self.guarantee}"


class Running:
    """The processes of a system, from entry to exit."""

    def __init__(self, system: System, place: Place) -> None:
        self._system = system
        self._place = place
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = place.folder / "system.log"

    def __enter__(self) -> Self:
        command = self._system.command(self._place)
        environment = {**os.environ, "PYTHONPATH": HERE, **self._system.environment}
        with self._log.open("ab") as log:
            for _ in range(self._system.processes):
                self._processes.append(
                    subprocess.Popen(
                        command, stdout=log, stderr=log, env=environment, cwd=self._place.folder
                    )
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def died(self) -> str | None:
        """What a process that ended by itself said last; None while all run."""
        if all(process.poll() is None for process in self._processes):
            return None
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    @property
    def process_ids(self) -> list[int]:
        """Of its processes."""
        return [process.pid for process in self._processes]

    def usage(self) -> tuple[float, int]:
        """CPU seconds and resident bytes of all processes so far."""
        seconds, resident = 0.0, 0
        for process in self._processes:
            try:
                known = psutil.Process(process.pid)
                times = known.cpu_times()
                seconds += times.user + times.system
                resident += known.memory_info().rss
            except psutil.Error:
                continue
        return seconds, resident


def ours(form: Form, guarantee: str = "at-least-once", **more: Any) -> System:
    """The worker of this repository; *more*: settings, and ``processes``."""
    processes = more.pop("processes", 1)
    settings = {"guarantee": guarantee, "log_level": "warning", **more}

    def command(place: Place) -> list[str]:
        given = {**settings, "group": place.group, "request_topic": place.requests}
        options = [f"--set={name}={value}" for name, value in given.items()]
        run = [sys.executable, "-m", "ondemand", "worker", "run", str(place.package)]
        return [*run, "--kafka", place.kafka, "--http", "off", *options]

    name = "ours" if processes == 1 else f"ours, {processes} processes"
    return System(name, form, guarantee, command, processes=processes)


def echo(form: Form) -> System:
    """The ceiling of the transport."""

    def command(place: Place) -> list[str]:
        return [*_python("echo"), *_options(place), "--form", form]

    return System("echo", form, "none", command, infers=False)


def aiokafka_loop(form: Form) -> System:
    """A plain loop on aiokafka."""

    def command(place: Place) -> list[str]:
        return [*_python("aiokafka_loop"), *_options(place), "--model", str(place.model)]

    return System("aiokafka loop", form, "at-least-once", command, share=0.4)


def kafka_streams(
    form: Form, guarantee: str = "at_least_once", *, threads: int = 1, linger_ms: int | None = None
) -> System:
    """Kafka Streams with ONNX Runtime inside. Raises ``NotRunError``."""
    class_path = streams_class_path()

    def command(place: Place) -> list[str]:
        java = [str(find_java()), "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        if linger_ms is not None:
            java.append(f"-Dlinger.ms={linger_ms}")
        told = [place.kafka, place.group, place.requests, REPLIES, str(place.model)]
        state = str(place.folder / "state")
        return [*java, "-cp", class_path, "Streams", *told, str(threads), guarantee, state]

    name = f"Kafka Streams, {threads} thread{'s'[: threads - 1]}"
    return System(name, form, guarantee, command, share=0.7 if form is Form.BINARY else 0.5)


def mlserver() -> System:
    """MLServer's Kafka server with adaptive batching. Raises ``NotRunError``."""
    python = python_of("mlserver")

    def command(place: Place) -> list[str]:
        _write_mlserver(place)
        return [str(python.with_name("mlserver")), "start", str(place.folder)]

    found = {"PYTHONPATH": str(PEERS / "mlserver")}
    return System("MLServer", Form.JSON, "none", command, share=0.15, live=True, environment=found)


def _write_mlserver(place: Place) -> None:
    """Its two files of settings, into the system's own folder."""
    settings = {
        "kafka_enabled": True,
        "kafka_servers": place.kafka,
        "kafka_topic_input": place.requests,
        "kafka_topic_output": REPLIES,
        "parallel_workers": 0,  # a second process costs more than this model
        "debug": False,
        "http_port": 0,
        "grpc_port": 0,
        "metrics_port": 0,
    }
    model = {
        "name": MODEL,
        "implementation": "model.OnnxModel",
        "max_batch_size": 256,
        "max_batch_time": 0.005,
        "parameters": {"uri": str(place.model), "version": "1.0.0"},
    }
    (place.folder / "settings.json").write_text(json.dumps(settings))
    (place.folder / "model-settings.json").write_text(json.dumps(model))


def _python(peer: str) -> list[str]:
    return [sys.executable, str(PEERS / f"{peer}.py")]


def _options(place: Place) -> list[str]:
    return ["--kafka", place.kafka, "--group", place.group, "--requests", place.requests]
