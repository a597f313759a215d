"""The smaller questions: heavy models, lengths that vary, many workers, a cold start."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from broker import between
from drain import Drained, drain, place_for
from environments import PEERS
from ground import Ground
from models import any_length, heavy, package, sleeping_package
from systems import Running, System, echo, ours
from workload import REPLIES, Form, Workload, images

from ondemand.testing.models import ffnn

HEAVY_ROWS = 32
BARE_SECONDS = 5.0
LENGTHS = (64, 128, 256, 384, 512, 640, 784, 1024)
SLEEPER_ROWS, SLEEPER_PARTITIONS = 8, 16
SLEEPER_SECONDS = 12.0  # how long the drain of one scaling step lasts, at least
COLD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a scenario gave, once."""

    scenario: str
    name: str
    repeat: int
    value: float
    unit: str
    void: str | None = None


def bare(model: Path, rows: int, repeat: int, scenario: str) -> Figure:
    """Rows per second of ``session.run`` alone, on full batches, one thread."""
    command = [sys.executable, str(PEERS / "session_run.py"), "--model", str(model)]
    options = [f"--rows={rows}", f"--seconds={BARE_SECONDS}"]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return Figure(scenario, f"bare session.run, {rows} rows", repeat, float(done.stdout), "rows/s")


class HeavyModel:
    """What the engine adds to a model that costs more than all else, and what batching gains."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        model = heavy()
        folder = package(ground.folder, "heavy", model)
        ground.broker.create("heavy.dead-letters", 1)
        workload = Workload(Form.BINARY, model, images(8))
        self._backlog = ground.other(workload, folder, ground.scale.heavy_records)

    def measure(self, repeat: int) -> list[Figure]:
        """Bare loop, full batches, and one row at a time, side by side."""
        found = [bare(self._backlog.model, HEAVY_ROWS, repeat, "heavy model")]
        for rows, share in ((HEAVY_ROWS, 1.0), (1, 0.4)):
            system = ours(Form.BINARY, batch_rows_max=rows, model_threads=1, queue_rows_max=4096)
            result = drain(
                self._ground.broker,
                system,
                self._backlog,
                repeat=repeat,
                seconds_max=self._ground.scale.drain_seconds_max * share,
            )
            found.append(_figure("heavy model", f"ours, batches of {rows}", result))
        return found


class Lengths:
    """Inputs of eight lengths, mixed: grouped by length, without padding."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        random = np.random.default_rng(2)
        mixed = [random.random((1, LENGTHS[i % 8]), dtype=np.float32) for i in range(64)]
        same = [random.random((1, 512), dtype=np.float32) for _ in range(64)]
        model = any_length()
        folder = package(ground.folder, "lengths", model)
        ground.broker.create("lengths.dead-letters", 1)
        records = ground.scale.records[Form.BINARY] // 3
        self._backlogs = {
            name: ground.other(Workload(Form.BINARY, model, inputs), folder, records)
            for name, inputs in (("one length", same), ("eight lengths", mixed))
        }

    def measure(self, repeat: int) -> list[Figure]:
        """The same model on inputs of one length and of eight."""
        return [
            _figure(
                "variable lengths",
                f"{system.name}, {name}",
                drain(
                    self._ground.broker,
                    system,
                    backlog,
                    repeat=repeat,
                    seconds_max=self._ground.scale.drain_seconds_max,
                ),
            )
            for name, backlog in self._backlogs.items()
            for system in (echo(Form.BINARY), ours(Form.BINARY))
        ]


class Scaling:
    """One to eight workers with a model that sleeps: does the group share the work evenly?"""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._folder = sleeping_package(ground.folder, "sleeper", ffnn())
        ground.broker.create("sleeper.dead-letters", 1)

    def measure(self, repeat: int) -> list[Figure]:
        """Requests per second for each number of workers; a fresh backlog as large as needed."""
        found = []
        for workers in self._ground.scale.workers:
            records = int(workers * SLEEPER_ROWS * 10 * SLEEPER_SECONDS)
            backlog = self._ground.other(
                self._ground.workloads[Form.BINARY],
                self._folder,
                records,
                partitions=SLEEPER_PARTITIONS,
            )
            system = ours(
                Form.BINARY, processes=workers, batch_rows_max=SLEEPER_ROWS, model_threads=1
            )
            result = drain(
                self._ground.broker,
                system,
                backlog,
                repeat=repeat,
                seconds_max=SLEEPER_SECONDS * 4,
            )
            found.append(_figure("scaling", f"{workers} workers", result))
        return found


def cold_start(ground: Ground, repeat: int) -> list[Figure]:
    """Seconds from the start of a process to the answer of a request that waits for it."""
    return [
        Figure("cold start", system.name, repeat, _first_answer_seconds(ground, system), "s")
        for system in (ours(Form.BINARY), echo(Form.BINARY))
    ]


def _first_answer_seconds(ground: Ground, system: System) -> float:
    backlog = ground.empty(system)
    ground.broker.load(backlog.topic, backlog.workload, range(1))
    before = ground.broker.ends(REPLIES)
    with tempfile.TemporaryDirectory() as folder:
        place = place_for(ground.broker, backlog, Path(folder))
        started = time.perf_counter()
        with Running(system, place):
            while not between(before, ground.broker.ends(REPLIES)):
                _require_time(started + COLD_SECONDS)
                time.sleep(0.002)
            return time.perf_counter() - started


def _require_time(deadline: float) -> None:
    if time.perf_counter() > deadline:
        raise TimeoutError(f"no answer within {COLD_SECONDS:g} s")


def client(ground: Ground, repeat: int) -> list[Figure]:
    """Round trips per second of one client process, and its CPU per call."""
    backlog = ground.empty(ours(Form.BINARY))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        place = place_for(ground.broker, backlog, Path(folder))
        with Running(ours(Form.BINARY), place):
            program = [sys.executable, str(PEERS / "client.py"), "--kafka", ground.broker.address]
            options = [
                "--model",
                backlog.topic.removesuffix(".requests"),
                "--calls",
                str(ground.scale.client_calls),
            ]
            done = subprocess.run(
                [*program, *options], check=True, capture_output=True, text=True, timeout=300
            )
    for line in done.stdout.splitlines():
        name, value, unit = line.split("\t")
        found.append(Figure("client", name, repeat, float(value), unit))
    return found


def _figure(scenario: str, name: str, result: Drained) -> Figure:
    return Figure(scenario, name, result.repeat, result.rate_per_second, "requests/s", result.void)


def bare_ffnn(ground: Ground, repeat: int) -> Figure:
    """The model's ceiling: what the processor could do if nothing else were to be done."""
    return bare(ground.ffnn.with_suffix(".onnx"), 256, repeat, "model")
