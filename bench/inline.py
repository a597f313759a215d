"""Cheap models in the intake thread, or in a thread of their own: `python bench/inline.py`.

Two workers of the same model on one broker, asked in turns at the same rates; one of them is told
that no run is cheap. See docs/decisions/0011.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from latency import SERVICE, START_SECONDS, WARM_UP_RATE, Figures, measure

from ondemand import PredictionClient
from ondemand.contract import topics
from ondemand.local import LocalKafka
from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import ffnn
from ondemand.transport.kafka_admin import KafkaAdmin

INLINE, THREAD = "inline", "thread"
NEVER_CHEAP = (
    "import sys; from ondemand.processor import runner; runner.INLINE_SECONDS = -1.0; "
    "from ondemand.cli.app import main; sys.exit(main())"
)
PROGRAMS = {INLINE: ["-m", "ondemand"], THREAD: ["-c", NEVER_CHEAP]}
COLUMNS = ("p50", "p90", "p99")


@contextlib.contextmanager
def workers(address: str, folder: Path) -> Iterator[None]:
    """One worker process for each way, drained at the end."""
    (folder / "ffnn.onnx").write_bytes(ffnn())
    options = ["--kafka", address, "--http", "off", "--set", "log_level=error"]
    running = []
    try:
        for name, program in PROGRAMS.items():
            package = new_package(folder / name, name=name, model=folder / "ffnn.onnx")
            command = [sys.executable, *program, "worker", "run", str(package.folder), *options]
            running.append(subprocess.Popen(command))
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def create_topics(address: str) -> None:
    """Four partitions for the requests of each worker, and what goes with them."""
    wanted = [topics.TopicSpec(topics.reply_topic(SERVICE), 4)]
    for name in PROGRAMS:
        wanted.append(topics.TopicSpec(topics.request_topic(name), 4))
        wanted.append(topics.TopicSpec(topics.dead_letter_topic(name), 1))
    admin = KafkaAdmin(kafka=address)
    for change in topics.plan(wanted, admin.describe()):
        admin.apply(change)


async def run(address: str, rates: Sequence[int], seconds: float, repeats: int) -> list[Figures]:
    """Both workers in turns, so that a slow spell of the computer hits both."""
    found = []
    async with PredictionClient(kafka=address, service=SERVICE) as client:
        for name in PROGRAMS:
            zeros = {"x": np.zeros((1, 784), dtype=np.float32)}
            await client.predict(name, zeros, timeout=START_SECONDS)
            await measure(client, WARM_UP_RATE, seconds, 0, model=name)
        for repeat in range(1, repeats + 1):
            for rate in rates:
                found += [
                    await measure(client, rate, seconds, repeat, model=name) for name in PROGRAMS
                ]
    return found


def line(found: Sequence[Figures], rate: int, name: str) -> str:
    """Medians of one worker at one rate, in Markdown."""
    mine = [f for f in found if f.rate_per_second == rate and f.model == name]
    cells = [f"{np.median([f.percentiles_ms[c] for f in mine]):.2f}" for c in COLUMNS]
    answered, asked = sum(f.answered for f in mine), sum(f.requests for f in mine)
    return f"| {rate} | {name} | {answered}/{asked} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=6)
    arguments = parser.parse_args()
    with LocalKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        create_topics(kafka.address)
        with workers(kafka.address, Path(folder)):
            found = asyncio.run(
                run(kafka.address, arguments.rates, arguments.seconds, arguments.repeats)
            )
    print("| requests/s | worker | answered | p50 ms | p90 ms | p99 ms |")
    print("|---:|---|---:|---:|---:|---:|")
    for rate in arguments.rates:
        for name in PROGRAMS:
            print(line(found, rate, name))


if __name__ == "__main__":
    main()
