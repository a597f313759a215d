"""One simulation: a broker, a group of workers, a service that asks, and a seed's bad luck."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from unittest.mock import patch

import greenlet
import numpy as np
from simulation import asked, threads
from simulation.network import GROUP, AtLeastOnceNetwork, ExactlyOnceNetwork, Weather
from simulation.plan import Plan
from simulation.promises import BrokenPromiseError, Promises, rows_held_max
from simulation.scheduler import EPOCH_SECONDS, Scheduler, Task

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.contract.tensor import Datatype
from ondemand.errors import StuckError, TransportError
from ondemand.processor import lifecycle
from ondemand.processor.lifecycle import make_processor
from ondemand.processor.loop import Processor
from ondemand.processor.report import Reporter
from ondemand.runtime.base import Array, Arrays, Signature, TensorSpec
from ondemand.telemetry.metrics import WorkerMetrics
from ondemand.testing.faults import PoisonedModel, SlowModel, StuckModel, WrongModel
from ondemand.transport.base import Positions
from ondemand.transport.memory import MemoryBroker

SESSION_SECONDS = 0.5  # until the group knows that a worker has died
RESTART_SECONDS = 0.2
OUTAGE_SECONDS = 0.7
TROUBLE_SECONDS = 5.0
DRAIN_SECONDS = 60.0  # of calm, in which everything must be answered
STEPS_MAX = 200_000
WORKERS_MAX = 4
METRICS = WorkerMetrics()


class Doubling:
    """``y = 2 * x``."""

    name, version, finite_only = "m", "1", True
    signature = Signature(
        inputs=(TensorSpec("x", Datatype.FP32, (None, 2)),),
        outputs=(TensorSpec("y", Datatype.FP32, (None, 2)),),
        batched=True,
    )

    def run(self, inputs: Arrays) -> dict[str, Array]:
        return {"y": inputs["x"] * np.float32(2)}

    def stop(self) -> None:
        """Nothing to stop."""

    def close(self) -> None:
        """Nothing is held."""


class _WatchedPositions(dict[Partition, int]):
    """A group's committed positions."""

    def __init__(self, promises: Promises) -> None:
        super().__init__()
        self._promises = promises

    def update(self, positions: Positions) -> None:
        self._promises.committed(positions)
        super().update(positions)


class WatchedBroker(MemoryBroker):
    """A ``MemoryBroker`` that tells what it stores."""

    def __init__(self, topics: Mapping[str, int], promises: Promises, **options: object) -> None:
        super().__init__(topics, **options)
        self.promises = promises
        self.group(GROUP).committed = _WatchedPositions(promises)

    def append(self, record: OutgoingRecord) -> Record:
        written = super().append(record)
        self.promises.stored(written)
        return written


@dataclass(eq=False)
class Worker:
    """One process."""

    name: str
    network: AtLeastOnceNetwork | ExactlyOnceNetwork | None = None
    processor: Processor | None = None
    left: bool = False

    def __repr__(self) -> str:
        return self.name


