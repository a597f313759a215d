"""One run: starts everything, does what the plan says when it says so, and stops everything.

The driver's own thread holds the workers; brokers, producers and clients have threads of their own.
What comes out is evidence; whether it is good is ``check``'s to say.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from chaos import collect, fleet, load
from chaos.cluster import Surgeon, create_topics, wait_until_healed
from chaos.evidence import Done, Evidence
from chaos.fleet import ASSIGNED, Fleet
from chaos.offsets import COMMITS_TOPIC, Lookout, commits, reached
from chaos.plan import SESSION_SECONDS, Act, Fault, Plan
from chaos.services import Names, RawProducer, Visitors
from confluent_kafka import KafkaException

from ondemand.local import LocalKafka

REQUEST_PARTITIONS = 8
START_SECONDS = 60.0
LOOK_SECONDS = 120.0
STARTS_MAX = 10
DRAIN_SECONDS = 120.0
TICK_SECONDS = 0.02
AGAIN_SECONDS = 0.5
PATIENCE = 20  # so many times
AT_LEAST_ONCE, EXACTLY_ONCE = "at-least-once", "exactly-once"

At = Callable[[float, Callable[[], None]], None]
"""Has something done so many seconds after the beginning."""

SETTINGS = {
    "session_timeout_seconds": f"{SESSION_SECONDS:g}",
    "model_threads": "1",
    "drain_timeout_seconds": "5",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where runs take place, also several at once: a running cluster and who hurts it, the worker
    folder, and a folder for logs."""

    kafka: LocalKafka
    surgeon: Surgeon
    worker: Path
    logs: Path


@dataclass(frozen=True, slots=True)
class Script:
    """What is run. *run* names its topics. *control*: with workers that are broken in this way."""

    run: str
    plan: Plan
    guarantee: str = AT_LEAST_ONCE
    control: str | None = None
    drain_seconds: float = DRAIN_SECONDS


@dataclass(slots=True)
class _Cast:
    """Everything that runs in one run."""

    fleet: Fleet
    surgeon: Surgeon
    raw: RawProducer
    visitors: Visitors
    lookout: Lookout
    done: list[Done] = field(default_factory=list)
    operations: list[tuple[Fault, "Future[tuple[int, int]]"]] = field(default_factory=list)


def perform(stage: Stage, script: Script, say: Callable[[str], None]) -> Evidence:
    """Do all of *script*; returns when everything that it started has stopped.

    Bounded in time by the plan, ``START_SECONDS`` and the script's ``drain_seconds``; *say* hears
    about progress.
    """
    names = Names(script.run)
    create_topics(stage.kafka.address, names.partitions(REQUEST_PARTITIONS))
    with _cast(stage, script, names) as cast:
        _begin(cast, script)
        say("workers have joined")
        _act_out(cast, script.plan, say)
        _end(cast, stage, script, say)
        say("all has stopped: reading the topics")
    return _evidence(stage, script, cast)


@contextmanager
def _cast(stage: Stage, script: Script, names: Names) -> Iterator[_Cast]:
    """Everything, not started yet; whatever happens, all of it is stopped."""
    kafka, scale = stage.kafka.address, script.plan.scale
    logs = stage.logs / script.run
    logs.mkdir(parents=True)
    settings = {
        **SETTINGS,
        "request_topic": names.requests,
        "dead_letter_topic": names.dead_letters,
        "group": names.group,
    }
    if script.guarantee != AT_LEAST_ONCE:
        settings["guarantee"] = script.guarantee
    command = fleet.command(stage.worker, kafka, settings, control=script.control)
    asks = load.draw(script.plan.seed, scale.requests)
    cast = _Cast(
        fleet=Fleet(command, logs),
        surgeon=stage.surgeon,
        raw=RawProducer(kafka, names, asks, scale.rate_per_second),
        visitors=Visitors(kafka, names),
        lookout=Lookout(kafka, names.group, names.requests, REQUEST_PARTITIONS),
    )
    with ExitStack() as stack:
        stack.callback(cast.lookout.stop)
        stack.callback(cast.fleet.abandon)
        stack.callback(_call_off, cast.operations)
        stack.callback(cast.visitors.stop)
        stack.callback(cast.raw.stop)
        yield cast


def _begin(cast: _Cast, script: Script) -> None:
    """Start the workers, and the services once workers have partitions."""
    for slot in range(script.plan.scale.workers):
        cast.fleet.start(slot)
    cast.lookout.start()
    deadline = time.monotonic() + START_SECONDS
    while cast.fleet.said(ASSIGNED) < script.plan.scale.workers:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all workers joined within {START_SECONDS:g} s")
        cast.fleet.tend()
        if sum(cast.fleet.exits.values()) >= STARTS_MAX:
            raise RuntimeError(f"workers do not start: {cast.fleet.last_words()}")
        time.sleep(0.1)
    cast.visitors.start()
    cast.raw.start()


