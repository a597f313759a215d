"""Draws what ``bench.json`` holds; run by an environment of its own, which has matplotlib."""

import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

WIDTH, HEIGHT = 9, 5
Runs = list[dict[str, Any]]


def drain(runs: Runs, folder: Path) -> None:
    """Bars: requests per second of each system, by form and guarantee, with their spread."""
    groups: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        if not run["void"]:
            label = f"{run['system']}, {run['form']}, {run['guarantee']}"
            groups[label].append(run["rate_per_second"])
    figure, axes = plt.subplots(figsize=(WIDTH, 0.35 * len(groups) + 1.5), layout="constrained")
    labels = sorted(groups, key=lambda label: statistics.median(groups[label]))
    middles = [statistics.median(groups[label]) for label in labels]
    below = [m - min(groups[label]) for m, label in zip(middles, labels, strict=True)]
    above = [max(groups[label]) - m for m, label in zip(middles, labels, strict=True)]
    colours = ["tab:blue" if label.startswith("ours") else "tab:gray" for label in labels]
    axes.barh(labels, middles, xerr=[below, above], color=colours, capsize=2)
    axes.set(xlabel="requests/s (median, least to most)", title="Drain throughput")
    figure.savefig(folder / "drain.png", dpi=110)


def against_load(runs: Runs, folder: Path, name: str, title: str) -> None:
    """Lines: p50 and p99 against the offered rate."""
    points: dict[str, dict[float, list[tuple[float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run in runs:
        p50, p99 = run["percentiles_ms"]["p50"], run["percentiles_ms"]["p99"]
        if not run["void"] and math.isfinite(p99):
            label = f"{run['system']}, {run['guarantee']}"
            points[label][run["rate_per_second"]].append((p50, p99))
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    for label, by_rate in points.items():
        rates = sorted(by_rate)
        p50s = [statistics.median(p for p, _ in by_rate[rate]) for rate in rates]
        p99s = [statistics.median(p for _, p in by_rate[rate]) for rate in rates]
        (line,) = axes.plot(rates, p50s, marker="o", label=f"{label}, p50")
        axes.plot(rates, p99s, marker="^", linestyle="--", color=line.get_color())
    axes.set(xscale="log", yscale="log", xlabel="requests/s offered", title=title)
    axes.set_ylabel("ms from the scheduled time (line p50, dashes p99)")
    axes.legend(fontsize=8)
    figure.savefig(folder / name, dpi=110)


def scaling(runs: Runs, folder: Path) -> None:
    """Requests per second by the number of workers, beside a straight line."""
    rates: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        if run["scenario"] == "scaling" and not run["void"]:
            rates[int(run["name"].split()[0])].append(run["value"])
    if len(rates) < 2:
        return
    workers = sorted(rates)
    middles = [statistics.median(rates[count]) for count in workers]
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes.plot(workers, middles, marker="o", label="measured")
    axes.plot(workers, [middles[0] / workers[0] * n for n in workers], ":", label="linear")
    axes.set(xlabel="workers", ylabel="requests/s", title="Workers with a model that sleeps")
    axes.legend()
    figure.savefig(folder / "scaling.png", dpi=110)


def main() -> None:
    """Draw what the folder's ``bench.json`` has."""
    folder = Path(sys.argv[1])
    found = json.loads((folder / "bench.json").read_text())
    if found["drain"]:
        drain(found["drain"], folder)
    if found["latency"]:
        against_load(found["latency"], folder, "latency.png", "Round trips at fixed rates")
    if found["curve"]:
        against_load(found["curve"], folder, "saturation.png", "Round trips up to saturation")
    scaling(found["figures"], folder)


if __name__ == "__main__":
    main()
