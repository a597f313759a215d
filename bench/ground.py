"""What all scenarios stand on: the broker, the model, the requests, and how much of each."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker import Broker
from models import package
from systems import System
from workload import MODEL, PARTITIONS, Backlog, Form, Workload, images

from ondemand.testing.models import ffnn


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: for a report, or for a first look.

    *repeats* are those of drain and latency, *repeats_more* those of the smaller scenarios. *all*:
    every variant of every system, not each system once. Rates are requests a second, with the
    seconds for which each is asked.
    """

    name: str
    all: bool
    repeats: int
    repeats_more: int
    records: Mapping[Form, int]
    drain_seconds: float  # once a system is warm
    drain_warm_up_seconds: float  # from its first answer
    compile_seconds: float  # the same, of a system that compiles while it runs
    rates: Mapping[int, float]
    curve: Mapping[int, float]
    broker_warm_up_seconds: float  # before the first round trip of an invocation
    warm_up_seconds: float  # of each system
    bare_seconds: float
    heavy_seconds: float  # a batch of the heavy model more or less must not count for a percent
    heavy_records: int
    lengths_records: int
    workers: tuple[int, ...]
    sleeper_seconds: float
    pause_seconds: float
    client_calls: int


FULL = Scale(
    name="full",
    all=True,
    repeats=5,
    repeats_more=3,
    # The echo answers as many in four seconds: fewer would end before its rate is steady.
    records={Form.BINARY: 300_000, Form.JSON: 120_000},
    drain_seconds=3.5,
    drain_warm_up_seconds=1.5,
    compile_seconds=8.0,
    rates={100: 2.5, 500: 2.0, 1000: 3.0, 2000: 1.5, 4000: 1.5},
    curve=dict.fromkeys((500, 1000, 2000, 4000, 8000, 12_000, 16_000, 24_000, 32_000), 1.5),
    broker_warm_up_seconds=40.0,
    warm_up_seconds=2.5,
    bare_seconds=2.5,
    heavy_seconds=9.0,
    heavy_records=7200,
    lengths_records=60_000,
    workers=(1, 2, 4, 8),
    sleeper_seconds=5.0,
    pause_seconds=3.0,
    client_calls=60_000,
)
QUICK = Scale(
    name="quick",
    all=False,
    repeats=1,
    repeats_more=1,
    records={Form.BINARY: 150_000, Form.JSON: 20_000},
    drain_seconds=2.0,
    drain_warm_up_seconds=1.0,
    compile_seconds=4.0,
    rates={1000: 1.5, 4000: 1.0},
    curve={8000: 1.0, 16_000: 1.0},
    broker_warm_up_seconds=14.0,
    warm_up_seconds=1.0,
    bare_seconds=1.5,
    heavy_seconds=2.0,
    heavy_records=1600,
    lengths_records=15_000,
    workers=(1, 2),
    sleeper_seconds=2.5,
    pause_seconds=1.5,
    client_calls=10_000,
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
            print(f"Writing {made.records:,} requests, {system.form}.", flush=True)
            self.broker.load(made)
            self._backlogs[system.form] = made
        return self._backlogs[system.form]

    def empty(self, system: System) -> Backlog:
        """A topic for *system* on which nothing lies."""
        return self._made(system.form, 0)

    def other(
        self,
        workload: Workload,
        package_folder: Path,
        records: int,
        *,
        partitions: int = PARTITIONS,
    ) -> Backlog:
        """What another model is to be asked; nothing of it is written yet."""
        model = package_folder.with_suffix(".onnx")
        topic = self._topic(partitions)
        return Backlog(topic, records, workload, model, package_folder, partitions)

    def _made(self, form: Form, records: int) -> Backlog:
        model = self.folder / f"{MODEL}.onnx"
        return Backlog(self._topic(), records, self.workloads[form], model, self.ffnn)

    def _topic(self, partitions: int = PARTITIONS) -> str:
        topic = f"bench-{next(self._names)}.requests"
        self.broker.create(topic, partitions)
        return topic
