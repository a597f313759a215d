"""`make simulate`: SEED=n tells everything that happens under one seed; SEEDS=n runs so many."""

import argparse
import sys
import time

from simulation.plan import draw
from simulation.world import simulate


def main() -> int:
    """0: all promises were kept. 1: not; what was broken, and how to see it again, is printed."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="tell everything that happens under this one")
    parser.add_argument("--seeds", type=int, default=1000, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    if options.seed is not None:
        print(draw(options.seed))
        simulate(draw(options.seed), print)
        return 0
    started, steps, requests = time.monotonic(), 0, 0
    for seed in range(options.first, options.first + options.seeds):
        plan = draw(seed)
        try:
            steps += simulate(plan).scheduler.steps
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the seed is the news
            print(f"{type(error).__name__}: {error}\nReplay: make simulate SEED={seed}")
            return 1
        requests += plan.requests
    seconds = time.monotonic() - started
    print(
        f"{options.seeds} seeds, {requests} requests, {steps} steps, {seconds:.0f} s: "
        "all promises were kept"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
