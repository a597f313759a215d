"""The engine beside its peers: `make bench`, and `make bench QUICK=1` for a first look.

Everything that is compared runs side by side in one invocation, in turns, so that a slow spell of
the computer does not hit one system alone. Results go to ``bench/results/``: ``bench.json`` has
every run, ``bench.md`` the medians with their spread, and plots lie beside them.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import scenarios
from broker import open_broker
from drain import drain
from environments import NotRunError, python_of
from ground import FULL, QUICK, Ground, Scale
from openloop import latencies
from report import page
from systems import System, aiokafka_loop, echo, kafka_streams, mlserver, ours
from workload import Form

RESULTS = Path(__file__).parent / "results"
SCENARIOS = (
    "drain",
    "latency",
    "curve",
    "heavy",
    "lengths",
    "scaling",
    "cold",
    "client",
)
EXACTLY_ONCE = "exactly-once"
Results = dict[str, list[dict[str, Any]]]


class Bench:
    """Runs scenarios, keeps what they gave, and says which systems could not be run."""

    def __init__(self, ground: Ground, results: Results, beside: Path | None = None) -> None:
        self._ground = ground
        self._beside = beside
        self._scale = ground.scale
        self._results = results

    def drain(self) -> None:
        """Every system on the same backlog, in turns."""
        makers = _drained() if self._beside is None else _before_and_after(self._beside)
        systems = list(self._systems(makers, "drain"))
        for repeat in range(1, self._scale.repeats + 1):
            self._keep("models", [scenarios.bare_ffnn(self._ground, repeat)])
            for system in systems:
                backlog = self._ground.backlog(system)
                seconds = self._scale.drain_seconds_max
                self._keep(
                    "drain",
                    [
                        drain(
                            self._ground.broker, system, backlog, repeat=repeat, seconds_max=seconds
                        )
                    ],
                )

    def latency(self) -> None:
        """Round trips at fixed rates."""
        systems = list(self._systems(_at_rates(), "latency"))
        for repeat in range(1, self._scale.repeats + 1):
            for system in systems:
                rates = [
                    rate for rate in self._scale.rates if rate <= 1000 or system.name != "MLServer"
                ]
                self._load("latency", system, rates, repeat)

    def curve(self) -> None:
        """Round trips at rates that grow until a system cannot follow."""
        for system in self._systems(_on_the_curve(), "curve"):
            self._load("curve", system, self._scale.curve, 1)

    def heavy(self) -> None:
        """A model that costs more than all else."""
        self._repeat(scenarios.HeavyModel(self._ground).measure)

    def lengths(self) -> None:
        """Inputs of many lengths."""
        self._repeat(scenarios.Lengths(self._ground).measure)

    def scaling(self) -> None:
        """Workers with a model that sleeps."""
        scaling = scenarios.Scaling(self._ground)
        for repeat in range(1, min(self._scale.repeats, 3) + 1):
            self._keep("figures", scaling.measure(repeat))

    def cold(self) -> None:
        """Process start to first answer."""
        self._repeat(lambda repeat: scenarios.cold_start(self._ground, repeat))

    def client(self) -> None:
        """The requesting side."""
        self._repeat(lambda repeat: scenarios.client(self._ground, repeat))

    def _repeat(self, measure: Callable[[int], list[Any]]) -> None:
        for repeat in range(1, self._scale.repeats + 1):
            self._keep("figures", measure(repeat))

    def _load(self, kind: str, system: System, rates: Any, repeat: int) -> None:
        backlog = self._ground.empty(system)
        seconds = self._scale.rate_seconds
        self._keep(
            kind,
            latencies(self._ground.broker, system, backlog, rates, repeat=repeat, seconds=seconds),
        )

    def _systems(self, makers: list[Callable[[], System]], scenario: str) -> Iterator[System]:
        for make in makers:
            try:
                yield make()
            except NotRunError as error:
                self._results["not_run"].append({"scenario": scenario, "why": str(error)})
                print(f"Not run: {error}", flush=True)

    def _keep(self, kind: str, found: list[Any]) -> None:
        for each in found:
            self._results[kind].append(asdict(each))
            print(_line(asdict(each)), flush=True)


def _drained() -> list[Callable[[], System]]:
    makers: list[Callable[[], System]] = []
    for form in (Form.BINARY, Form.JSON):
        makers += [
            lambda form=form: echo(form),
            lambda form=form: ours(form),
            lambda form=form: ours(form, EXACTLY_ONCE),
            lambda form=form: ours(form, processes=2),
            lambda form=form: kafka_streams(form),
            lambda form=form: kafka_streams(form, threads=2),
            lambda form=form: kafka_streams(form, "exactly_once_v2"),
            lambda form=form: kafka_streams(form, "exactly_once_v2", threads=2),
            lambda form=form: aiokafka_loop(form),
        ]
    return [*makers, mlserver]


def _before_and_after(other: Path) -> list[Callable[[], System]]:
    source = {"PYTHONPATH": str((other / "src").resolve())}
    return [
        lambda: echo(Form.BINARY),
        *(
            lambda form=form, beside=beside: replace(
                ours(form), name=f"ours, {beside}", environment=source if beside == "other" else {}
            )
            for form in Form
            for beside in ("other", "this")
        ),
    ]


def _at_rates() -> list[Callable[[], System]]:
    return [
        lambda: echo(Form.BINARY),
        lambda: ours(Form.BINARY),
        lambda: ours(Form.BINARY, EXACTLY_ONCE),
        lambda: kafka_streams(Form.BINARY, linger_ms=0),
        lambda: aiokafka_loop(Form.BINARY),
        mlserver,
    ]


def _on_the_curve() -> list[Callable[[], System]]:
    return [
        lambda: echo(Form.BINARY),
        lambda: ours(Form.BINARY),
        lambda: kafka_streams(Form.BINARY, linger_ms=0),
        lambda: aiokafka_loop(Form.BINARY),
    ]


def _line(result: dict[str, Any]) -> str:
    """One result for whoever watches."""
    void = f"  VOID: {result['void']}" if result.get("void") else ""
    if "percentiles_ms" in result:
        shown = " ".join(f"{n} {v:.2f}" for n, v in result["percentiles_ms"].items())
        return (
            f"{result['system']}, {result['guarantee']}, {result['rate_per_second']:g}/s: {shown} "
            f"ms, {result['answered']}/{result['requests']}{void}"
        )
    if "scenario" in result:
        return (
            f"{result['scenario']}, {result['name']}: {result['value']:.4g} {result['unit']}{void}"
        )
    return (
        f"{result['system']}, {result['form']}, {result['guarantee']}: "
        f"{result['rate_per_second']:,.0f}/s, {result['cpu_us_per_record']:.1f} µs CPU, "
        f"{result['resident_mb']:.0f} MB, {result['answered']}/{result['records']}{void}"
    )


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "python": platform.python_version(),
    }


def write(results: Results, scale: Scale, folder: Path) -> None:
    """JSON, Markdown, and the plots if their library can be had."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine(), "repeats": scale.repeats, **results}
    (folder / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "bench.md").write_text(page(document))
    try:
        plots = [str(python_of("plots")), str(Path(__file__).parent / "plots.py"), str(folder)]
        subprocess.run(plots, check=True, timeout=120)
    except (NotRunError, subprocess.SubprocessError) as error:
        print(f"No plots: {error}", flush=True)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three minutes, one repeat")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--repeats", type=int)
    parser.add_argument(
        "--beside", type=Path, help="another checkout: drain with its worker and with this one"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    if given.repeats:
        scale = replace(scale, repeats=given.repeats)
    results: Results = {kind: [] for kind in ("models", "drain", "latency", "curve", "figures")}
    results["not_run"] = []
    with tempfile.TemporaryDirectory() as folder, open_broker() as broker:
        bench = Bench(Ground(broker, Path(folder), scale), results, given.beside)
        for name in given.only:
            getattr(bench, name)()
    write(results, scale, given.results)


if __name__ == "__main__":
    main()
