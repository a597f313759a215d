"""What is done to the system in one run, and when. Pure: drawn from a seed, so it can be replayed.

Workers live in numbered slots. A join adds a slot, a leave ends one; a kill and a pause hit the
process that is in a slot at the time. At every time at least ``workers`` slots are there.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

PAUSE_MARGIN_SECONDS = (1.5, 3.5)  # beyond the session timeout: long enough to be evicted
SESSION_SECONDS = 3.0
SETTLED_SECONDS = 8.0  # a process this old has joined its group, and has something to lose
EXTRA_SLOTS_MAX = 3
VISIT_SECONDS = (4.0, 10.0)
BROKERS = 3
BROKER_CHANCE = 0.1  # of the time until the next one: they take long


class Act(StrEnum):
    """What can be done."""

    KILL = "kill"  # SIGKILL to a worker; its slot is started again at once
    PAUSE = "pause"  # SIGSTOP for longer than the session timeout, then SIGCONT
    JOIN = "join"  # one worker more
    LEAVE = "leave"  # SIGTERM to a worker; its slot ends
    BROKER_KILL = "broker-kill"  # SIGKILL to a broker, then a restart on the same data
    BROKER_ROLL = "rolling-restart"  # every broker in turn: ordered stop, restart
    VISIT = "visit"  # a client comes, asks for a while, and goes


BROKER_ACTS = (Act.BROKER_KILL, Act.BROKER_ROLL)


@dataclass(frozen=True, slots=True)
class Fault:
    """One act. *target*: a slot, a broker or a client. *seconds*: how long a pause, a broker's
    absence or a visit lasts. *rude*: a client that goes without waiting for its answers."""

    at_seconds: float
    act: Act
    target: int
    seconds: float = 0.0
    rude: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything. *seconds*: how long requests flow. Leaves are as many as joins."""

    seconds: float
    rate_per_second: float
    workers: int
    kills: int = 0
    pauses: int = 0
    joins: int = 0
    broker_kills: int = 0
    rolls: int = 0
    visits: int = 0
    calm_seconds: float = 4.0  # at the beginning, and at the end

    @property
    def requests(self) -> int:
        """How many the raw producers send; clients send some more."""
        return round(self.seconds * self.rate_per_second)


FULL = Scale(
    seconds=780.0,
    rate_per_second=140.0,
    workers=4,
    kills=55,
    pauses=78,
    joins=22,
    broker_kills=6,
    rolls=1,
    visits=40,
)
QUICK = Scale(
    seconds=180.0,
    rate_per_second=140.0,
    workers=4,
    kills=12,
    pauses=14,
    joins=5,
    broker_kills=2,
    rolls=1,
    visits=9,
)
"""A rehearsal of the full plan, as dense in blows."""

SHORT_ROLL = Scale(
    seconds=36.0,
    rate_per_second=60.0,
    workers=3,
    kills=2,
    pauses=2,
    joins=1,
    rolls=1,
    visits=3,
    calm_seconds=2.0,
)
SHORT_KILL = Scale(
    seconds=25.0,
    rate_per_second=60.0,
    workers=3,
    kills=2,
    pauses=2,
    joins=1,
    broker_kills=1,
    visits=3,
    calm_seconds=2.0,
)
"""In short, either guarantee has one of the two: a broker takes ten seconds to come back."""

