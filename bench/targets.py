"""What is aimed at, as ratios within one run: they survive a change of computer."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
AT_LEAST_ONCE, EXACTLY_ONCE = "at-least-once", "exactly-once"


@dataclass(frozen=True, slots=True)
class Target:
    """*measure* gives None where a scenario was not run. *most*: the figure must not exceed it."""

    name: str
    wanted: float
    measure: Callable[[Document], float | None]
    most: bool = False
    unit: str = "times"

    def row(self, document: Document) -> list[str] | None:
        """Name, wanted, measured, met; None where it was not measured."""
        value = self.measure(document)
        if value is None:
            return None
        met = value <= self.wanted if self.most else value >= self.wanted
        sign = "≤" if self.most else "≥"
        wanted = f"{sign} {self.wanted:g} {self.unit}"
        return [self.name, wanted, f"{value:.3g} {self.unit}", "yes" if met else "no"]


def verdicts(document: Document) -> list[list[str]]:
    """One row for each target that was measured."""
    rows = (target.row(document) for target in TARGETS)
    return [row for row in rows if row is not None]


def drained(system: str, form: str, guarantee: str, name: str = "rate_per_second") -> Any:
    """A measure: the median over the runs of one system."""

    def measure(document: Document) -> float | None:
        return _medians(document, form, guarantee, name).get(system)

    return measure


def best(family: str, form: str, guarantee: str) -> Any:
    """A measure: requests/s of the fastest whose name begins so, with however many threads or
    processes."""

    def measure(document: Document) -> float | None:
        medians = _medians(document, form, guarantee, "rate_per_second")
        found = [value for system, value in medians.items() if system.startswith(family)]
        return max(found, default=None)

    return measure


def _medians(document: Document, form: str, guarantee: str, name: str) -> Mapping[str, float]:
    by_system: dict[str, list[float]] = {}
    for run in document["drain"]:
        if (run["form"], run["guarantee"]) == (form, guarantee) and not run["void"]:
            by_system.setdefault(run["system"], []).append(run[name])
    return {system: statistics.median(values) for system, values in by_system.items()}


def at_rate(system: str, guarantee: str, rate: float, percentile: str) -> Any:
    """A measure: the median of a percentile of latency, ms."""

    def measure(document: Document) -> float | None:
        values = [
            run["percentiles_ms"][percentile]
            for run in document["latency"]
            if (run["system"], run["guarantee"], run["rate_per_second"])
            == (system, guarantee, rate)
            and not run["void"]
        ]
        return statistics.median(values) if values else None

    return measure


def figure(scenario: str, name: str) -> Any:
    """A measure: the median of a scenario's figure."""

    def measure(document: Document) -> float | None:
        values = [
            each["value"]
            for each in document["figures"]
            if (each["scenario"], each["name"]) == (scenario, name) and not each["void"]
        ]
        return statistics.median(values) if values else None

    return measure


def ratio(above: Any, below: Any) -> Any:
    """One measure by another."""

    def measure(document: Document) -> float | None:
        first, second = above(document), below(document)
        return None if first is None or not second else first / second

    return measure


def linear(document: Document) -> float | None:
    """The rate of the most workers by that of one and their number."""
    found = {
        int(each["name"].split()[0]): figure("scaling", each["name"])(document)
        for each in document["figures"]
        if each["scenario"] == "scaling" and not each["void"]
    }
    most = max(found, default=1)
    return found[most] / found[1] / most if most > 1 and found.get(1) else None


def overhead_percent(document: Document) -> float | None:
    """What the engine adds to a bare loop on full batches: the median over the repeats, in each of
    which the two ran one after the other. The computer's own pace varies by more than is asked."""
    by_repeat: dict[int, dict[str, float]] = {}
    for each in document["figures"]:
        if each["scenario"] == "heavy model" and not each["void"]:
            by_repeat.setdefault(each["repeat"], {})[each["name"]] = each["value"]
    bare, ours = "bare session.run, 32 rows", "ours, batches of 32"
    added = [
        (found[bare] / found[ours] - 1) * 100
        for found in by_repeat.values()
        if bare in found and ours in found
    ]
    return statistics.median(added) if added else None


OURS_BINARY = drained("ours", "binary", AT_LEAST_ONCE)
OURS_JSON = drained("ours", "json", AT_LEAST_ONCE)
STREAMS = "Kafka Streams"
TARGETS: Sequence[Target] = (
    Target("drain, binary, by echo", 0.85, ratio(OURS_BINARY, drained("echo", "binary", "none"))),
    Target(
        "drain, binary, by Kafka Streams (the best of each)",
        2,
        ratio(best("ours", "binary", AT_LEAST_ONCE), best(STREAMS, "binary", "at_least_once")),
    ),
    Target("drain, JSON, by MLServer", 10, ratio(OURS_JSON, drained("MLServer", "json", "none"))),
    Target(
        "drain, JSON, by Kafka Streams (the best of each)",
        3,
        ratio(best("ours", "json", AT_LEAST_ONCE), best(STREAMS, "json", "at_least_once")),
    ),
    Target(
        "drain, binary, exactly-once by at-least-once",
        0.8,
        ratio(drained("ours", "binary", EXACTLY_ONCE), OURS_BINARY),
    ),
    Target(
        "drain, binary, exactly-once by Kafka Streams exactly_once_v2 (the best of each)",
        2,
        ratio(best("ours", "binary", EXACTLY_ONCE), best(STREAMS, "binary", "exactly_once_v2")),
    ),
    *(
        Target(
            f"round trip at {rate:,}/s, {percentile} by echo",
            wanted,
            ratio(
                at_rate("ours", AT_LEAST_ONCE, rate, percentile),
                at_rate("echo", "none", rate, percentile),
            ),
            most=True,
        )
        for rate in (1000, 4000)
        for percentile, wanted in (("p50", 1.2), ("p99", 1.5))
    ),
    *(
        Target(
            f"round trip at 1,000/s, exactly-once, {percentile}",
            wanted,
            at_rate("ours", EXACTLY_ONCE, 1000, percentile),
            most=True,
            unit="ms",
        )
        for percentile, wanted in (("p50", 5), ("p99", 25))
    ),
    Target("heavy model: the engine adds", 2, overhead_percent, most=True, unit="%"),
    Target("scaling with a sleeping model, by linear", 0.95, linear),
    Target(
        "scale-out pause, over the steady median",
        300,
        figure("scale-out pause", "ours, 1 → 2"),
        most=True,
        unit="ms",
    ),
    Target("cold start to first answer", 1.5, figure("cold start", "ours"), most=True, unit="s"),
    Target(
        "worker's resident memory under full load, median of the runs",
        150,
        drained("ours", "binary", AT_LEAST_ONCE, "resident_mb"),
        most=True,
        unit="MB",
    ),
    Target(
        "client, round trips of one process",
        20_000,
        figure("client", "predict_many, 2048 under way"),
        unit="/s",
    ),
    Target("client, CPU per call", 40, figure("client", "CPU per call"), most=True, unit="µs"),
)
