"""Cheap models in the intake thread, or in a thread of their own: `python bench/inline.py`.

Two workers of the same model on one broker, asked in turns at the same rates; one of them is told
that no run is cheap. See docs/decisions/0011.
"""

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from latency import (
    SERVICE,
    START_SECONDS,
    WARM_UP_RATE,
    Figures,
    create_topics,
    measure,
    worker,
)

from ondemand import PredictionClient
from ondemand.local import LocalKafka

INLINE, THREAD = "inline", "thread"
NEVER_CHEAP = (
    "import sys; from ondemand.processor import runner; "
    "runner.INLINE_SECONDS = runner.TRY_SECONDS = -1.0; "
    "from ondemand.cli.app import main; sys.exit(main())"
)
PROGRAMS = {INLINE: ["-m", "ondemand"], THREAD: ["-c", NEVER_CHEAP]}
COLUMNS = ("p50", "p90", "p99")


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
        create_topics(kafka.address, PROGRAMS)
        with contextlib.ExitStack() as workers:
            for name, program in PROGRAMS.items():
                started = worker(kafka.address, Path(folder), name=name, program=program)
                workers.enter_context(started)
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