@dataclass
class World:
    """Everything that *plan* says happens, in virtual time. ``run`` raises what is broken."""

    plan: Plan
    tell: Callable[[str], None] = field(default=lambda _: None)
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        seed = self.plan.seed
        self._chance = random.Random(f"world {seed}")
        self.scheduler = Scheduler(random.Random(f"turns {seed}"), preempt=self.plan.preempt)
        self.weather = Weather(self.plan, self._chance)
        self.promises = Promises(self.plan, self.now_ms)
        self.rows_max = rows_held_max(self.plan)
        self._strikes = self.plan.strikes
        self._all_asked = self._ending = False
        self._started = 0

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return EPOCH_SECONDS * 1000 + round(self.scheduler.now * 1000)

    def run(self) -> None:
        """Trouble, then calm, then an orderly end."""
        with threads.installed(self.scheduler), patch.object(lifecycle, "_leave", self._exits):
            topics = {
                asked.REQUESTS: self.plan.partitions,
                asked.DEAD_LETTERS: 1,
                asked.REPLIES: asked.REPLY_PARTITIONS,
            }
            self.broker = WatchedBroker(topics, self.promises, now_ms=self.now_ms)
            for _ in range(self.plan.workers):
                self._start()
            self.scheduler.spawn(self._ask_all, name="service", process="service")
            self._until(self._is_enough, "all is asked")
            self._calm_down()
            self._until(lambda: not self.promises.unanswered, "all is answered")
            self._until(self._is_drained, "all is read and settled")
            self._ending = True
            for worker in self._alive():
                self._log(worker, "is told to stop")
                worker.processor.stop()
            self._until(lambda: not self._alive(), "all workers have left")
            self.promises.ended(self.broker.committed(GROUP), self._ends())
            self.promises.check()

    def _until(self, done: Callable[[], bool], what: str) -> None:
        end = self.scheduler.now + DRAIN_SECONDS
        while not done():
            if self.scheduler.now > end or self.scheduler.steps > STEPS_MAX:
                raise BrokenPromiseError(
                    f"1: after {self.scheduler.now:.1f} s and {self.scheduler.steps} steps still "
                    f"not: {what}; unanswered: {self.promises.unanswered}"
                )
            idle = not self.scheduler.turn()
            if idle and not self._strikes:
                raise BrokenPromiseError(f"1: nothing will ever happen again; still not: {what}")
            self._bury()
            self._check_limits()
            self.promises.check()
            if self._strikes and (idle or self._chance.random() < self.plan.strike_chance):
                self._strikes -= 1
                self._strike()

    # --- what goes wrong ---------------------------------------------------------------------

    def _strike(self) -> None:
        """One of the things that operators and orchestrators see every week."""
        alive = self._alive()
        action = self._chance.choice(
            ("join", "leave", "crash", "crash", "evict", "evict", "outage")
        )
        if action == "join" and len(alive) < WORKERS_MAX:
            self._start()
        elif action == "outage":
            self._outage()
        elif alive and action in {"leave", "crash", "evict"}:
            worker = self._chance.choice(alive)
            self._log(worker, action)
            if action == "leave":
                worker.processor.stop()
            elif action == "evict":
                self.broker.evict(worker.network.memory)
            else:
                self._crash(worker)

    def _crash(self, worker: Worker) -> None:
        """SIGKILL: nothing of it runs any more, and the group notices later."""
        self._dies(worker)
        for task in self.scheduler.tasks_of(worker):
            self.scheduler.kill(task)

    def _exits(self, log: "_Log", error: StuckError) -> None:
        """Where a run hangs in the intake thread, the model thread ends the process."""
        self._log(log.worker, f"exits: {error}")
        self._dies(log.worker)
        raise greenlet.GreenletExit

    def _dies(self, worker: Worker) -> None:
        worker.left = True
        worker.network.crash(self._chance.randrange(3))

        def after_session() -> None:
            self.scheduler.sleep(SESSION_SECONDS)
            self.broker.evict(worker.network.memory)

        self.scheduler.spawn(after_session, name="session", process="broker")
        self._restart_later()

    def _restart_later(self) -> None:
        def restart() -> None:
            self.scheduler.sleep(self._chance.expovariate(1 / RESTART_SECONDS))
            if len(self._alive()) < WORKERS_MAX and not self._ending:
                self._start()

        self.scheduler.spawn(restart, name="restart", process="orchestrator")

    def _outage(self) -> None:
        def outage() -> None:
            self.weather.outage = True
            self.scheduler.sleep(OUTAGE_SECONDS)
            self.weather.outage = False

        self._log("broker", "outage")
        self.scheduler.spawn(outage, name="outage", process="broker")

    def _calm_down(self) -> None:
        self._log("weather", "calm from now on")
        self.weather.calm = True
        self._strikes = 0
        if not [worker for worker in self._alive() if not worker.processor.stopping]:
            self._start()

    # --- workers -----------------------------------------------------------------------------

    def _start(self) -> None:
        self._started += 1
        worker = Worker(f"w{self._started}")
        kind = ExactlyOnceNetwork if self.plan.guarantee == "exactly-once" else AtLeastOnceNetwork
        worker.network = kind(self.broker, self.scheduler, self.weather, self.promises, self.plan)
        task = self.scheduler.spawn(
            lambda: self._live(worker), name=f"{worker}/intake", process=worker
        )
        self._build(worker, task)
        if isinstance(worker.network, AtLeastOnceNetwork):
            self.scheduler.spawn(worker.network.carry, name=f"{worker}/network", process=worker)
        self.workers.append(worker)
        self._log(worker, "starts")

    def _build(self, worker: Worker, task: Task) -> None:
        """As its main thread does: what is started meanwhile belongs to the same process."""
        before, self.scheduler.current = self.scheduler.current, task
        task.held += 1  # gives way to nobody: it has not had its first turn
        try:
            worker.processor = make_processor(
                self._model(),
                self.plan.settings,
                transport=worker.network,
                reporter=Reporter(_Log(self, worker), METRICS),
            )
        finally:
            task.held -= 1
            self.scheduler.current = before

    def _live(self, worker: Worker) -> None:
        try:
            worker.processor.run()
        except (StuckError, TransportError) as error:
            self._log(worker, f"leaves: {error}")
            self._restart_later()
        finally:
            worker.left = True

    def _bury(self) -> None:
        """What a process left running ends with it."""
        for worker in self.workers:
            if worker.left:
                for task in self.scheduler.tasks_of(worker):
                    self.scheduler.kill(task)
        self.workers = [worker for worker in self.workers if not worker.left]

    def _alive(self) -> list[Worker]:
        return [worker for worker in self.workers if not worker.left]

    def _is_enough(self) -> bool:
        """Whether trouble may end."""
        late = self.scheduler.now > TROUBLE_SECONDS
        return self._all_asked and (late or not self._strikes)

    def _is_drained(self) -> bool:
        """Whether every partition has a reader, who has read and settled everything."""
        alive, group = self._alive(), self.broker.group(GROUP)
        if group.rebalancing or any(each.generation != group.generation for each in group.members):
            return False
        lags = [lag for worker in alive for lag in worker.processor._transport.lag().values()]
        unsettled = sum(worker.processor.unsettled for worker in alive)
        return len(lags) == self.plan.partitions and not sum(lags) and not unsettled

    def _model(self) -> SlowModel:
        plan, weather = self.plan, self.weather

        def seconds(rows: int) -> float:
            if weather.happens(plan.overrun):
                return plan.settings.model_timeout_seconds * 3
            return self._chance.uniform(0, plan.run_seconds) * (1 + rows / 8)

        model = PoisonedModel(Doubling(), lambda inputs: bool((inputs["x"] == asked.POISON).any()))
        model = WrongModel(model, lambda _: weather.happens(plan.wrong))
        model = StuckModel(model, lambda _: weather.happens(plan.stuck))
        return SlowModel(model, seconds)

    def _check_limits(self) -> None:
        for worker in self._alive():
            batcher = worker.processor._batcher
            if batcher.rows > self.rows_max or batcher.rows < 0:
                self.promises.exceeded(f"{worker} holds {batcher.rows} rows, {self.rows_max} max")

    # --- the service -------------------------------------------------------------------------

    def _ask_all(self) -> None:
        plan = self.plan
        for number in range(1, plan.requests + 1):
            self.scheduler.sleep(self._chance.expovariate(1.0) * plan.gap_seconds)
            one = asked.ask(number, plan, self._chance, self.now_ms())
            with self.broker.changed:
                self.promises.asked(one, self.broker.append(one.record))
            self._log("service", f"asks {one.name}, {one.answer}, until {one.deadline_ms}")
        self._all_asked = True

    def _ends(self) -> Positions:
        partitions = [Partition(asked.REQUESTS, i) for i in range(self.plan.partitions)]
        return {each: self.broker.log(each).end for each in partitions}

    def _log(self, who: object, what: str) -> None:
        self.tell(f"{self.scheduler.now:9.4f} {self.scheduler.steps:6d} {who}: {what}")


class _Log:
    """An ``EventLog`` that tells the simulation's trace."""

    def __init__(self, world: World, worker: Worker) -> None:
        self._world = world
        self.worker = worker

    def info(self, event: object, **fields: object) -> None:
        self._world._log(self.worker, f"{event} {fields}")

    warning = error = info


def simulate(plan: Plan, tell: Callable[[str], None] = lambda _: None) -> World:
    """Run *plan*. Raises ``BrokenPromiseError``, or whatever the worker's code raises."""
    world = World(plan, tell)
    world.run()
    return world
