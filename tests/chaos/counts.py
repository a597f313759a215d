"""What a run owes, and what it has done: a run that did too little has proved nothing. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.evidence import Evidence
from chaos.plan import FULL, Act, Plan


@dataclass(frozen=True, slots=True)
class Least:
    """At least so many of each, in one run."""

    requests: int
    workers: int
    kills: int
    evictions: int
    joins: int
    leaves: int
    broker_kills: int
    rolls: int


PROMISED = Least(
    requests=100_000,
    workers=3,
    kills=50,
    evictions=50,
    joins=20,
    leaves=20,
    broker_kills=5,
    rolls=1,
)
"""What the full run owes for each guarantee (docs/reliability.md)."""


@dataclass(frozen=True, slots=True)
class Count:
    """How often *what* was done, and how often it had to be."""

    what: str
    done: int
    required: int

    @property
    def enough(self) -> bool:
        """Whether it was done often enough."""
        return self.done >= self.required


def counts(plan: Plan, evidence: Evidence) -> Sequence[Count]:
    """What *plan* owes, beside what *evidence* shows of it."""
    least = PROMISED if plan.scale == FULL else _planned(plan)

    def done(act: Act) -> int:
        return sum(each.act is act for each in evidence.done)

    return (
        Count("requests in their topic", len(evidence.asked), least.requests),
        Count("workers at every time", plan.scale.workers, least.workers),
        Count("workers killed (SIGKILL)", done(Act.KILL), least.kills),
        Count(
            "workers paused (SIGSTOP, SIGCONT) and evicted meanwhile",
            evidence.evictions,
            least.evictions,
        ),
        Count("workers joined", done(Act.JOIN), least.joins),
        Count("workers left (SIGTERM)", done(Act.LEAVE), least.leaves),
        Count("brokers killed (SIGKILL) and restarted", done(Act.BROKER_KILL), least.broker_kills),
        Count("rolling restarts of all brokers", done(Act.BROKER_ROLL), least.rolls),
    )


def _planned(plan: Plan) -> Least:
    """For smaller runs: all that was planned. A pause there may hit who has nothing to lose."""
    return Least(
        requests=plan.scale.requests,
        workers=plan.scale.workers,
        kills=plan.count(Act.KILL),
        evictions=min(plan.count(Act.PAUSE), 1),
        joins=plan.count(Act.JOIN),
        leaves=plan.count(Act.LEAVE),
        broker_kills=plan.count(Act.BROKER_KILL),
        rolls=plan.count(Act.BROKER_ROLL),
    )
