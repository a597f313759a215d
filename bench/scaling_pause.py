"""What scaling costs those who wait: `make bench-rebalance`.

An open loop at a fixed rate, as in `latency.py`: each latency runs from the moment when its request
was due. One worker answers; two more join; then two are told to leave. Broker, workers and load
share this computer, so that what a starting process costs others is part of the figures.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from latency import MODEL, SERVICE, create_topics

from ondemand import PredictionClient
from ondemand.local import LocalKafka
from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import ffnn

PARTITIONS = 6
START_SECONDS = 60.0
WARM_UP_SECONDS = 15.0
PREDICT_SECONDS = 30.0
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Phase:
    """Requests that were due in one phase of one cycle. Latencies in ms from the scheduled time."""

    cycle: int
    name: str
    requests: int
    answered: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Load:
    """Asks at *rate*, for ever, and keeps when each request was due and how long it took."""

    def __init__(self, client: PredictionClient, rate: float) -> None:
        self._client = client
        self._rate = rate
        self._tasks: set[asyncio.Task[None]] = set()
        self.ended: list[tuple[float, float]] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        image = {"x": np.random.default_rng(1).random((1, 784), dtype=np.float32)}
        started, number = time.perf_counter(), 0
        while True:
            due = started + number / self._rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._ask(image, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            number += 1

    async def _ask(self, image: dict[str, np.ndarray], due: float) -> None:
        latency_ms = float("inf")
        try:
            await self._client.predict(MODEL, image, timeout=PREDICT_SECONDS, unserved="wait")
            latency_ms = (time.perf_counter() - due) * 1000
        finally:
            self.ended.append((due, latency_ms))

    async def settle(self) -> None:
        """Until all that was due by now has ended."""
        await asyncio.gather(*tuple(self._tasks), return_exceptions=True)

    def phase(self, cycle: int, name: str, since: float, until: float) -> Phase:
        """The figures of what was due between two moments."""
        found = np.array([each for due, each in self.ended if since <= due < until])
        p50, p99 = np.percentile(found, (50, 99))
        answered = int(np.isfinite(found).sum())
        return Phase(cycle, name, len(found), answered, float(p50), float(p99), float(found.max()))


class Workers:
    """Worker processes, and whether they have their partitions."""

    def __init__(self, address: str, folder: Path) -> None:
        (folder / "ffnn.onnx").write_bytes(ffnn())
        self._folder = folder
        self._package = new_package(folder / MODEL, name=MODEL, model=folder / "ffnn.onnx").folder
        self._address = address
        self.running: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._started = 0

    def join(self, count: int) -> None:
        """Start *count* more; returns when each has had its partitions."""
        for _ in range(count):
            self._started += 1
            log = self._folder / f"{self._started}.log"
            command = [sys.executable, "-m", "ondemand", "worker", "run", str(self._package)]
            options = ["--kafka", self._address, "--http", "off", "--log-format", "json"]
            with log.open("wb") as out:
                process = subprocess.Popen([*command, *options], stderr=out)
            self.running.append((process, log))
        deadline = time.monotonic() + START_SECONDS
        for _, log in self.running:
            while '"partitions.assigned"' not in log.read_text():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"a worker has no partitions: {log.read_text()}")
                time.sleep(0.05)

    def leave(self, count: int) -> None:
        """Tell the last *count* to stop; returns when they have."""
        gone, self.running = self.running[-count:], self.running[:-count]
        for process, _ in gone:
            process.send_signal(signal.SIGTERM)
        for process, _ in gone:
            process.wait(START_SECONDS)


async def measure(address: str, folder: Path, arguments: argparse.Namespace) -> list[Phase]:
    """Every phase of every cycle."""
    workers = Workers(address, folder)
    async with PredictionClient(kafka=address, service=SERVICE) as client:
        await asyncio.to_thread(workers.join, 1)
        load = Load(client, arguments.rate)
        loading = asyncio.create_task(load.run())
        try:
            await asyncio.sleep(WARM_UP_SECONDS)
            cycles = range(1, arguments.cycles + 1)
            return [
                phase
                for cycle in cycles
                for phase in await scale(workers, load, cycle, arguments.seconds)
            ]
        finally:
            loading.cancel()
            await load.settle()
            await asyncio.to_thread(workers.leave, len(workers.running))


async def scale(workers: Workers, load: Load, cycle: int, seconds: float) -> list[Phase]:
    """One cycle: from one worker to three and back, each phase as long as *seconds* or longer."""
    marks = [time.perf_counter()]
    for change in (None, workers.join, None, workers.leave):
        if change is not None:
            await asyncio.to_thread(change, 2)
        await asyncio.sleep(seconds)
        marks.append(time.perf_counter())
    await load.settle()
    names = ("1 worker", "1 → 3", "3 workers", "3 → 1")
    phases = [
        load.phase(cycle, name, since, until)
        for name, since, until in zip(names, marks, marks[1:], strict=False)
    ]
    print("\n".join(map(line, phases)), flush=True)
    return phases


def line(phase: Phase) -> str:
    """One row of the table, in Markdown."""
    return (
        f"| {phase.cycle} | {phase.name} | {phase.answered}/{phase.requests} | "
        f"{phase.p50_ms:.1f} | {phase.p99_ms:.1f} | {phase.max_ms:.1f} |"
    )


HEADER = "| cycle | phase | answered | p50 ms | p99 ms | max ms |\n|---:|---|---:|---:|---:|---:|"


def report(phases: Sequence[Phase], rate: float) -> str:
    """The results as a page."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    steady = [phase for phase in phases if "worker" in phase.name]
    scaling = [phase for phase in phases if "→" in phase.name]
    usual = float(np.median([phase.p50_ms for phase in steady]))
    rows = "\n".join(line(phase) for phase in phases)
    added = " · ".join(
        f"{name}: {max(each.max_ms for each in scaling if each.name == name) - usual:.0f} ms"
        for name in dict.fromkeys(each.name for each in scaling)
    )
    worst_steady = max(phase.max_ms for phase in steady) - usual
    return (
        "# Scaling while requests flow\n\n"
        f"Printed by `make bench-rebalance` on {machine}, which ran broker, workers and load:\n"
        f"{rate:g} requests a second, {PARTITIONS} partitions, FFNN 784-32-32-10. Latency runs\n"
        "from the scheduled time. Absolute figures vary from computer to computer.\n\n"
        f"The steady median is {usual:.1f} ms. The request that waited longest waited longer than\n"
        f"that by — {added} · without any scaling: {worst_steady:.0f} ms.\n\n"
        f"{HEADER}\n{rows}\n"
    )


def main() -> None:
    """Measure, print, and write `bench/results/rebalance.md` and `.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--cycles", type=int, default=5)
    arguments = parser.parse_args()
    print(HEADER, flush=True)
    with LocalKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        create_topics(kafka.address, partitions=PARTITIONS)
        phases = asyncio.run(measure(kafka.address, Path(folder), arguments))
    RESULTS.mkdir(exist_ok=True)
    page = report(phases, arguments.rate)
    (RESULTS / "rebalance.md").write_text(page)
    figures = json.dumps([asdict(each) for each in phases], indent=2)
    (RESULTS / "rebalance.json").write_text(figures + "\n")
    print(page)


if __name__ == "__main__":
    main()
