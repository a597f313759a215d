"""The parent's life: start the processes, be seen, drain at a signal, leave at the second one."""

import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from types import FrameType
from typing import Final

from ondemand.settings import WorkerSettings
from ondemand.supervisor.lifeline import leave_seconds
from ondemand.supervisor.loop import Supervisor
from ondemand.supervisor.member import MemberProcess
from ondemand.supervisor.probes import Probes
from ondemand.telemetry.events import Event
from ondemand.telemetry.health import HealthServer
from ondemand.telemetry.logging import EventLog
from ondemand.telemetry.metrics import SupervisorMetrics

WAIT_SECONDS_MAX: Final = 1.0
"""A process that ends wakes us by a signal; this is for whatever else may happen."""


def run_supervisor(
    command: Callable[[int], Sequence[str]], settings: WorkerSettings, *, hopeless: Collection[int]
) -> int:
    """Keep ``settings.processes`` processes running until a signal; the exit code.

    Owns this process's SIGTERM, SIGINT and SIGCHLD meanwhile. *command*: the line that starts the
    process of that index, each of which takes its standard input for a ``Lifeline``. *hopeless*:
    exit codes of a first start that no later one will mend.
    Raises ``ConfigurationError`` where the port cannot be had.
    """
    children: dict[int, MemberProcess] = {}

    def start(index: int) -> MemberProcess:
        child = children[index] = MemberProcess(command(index))
        return child

    log, metrics = EventLog(), SupervisorMetrics(settings.processes)
    supervisor = Supervisor(
        settings.processes,
        start,
        hopeless=hopeless,
        drain_seconds=leave_seconds(settings),
        clock=time.monotonic,
        log=log,
        metrics=metrics,
    )
    probes = Probes(supervisor, metrics, clock=time.monotonic)
    with _health(probes, settings, log), _signals(supervisor, settings, log) as wake:
        try:
            while not supervisor.done:
                wait_seconds = supervisor.turn()
                _wait(wake, children.values(), min(wait_seconds, WAIT_SECONDS_MAX))
        finally:
            supervisor.kill()  # nobody, unless something unforeseen ended the loop
    return supervisor.exit_code


def _wait(wake: int, children: Collection[MemberProcess], seconds: float) -> None:
    """Until a signal comes, a process says something, or *seconds* have passed."""
    speaking = {child.fileno(): child for child in children if child.speaks}
    readable, _, _ = select.select([wake, *speaking], [], [], seconds)
    for descriptor in readable:
        if descriptor == wake:
            os.read(wake, 4_096)
        else:
            speaking[descriptor].listen()


def _health(
    probes: Probes, settings: WorkerSettings, log: EventLog
) -> closing[HealthServer] | nullcontext[None]:
    if settings.http == "off":
        return nullcontext()
    health = HealthServer(
        settings.http,
        live=probes.problems_of_life,
        ready=probes.problems_of_readiness,
        metrics=probes.metrics,
    )
    log.info(Event.HTTP_LISTENING, address=health.address)
    return closing(health)


@contextmanager
def _signals(supervisor: Supervisor, settings: WorkerSettings, log: EventLog) -> Iterator[int]:
    """Signals drain and then leave; the descriptor becomes readable with each of them."""
    signals: list[str] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        signals.append(name)
        if len(signals) > 1:
            log.warning(Event.WORKER_ABANDONED, signal=name)
            supervisor.kill()
            os._exit(128 + number)
        log.info(
            Event.WORKER_DRAINING,
            signal=name,
            drain_timeout_seconds=settings.drain_timeout_seconds,
        )
        supervisor.stop()

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    waker = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = dict.fromkeys((signal.SIGTERM, signal.SIGINT), on_signal)
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    # With its default a process that ends would wake nobody.
    previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        yield reader
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(waker)
        os.close(reader)
        os.close(writer)
