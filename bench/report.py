"""The results as a page: medians with their spread, against the targets."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from targets import verdicts

Run = Mapping[str, Any]
Document = Mapping[str, Any]

_HEAD = """\
# The engine beside its peers

Systems were measured in turns. Broker, load and the system that is measured shared the computer:
compare figures of one scenario with each other, not with those of another computer. Cells are
medians; the spread (least to most) stands behind. What each figure means is told in
`bench/README.md`.
"""


def page(document: Document) -> str:
    """The whole page in Markdown."""
    parts = [_HEAD]
    sections: Sequence[tuple[str, str, Callable[[Document], list[list[str]]]]] = (
        ("What was run", "scenario | by | repeats | minutes | begun | on", _run_rows),
        ("Missing", "scenario | what | repeats | why", _missing_rows),
        ("Targets", "target | wanted | measured | met", verdicts),
        ("Drain throughput", _DRAIN, _drain_rows),
        ("Round trips at fixed rates", _LATENCY, lambda found: _latency_rows(found["latency"])),
        ("Round trips up to saturation", _LATENCY, lambda found: _latency_rows(found["curve"])),
        ("More", "scenario | what | value | unit | note", _figure_rows),
        ("Not run", "scenario | why", _not_run_rows),
    )
    for title, columns, rows_of in sections:
        if rows := rows_of(document):
            parts.append(f"## {title}\n\n{_table(columns, rows)}\n")
    return "\n".join(parts)


_DRAIN = (
    "system | form | guarantee | requests/s | CPU µs a request | MB resident, at most"
    " | bytes a request | bytes a reply | answered, all runs"
)
_LATENCY = (
    "system | guarantee | requests/s | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms | answered"
)


def _drain_rows(document: Document) -> list[list[str]]:
    rows = []
    for (system, form, guarantee), runs in grouped(
        document["drain"], "system", "form", "guarantee"
    ).items():
        void = next((run["void"] for run in runs if run["void"]), None)
        answered = f"{sum(run['answered'] for run in runs):,}"
        rate = f"void: {void}" if void else spread(_values(runs, "rate_per_second"), "{:,.0f}")
        rows.append(
            [
                *(system, form, guarantee, rate),
                spread(_values(runs, "cpu_us_per_record"), "{:.1f}"),
                f"{max(_values(runs, 'resident_mb')):.0f}",
                f"{statistics.median(_values(runs, 'request_bytes')):.0f}",
                f"{statistics.median(_values(runs, 'reply_bytes')):.0f}",
                answered,
            ]
        )
    for (name,), runs in grouped(document["models"], "name").items():
        rate = spread(_values(runs, "value"), "{:,.0f}")
        rows.append([name, "in memory", "none", rate, "", "", "", "", ""])
    return rows


def _latency_rows(runs_of_all: Sequence[Run]) -> list[list[str]]:
    rows = []
    keys = ("system", "guarantee", "rate_per_second")
    for (system, guarantee, rate), runs in grouped(runs_of_all, *keys).items():
        void = next((run["void"] for run in runs if run["void"]), None)
        cells = [
            spread([run["percentiles_ms"][name] for run in runs], "{:.2f}")
            for name in runs[0]["percentiles_ms"]
        ]
        answered, asked = sum(_values(runs, "answered")), sum(_values(runs, "requests"))
        note = f"void: {void}" if void else f"{answered}/{asked}"
        longest = f"{max(_values(runs, 'max_ms')):.1f}"
        rows.append([system, guarantee, f"{rate:g}", *cells, longest, note])
    return rows


def _figure_rows(document: Document) -> list[list[str]]:
    rows = []
    for (scenario, name), runs in grouped(document["figures"], "scenario", "name").items():
        void = next((run["void"] for run in runs if run["void"]), None)
        value = spread(_values(runs, "value"), "{:,.4g}")
        rows.append([scenario, name, value, runs[0]["unit"], f"void: {void}" if void else ""])
    return rows


def _not_run_rows(document: Document) -> list[list[str]]:
    return [[each["of"], each["why"]] for each in document["not_run"]]


def _run_rows(document: Document) -> list[list[str]]:
    return [
        [
            scenario,
            f"`{run['command']}`",
            str(run["repeats"]),
            f"{run['minutes']:.1f}",
            run["begun"],
            run["on"],
        ]
        for scenario, run in document["runs"].items()
    ]


def _missing_rows(document: Document) -> list[list[str]]:
    """What was asked for and not measured; figures of it, if there are any, are older ones."""
    rows = []
    for (of, name, why), runs in grouped(document["missing"], "of", "name", "why").items():
        repeats = ", ".join(str(run["repeat"]) for run in runs)
        rows.append([of, name, repeats, why])
    return rows


def grouped(runs: Iterable[Run], *names: str) -> dict[tuple[Any, ...], list[Run]]:
    """Runs by what they have in common, in the order of the first of each."""
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[tuple(run[name] for name in names)].append(run)
    return dict(groups)


def spread(values: Sequence[float], form: str) -> str:
    """``median (least to most)``."""
    middle = form.format(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))} to {form.format(max(values))})"


def _values(runs: Iterable[Run], name: str) -> list[float]:
    return [run[name] for run in runs]


def _table(columns: str, rows: Iterable[Sequence[str]]) -> str:
    names = columns.split(" | ")
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
