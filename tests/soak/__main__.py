"""`make soak`: half of what a worker can do, for ten minutes; does anything grow?"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from soak import report
from soak.run import CAPACITY_SECONDS, soak

from ondemand.local import LocalKafka

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """0: nothing grew, all was answered. 1: not; the page says what."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--report", type=Path, default=RESULTS, help="a folder for the results")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends in order
    with LocalKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        soaked = soak(
            kafka.address,
            Path(folder),
            seconds=options.seconds,
            capacity_seconds=CAPACITY_SECONDS,
        )
    print(report.page(soaked), end="")
    report.write(soaked, options.report)
    return 1 if soaked.problems else 0


if __name__ == "__main__":
    sys.exit(main())
