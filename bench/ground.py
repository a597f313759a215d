"""What all scenarios stand on: the broker, the model, the requests, and how much of each."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker import Broker
from drain import Backlog
from models import package
from systems import System
from workload import MODEL, Form, Workload, images

from ondemand.testing.models import ffnn


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: for a report, or for a first look."""

    repeats: int
    records: dict[Form, int]
    drain_seconds_max: float
    rates: tuple[int, ...]
    rate_seconds: float
    curve: tuple[int, ...]
    workers: tuple[int, ...]
    heavy_records: int
    client_calls: int


FULL = Scale(
    repeats=5,
    records={Form.BINARY: 300_000, Form.JSON: 150_000},
    drain_seconds_max=40.0,
    rates=(100, 500, 1000, 2000, 4000),
    rate_seconds=6.0,
    curve=(500, 1000, 2000, 4000, 8000, 12_000, 16_000, 24_000, 32_000),
    workers=(1, 2, 4, 8),
    heavy_records=4000,
    client_calls=100_000,
)
QUICK = Scale(
    repeats=1,
    records={Form.BINARY: 60_000, Form.JSON: 20_000},
    drain_seconds_max=15.0,
    rates=(1000,),
    rate_seconds=3.0,
    curve=(),
    workers=(1, 4),
    heavy_records=1500,
    client_calls=20_000,
)


class Ground:
    """The FFNN's requests lie on one topic for each form, for every system anew as a new group."""

    def __init__(self, broker: Broker, folder: Path, scale: Scale) -> None:
        self.broker = broker
        self.folder = folder
        self.scale = scale
        self._names = itertools.count()
        self._backlogs: dict[Form, Backlog] = {}
        model = ffnn()
        self.ffnn = package(folder, MODEL, model)
        broker.create(f"{MODEL}.dead-letters", 1)
        self.workloads = {form: Workload(form, model, images()) for form in Form}

    def backlog(self, system: System) -> Backlog:
        """What *system* drains. One that reads only what comes later gets a topic of its own."""
        if system.live:
            return self._made(system.form, int(self.scale.records[system.form] * system.share))
        if system.form not in self._backlogs:
            made = self._made(system.form, self.scale.records[system.form])
            print(f"Loading {made.records:,} requests, {system.form}.", flush=True)
            self.broker.load(made.topic, made.workload, range(made.records))
            self._backlogs[system.form] = made
        return self._backlogs[system.form]

    def empty(self, system: System) -> Backlog:
        """A topic for *system* on which nothing lies."""
        return self._made(system.form, 0)

    def other(
        self, workload: Workload, package_folder: Path, records: int, *, partitions: int = 4
    ) -> Backlog:
        """A backlog for another model."""
        model = package_folder.with_suffix(".onnx")
        made = Backlog(self._topic(partitions), records, workload, model, package_folder)
        self.broker.load(made.topic, workload, range(records), partitions=partitions)
        return made

    def _made(self, form: Form, records: int) -> Backlog:
        model: Any = self.folder / f"{MODEL}.onnx"
        return Backlog(self._topic(), records, self.workloads[form], model, self.ffnn)

    def _topic(self, partitions: int = 4) -> str:
        topic = f"bench-{next(self._names)}.requests"
        self.broker.create(topic, partitions)
        return topic
