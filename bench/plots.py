"""Draws what ``bench.json`` holds; run by an environment of its own, which has matplotlib."""

import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

WIDTH, BAR_HEIGHT, DOTS_PER_INCH = 9.5, 0.34, 110
COLOURS = {
    "ours": "tab:blue",
    "echo": "tab:gray",
    "bare": "tab:gray",
    "Kafka": "tab:orange",
    "aiokafka": "tab:green",
    "MLServer": "tab:red",
}
"""By the first word of a system's name."""

NAMES = {"binary": "binary", "json": "JSON"}
SURE = "exactly"  # how guarantees begin that are drawn dotted, with squares
TICKS_APART = 1.6  # a rate nearer than that to the one before gets no label
Runs = list[dict[str, Any]]
Groups = Mapping[str, Sequence[float]]


def drain(runs: Runs, folder: Path) -> None:
    """Bars: requests per second of each system, a panel for each form."""
    forms = list(dict.fromkeys(run["form"] for run in runs))
    groups: dict[str, dict[str, list[float]]] = {form: defaultdict(list) for form in forms}
    for run in runs:
        if not run["void"]:
            guarantee = "" if run["guarantee"] == "none" else f", {run['guarantee']}"
            groups[run["form"]][run["system"] + guarantee].append(run["rate_per_second"])
    rows = [max(len(groups[form]), 1) for form in forms]
    figure, panels = plt.subplots(
        len(forms),
        figsize=(WIDTH, BAR_HEIGHT * sum(rows) + 0.9 * len(forms)),
        height_ratios=rows,
        layout="constrained",
        squeeze=False,
    )
    for axes, form in zip(panels[:, 0], forms, strict=True):
        bars(axes, groups[form])
        axes.set(title=f"Drain throughput, {NAMES[form]} requests", xlabel="requests/s")
    save(figure, folder / "drain.png")


def heavy(runs: Runs, folder: Path) -> None:
    """Bars: rows per second of a heavy model, in a bare loop and in the worker."""
    groups: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        if run["scenario"] == "heavy model" and not run["void"]:
            groups[run["name"]].append(run["value"])
    if not groups:
        return
    size = (WIDTH, BAR_HEIGHT * len(groups) + 1.2)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    bars(axes, groups)
    axes.set(title="A heavy model, one thread", xlabel="rows/s")
    save(figure, folder / "heavy.png")


def bars(axes: Axes, groups: Groups) -> None:
    """One bar for each of *groups*, the fastest on top: the median, the least and the most."""
    labels = sorted(groups, key=lambda label: statistics.median(groups[label]))
    for label in labels:
        values = groups[label]
        middle = statistics.median(values)
        spread = [[middle - min(values)], [max(values) - middle]]
        axes.barh(label, middle, xerr=spread, color=colour(label), capsize=2)
        text = f" {middle:,.0f}"
        axes.annotate(text, (max(values), label), va="center", fontsize=8)
    axes.margins(x=0.12, y=0.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(labelsize=9)


def against_load(runs: Runs, folder: Path, name: str, title: str) -> None:
    """Lines against the offered rate, a panel for p50 and one for p99."""
    figure, panels = plt.subplots(
        1, 2, figsize=(WIDTH, 5), sharex=True, sharey=True, layout="constrained"
    )
    for axes, percentile in zip(panels, ("p50", "p99"), strict=True):
        points: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
        for run in runs:
            value = run["percentiles_ms"][percentile]
            if not run["void"] and math.isfinite(value):
                guarantee = ", exactly-once" if run["guarantee"].startswith(SURE) else ""
                points[run["system"] + guarantee][run["rate_per_second"]].append(value)
        for label, by_rate in points.items():
            rates = sorted(by_rate)
            middles = [statistics.median(by_rate[rate]) for rate in rates]
            style = "s:" if SURE in label else "o-"
            axes.plot(rates, middles, style, label=label, color=colour(label), markersize=4)
        axes.set(xscale="log", yscale="log", xlabel="requests/s offered", title=percentile)
        axes.grid(visible=True, which="both", alpha=0.25)
        plain(axes, sorted({run["rate_per_second"] for run in runs if run["rate_per_second"]}))
    panels[0].set_ylabel("ms from the scheduled time")
    figure.suptitle(title)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    save(figure, folder / name)


def plain(axes: Axes, rates: Sequence[float]) -> None:
    """Numbers, not powers of ten; those rates that were offered."""
    shown: list[float] = []
    for rate in rates:
        if not shown or rate >= TICKS_APART * shown[-1]:
            shown.append(rate)
    axes.set_xticks(shown, [f"{rate:g}" if rate < 1000 else f"{rate / 1000:g}k" for rate in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


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
    below = [m - min(rates[count]) for m, count in zip(middles, workers, strict=True)]
    above = [max(rates[count]) - m for m, count in zip(middles, workers, strict=True)]
    figure, axes = plt.subplots(figsize=(WIDTH * 0.7, 4.5), layout="constrained")
    straight = [middles[0] / workers[0] * n for n in workers]
    axes.plot(workers, straight, ":", color="black", label="linear")
    shown = {"label": "ours (median, least to most)", "color": COLOURS["ours"]}
    axes.errorbar(workers, middles, [below, above], fmt="o-", capsize=3, **shown)
    axes.set(xlabel="workers", ylabel="requests/s", title="Workers with a model that sleeps")
    axes.set(xticks=workers, xlim=(0, None), ylim=(0, None))
    axes.grid(visible=True, alpha=0.25)
    axes.legend()
    save(figure, folder / "scaling.png")


def colour(label: str) -> str:
    """One for each system, in every plot."""
    return COLOURS[label.replace(",", " ").split()[0]]


def save(figure: Figure, file: Path) -> None:
    """As a PNG."""
    figure.savefig(file, dpi=DOTS_PER_INCH)
    plt.close(figure)


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
    heavy(found["figures"], folder)
    scaling(found["figures"], folder)


if __name__ == "__main__":
    main()
