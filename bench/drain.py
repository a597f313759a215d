"""Drain throughput: how fast a backlog is answered.

Requests lie on the broker before a system starts. It answers them, all or for so many seconds; the
rate is taken from the reply topic, whose records the broker stamps: the first quarter, or more
where a system warms up for longer, and the last twentieth (partitions that ran dry) are dropped.
Then every answer is compared with the right one.
"""

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from broker import Broker, Ends, between
from systems import Place, Running, System
from workload import REPLIES, Backlog, Verdict, message_bytes

WATCH_SECONDS, START_WATCH_SECONDS = 0.2, 0.05
STABLE_SECONDS = 0.6
LIVE_SECONDS = 1.0
START_SECONDS = 60.0
DROPPED_FIRST, DROPPED_FIRST_MOST, DROPPED_LAST = 0.25, 0.5, 0.05
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Drained:
    """One run. *void*: why its figures do not count, or None."""

    system: str
    form: str
    guarantee: str
    repeat: int
    records: int
    answered: int
    rate_per_second: float
    seconds: float
    cpu_us_per_record: float
    resident_mb: float
    request_bytes: float
    reply_bytes: float
    void: str | None


@dataclass(slots=True)
class Sample:
    """What a system had done, and what it had cost by then."""

    offsets: int
    cpu_seconds: float
    resident_bytes: int


def place_for(broker: Broker, backlog: Backlog, folder: Path) -> Place:
    """Where a system works, as a group that has read nothing yet."""
    group = f"bench-{next(_numbers)}"
    return Place(broker.address, backlog.topic, group, backlog.model, backlog.package, folder)


def drain(
    broker: Broker,
    system: System,
    backlog: Backlog,
    *,
    repeat: int,
    seconds: float,
    warm_up_seconds: float = 0.0,
    members: int | None = None,
) -> Drained:
    """Start *system*, let it answer for at most so many *seconds* once it is warm, stop it, judge.
    It warms up from its first answer on. With *members* the requests are written when so many have
    joined its group."""
    with tempfile.TemporaryDirectory() as folder:
        place = place_for(broker, backlog, Path(folder))
        started = broker.ends(REPLIES)
        with Running(system, place) as running:
            if system.live:
                _await_live(broker, backlog, started)
            if members is not None:
                broker.await_members(place.group, members)
            if system.live or members is not None:
                started = broker.ends(REPLIES)
                broker.load(backlog)
            samples = _watch(broker, running, started, backlog.records, warm_up_seconds + seconds)
            died = running.died
    ended = broker.ends(REPLIES)
    replies = list(broker.read(REPLIES, started, ended))
    verdict = backlog.workload.judge(replies)
    broker.trim(REPLIES, ended)
    times = np.sort([message.timestamp()[1] for message in replies])
    cold = cold_share(times, warm_up_seconds)
    rate, measured_seconds = rate_of(times, cold)
    sizes = [message_bytes(message) for message in replies[:100]]
    return Drained(
        system=system.name,
        form=system.form,
        guarantee=system.guarantee,
        repeat=repeat,
        records=backlog.records,
        answered=verdict.answered,
        rate_per_second=rate,
        seconds=measured_seconds,
        cpu_us_per_record=cpu_us_per_record(samples, cold),
        resident_mb=max((s.resident_bytes for s in samples), default=0) / 1e6,
        request_bytes=backlog.workload.request_bytes,
        reply_bytes=float(np.mean(sizes)) if sizes else 0.0,
        void=_void(system, verdict, died),
    )


def cold_share(times_ms: Sequence[float], warm_up_seconds: float) -> float:
    """The share of the answers that does not count because the system was not warm yet."""
    warm_ms = times_ms[0] + warm_up_seconds * 1000 if len(times_ms) else 0.0
    share = float(np.searchsorted(times_ms, warm_ms)) / max(len(times_ms), 1)
    return min(max(share, DROPPED_FIRST), DROPPED_FIRST_MOST)


def rate_of(times_ms: Sequence[float], cold: float = DROPPED_FIRST) -> tuple[float, float]:
    """Answers per second between the share that is *cold* and the last twentieth; for how long."""
    first, last = int(len(times_ms) * cold), int(len(times_ms) * (1 - DROPPED_LAST)) - 1
    if last <= first or times_ms[last] == times_ms[first]:
        return 0.0, 0.0
    seconds = (times_ms[last] - times_ms[first]) / 1000
    return (last - first) / seconds, seconds


def cpu_us_per_record(samples: Sequence[Sample], cold: float = DROPPED_FIRST) -> float:
    """Microseconds of CPU that an answer cost, between the same bounds as the rate."""
    if not samples:
        return 0.0
    done = samples[-1].offsets
    inner = [s for s in samples if cold * done <= s.offsets < (1 - DROPPED_LAST) * done]
    if len(inner) < 2 or inner[-1].offsets == inner[0].offsets:
        return 0.0
    cpu = inner[-1].cpu_seconds - inner[0].cpu_seconds
    return cpu / (inner[-1].offsets - inner[0].offsets) * 1e6


def _watch(
    broker: Broker, running: Running, started: Ends, records: int, seconds: float
) -> list[Sample]:
    """Until all is answered and nothing more comes, or it is time, or the system died."""
    samples: list[Sample] = []
    changed_at = time.monotonic()
    deadline = changed_at + START_SECONDS
    while time.monotonic() < deadline and running.died is None:
        offsets = between(started, broker.ends(REPLIES))
        now = time.monotonic()
        if not samples and not offsets:
            time.sleep(START_WATCH_SECONDS)
            continue
        if not samples:
            deadline = now + seconds
        if not samples or offsets != samples[-1].offsets:
            changed_at = now
        samples.append(Sample(offsets, *running.usage()))
        if offsets >= records and now > changed_at + STABLE_SECONDS:
            break
        time.sleep(WATCH_SECONDS)
    return samples


def _await_live(broker: Broker, backlog: Backlog, started: Ends) -> None:
    """Ask until the system answers: what came before it read is not read by it."""
    deadline = time.monotonic() + START_SECONDS
    number = 0
    while between(started, broker.ends(REPLIES)) == 0 and time.monotonic() < deadline:
        broker.load(backlog, range(number, number + 4))
        number += 4
        time.sleep(LIVE_SECONDS)
    time.sleep(LIVE_SECONDS)


def _void(system: System, verdict: Verdict, died: str | None) -> str | None:
    if died is not None:
        return f"it ended by itself: {died}"
    if verdict.wrong and system.infers:
        return f"{verdict.wrong} of {verdict.answered} answers are wrong"
    if not verdict.answered:
        return "it answered nothing"
    if verdict.repeated and system.guarantee != "none":
        return f"{verdict.repeated} answers were repeated"
    return None
