"""A worker's life: start, be seen, drain at the first signal, leave at the second."""

import gc
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Protocol, Self

from ondemand.contract.announcement import AnnouncedTensor, Announcement
from ondemand.contract.headers import Dialect
from ondemand.contract.reply import Served
from ondemand.contract.topics import (
    ReplyTopicRule,
    dead_letter_topic,
    request_topic,
    worker_group,
)
from ondemand.errors import StoreError, StuckError
from ondemand.processor.announcer import Announcer, introduction
from ondemand.processor.at_least_once import AtLeastOnce
from ondemand.processor.careful import CarefulSource
from ondemand.processor.claims import Claims
from ondemand.processor.cost import CostModel
from ondemand.processor.decode import Policy, redeem
from ondemand.processor.delivery import Delivery
from ondemand.processor.encode import Desk
from ondemand.processor.exactly_once import ExactlyOnce
from ondemand.processor.guard import Guard
from ondemand.processor.loop import Processor
from ondemand.processor.micro_batch import BatchLimits
from ondemand.processor.report import Reporter
from ondemand.runtime.base import Model
from ondemand.settings import WorkerSettings
from ondemand.store.objects import ObjectStore
from ondemand.telemetry.events import Event
from ondemand.telemetry.health import HealthServer
from ondemand.telemetry.logging import EventLog
from ondemand.telemetry.metrics import WorkerMetrics
from ondemand.transport.base import PublishingTransport, TransactionalTransport
from ondemand.transport.kafka_worker import KafkaWorkerTransport
from ondemand.transport.kafka_worker_exactly_once import KafkaExactlyOnceTransport
from ondemand.transport.kafka_worker_writer import KafkaRecordWriter

LIVE_SECONDS = 30.0
"""How long the intake thread may take for one turn before the process counts as stuck."""

COLLECT_AFTER_OBJECTS = 50_000
"""Requests are freed when they are done, by their reference counts. Looking for cycles among the
thousands that wait, every 700 objects, took a fifth of the worker's time (docs/performance.md)."""


@dataclass(frozen=True, slots=True)
class Names:
    """The topics and the group of one worker: the contract's, unless settings say otherwise."""

    request_topic: str
    dead_letter_topic: str
    group: str

    @classmethod
    def of(cls, model: Model, settings: WorkerSettings) -> "Names":
        """The names for *model*."""
        return cls(
            settings.request_topic or request_topic(model.name),
            settings.dead_letter_topic or dead_letter_topic(model.name),
            settings.group or worker_group(model.name),
        )


class Overseer(Protocol):
    """Who started this process as one of several, if anybody did."""

    def listening(self, address: str) -> None:
        """Health and metrics are served at ``HOST:PORT`` from now on."""

    def on_end(self, drain: Callable[[], None]) -> None:
        """Call *drain*, from any thread, when the process is to leave, or nobody oversees it."""


def run_worker(
    model: Model,
    settings: WorkerSettings,
    *,
    inputs: Sequence[AnnouncedTensor] = (),
    sha256: str | None = None,
    overseer: Overseer | None = None,
) -> None:
    """Serve *model* until a signal; owns the process's SIGTERM and SIGINT meanwhile.

    For those who ask: *inputs*, what it takes, in more words than its signature has; *sha256*, of
    its file. *overseer* may end it as a signal does.
    Raises ``ConfigurationError`` where the broker, a topic or the port is not as it has to be.
    """
    names = Names.of(model, settings)
    exactly_once = settings.guarantee == "exactly-once"
    make_transport = KafkaExactlyOnceTransport if exactly_once else KafkaWorkerTransport
    transport = make_transport(
        kafka=settings.kafka,
        group=names.group,
        options=settings.kafka_options,
        session_timeout_seconds=settings.session_timeout_seconds,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        client_id=f"ondemand-{model.name}",
        security=settings,
    )
    reporter = Reporter(EventLog(), WorkerMetrics())
    reporter.metrics.worker(model=model.name, version=model.version, guarantee=settings.guarantee)
    processor = make_processor(model, settings, transport=transport, reporter=reporter)
    reporter.log.info(
        Event.WORKER_STARTING,
        model=model.name,
        version=model.version,
        topic=names.request_topic,
        group=names.group,
        kafka=settings.kafka,
    )
    me = introduction(
        model, settings, inputs, topic=names.request_topic, now_ms=_now_ms(), sha256=sha256
    )
    announcer = _make_announcer(me, processor, settings, log=reporter.log)
    health = _serve_health(processor, settings, reporter)
    announcer.start()
    spare_collector()
    try:
        with _Signals(processor, settings, reporter.log) as signals:
            if overseer is not None:
                _introduce(overseer, signals, health)
            processor.run()
    except Exception as error:
        reporter.log.error(Event.WORKER_FAILED, message=str(error) or type(error).__name__)
        raise
    finally:
        announcer.close()
        if health is not None:
            health.close()
    reporter.log.info(
        Event.WORKER_STOPPED, requests=processor.answered, unsettled=processor.unsettled
    )


