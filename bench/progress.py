"""Takes the steps one after the other, says how far it is, and goes on where one fails."""

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from plan import Step
from results import Results


class Pace:
    """How long steps take, and so how long those will that are left."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._seconds = self._guessed = 0.0

    def took(self, step: Step, seconds: float) -> None:
        """*step* is done."""
        self._taken[step.scenario, step.name].append(seconds)
        self._seconds += seconds
        self._guessed += step.seconds

    def left_seconds(self, steps: Sequence[Step]) -> float:
        """As long as the same took before; as guessed, and corrected by how wrong guesses were,
        where nothing like it was done."""
        wrong_by = self._seconds / self._guessed if self._guessed else 1.0
        return sum(
            statistics.mean(taken)
            if (taken := self._taken.get((step.scenario, step.name)))
            else step.seconds * wrong_by
            for step in steps
        )


def carry_out(steps: Sequence[Step], results: Results) -> None:
    """All of *steps*. One that fails is missing in the report; Ctrl-C leaves out what is left."""
    pace = Pace()
    begun = time.monotonic()
    for done, step in enumerate(steps):
        gone, left = time.monotonic() - begun, pace.left_seconds(steps[done:])
        print(
            f"{_minutes(gone)} gone, about {_minutes(left)} left, {done + 1} of {len(steps)}: "
            f"{step.scenario}, {step.name}, repeat {step.repeat}",
            flush=True,
        )
        try:
            _take(step, results, pace)
        except KeyboardInterrupt:
            print("Interrupted: what is left out is missing in the report.", flush=True)
            for each in steps[done:]:
                results.miss(each, "interrupted")
            return
    print(f"{_minutes(time.monotonic() - begun)} in all.", flush=True)


def _take(step: Step, results: Results, pace: Pace) -> None:
    started = time.monotonic()
    try:
        found = step.measure()
    except Exception as error:  # noqa: BLE001 - no other figure depends on this one
        why = f"{type(error).__name__}: {error}"
        print(f"    failed: {why}", flush=True)
        results.miss(step, why)
    else:
        for each in results.keep(step, found, seconds=time.monotonic() - started):
            print(f"    {line(each)}", flush=True)
    pace.took(step, time.monotonic() - started)


def line(result: dict[str, Any]) -> str:
    """One result for whoever watches."""
    void = f"  VOID: {result['void']}" if result.get("void") else ""
    if "percentiles_ms" in result:
        shown = " ".join(f"{n} {v:.2f}" for n, v in result["percentiles_ms"].items())
        return (
            f"{result['rate_per_second']:g}/s: {shown} ms, "
            f"{result['answered']}/{result['requests']}{void}"
        )
    if "scenario" in result:
        return f"{result['name']}: {result['value']:.4g} {result['unit']}{void}"
    return (
        f"{result['rate_per_second']:,.0f}/s, {result['cpu_us_per_record']:.1f} µs CPU, "
        f"{result['resident_mb']:.0f} MB, {result['answered']}/{result['records']}{void}"
    )


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
