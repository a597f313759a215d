"""What a seed draws: how many workers, how bad the weather, what is asked."""

import random
from dataclasses import dataclass

from ondemand.settings import WorkerSettings

PARTITIONS_MAX = 3
ROWS_MAX = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """One simulation. Rates are chances from 0 to 1; times are in seconds."""

    seed: int
    guarantee: str
    partitions: int
    workers: int
    requests: int
    gap_seconds: float  # between two requests, on average
    strikes: int  # workers that are started, stopped, killed or thrown out
    strike_chance: float  # in each step
    preempt: float
    travel_seconds: float  # to the broker, on average
    stalled: float  # of what is under way
    lost: float
    unacknowledged: float
    refused: float
    commit_fails: float
    silent: float  # of looking a topic up
    aborted: float  # transactions
    run_seconds: float  # of the model, on average
    overrun: float  # of runs that go on until they are stopped
    stuck: float  # of runs that cannot be stopped
    wrong: float  # of runs that give a row too few
    deadlines: float  # of requests
    settings: WorkerSettings


def draw(seed: int, guarantee: str | None = None) -> Plan:
    """The plan of *seed*: each kind of fault is absent in some seeds, and frequent in others.
    Of the *guarantee* that is named, or of either."""
    chance = random.Random(f"plan {seed}")

    def rate(most: float) -> float:
        return chance.choice((0.0, chance.uniform(0.0, most), chance.uniform(0.0, most)))

    batch_rows = chance.choice((4, 8, 16))
    drawn = chance.choice(("at-least-once", "exactly-once"))
    return Plan(
        seed=seed,
        guarantee=guarantee or drawn,
        partitions=chance.randint(1, PARTITIONS_MAX),
        workers=chance.choice((1, 2, 3, 3)),
        requests=chance.randint(20, 60),
        gap_seconds=chance.choice((0.0, 0.002, 0.01, 0.03)),
        strikes=chance.randint(0, 12),
        strike_chance=chance.choice((0.01, 0.03, 0.05)),
        preempt=chance.choice((0.0, 0.1, 0.3)),
        travel_seconds=chance.choice((0.002, 0.01, 0.05)),
        stalled=rate(0.1),
        lost=rate(0.25),
        unacknowledged=rate(0.25),
        refused=rate(0.05),
        commit_fails=rate(0.5),
        silent=rate(0.02),
        aborted=rate(0.3),
        run_seconds=chance.choice((0.0, 0.005, 0.05, 0.15)),
        overrun=rate(0.1),
        stuck=chance.choice((0.0, 0.0, 0.0, 0.02)),
        wrong=chance.choice((0.0, 0.0, 0.1)),
        deadlines=rate(0.9),
        settings=_settings(chance, batch_rows),
    )


def _settings(chance: random.Random, batch_rows: int) -> WorkerSettings:
    return WorkerSettings(
        batch_rows_max=batch_rows,
        queue_rows_max=batch_rows * chance.choice((1, 2, 8)),
        request_rows_max=ROWS_MAX,
        batch_wait_seconds=chance.choice((0.0, 0.0, 0.02)),
        shedding=chance.choice(("none", "none", "oldest", "by-deadline")),
        commit_interval_seconds=chance.choice((0.05, 0.5)),
        drain_timeout_seconds=chance.choice((0.05, 2.0)),
        model_timeout_seconds=0.3,
        # Workers are killed and thrown out so often here that an innocent request could be found
        # guilty of it: that nobody is, is promised for fewer deaths than this in a row.
        attempts_max=100,
    )
