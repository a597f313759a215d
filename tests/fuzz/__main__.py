"""`make fuzz`: hostile records through the decoder. The same seed makes the same records."""

import argparse
import os
import sys
from pathlib import Path

from fuzz import report
from fuzz.campaign import run, shown
from fuzz.judge import judge
from fuzz.records import one


def main() -> int:
    """Prints what came of it; what breaks is raised, with how to see it again."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=int, help="show this one record, and what comes of it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", type=Path, help="a folder for decoder.md and decoder.json")
    options = parser.parse_args()
    if options.record is not None:
        sample = one(options.seed, options.record)
        print(shown(sample))
        print(judge(sample))
        return 0
    tally = run(options.seed, options.records, processes=options.processes)
    print(report.page(tally, options.seed), end="")
    if options.report:
        report.write(tally, options.seed, options.report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
