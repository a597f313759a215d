"""The processor: joins the steps, in the intake thread, which never stops polling."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from ondemand import limits
from ondemand.contract.headers import ReplyAddress
from ondemand.contract.record import Partition, Record
from ondemand.errors import Status, StuckError, TransportError
from ondemand.processor.claims import Claims
from ondemand.processor.cost import CostModel
from ondemand.processor.decode import Policy, check_route, decode, locate
from ondemand.processor.delivery import Delivery
from ondemand.processor.encode import Answer, Desk, bury, refuse
from ondemand.processor.forms import Forms
from ondemand.processor.guard import Guard
from ondemand.processor.micro_batch import BatchLimits, MicroBatcher
from ondemand.processor.outbox import Outbox
from ondemand.processor.outcome import Rejected, Unanswerable
from ondemand.processor.progress import Progress
from ondemand.processor.report import Reporter
from ondemand.processor.request import Claimed, Request
from ondemand.processor.runner import Runner, too_late
from ondemand.telemetry.events import Event
from ondemand.transport.base import WorkerTransport

IDLE_SECONDS = 0.05  # how long a turn waits for a first record; also how late a timer may fire
CLAIM_SECONDS = 0.005  # the same while bodies are being read from the object store
FULL_SECONDS = 0.1  # how long a full queue is waited for before partitions are paused
HELD_RECORDS_MAX = 20_000  # taken, and passed by no position: beyond, fetching stops for a while
REPORT_SECONDS = 0.5
WARN_SHARE = 0.25  # of the time after which a partition that stands still ends the process

OFFER_RECORDS = 64  # decoded at once before the model thread may see them

Shedding = Literal["none", "oldest", "by-deadline"]
"""Whom to answer `overloaded` when requests outpace the model; `none`: they wait on the broker."""


class Processor:
    """Answers the requests of one topic with one model, until it is told to stop.

    ``run`` belongs to one thread, which becomes the intake thread. ``stop`` may be called from any
    thread and from a signal handler.
    """

    def __init__(
        self,
        *,
        model: Guard,
        transport: WorkerTransport,
        delivery: Delivery,
        topic: str,
        policy: Policy,
        claims: Claims,
        desk: Desk,
        batch_limits: BatchLimits,
        cost: CostModel,
        shedding: Shedding,
        drain_timeout_seconds: float,
        stuck_seconds: float,
        reporter: Reporter,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
        leave: Callable[[StuckError], None],
    ) -> None:
        self._model = model
        self._transport = transport
        self._topic = topic
        self._policy = policy
        self._forms = Forms(policy)
        self._claims = claims
        self._desk = desk
        self._delivery = delivery
        self._drain_timeout_seconds = drain_timeout_seconds
        self._stuck_seconds = stuck_seconds
        self._progress = Progress(patience_seconds=stuck_seconds * WARN_SHARE)
        self._reporter = reporter
        self._log = reporter.log
        self._clock = clock
        self._now_ms = now_ms
        self._batcher = MicroBatcher(batch_limits, cost)
        self._shedding = shedding
        self._outbox = Outbox(delivery, reporter)
        self._runner = Runner(
            model=model,
            batcher=self._batcher,
            cost=cost,
            desk=desk,
            outbox=self._outbox,
            reporter=reporter,
            now_ms=now_ms,
            clock=clock,
            leave=leave,
        )
        self.stopping = False
        self.paused = False
        self._record_bytes = float(policy.request_bytes_max)  # of the last fetch, on average
        self._reported_at = clock()
        self.turned_at = clock()
        self.joined = False
        self.problems = transport.problems
        self.standing_still: Sequence[str] = ()

    def __repr__(self) -> str:
        return (
            f"<Processor [answering {self.unsettled} | {len(self.partitions)} partitions | "
            f"{self._batcher.rows} rows waiting]>"
        )

    @property
    def partitions(self) -> Collection[Partition]:
        """What this worker reads now."""
        return self._delivery.partitions

    @property
    def unsettled(self) -> int:
        """Records taken from the broker whose answers are not settled."""
        return self._delivery.unsettled

    @property
    def failed(self) -> bool:
        """Whether the model thread ended by an error of ours."""
        return self._runner.failure is not None

    @property
    def answered(self) -> int:
        """Answers sent since the start."""
        return self._outbox.answered

    def run(self) -> None:
        """Join the group and answer until ``stop``; then settle, commit and leave.

        Raises ``ConfigurationError`` where the topic or the broker is not there, and whatever the
        model thread died of.
        """
        self._runner.start()
        try:
            self._transport.subscribe(self._topic, self)
            while not (self.stopping or self.failed):
                self._turn()
        except BaseException as error:
            if not isinstance(error, TransportError | StuckError):
                self._runner.failure = error
            if not (self.stopping and isinstance(error, TransportError)):
                raise
        finally:
            self.stop()
            self._claims.close()
            self._transport.close()  # settles and commits on its way, in on_revoked
            self._delivery.close()
            self._runner.join(0.0 if self._model.stuck else self._drain_timeout_seconds)
        if self._runner.failure is not None:
            raise self._runner.failure

    def stop(self) -> None:
        """Take nothing more; ``run`` settles what is running, commits, and returns.

        Takes no lock, so that a signal handler may call it.
        """
        self.stopping = True
        self._runner.stop()

    # --- the intake thread -------------------------------------------------------------------

    def _turn(self) -> None:
        """One turn: take, decode, offer, run what is cheap; settle, refuse what is late, commit."""
        records = self._transport.fetch(self._records_wanted(), self._patience_seconds())
        self._take(records)
        self._take_redeemed()
        self._runner.turn()
        self._delivery.turn()
        self._refuse_expired()
        self._shed()
        self._balance()
        self._report_if_due()
        self.turned_at = self._clock()

    def _take(self, records: Sequence[Record]) -> None:
        if not records:
            return
        self._record_bytes = sum(len(r.value or b"") for r in records) / len(records)
        for start in range(0, len(records), OFFER_RECORDS):
            self._decode_and_offer(records[start : start + OFFER_RECORDS])

    def _decode_and_offer(self, records: Sequence[Record]) -> None:
        now, now_ms = self._clock(), self._now_ms()
        requests: list[Request] = []
        answers: list[Answer] = []
        there: set[tuple[str, int | None]] = set()  # reply partitions that were looked up already
        for record in self._delivery.take(records):
            decoded: Request | Claimed | Answer | None
            decoded = self._forms.read(record, now=now, now_ms=now_ms)
            if decoded is None or not self._is_there(decoded.located.address, there):
                decoded = self._decode(record, now, now_ms)
            if isinstance(decoded, Answer):
                answers.append(decoded)
            elif isinstance(decoded, Claimed):
                self._claims.add(decoded)
            elif self._claims.holds_back(record):
                self._claims.follow(decoded)
            else:
                requests.append(decoded)
        self._runner.offer(requests)
        if answers:
            self._send(answers)

    def _take_redeemed(self) -> None:
        """Offer or answer the requests whose bodies have come from the object store."""
        if not self._claims.active:
            return
        now_ms = self._now_ms()
        room_bytes = self._batcher.room_bytes
        redeemed = self._claims.turn(room_bytes=room_bytes, now_ms=now_ms)
        self._runner.offer([each for _, each in redeemed if isinstance(each, Request)])
        answers = [
            refuse(located, each, self._desk, now_ms=now_ms)
            for located, each in redeemed
            if not isinstance(each, Request)
        ]
        if answers:
            self._send(answers)

    def _decode(self, record: Record, now: float, now_ms: int) -> Request | Claimed | Answer:
        """A request that the model can run on, perhaps once its body is here; or the answer to one
        that it cannot."""
        located = locate(record, self._policy, now=now)
        if not isinstance(located, Unanswerable):
            gone = check_route(located.address, self._partition_count(located.address))
            if gone is None:
                decoded = decode(located, self._policy, now_ms=now_ms)
                if isinstance(decoded, Request):
                    self._forms.keep(decoded)
                if isinstance(decoded, Request | Claimed):
                    return decoded
                return refuse(located, decoded, self._desk, now_ms=now_ms)
            return bury(record, gone, self._desk, now_ms=now_ms, located=located)
        return bury(record, located, self._desk, now_ms=now_ms)

    def _is_there(self, address: ReplyAddress, there: set[tuple[str, int | None]]) -> bool:
        """Whether the reply's topic and partition are there; *there*: those known to be, grows."""
        place = address.topic, address.partition
        if place not in there and check_route(address, self._partition_count(address)) is None:
            there.add(place)
        return place in there

    def _partition_count(self, address: ReplyAddress) -> int | None:
        """Asks until the broker answers: whether a request is answerable must not be guessed."""
        while True:
            try:
                return self._transport.partition_count(
                    address.topic, at_least=(address.partition or 0) + 1
                )
            except TransportError as error:
                self._log.warning(Event.BROKER_SILENT, message=str(error))
                if self.stopping:
                    raise

    def _refuse_expired(self) -> None:
        if expired := self._runner.take_expired():
            now_ms = self._now_ms()
            self._send([too_late(request, self._desk, now_ms=now_ms) for request in expired])

    def _shed(self) -> None:
        """Answer `overloaded` to whom the policy gives up, so that the others are not late, too."""
        if self._shedding == "none":
            return
        now_ms = self._now_ms()
        with self._runner.changed:
            if self._shedding == "oldest":
                shed = self._batcher.take_oldest() if self._batcher.full else ()
            else:
                shed = self._batcher.take_hopeless(now_ms=now_ms)
        if shed:
            outcome = Rejected(
                Status.OVERLOADED,
                "more requests came than this model can answer in time: try later",
            )
            self._send([refuse(each.located, outcome, self._desk, now_ms=now_ms) for each in shed])

    def _send(self, answers: Sequence[Answer]) -> None:
        self._outbox.send(answers, self._outbox.open())

    def _balance(self) -> None:
        """Pause what comes in while too much waits; polling goes on, so the group keeps us."""
        # What is settled behind a gap takes memory, too: one slow request must not let it pile up.
        held = self._delivery.held
        if not (self.paused or self._batcher.full or self._claims.full or held >= HELD_RECORDS_MAX):
            return  # nearly always; nobody but this thread can make it otherwise
        changed = self._runner.changed
        with changed:
            if not self.paused and self._batcher.full:
                changed.wait_for(lambda: not self._batcher.full, FULL_SECONDS)
            full = self._batcher.full or self._claims.full
            roomy = self._batcher.roomy and self._claims.roomy
            rows, size_bytes = self._batcher.rows, self._batcher.size_bytes
        if (full or held >= HELD_RECORDS_MAX) and not self.paused:
            self._transport.pause(self.partitions)
            self.paused = True
            self._log.info(Event.QUEUE_FULL, queue_rows=rows, queue_bytes=size_bytes)
        elif self.paused and roomy and held <= HELD_RECORDS_MAX // 2:
            self._transport.resume(self.partitions)
            self.paused = False
            self._log.info(Event.QUEUE_RESUMED, queue_rows=rows, queue_bytes=size_bytes)

    def _report_if_due(self) -> None:
        now = self._clock()
        if now < self._reported_at + REPORT_SECONDS:
            return
        self._reported_at = now
        self._reporter.holds(
            partitions=len(self.partitions),
            queue_rows=self._batcher.rows,
            queue_bytes=self._batcher.size_bytes,
            unsettled=self.unsettled,
            paused=int(self.paused),
        )
        lag = self._transport.lag()
        self._reporter.lag(lag)
        self._watch_progress({partition.index: records for partition, records in lag.items()}, now)

    def _watch_progress(self, lag: Mapping[int, int], now: float) -> None:
        """Tell of partitions that stand still; leave where that has gone on for too long."""
        here = self._delivery.waiting()
        waiting = {index: lag.get(index, 0) + records for index, records in here.items()}
        standing = self._progress.observe(self._delivery.marks(), waiting, now=now)
        self.standing_still = tuple(str(each) for each in standing)
        for each in standing:
            self._log.warning(Event.PARTITION_STANDS_STILL, message=str(each))
            if each.seconds >= self._stuck_seconds:
                raise StuckError(f"{each}: leaving, so that another worker takes over")

    def _records_wanted(self) -> int:
        """As many as the queue has room for, by the size of the last ones; at least one."""
        room_bytes = self._batcher.room_bytes / max(self._record_bytes, 1.0)
        room = min(limits.FETCH_RECORDS_MAX, self._batcher.room_rows, int(room_bytes))
        return max(room, 1)

    def _patience_seconds(self) -> float:
        """How long a turn may wait for a record: until the next deadline, or until a batch is due,
        if that is sooner."""
        idle_seconds = CLAIM_SECONDS if len(self._claims) else IDLE_SECONDS
        if (due_seconds := self._runner.due_seconds()) is not None:
            idle_seconds = min(max(due_seconds, 0.001), idle_seconds)
        if (deadline_ms := self._batcher.deadline_ms) is None:
            return idle_seconds
        return min(max((deadline_ms - self._now_ms()) / 1000, 0.001), idle_seconds)

    # --- rebalances, called by the transport in the intake thread ----------------------------

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        """Begin with *partitions*."""
        self._delivery.assign(partitions)
        self.paused = False
        self.joined = True
        self._log.info(Event.PARTITIONS_ASSIGNED, partitions=_names(partitions))

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        """Leave what waits to the next worker, settle what is running, commit."""
        self._drop(partitions)
        unsettled = 0
        if not (self.failed or self._model.stuck):
            unsettled = self._delivery.settle(self._clock() + self._drain_timeout_seconds)
        self._log.info(Event.PARTITIONS_REVOKED, partitions=_names(partitions), unsettled=unsettled)
        self._release(partitions)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Forget them: another worker has them already."""
        self._drop(partitions)
        self.joined = False
        self._log.warning(Event.PARTITIONS_LOST, partitions=_names(partitions))
        self._release(partitions)

    def _drop(self, partitions: Collection[Partition]) -> None:
        self._claims.drop(partitions)
        self._runner.drop(partitions)

    def _release(self, partitions: Collection[Partition]) -> None:
        self._delivery.release(partitions)
        self.paused = False


def _names(partitions: Collection[Partition]) -> list[str]:
    return sorted(str(partition) for partition in partitions)
