"""Round trips at fixed rates: `make bench-latency`.

An open loop: requests are due on a schedule that answers do not slow down, and each latency runs
from the moment when its request was due (coordinated omission is counted); how late requests left
is told beside it. One worker, the FFNN of
the Crayfish benchmark (784-32-32-10), one row a request, binary bodies, four partitions,
`acks=all`, replication factor 1. Broker, worker and load share this computer. Percentiles are
exact: every latency is kept.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ondemand import PredictionClient
from ondemand.contract import topics
from ondemand.local import LocalKafka
from ondemand.processor.lifecycle import spare_collector
from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import ffnn
from ondemand.transport.kafka_admin import KafkaAdmin

MODEL, SERVICE = "ffnn", "bench"
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
WARM_UP_SECONDS = 60.0  # a fresh JVM compiles for about so long
WARM_UP_RATE = 1000
START_SECONDS = 60.0
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figures:
    """One rate, one repeat. Latencies in milliseconds from the scheduled time."""

    model: str
    rate_per_second: int
    repeat: int
    requests: int
    answered: int
    percentiles_ms: dict[str, float]
    max_ms: float
    sent_late_p99_ms: float
    batch_rows_mean: float


async def measure(
    client: PredictionClient, rate: int, seconds: float, repeat: int, *, model: str = MODEL
) -> Figures:
    """Ask *model* at *rate* for *seconds*; a request without an answer is infinitely late."""
    images = np.random.default_rng(1).random((64, 1, 784), dtype=np.float32)
    count = int(rate * seconds)
    latencies = np.full(count, np.inf)
    late = np.zeros(count)
    batches = np.zeros(count)

    async def ask(i: int, due: float) -> None:
        late[i] = (time.perf_counter() - due) * 1000
        prediction = await client.predict(model, {"x": images[i % 64]}, timeout=10.0)
        latencies[i] = (time.perf_counter() - due) * 1000
        batches[i] = prediction.timing.batch_rows

    started = time.perf_counter() + 0.05
    tasks = []
    for i in range(count):
        due = started + i / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(ask(i, due)))
    await asyncio.gather(*tasks, return_exceptions=True)
    return Figures(
        model=model,
        rate_per_second=rate,
        repeat=repeat,
        requests=count,
        answered=int(np.isfinite(latencies).sum()),
        percentiles_ms={f"p{p:g}": float(np.percentile(latencies, p)) for p in PERCENTILES},
        max_ms=float(latencies.max()),
        sent_late_p99_ms=float(np.percentile(late, 99)),
        batch_rows_mean=float(batches.mean()),
    )


async def run(address: str, rates: Sequence[int], seconds: float, repeats: int) -> list[Figures]:
    """All rates in turn, so that a slow spell of the computer does not hit one rate alone."""
    found = []
    async with PredictionClient(kafka=address, service=SERVICE) as client:
        first = {"x": np.zeros((1, 784), dtype=np.float32)}
        await client.predict(MODEL, first, timeout=START_SECONDS)
        await measure(client, WARM_UP_RATE, WARM_UP_SECONDS, 0)
        spare_collector()  # the load's own pauses, of up to 74 ms, are not what is measured
        for repeat in range(1, repeats + 1):
            for rate in rates:
                figures = await measure(client, rate, seconds, repeat)
                found.append(figures)
                print(line(figures), flush=True)
    return found


def line(figures: Figures) -> str:
    """One row of the table, in Markdown."""
    cells = [f"{value:.2f}" for value in figures.percentiles_ms.values()]
    return (
        f"| {figures.rate_per_second} | {figures.repeat} | {figures.answered}/{figures.requests} | "
        f"{' | '.join(cells)} | {figures.max_ms:.1f} | "
        f"{figures.sent_late_p99_ms:.2f} | {figures.batch_rows_mean:.1f} |"
    )


HEADER = (
    "| requests/s | repeat | answered | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms "
    "| sent late p99 ms | batch |\n"
    "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


@contextlib.contextmanager
def worker(
    address: str, folder: Path, *, name: str = MODEL, program: Sequence[str] = ("-m", "ondemand")
) -> Iterator[None]:
    """A worker process for the FFNN, called *name*, drained at the end."""
    (folder / "ffnn.onnx").write_bytes(ffnn())
    package = new_package(folder / name, name=name, model=folder / "ffnn.onnx")
    command = [sys.executable, *program, "worker", "run", str(package.folder)]
    options = ["--kafka", address, "--http", "127.0.0.1:0", "--set", "log_level=warning"]
    process = subprocess.Popen([*command, *options])
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def create_topics(address: str, models: Iterable[str] = (MODEL,), *, partitions: int = 4) -> None:
    """The requests of each model in so many partitions, and what goes with them."""
    admin = KafkaAdmin(kafka=address)
    wanted = [topics.TopicSpec(topics.reply_topic(SERVICE), 4)]
    for model in models:
        wanted.append(topics.TopicSpec(topics.request_topic(model), partitions))
        wanted.append(topics.TopicSpec(topics.dead_letter_topic(model), 1))
    for change in topics.plan(wanted, admin.describe()):
        admin.apply(change)


def precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are finer than those of epoll, which are whole milliseconds:
    the load would leave half a one late."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def report(found: Sequence[Figures], seconds: float) -> str:
    """The results as a page."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    lines = "\n".join(line(figures) for figures in found)
    return (
        "# Round trips at fixed rates\n\n"
        f"Printed by `make bench-latency` ({seconds:g} s a rate) on {machine}, which ran\n"
        "broker, worker and load. One worker, FFNN 784-32-32-10, one row a request.\n"
        "Latency runs from the scheduled time. Absolute figures vary from computer to computer.\n\n"
        f"{HEADER}\n{lines}\n"
    )


def main() -> None:
    """Measure, print, and write `bench/results/latency.md` and `.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[100, 500, 1000, 2000])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(HEADER, flush=True)
    with LocalKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        create_topics(kafka.address)
        with (
            worker(kafka.address, Path(folder)),
            asyncio.Runner(loop_factory=precise_loop) as runner,
        ):
            found = runner.run(
                run(kafka.address, arguments.rates, arguments.seconds, arguments.repeats)
            )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latency.md").write_text(report(found, arguments.seconds))
    figures = json.dumps([asdict(each) for each in found], indent=2)
    (RESULTS / "latency.json").write_text(figures + "\n")


if __name__ == "__main__":
    main()
