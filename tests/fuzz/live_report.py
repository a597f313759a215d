"""`make fuzz-live`: hostile records and good neighbours through a worker on a real Kafka."""

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from fuzz.extremes import extremes
from fuzz.live import GROWTH_BYTES_MAX, Found, Place, run_live

from ondemand.local import LocalKafka

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """0: every record got its answer. 1: not; the page says which did not."""
    parser = argparse.ArgumentParser(prog="make fuzz-live", description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=RESULTS, help="a folder for the results")
    options = parser.parse_args()
    with LocalKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        found = run_live(
            Place(kafka.address, "live"),
            Path(folder) / "m",
            hostile=options.records,
            seed=options.seed,
            extra=extremes(),
        )
    print(page(found, options.seed), end="")
    options.report.mkdir(parents=True, exist_ok=True)
    (options.report / "live.md").write_text(page(found, options.seed), encoding="utf-8")
    (options.report / "live.json").write_text(document(found, options.seed), encoding="utf-8")
    return 1 if found.problems or found.growth_bytes > GROWTH_BYTES_MAX else 0


def document(found: Found, seed: int) -> str:
    """The document `live.json`. (``asdict`` would count the pairs of a ``Counter``.)"""
    values = {each.name: getattr(found, each.name) for each in fields(found)}
    return json.dumps({"seed": seed, **values}, indent=1) + "\n"


def page(found: Found, seed: int) -> str:
    """The page `live.md`."""
    answers = "\n".join(f"| {name} | {count:,} |" for name, count in sorted(found.replies.items()))
    problems = "\n".join(f"- {problem}" for problem in found.problems[:50])
    return (
        "# Hostile records through a worker on Kafka\n\n"
        f"Printed by `make fuzz-live RECORDS={found.drawn} SEED={seed}` on {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}; one worker, one partition, the "
        "FFNN 8-4. What had to come was worked out for each record by itself; what did come was "
        "read from the topics.\n\n"
        f"- {found.hostile:,} hostile records and {found.good:,} good ones between them were "
        f"settled in {found.seconds:.0f} s; the broker itself refused {found.not_taken}\n"
        f"- {found.shared_batches:,} of the good ones were answered from a batch with others, each "
        "with its own answer\n"
        f"- the worker's resident memory grew from {found.resident_start_bytes / 1e6:.0f} MB to "
        f"{found.resident_peak_bytes / 1e6:.0f} MB at its peak; "
        f"{GROWTH_BYTES_MAX / 1e6:.0f} MB more are allowed\n\n"
        "| answer | records |\n|---|---:|\n"
        f"{answers}\n| dead letters | {found.dead_letters:,} |\n\n"
        f"{problems or 'Every record got what it had to, and nothing else.'}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
