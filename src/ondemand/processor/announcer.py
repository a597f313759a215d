"""The announcer: tells clients that this worker is there, from a thread of its own.

Nothing waits for it: neither the loop, nor a process that leaves.
"""

import re
import socket
import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final, Protocol

from ondemand.contract.announcement import (
    AnnouncedTensor,
    Announcement,
    announcement_record,
    leaving_record,
    read_announcement,
)
from ondemand.contract.record import Partition
from ondemand.contract.topics import WORKERS
from ondemand.errors import TransportError
from ondemand.runtime.base import Model, TensorSpec
from ondemand.settings import WorkerSettings
from ondemand.telemetry.events import Event
from ondemand.telemetry.logging import EventLog
from ondemand.transport.base import RecordWriter

TICK_SECONDS: Final = 0.2
"""How late a change of partitions is told."""

WRITE_SECONDS: Final = 2.0
AGAIN_SECONDS: Final = 5.0
"""After trouble; sooner where the interval is shorter."""

LEAVE_SECONDS: Final = 1.0
JOIN_SECONDS: Final = 2.5
"""How long a process that leaves waits for its last word to be written."""

_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
_HOST_LENGTH_MAX: Final = 64


class Announced(Protocol):
    """What is told of a processor."""

    stopping: bool

    @property
    def answered(self) -> int:
        """Answers sent since its start."""

    @property
    def partitions(self) -> Collection[Partition]:
        """What it reads now."""


class Announcer:
    """Announces *worker* as *me*, every ``me.interval_seconds`` and when its partitions change;
    takes that back when it leaves. Where that cannot be, it is said once, and tried again."""

    def __init__(
        self,
        me: Announcement,
        worker: Announced,
        writer: RecordWriter,
        *,
        log: EventLog,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._me = me
        self._worker = worker
        self._writer = writer
        self._log = log
        self._clock = clock
        self._now_ms = now_ms
        self._told: tuple[int, ...] | None = None  # the partitions in the last announcement
        self._spoken = False  # something may be there that has to be taken back
        self._due_at = 0.0
        self._trouble = False
        self._answered, self._measured_at = 0, clock()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def __repr__(self) -> str:
        state = "not told" if self._told is None else f"told {len(self._told)} partitions"
        return f"<Announcer [{self._me.model}/{self._me.instance} | {state}]>"

    def start(self) -> None:
        """Begin, before the worker has partitions: who takes over from one that crashed gets them
        only after the session timeout, and is there already."""
        self._thread.start()

    def close(self) -> None:
        """Take the announcement back, within a bound: a broker that is away keeps nobody here."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)

    def turn(self) -> None:
        """Say what is to be said now. Waits for the broker, at most for some seconds."""
        now = self._clock()
        partitions = tuple(sorted(each.index for each in self._worker.partitions))
        changed = partitions != self._told and not self._trouble
        if not changed and now < self._due_at:
            return
        if now >= self._measured_at + self._me.interval_seconds:
            self._measure(now)
        self._me = replace(self._me, sent_ms=self._now_ms(), partitions=partitions)
        try:
            self._say()
        except TransportError as error:
            again_seconds = min(AGAIN_SECONDS, self._me.interval_seconds)
            self._told, self._due_at = None, now + again_seconds
            self._say_trouble(str(error))
        else:
            first, self._told, self._trouble = self._told is None, partitions, False
            self._due_at = now + self._me.interval_seconds
            if first:
                self._log.info(Event.WORKER_ANNOUNCED, instance=self._me.instance)

    def leave(self) -> None:
        """Take back what was said, if anything was; also what was not acknowledged: it may come
        late."""
        if not self._spoken:
            return
        self._spoken, self._told = False, None
        try:
            self._writer.write(leaving_record(self._me), LEAVE_SECONDS)
        except TransportError as error:
            self._say_trouble(str(error))

    def _run(self) -> None:
        self.turn()
        # A worker that drains takes nothing new: clients are told when that begins, not at its end.
        while not self._leaving.wait(TICK_SECONDS) and not self._worker.stopping:
            self.turn()
        self.leave()

    def _measure(self, now: float) -> None:
        answered = self._worker.answered
        rate = (answered - self._answered) / (now - self._measured_at)
        self._me = replace(self._me, rate_per_second=rate)
        self._answered, self._measured_at = answered, now

    def _say(self) -> None:
        if not self._writer.partition_count(WORKERS):
            raise TransportError(
                f"topic {WORKERS!r} is not there, or not for this login: create it with "
                "`ondemand topics apply`"
            )
        record = announcement_record(self._me)
        if read_announcement(record.value or b"") is None:
            raise TransportError(
                f"what this worker would say of itself ({len(record.value or b'')} bytes) is more "
                "than clients accept (docs/contract.md, Announcements): the names of its tensors "
                "are too long, or it reads too many partitions"
            )
        self._spoken = True
        self._writer.write(record, WRITE_SECONDS)

    def _say_trouble(self, message: str) -> None:
        if not self._trouble:
            self._trouble = True
            self._log.warning(Event.WORKER_UNANNOUNCED, message=message)


def introduction(
    model: Model,
    settings: WorkerSettings,
    inputs: Sequence[AnnouncedTensor] = (),
    *,
    topic: str,
    now_ms: int,
    sha256: str | None = None,
) -> Announcement:
    """What a worker process that starts now says of itself. *topic*: the requests that it reads;
    *inputs*: instead of the signature's; *sha256*: of the model's file."""
    signature = model.signature
    return Announcement(
        model=model.name,
        version=model.version,
        instance=_instance(),
        topic=topic,
        guarantee=settings.guarantee,
        inputs=tuple(inputs) or tuple(map(_announced, signature.inputs)),
        outputs=tuple(map(_announced, signature.outputs)),
        batch_rows_max=settings.batch_rows_max if signature.batched else 1,
        interval_seconds=settings.announce_seconds,
        since_ms=now_ms,
        model_sha256=sha256,
    )


def _announced(spec: TensorSpec) -> AnnouncedTensor:
    return AnnouncedTensor(spec.name, spec.datatype, spec.shape)


def _instance() -> str:
    """What this process is called among others: its host, and a few random digits."""
    host = _NO_NAME.sub("-", socket.gethostname())[:_HOST_LENGTH_MAX] or "worker"
    return f"{host}-{uuid.uuid4().hex[:8]}"
