"""The systems that are compared: how each is started and stopped, and what it costs meanwhile."""

import contextlib
import json
import os
import subprocess
import sys
import time
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
FAMILY_SECONDS = 1.0  # who comes from whom is looked up so often: it needs a look at all processes
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
    *infers*: it answers with the model's scores, which are compared with the right ones.
    *compiles*: it becomes faster for seconds, while it compiles itself."""

    name: str
    form: Form
    guarantee: str
    command: Callable[[Place], list[str]]
    share: float = 1.0  # of a backlog that is written while it runs: a slow one needs no more
    live: bool = False
    infers: bool = True
    compiles: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}, {self.form}, {self.guarantee}"


class Running:
    """A system's process and all that come from it, from entry to exit."""

    def __init__(self, system: System, place: Place) -> None:
        self._system = system
        self._place = place
        self._log = place.folder / "system.log"
        self._family: list[psutil.Process] = []
        self._counted_at = -FAMILY_SECONDS

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

    def start(self) -> None:
        """Start its process; returns at once."""
        command = self._system.command(self._place)
        environment = {**os.environ, "PYTHONPATH": HERE, **self._system.environment}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self._place.folder
            )

    def tell_to_stop(self) -> None:
        """Returns at once."""
        self._process.terminate()

    def stop(self) -> None:
        """Tell it to stop, and wait until it is gone, with all that came from it."""
        family = self._descendants()
        self.tell_to_stop()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in family[1:]:  # whoever outlives it would share the computer with the next
            with contextlib.suppress(psutil.Error):
                process.kill()

    @property
    def died(self) -> str | None:
        """What it said last if it ended by itself; None while it runs."""
        if self._process.poll() is None:
            return None
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    @property
    def process_id(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def usage(self) -> tuple[float, int]:
        """CPU seconds and resident bytes so far, of all of its processes together.

        Memory that processes share is counted in each.
        """
        if time.monotonic() > self._counted_at + FAMILY_SECONDS:
            self._family, self._counted_at = self._descendants(), time.monotonic()
        seconds, resident = 0.0, 0
        for process in self._family:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                seconds += times.user + times.system
                resident += process.memory_info().rss
        return seconds, resident

    def _descendants(self) -> list[psutil.Process]:
        """It, and whatever it started, and what those started."""
        try:
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.Error:
            return []


def ours(
    form: Form, guarantee: str = "at-least-once", *, processes: int = 1, **more: Any
) -> System:
    """The worker of this repository, or a supervisor with several; *more*: settings."""
    settings = {"guarantee": guarantee, "log_level": "warning", **more}

    def command(place: Place) -> list[str]:
        given = {**settings, "group": place.group, "request_topic": place.requests}
        options = [f"--set={name}={value}" for name, value in given.items()]
        if processes > 1:
            options += ["--processes", str(processes)]
        run = [sys.executable, "-m", "ondemand", "worker", "run", str(place.package)]
        return [*run, "--kafka", place.kafka, "--http", "off", *options]

    name = "ours" if processes == 1 else f"ours, {processes} processes"
    return System(name, form, guarantee, command)


def echo(form: Form) -> System:
    """The ceiling of the transport."""

    def command(place: Place) -> list[str]:
        return [*_python("echo"), *_options(place), "--form", form]

    return System("echo", form, "none", command, infers=False)


def aiokafka_loop(form: Form) -> System:
    """A plain loop on aiokafka."""

    def command(place: Place) -> list[str]:
        return [*_python("aiokafka_loop"), *_options(place), "--model", str(place.model)]

    return System("aiokafka loop", form, "at-least-once", command)


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
    return System(name, form, guarantee, command, compiles=True)


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