def _act_out(cast: _Cast, plan: Plan, say: Callable[[str], None]) -> None:
    """Every fault at its time, until the requests are all sent."""
    started = time.monotonic()
    order = count()
    agenda: list[tuple[float, int, Callable[[], None]]] = []

    def at(seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(agenda, (started + seconds, next(order), act))

    for fault in plan.faults:
        at(fault.at_seconds, lambda fault=fault: _do(cast, fault, at, started))
    for tenth in range(1, 10):
        at(plan.scale.seconds * tenth / 10, lambda: say(_progress(cast)))
    while agenda or cast.raw.running:
        while agenda and agenda[0][0] <= time.monotonic():
            heapq.heappop(agenda)[2]()
        cast.fleet.tend()
        time.sleep(TICK_SECONDS)


def _do(cast: _Cast, fault: Fault, at: At, started: float) -> None:
    now_ms = time.time_ns() // 1_000_000
    match fault.act:
        case Act.KILL:
            cast.fleet.kill(fault.target)
        case Act.PAUSE:
            _pause(cast, fault, at, started)
            return
        case Act.JOIN:
            cast.fleet.start(fault.target)
        case Act.LEAVE:
            cast.fleet.leave(fault.target)
        case Act.BROKER_KILL:
            cast.operations.append((fault, cast.surgeon.kill(fault.target, fault.seconds)))
            return
        case Act.BROKER_ROLL:
            cast.operations.append((fault, cast.surgeon.roll()))
            return
        case Act.VISIT:
            cast.visitors.receive(fault)
    cast.done.append(Done(fault.act, fault.target, now_ms, now_ms))


def _pause(cast: _Cast, fault: Fault, at: At, started: float, patience: int = PATIENCE) -> None:
    """Once it has something to lose, and until that is lost: on a busy computer either comes late.

    Both within a bound; whether it was evicted is for the evidence to say.
    """
    now = time.monotonic() - started
    if not cast.fleet.has(fault.target):
        return  # it left while this waited
    if patience and not cast.fleet.serves(fault.target):
        at(now + AGAIN_SECONDS, lambda: _pause(cast, fault, at, started, patience - 1))
        return
    begun_ms = time.time_ns() // 1_000_000
    cast.fleet.pause(fault.target)

    def wake(patience: int) -> None:
        if patience and cast.fleet.paused(fault.target) and not cast.fleet.replaced(fault.target):
            at(time.monotonic() - started + AGAIN_SECONDS, lambda: wake(patience - 1))
            return
        # Those who took over have asked for their positions by then.
        at(time.monotonic() - started + AGAIN_SECONDS, lambda: _wake(cast, fault, begun_ms))

    at(now + fault.seconds, lambda: wake(PATIENCE))


def _wake(cast: _Cast, fault: Fault, begun_ms: int) -> None:
    cast.fleet.resume(fault.target)
    now_ms = time.time_ns() // 1_000_000
    cast.done.append(Done(fault.act, fault.target, begun_ms, now_ms))


def _call_off(operations: list[tuple[Fault, "Future[tuple[int, int]]"]]) -> None:
    """Brokers are not hurt any more after this; what has begun is brought to its end."""
    for _, operation in operations:
        if not operation.cancel():
            operation.exception()


def _end(cast: _Cast, stage: Stage, script: Script, say: Callable[[str], None]) -> None:
    """No new requests; brokers whole; then the workers finish, within a bound, and leave."""
    cast.raw.stop()
    cast.visitors.stop()
    say("everything is asked")
    for fault, operation in cast.operations:
        begun_ms, ended_ms = operation.result()
        cast.done.append(Done(fault.act, fault.target, begun_ms, ended_ms))
    wait_until_healed(stage.kafka.address)
    say("brokers are whole")
    deadline = time.monotonic() + script.drain_seconds
    while time.monotonic() < deadline and not _finished(cast.lookout):
        cast.fleet.tend()
        time.sleep(0.1)
    say("workers are asked to leave")
    cast.fleet.stop()
    _look_once_more(cast.lookout)


def _finished(lookout: Lookout) -> bool:
    try:
        return reached(lookout.positions, lookout.ends())
    except KafkaException:
        return False


def _look_once_more(lookout: Lookout) -> None:
    """Until a look that began after now is over: what was committed last has been seen. Raises
    ``TimeoutError`` where no broker tells: that is nothing to judge by."""
    looks = lookout.looks
    deadline = time.monotonic() + LOOK_SECONDS
    while lookout.looks < looks + 2:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no broker told the group's positions for {LOOK_SECONDS:g} s")
        time.sleep(0.05)


def _progress(cast: _Cast) -> str:
    acts = Counter(str(done.act) for done in cast.done)
    hits = ", ".join(f"{number} {act}" for act, number in sorted(acts.items())) or "nothing yet"
    return f"{cast.raw.acknowledged} requests sent; done: {hits}"


def _evidence(stage: Stage, script: Script, cast: _Cast) -> Evidence:
    """Everything that the topics hold, and the diary."""
    names, kafka = Names(script.run), stage.kafka.address
    sightings = list(cast.lookout.sightings)
    if script.guarantee == AT_LEAST_ONCE:
        # In a transaction, an offset is written before it counts: only what was seen is certain.
        log = collect.read_topic(kafka, COMMITS_TOPIC)
        sightings += commits(log, names.group, names.requests)
    replies = chain.from_iterable(collect.read_topic(kafka, topic) for topic in names.replies)
    asked = collect.asked(collect.read_topic(kafka, names.requests))
    ends: dict[int, int] = {}
    for each in asked:
        ends[each.partition] = max(ends.get(each.partition, 0), each.offset + 1)
    return Evidence(
        asked=asked,
        answered=collect.answered(replies),
        buried=collect.buried(collect.read_topic(kafka, names.dead_letters)),
        sightings=sightings,
        done=sorted(cast.done, key=lambda done: done.time_ms),
        ends=ends,
        positions=cast.lookout.positions,
        acknowledged=cast.raw.acknowledged,
        callers=dict(cast.visitors.outcomes),
        exits=dict(cast.fleet.exits),
        evictions=cast.fleet.evictions,
    )