CONTROL = Scale(seconds=6.0, rate_per_second=60.0, workers=2, kills=1, calm_seconds=2.0)
CONTROL_ZOMBIES = Scale(seconds=24.0, rate_per_second=100.0, workers=3, pauses=4, calm_seconds=2.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. *faults* are in the order of their times."""

    seed: int
    scale: Scale
    faults: tuple[Fault, ...]

    def count(self, act: Act) -> int:
        """How many of one act."""
        return sum(fault.act is act for fault in self.faults)

    def document(self) -> dict[str, object]:
        """For the report."""
        return {"seed": self.seed, "scale": asdict(self.scale)}


def draw(seed: int, scale: Scale) -> Plan:
    """The plan for *seed*; the same seed and scale give the same plan."""
    rng = random.Random(f"plan {seed}")
    faults = [*_worker_faults(rng, scale), *_broker_faults(rng, scale), *_visits(rng, scale)]
    return Plan(seed, scale, tuple(sorted(faults, key=lambda fault: fault.at_seconds)))


def _worker_faults(rng: random.Random, scale: Scale) -> Iterator[Fault]:
    acts = [Act.KILL] * scale.kills + [Act.PAUSE] * scale.pauses + [Act.JOIN] * (2 * scale.joins)
    rng.shuffle(acts)
    scaling = _scaling(rng, scale.joins)
    slots = _Slots(scale.workers)
    for act, at in zip(acts, _times(rng, len(acts), scale), strict=True):
        wanted = next(scaling) if act is Act.JOIN else act
        yield slots.hit(rng, wanted, at)


def _scaling(rng: random.Random, joins: int) -> Iterator[Act]:
    """Joins and leaves in an order in which nobody leaves who has not been joined by another."""
    extra, left = 0, joins
    for _ in range(2 * joins):
        can_join = left > 0 and extra < EXTRA_SLOTS_MAX
        if extra == 0 or (can_join and rng.random() < 0.5):
            extra, left = extra + 1, left - 1
            yield Act.JOIN
        else:
            extra -= 1
            yield Act.LEAVE


class _Slots:
    """Which slots there are, since when their process runs, and until when it is paused."""

    def __init__(self, count: int) -> None:
        self._started = dict.fromkeys(range(count), -SETTLED_SECONDS)
        self._paused_until = dict.fromkeys(range(count), 0.0)
        self._next = count

    def hit(self, rng: random.Random, act: Act, at: float) -> Fault:
        """Choose a slot for *act*, and take note of what becomes of it."""
        if act is Act.JOIN:
            slot, self._next = self._next, self._next + 1
            self._started[slot], self._paused_until[slot] = at, 0.0
            return Fault(at, act, slot)
        # Never twice at the same process while it sleeps: the second blow would not be felt.
        at = max(at, min(self._paused_until.values()))
        awake = [slot for slot in self._started if self._paused_until[slot] <= at]
        if act is Act.LEAVE:
            slot = rng.choice(awake)
            del self._started[slot], self._paused_until[slot]
            return Fault(at, act, slot)
        slot = self._settled(rng, awake, at)
        if act is Act.KILL:
            self._started[slot] = at
            return Fault(at, act, slot)
        seconds = SESSION_SECONDS + rng.uniform(*PAUSE_MARGIN_SECONDS)
        self._paused_until[slot] = at + seconds + 1.0
        return Fault(at, act, slot, seconds)

    def _settled(self, rng: random.Random, awake: Sequence[int], at: float) -> int:
        """One that runs long enough to have joined; otherwise the one that runs longest."""
        settled = [slot for slot in awake if self._started[slot] <= at - SETTLED_SECONDS]
        return rng.choice(settled) if settled else min(awake, key=self._started.__getitem__)


def _broker_faults(rng: random.Random, scale: Scale) -> Iterator[Fault]:
    acts = [Act.BROKER_KILL] * scale.broker_kills + [Act.BROKER_ROLL] * scale.rolls
    rng.shuffle(acts)
    for act, at in zip(acts, _times(rng, len(acts), scale, BROKER_CHANCE), strict=True):
        if act is Act.BROKER_ROLL:
            yield Fault(at, act, 0)
        else:
            yield Fault(at, act, rng.randint(1, BROKERS), rng.uniform(1.0, 6.0))


def _visits(rng: random.Random, scale: Scale) -> Iterator[Fault]:
    for client, at in enumerate(_times(rng, scale.visits, scale)):
        yield Fault(at, Act.VISIT, client, rng.uniform(*VISIT_SECONDS), rude=client % 3 == 2)


def _times(rng: random.Random, count: int, scale: Scale, chance: float = 0.8) -> Iterator[float]:
    """*count* times, spread over the run with some chance, and in order."""
    step = (scale.seconds - 2 * scale.calm_seconds) / max(count, 1)
    for index in range(count):
        yield scale.calm_seconds + (index + rng.uniform(0.0, chance)) * step
