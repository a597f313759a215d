"""What joining and leaving costs those who wait: in `make bench`, and `make bench-rebalance`.

An open loop at a fixed rate, as in `openloop.py`: each latency runs from the moment when its
request was due. Processes of one system join its group and leave it meanwhile. Broker, processes
and load share this computer, so that what a starting process costs others is part of the figures.
"""

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from broker import Broker, open_broker
from drain import place_for
from ground import FULL, Ground
from openloop import Load
from systems import Running, System, ours
from workload import PARTITIONS, REPLIES, Backlog, Form

from ondemand.processor.lifecycle import spare_collector

RATE = 200.0
WARM_UP_SECONDS = 15.0
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Phase:
    """Requests that were due in one phase of one cycle. Latencies in ms from the scheduled time."""

    cycle: int
    name: str
    requests: int
    answered: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Group:
    """Processes of one system that answer together, gone at the exit."""

    def __init__(self, broker: Broker, system: System, backlog: Backlog, folder: Path) -> None:
        self._broker = broker
        self._system = system
        self._place = place_for(broker, backlog, folder)
        self._started = 0
        self._running: list[Running] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(len(self._running))

    def __len__(self) -> int:
        return len(self._running)

    def change(self, count: int) -> None:
        """Start so many more, or stop so many; returns when all that are there have partitions."""
        if count > 0:
            self._join(count)
        else:
            self._leave(-count)
        self._broker.await_members(self._place.group, len(self))

    def _join(self, count: int) -> None:
        for _ in range(count):
            self._started += 1
            folder = self._place.folder / str(self._started)
            folder.mkdir()
            running = Running(self._system, replace(self._place, folder=folder))
            running.start()
            self._running.append(running)

    def _leave(self, count: int) -> None:
        gone = [self._running.pop() for _ in range(count)]
        for running in gone:
            running.tell_to_stop()
        for running in gone:
            running.stop()


@dataclass(frozen=True, slots=True)
class Course:
    """*changes* of the number of processes, 0 for none, one after the other *cycles* times; each
    phase takes *seconds*, or longer where a change does."""

    changes: Sequence[int]
    cycles: int
    seconds: float
    warm_up_seconds: float


def phases(broker: Broker, system: System, backlog: Backlog, course: Course) -> list[Phase]:
    """Load a group that begins with one process; what those waited who were due in each phase.

    Raises ``TimeoutError`` where the group does not answer.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Group(broker, system, backlog, Path(folder)) as group,
    ):
        group.change(1)
        load = Load(broker, backlog)
        try:
            load.first_answer()
            load.at_rate(RATE, course.warm_up_seconds)
            found = _changed(group, load, course)
        finally:
            load.close()
    broker.trim(REPLIES, broker.ends(REPLIES))
    return found


def _changed(group: Group, load: Load, course: Course) -> list[Phase]:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as sender:
        loaded = sender.submit(load.until, stop, RATE)
        try:
            marks = list(_course(group, course))
        finally:
            stop.set()
        dues, waited_ms = loaded.result()
    return [
        _phase(cycle, name, waited_ms[(since <= dues) & (dues < until)])
        for cycle, name, since, until in marks
    ]


def _course(group: Group, course: Course) -> Iterator[tuple[int, str, float, float]]:
    """Change the group; cycle and name of each phase, when it began, and when it ended."""
    for cycle, count in product(range(1, course.cycles + 1), course.changes):
        since, before = time.perf_counter(), len(group)
        if count:
            group.change(count)
        time.sleep(course.seconds)
        yield cycle, _name(before, count), since, time.perf_counter()


def _name(before: int, count: int) -> str:
    if count:
        return f"{before} → {before + count}"
    return "1 process" if before == 1 else f"{before} processes"


def _phase(cycle: int, name: str, waited_ms: np.ndarray) -> Phase:
    p50, p99 = np.percentile(waited_ms, (50, 99), method="higher")
    answered = int(np.isfinite(waited_ms).sum())
    longest = float(waited_ms.max())
    return Phase(cycle, name, len(waited_ms), answered, float(p50), float(p99), longest)


def steady_ms(found: Sequence[Phase]) -> float:
    """The median where nobody joins or leaves."""
    return float(np.median([phase.p50_ms for phase in found if "→" not in phase.name]))


HEADER = "| cycle | phase | answered | p50 ms | p99 ms | max ms |\n|---:|---|---:|---:|---:|---:|"


def line(phase: Phase) -> str:
    """One row of the table, in Markdown."""
    return (
        f"| {phase.cycle} | {phase.name} | {phase.answered}/{phase.requests} | "
        f"{phase.p50_ms:.1f} | {phase.p99_ms:.1f} | {phase.max_ms:.1f} |"
    )


def report(found: Sequence[Phase]) -> str:
    """The results as a page."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    usual = steady_ms(found)
    scaling = [phase for phase in found if "→" in phase.name]
    rows = "\n".join(line(phase) for phase in found)
    added = " · ".join(
        f"{name}: {max(each.max_ms for each in scaling if each.name == name) - usual:.0f} ms"
        for name in dict.fromkeys(each.name for each in scaling)
    )
    worst_steady = max(phase.max_ms for phase in found if phase not in scaling) - usual
    return (
        "# Scaling while requests flow\n\n"
        f"Printed by `make bench-rebalance` on {machine}, which ran broker, workers and load:\n"
        f"{RATE:g} requests a second, {PARTITIONS} partitions, FFNN 784-32-32-10. Latency runs\n"
        "from the scheduled time. Absolute figures vary from computer to computer.\n\n"
        f"The steady median is {usual:.1f} ms. The request that waited longest waited longer than\n"
        f"that by — {added} · without any scaling: {worst_steady:.0f} ms.\n\n"
        f"{HEADER}\n{rows}\n"
    )


def main() -> None:
    """Measure, print, and write `bench/results/rebalance.md` and `.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--cycles", type=int, default=5)
    given = parser.parse_args()
    course = Course((0, 2, 0, -2), given.cycles, given.seconds, WARM_UP_SECONDS)
    spare_collector()  # the load's own pauses are not what is measured
    with tempfile.TemporaryDirectory() as folder, open_broker() as broker:
        system = ours(Form.BINARY)
        backlog = Ground(broker, Path(folder), FULL).empty(system)
        found = phases(broker, system, backlog, course)
    RESULTS.mkdir(exist_ok=True)
    page = report(found)
    (RESULTS / "rebalance.md").write_text(page)
    figures = json.dumps([asdict(each) for each in found], indent=2)
    (RESULTS / "rebalance.json").write_text(figures + "\n")
    print(page)


if __name__ == "__main__":
    main()
