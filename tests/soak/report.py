"""What a soak showed, for people and for programs."""

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

from soak.load import batch_table
from soak.run import Soaked
from soak.trend import Trend


def page(soaked: Soaked) -> str:
    """The page `soak.md`."""
    rows = "\n".join(_row(each) for each in soaked.trends)
    batches = ", ".join(f"{rows}: {n:,}" for rows, n in batch_table(soaked.load).items())
    problems = "\n".join(f"- {problem}" for problem in soaked.problems)
    return (
        "# Soak\n\n"
        f"Printed by `make soak SECONDS={soaked.seconds:g}` on {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores, which ran broker, worker and client. "
        "Resident memory by least squares over all samples but the first fifth; first and last are "
        "the medians of the first and the last quarter of those.\n\n"
        f"- capacity, measured just before: {soaked.capacity_per_second:,.0f} requests/s; "
        f"load: {soaked.rate_per_second:,.0f} requests/s for {soaked.seconds:g} s\n"
        f"- {soaked.load.asked:,} asked, {soaked.load.answered:,} answered, "
        f"{soaked.load.wrong:,} wrong\n"
        f"- requests by the rows of their batch: {batches}\n\n"
        "| process | MB first | MB last | MB at most | slope, kB/min | files first | files last | "
        "threads first | threads last |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        f"{rows}\n\n"
        f"{problems or 'Nothing grows.'}\n"
    )


def _row(each: Trend) -> str:
    megabytes = (
        each.resident_first_bytes,
        each.resident_last_bytes,
        each.resident_max_bytes,
    )
    cells = [each.name, *(f"{size / 1e6:.1f}" for size in megabytes)]
    cells += [f"{each.slope_bytes_per_minute / 1e3:+.1f}"]
    cells += map(str, (each.files_first, each.files_last, each.threads_first, each.threads_last))
    return f"| {' | '.join(cells)} |"


def write(soaked: Soaked, folder: Path) -> None:
    """`soak.md` and `soak.json` in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.md").write_text(page(soaked), encoding="utf-8")
    found = {
        "seconds": soaked.seconds,
        "capacity_per_second": round(soaked.capacity_per_second, 1),
        "rate_per_second": round(soaked.rate_per_second, 1),
        "asked": soaked.load.asked,
        "answered": soaked.load.answered,
        "wrong": soaked.load.wrong,
        "errors": dict(soaked.load.errors),
        "requests_by_batch_rows": batch_table(soaked.load),
        "trends": [asdict(each) for each in soaked.trends],
        "problems": list(soaked.problems),
    }
    (folder / "soak.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