def spare_collector() -> None:
    """Look for cycles seldom, and not among what is there now: it stays, and looking at it took
    47 ms each time. For the whole process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)


def make_processor(
    model: Model,
    settings: WorkerSettings,
    *,
    transport: PublishingTransport | TransactionalTransport,
    reporter: Reporter,
) -> Processor:
    """A processor for *model*, as *settings* say. The transport decides the guarantee.

    Raises ``ConfigurationError`` where the object store's library is not there.
    """
    names = Names.of(model, settings)
    desk = Desk(
        Served(model.name, model.version), names.dead_letter_topic, settings.reply_bytes_max
    )
    batched = model.signature.batched
    clock, cost = time.monotonic, CostModel()
    guard = Guard(model, timeout_seconds=settings.model_timeout_seconds, cost=cost, clock=clock)
    delivery = _make_delivery(transport, names.request_topic, desk, settings, reporter=reporter)
    source = CarefulSource(
        transport,
        attempts_max=settings.attempts_max,
        unsettled=lambda: delivery.held,
        running=lambda: guard.running,
        doomed=lambda: guard.stuck or processor.failed,
        clock=clock,
        reporter=reporter,
    )
    policy = _make_policy(model, settings, names, source.verdicts)
    processor = Processor(
        model=guard,
        transport=source,
        delivery=delivery,
        topic=names.request_topic,
        policy=policy,
        claims=_make_claims(policy, settings, log=reporter.log),
        desk=desk,
        batch_limits=BatchLimits(
            # Without a batch axis each request is a run of its own: nobody waits for another's.
            rows_max=settings.batch_rows_max if batched else 1,
            bytes_max=settings.batch_bytes_max,
            wait_seconds=settings.batch_wait_seconds if batched else 0.0,
            queue_rows_max=settings.queue_rows_max,
            queue_bytes_max=settings.queue_bytes_max,
        ),
        cost=cost,
        shedding=settings.shedding,
        drain_timeout_seconds=settings.drain_timeout_seconds,
        stuck_seconds=settings.stuck_seconds,
        reporter=reporter,
        now_ms=_now_ms,
        clock=clock,
        leave=partial(_leave, reporter.log),
    )
    return processor


def _make_policy(
    model: Model,
    settings: WorkerSettings,
    names: Names,
    verdicts: Mapping[tuple[int, int], str],
) -> Policy:
    return Policy(
        signature=model.signature,
        model_version=model.version,
        dialects=tuple(Dialect(name) for name in settings.dialects),
        reply_topics=ReplyTopicRule(
            settings.reply_topics, frozenset({names.request_topic, names.dead_letter_topic})
        ),
        request_bytes_max=settings.request_bytes_max,
        request_rows_max=settings.request_rows_max,
        default_deadline_seconds=settings.default_deadline_seconds,
        claim_bytes_max=None if settings.claim_store is None else settings.claim_bytes_max,
        claim_expires_seconds=settings.claim_expires_seconds,
        verdicts=verdicts,
    )


def _make_claims(policy: Policy, settings: WorkerSettings, *, log: EventLog) -> Claims:
    """What reads bodies from the object store, or from none: the policy takes no claim then."""
    url = settings.claim_store
    return Claims(
        _no_store if url is None else ObjectStore(url).read,
        lambda claimed, content: redeem(claimed, content, policy),
        timeout_seconds=settings.claim_timeout_seconds,
        bytes_max=settings.queue_bytes_max,
        clock=time.monotonic,
        log=log,
    )


def _no_store(key: str, _: int) -> bytes:
    raise StoreError(f"{key!r} was claimed, and there is no claim_store")


def _leave(log: EventLog, error: StuckError) -> None:
    """End the process at once: its main thread hangs, and can neither be told nor waited for."""
    log.error(Event.WORKER_FAILED, message=str(error))
    os._exit(error.exit_code)


def _make_delivery(
    transport: PublishingTransport | TransactionalTransport,
    topic: str,
    desk: Desk,
    settings: WorkerSettings,
    *,
    reporter: Reporter,
) -> Delivery:
    clock, now_ms = time.monotonic, _now_ms
    if isinstance(transport, TransactionalTransport):
        return ExactlyOnce(transport, topic, desk, clock=clock, now_ms=now_ms, reporter=reporter)
    return AtLeastOnce(
        transport,
        topic,
        desk,
        commit_interval_seconds=settings.commit_interval_seconds,
        clock=clock,
        now_ms=now_ms,
        reporter=reporter,
    )


def _make_announcer(
    me: Announcement, processor: Processor, settings: WorkerSettings, *, log: EventLog
) -> Announcer:
    """Tells clients of this worker, by a producer of its own: whatever the guarantee is."""
    return Announcer(
        me,
        processor,
        KafkaRecordWriter(
            kafka=settings.kafka,
            options=settings.kafka_options,
            client_id=f"ondemand-{me.model}-announcer",
            security=settings,
        ),
        log=log,
        clock=time.monotonic,
        now_ms=_now_ms,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def problems_of_life(processor: Processor, now: float) -> Sequence[str]:
    """Why the process should be restarted; empty if it should not. *now*: monotonic seconds."""
    problems = []
    silent_seconds = now - processor.turned_at
    if silent_seconds > LIVE_SECONDS:
        problems.append(f"the intake thread has not turned for {silent_seconds:.0f} s")
    if processor.failed:
        problems.append("the model thread has ended")
    return problems


def problems_of_readiness(processor: Processor, now: float) -> Sequence[str]:
    """Why requests are not answered here now; empty if they are."""
    problems = list(problems_of_life(processor, now))
    if not processor.joined:
        problems.append("no partitions assigned yet")
    problems += processor.problems()
    problems += processor.standing_still
    if processor.stopping:
        problems.append("draining")
    return problems


def _serve_health(
    processor: Processor, settings: WorkerSettings, reporter: Reporter
) -> HealthServer | None:
    if settings.http == "off":
        return None
    health = HealthServer(
        settings.http,
        live=lambda: problems_of_life(processor, time.monotonic()),
        ready=lambda: problems_of_readiness(processor, time.monotonic()),
        metrics=reporter.metrics.exposition,
    )
    reporter.log.info(Event.HTTP_LISTENING, address=health.address)
    return health


def _introduce(overseer: Overseer, signals: "_Signals", health: HealthServer | None) -> None:
    """From now on the overseer can end this process in order, and see how it is."""
    overseer.on_end(signals.drain)
    if health is not None:
        overseer.listening(health.address)


class _Signals:
    """The first SIGTERM or SIGINT drains; the second leaves at once. A drain that an overseer asked
    for is not counted as a signal: some send one to every process, and ask for the same by it."""

    def __init__(self, processor: Processor, settings: WorkerSettings, log: EventLog) -> None:
        self._processor = processor
        self._drain_timeout_seconds = settings.drain_timeout_seconds
        self._log = log
        self._signalled = False
        self._previous: Mapping[int, object] = {}

    def __enter__(self) -> Self:
        self._previous = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal() returned

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._signalled:
            self._log.warning(Event.WORKER_ABANDONED, signal=name)
            os._exit(128 + number)
        self._signalled = True
        self._drain_because_of(name)

    def drain(self) -> None:
        """What the first signal does."""
        self._drain_because_of("supervisor")

    def _drain_because_of(self, what: str) -> None:
        if self._processor.stopping:
            return
        self._log.info(
            Event.WORKER_DRAINING,
            signal=what,
            drain_timeout_seconds=self._drain_timeout_seconds,
        )
        self._processor.stop()
