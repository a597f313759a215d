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
from models import SLEEP_SECONDS, any_length, heavy, package, sleeping_package
from openloop import latencies
from scaling_pause import Course, phases, steady_ms
from systems import Running, System, echo, ours
from workload import REPLIES, Form, Workload, images

from ondemand.testing.models import ffnn

HEAVY_ROWS = 32
LENGTHS = (64, 128, 256, 384, 512, 640, 784, 1024)
SLEEPER_ROWS, SLEEPER_PARTITIONS = 8, 16
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


def bare(model: Path, rows: int, repeat: int, *, scenario: str, seconds: float) -> Figure:
    """Rows per second of ``session.run`` alone, on full batches, one thread."""
    command = [sys.executable, str(PEERS / "session_run.py"), "--model", str(model)]
    options = [f"--rows={rows}", f"--seconds={seconds}"]
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
        ground.broker.load(self._backlog)

    def bare(self, repeat: int) -> Figure:
        """The loop that does nothing else."""
        seconds = self._ground.scale.heavy_seconds
        model = self._backlog.model
        return bare(model, HEAVY_ROWS, repeat, scenario="heavy model", seconds=seconds)

    def ours(self, rows: int, repeat: int) -> Figure:
        """A worker whose batches have so many rows."""
        system = ours(Form.BINARY, batch_rows_max=rows, model_threads=1, queue_rows_max=4096)
        scale = self._ground.scale
        seconds = scale.heavy_seconds if rows == HEAVY_ROWS else scale.drain_seconds
        result = drain(self._ground.broker, system, self._backlog, repeat=repeat, seconds=seconds)
        return _figure("heavy model", f"ours, batches of {rows}", result)


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
        records = ground.scale.lengths_records
        self._backlogs = {
            name: ground.other(Workload(Form.BINARY, model, inputs), folder, records)
            for name, inputs in (("one length", same), ("eight lengths", mixed))
        }
        for backlog in self._backlogs.values():
            ground.broker.load(backlog)

    def measure(self, system: System, name: str, repeat: int) -> Figure:
        """*system* on the same model, with inputs of ``one length`` or of ``eight lengths``."""
        seconds = self._ground.scale.drain_seconds
        backlog = self._backlogs[name]
        result = drain(self._ground.broker, system, backlog, repeat=repeat, seconds=seconds)
        return _figure("variable lengths", f"{system.name}, {name}", result)


class Scaling:
    """One to eight workers with a model that sleeps: does the group share the work evenly?"""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._folder = sleeping_package(ground.folder, "sleeper", ffnn())
        ground.broker.create("sleeper.dead-letters", 1)

    def measure(self, workers: int, repeat: int) -> Figure:
        """Requests per second of so many, which all have their partitions when the first comes."""
        seconds = self._ground.scale.sleeper_seconds
        records = int(workers * SLEEPER_ROWS / SLEEP_SECONDS * seconds)
        workload = self._ground.workloads[Form.BINARY]
        backlog = self._ground.other(workload, self._folder, records, partitions=SLEEPER_PARTITIONS)
        system = ours(Form.BINARY, processes=workers, batch_rows_max=SLEEPER_ROWS, model_threads=1)
        result = drain(
            self._ground.broker,
            system,
            backlog,
            repeat=repeat,
            seconds=seconds * 4,
            members=workers,
        )
        return _figure("scaling", f"{workers} workers", result)


def cold_start(ground: Ground, system: System, repeat: int) -> Figure:
    """Seconds from the start of a process to the answer of a request that waits for it."""
    seconds = _first_answer_seconds(ground, system)
    return Figure("cold start", system.name, repeat, seconds, "s")


def _first_answer_seconds(ground: Ground, system: System) -> float:
    backlog = ground.empty(system)
    ground.broker.load(backlog, range(1))
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


def warm_up_broker(ground: Ground) -> None:
    """Ask the echo, and measure nothing: a fresh broker compiles, and answers late meanwhile."""
    system = echo(Form.BINARY)
    latencies(
        ground.broker,
        system,
        ground.empty(system),
        {},
        repeat=0,
        warm_up_seconds=ground.scale.broker_warm_up_seconds,
    )


def bare_ffnn(ground: Ground, repeat: int) -> Figure:
    """The model's ceiling: what the processor could do if nothing else were to be done."""
    model = ground.ffnn.with_suffix(".onnx")
    return bare(model, 256, repeat, scenario="model", seconds=ground.scale.bare_seconds)


def scale_out_pause(ground: Ground, system: System, repeat: int) -> list[Figure]:
    """How much longer than the steady median the unluckiest request waits, ms: while a second
    process joins the first, and as long before that."""
    scale = ground.scale
    course = Course((0, 1), 1, scale.pause_seconds, scale.warm_up_seconds)
    found = phases(ground.broker, system, ground.empty(system), course)
    usual_ms = steady_ms(found)
    return [
        Figure(
            "scale-out pause",
            f"{system.name}, {phase.name}",
            repeat,
            phase.max_ms - usual_ms,
            "ms",
            None if phase.answered == phase.requests else f"{phase.answered}/{phase.requests}",
        )
        for phase in found
    ]
