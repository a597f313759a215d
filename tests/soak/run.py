"""One soak: a worker, a client, a steady load, and what both processes use meanwhile."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient, NewTopic
from soak.load import MODEL, WIDTH, Load, Service
from soak.trend import Sample, Trend, trend
from worker_process import RunningWorker, Usage

from ondemand import PredictionClient
from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import ffnn

SHARE = 0.5
CAPACITY_SECONDS = 15.0
SAMPLES_MAX = 1_200
PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it."""

    seconds: float
    capacity_per_second: float
    rate_per_second: float
    load: Load
    trends: Sequence[Trend]

    @property
    def problems(self) -> Sequence[str]:
        """What is not as it must be; empty if all is well."""
        found = [problem for each in self.trends for problem in each.problems]
        if self.load.answered != self.load.asked or self.load.wrong:
            found.append(
                f"{self.load.asked} asked, {self.load.answered} answered, {self.load.wrong} "
                f"wrong, errors {dict(self.load.errors)}"
            )
        return found


def soak(
    address: str,
    folder: Path,
    *,
    seconds: float,
    capacity_seconds: float,
    stem: str = MODEL,
) -> Soaked:
    """Soak a worker on the broker at *address*; *stem*: what its topics are named after."""
    _create_topics(address, stem)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ffnn.onnx").write_bytes(ffnn((WIDTH, 32, 10)))
    package = new_package(folder / "worker", name=MODEL, model=folder / "ffnn.onnx").folder
    settings = [
        f"request_topic={stem}.requests",
        f"dead_letter_topic={stem}.dead-letters",
        f"group=ondemand.{stem}",
    ]
    with RunningWorker(package, address, log=folder / "log", settings=settings) as worker:
        worker.wait_ready()
        found = asyncio.run(_ask(address, stem, worker, seconds, capacity_seconds))
        assert worker.end() == 0, worker.log[-2_000:]
    return found


async def _ask(
    address: str,
    stem: str,
    worker: RunningWorker,
    seconds: float,
    capacity_seconds: float,
) -> Soaked:
    async with PredictionClient(kafka=address, service=stem) as client:
        service = Service(client, stem)
        await service.capacity(capacity_seconds)  # a fresh broker compiles what it does
        capacity = await service.capacity(capacity_seconds)
        processes = {
            "worker": psutil.Process(worker.pid),
            "client": psutil.Process(os.getpid()),
        }
        with _sampled(processes, seconds) as samples:
            load = await service.steady(capacity * SHARE, seconds)
    trends = [trend(name, found) for name, found in samples.items()]
    return Soaked(seconds, capacity, capacity * SHARE, load, trends)


@contextmanager
def _sampled(
    processes: Mapping[str, psutil.Process], seconds: float
) -> Iterator[Mapping[str, list[Sample]]]:
    """Samples of what *processes* use, evenly in time."""
    samples: dict[str, list[Sample]] = {name: [] for name in processes}
    over = threading.Event()
    started = time.monotonic()

    def sample() -> None:
        while not over.wait(max(seconds / SAMPLES_MAX, 0.1)):
            for name, process in processes.items():
                since = time.monotonic() - started
                samples[name].append(Sample(since, Usage.of(process)))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def _create_topics(address: str, stem: str) -> None:
    wanted = [
        NewTopic(f"{stem}.requests", PARTITIONS),
        NewTopic(f"{stem}.dead-letters", 1),
        NewTopic(f"{stem}.replies", PARTITIONS),
    ]
    admin = AdminClient({"bootstrap.servers": address})
    for made in admin.create_topics(wanted, operation_timeout=30).values():
        made.result()
