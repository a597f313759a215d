"""What is measured, step by step: one system, once. Systems are measured in turns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import lineups
import scenarios
from drain import drain
from environments import NotRunError
from ground import Ground
from openloop import latencies
from scenarios import Figure
from systems import System, echo, ours
from workload import Form

SCENARIOS = (
    "drain",
    "latency",
    "curve",
    "heavy",
    "lengths",
    "scaling",
    "pause",
    "cold",
    "client",
)
START_SECONDS = 3.0  # about what it takes to start a system, to stop it, and to judge its answers
MLSERVER_RATE_MAX = 1000

NotRun = Callable[[str, str], None]
"""Hears of a scenario and why a system is not in it."""


@dataclass(frozen=True, slots=True)
class Step:
    """*measure* gives results of one *kind*. *seconds*: about how long it takes."""

    scenario: str
    name: str
    repeat: int
    seconds: float
    kind: str
    measure: Callable[[], Sequence[Any]]


class Plan:
    """The steps of each scenario; a method for each."""

    def __init__(self, ground: Ground, on_not_run: NotRun, beside: Path | None = None) -> None:
        self._ground = ground
        self._scale = ground.scale
        self._on_not_run = on_not_run
        self._beside = beside
        self._warm = False

    def steps(self, names: Sequence[str]) -> list[Step]:
        """Those of all scenarios in *names*. Sets up the peers that are not there yet."""
        return [step for name in names for step in getattr(self, name)()]

    def drain(self) -> Iterator[Step]:
        """Every system on the same backlog."""
        makers = lineups.drained() if self._scale.all else lineups.drained_quick()
        if self._beside is not None:
            makers = lineups.drained_beside(self._beside)
        systems = self._systems("drain", makers)
        for repeat in range(1, self._scale.repeats + 1):
            bare = partial(scenarios.bare_ffnn, self._ground)
            yield self._figure("drain", "bare session.run", repeat, bare, kind="models")
            for system in systems:
                measure = partial(self._drain, system, repeat)
                seconds = START_SECONDS + self._scale.drain_seconds
                seconds += self._drain_warm_up_seconds(system)
                yield Step("drain", str(system), repeat, seconds, "drain", measure)

    def latency(self) -> Iterator[Step]:
        """Round trips at fixed rates."""
        makers = lineups.at_rates() if self._scale.all else lineups.at_rates_quick()
        systems = self._systems("latency", makers)
        yield from self._warm_up("latency")
        for repeat in range(1, self._scale.repeats + 1):
            yield from self._loaded("latency", systems, repeat)

    def curve(self) -> Iterator[Step]:
        """Round trips at rates that grow until a system cannot follow."""
        makers = lineups.on_the_curve() if self._scale.all else lineups.on_the_curve_quick()
        yield from self._warm_up("curve")
        yield from self._loaded("curve", self._systems("curve", makers), 1)

    def heavy(self) -> Iterator[Step]:
        """A model that costs more than all else."""
        made = cache(lambda: scenarios.HeavyModel(self._ground))
        for repeat in range(1, self._scale.repeats + 1):
            yield self._figure("heavy", "bare session.run", repeat, lambda n: made().bare(n))
            for rows in (scenarios.HEAVY_ROWS, 1):
                name = f"ours, batches of {rows}"
                yield self._figure("heavy", name, repeat, lambda n, rows=rows: made().ours(rows, n))

    def lengths(self) -> Iterator[Step]:
        """Inputs of many lengths."""
        made = cache(lambda: scenarios.Lengths(self._ground))
        for repeat in self._more():
            for name in ("one length", "eight lengths"):
                for system in (echo(Form.BINARY), ours(Form.BINARY)):
                    yield self._figure(
                        "lengths",
                        f"{system.name}, {name}",
                        repeat,
                        lambda n, of=(system, name): made().measure(*of, n),
                    )

    def scaling(self) -> Iterator[Step]:
        """Workers with a model that sleeps."""
        made = cache(lambda: scenarios.Scaling(self._ground))
        for repeat in self._more():
            for workers in self._scale.workers:
                name = f"{workers} workers"
                yield self._figure(
                    "scaling", name, repeat, lambda n, count=workers: made().measure(count, n)
                )

    def pause(self) -> Iterator[Step]:
        """What those wait who ask while a second process joins."""
        makers = lineups.scaled_out() if self._scale.all else lineups.scaled_out_quick()
        systems = self._systems("pause", makers)
        yield from self._warm_up("pause")
        seconds = START_SECONDS + self._scale.warm_up_seconds + 3 * self._scale.pause_seconds
        for repeat in self._more():
            for system in systems:
                measure = partial(scenarios.scale_out_pause, self._ground, system, repeat)
                yield Step("pause", str(system), repeat, seconds, "figures", measure)

    def cold(self) -> Iterator[Step]:
        """Process start to first answer."""
        for repeat in self._more():
            for system in (ours(Form.BINARY), echo(Form.BINARY)):
                measure = partial(scenarios.cold_start, self._ground, system)
                yield self._figure("cold", system.name, repeat, measure)

    def client(self) -> Iterator[Step]:
        """The requesting side."""
        seconds = START_SECONDS + self._scale.client_calls / 10_000
        for repeat in self._more():
            measure = partial(scenarios.client, self._ground, repeat)
            yield Step("client", "predict_many", repeat, seconds, "figures", measure)

    def _warm_up(self, scenario: str) -> Iterator[Step]:
        """The broker's, before the first scenario that is about latency."""
        if self._warm:
            return
        self._warm = True

        def measure() -> Sequence[Any]:
            scenarios.warm_up_broker(self._ground)
            return ()

        seconds = START_SECONDS + self._scale.broker_warm_up_seconds
        yield Step(scenario, "the broker warms up", 1, seconds, "figures", measure)

    def _drain(self, system: System, repeat: int) -> list[Any]:
        return [
            drain(
                self._ground.broker,
                system,
                self._ground.backlog(system),
                repeat=repeat,
                seconds=self._scale.drain_seconds,
                warm_up_seconds=self._drain_warm_up_seconds(system),
            )
        ]

    def _drain_warm_up_seconds(self, system: System) -> float:
        scale = self._scale
        return scale.compile_seconds if system.compiles else scale.drain_warm_up_seconds

    def _loaded(self, kind: str, systems: Sequence[System], repeat: int) -> Iterator[Step]:
        for system in systems:
            rates = self._scale.rates if kind == "latency" else self._scale.curve
            if system.name == "MLServer":  # it falls behind for good, and only waits
                rates = {rate: rates[rate] for rate in rates if rate <= MLSERVER_RATE_MAX}
            seconds = START_SECONDS + self._scale.warm_up_seconds + sum(rates.values())
            measure = partial(self._at_rates, system, rates, repeat)
            yield Step(kind, str(system), repeat, seconds, kind, measure)

    def _at_rates(self, system: System, rates: Any, repeat: int) -> Sequence[Any]:
        return latencies(
            self._ground.broker,
            system,
            self._ground.empty(system),
            rates,
            repeat=repeat,
            warm_up_seconds=self._scale.warm_up_seconds,
        )

    def _figure(
        self,
        scenario: str,
        name: str,
        repeat: int,
        measure: Callable[[int], Figure],
        *,
        kind: str = "figures",
    ) -> Step:
        """A step that gives one figure: *measure* is told which repeat it is."""
        seconds = START_SECONDS + self._scale.bare_seconds
        return Step(scenario, name, repeat, seconds, kind, lambda: [measure(repeat)])

    def _more(self) -> range:
        return range(1, self._scale.repeats_more + 1)

    def _systems(self, scenario: str, makers: lineups.Makers) -> list[System]:
        made = []
        for make in makers:
            try:
                made.append(make())
            except NotRunError as error:
                self._on_not_run(scenario, str(error))
        return made
