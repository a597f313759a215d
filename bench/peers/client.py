"""One client process: round trips per second with ``predict_many``, and CPU per call.

Prints name, value and unit, separated by tabs.
"""

import argparse
import asyncio
import time

import numpy as np

from ondemand import PredictionClient

IN_FLIGHT = 2048
WARM_UP_CALLS = 3000


async def run(given: argparse.Namespace) -> None:
    """Ask, and print."""
    images = np.random.default_rng(1).random((64, 1, 784), dtype=np.float32)
    async with PredictionClient(kafka=given.kafka, service="bench") as client:

        async def ask(calls: int) -> int:
            inputs = ({"x": images[i % 64]} for i in range(calls))
            right = 0
            outcomes = client.predict_many(given.model, inputs, in_flight=IN_FLIGHT, timeout=30.0)
            async for outcome in outcomes:
                right += outcome.error is None
            return right

        await ask(WARM_UP_CALLS)
        started, cpu = time.perf_counter(), time.process_time()
        right = await ask(given.calls)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if right != given.calls:
        raise SystemExit(f"{given.calls - right} of {given.calls} calls failed")
    print(f"predict_many, {IN_FLIGHT} under way\t{given.calls / seconds}\tround trips/s")
    print(f"CPU per call\t{cpu / given.calls * 1e6}\tµs")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--calls", type=int, required=True)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
