"""What becomes of each process: started, started again when it ends, drained, given up.

Nothing here waits, and time comes from a clock that is given: ``turn`` does what is due now.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from ondemand.supervisor.restarts import STEADY_SECONDS, delay_seconds
from ondemand.telemetry.events import Event
from ondemand.telemetry.logging import EventLog
from ondemand.telemetry.metrics import SupervisorMetrics

LOST: Final = 1
"""The exit code where a process was asked to drain and did not end well."""


class Child(Protocol):
    """A process that was started; ``MemberProcess`` is one."""

    pid: int

    @property
    def address(self) -> str | None:
        """Where it serves its health, once it does."""

    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""

    def ask_to_drain(self) -> None:
        """Let it settle what it has, and leave."""

    def kill(self) -> None:
        """End it at once."""

    def close(self) -> None:
        """Free what held it."""


@dataclass(slots=True)
class Member:
    """One place among the processes, and who holds it now. *due_at*: when the next one starts."""

    index: int
    due_at: float
    child: Child | None = None
    started_at: float = 0.0
    starts: int = 0
    delay_seconds: float | None = None


class Supervisor:
    """Keeps *count* processes running until ``stop``; then until all have drained.

    *start* makes the process of that index, or raises ``OSError``. *hopeless*: exit codes that a
    first start has where no later one will fare better. *drain_seconds*: how long a process may
    take to drain; then it is killed.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[int], Child],
        *,
        hopeless: Collection[int],
        drain_seconds: float,
        clock: Callable[[], float],
        log: EventLog,
        metrics: SupervisorMetrics,
    ) -> None:
        self._start = start
        self._hopeless = hopeless
        self._drain_seconds = drain_seconds
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._kill_at: float | None = None
        self.members = tuple(Member(index, due_at=clock()) for index in range(count))
        self.stopping = False
        self.exit_code = 0
        self.turned_at = clock()

    def __repr__(self) -> str:
        return f"<Supervisor [{self._running} of {len(self.members)} processes]>"

    @property
    def _running(self) -> int:
        return sum(member.child is not None for member in self.members)

    @property
    def done(self) -> bool:
        """Whether it was stopped and nobody is left."""
        return self.stopping and not self._running

    def stop(self) -> None:
        """Let all drain, from the next turn on. Takes no lock: a signal handler may call it."""
        self.stopping = True

    def kill(self) -> None:
        """End all processes at once. They are to be reaped by further turns."""
        for member in self.members:
            if (child := member.child) is not None:
                child.kill()

    def turn(self) -> float:
        """Do what is due now; the seconds until something is due again, as far as is known."""
        now = self.turned_at = self._clock()
        for member in self.members:
            self._take_note(member, now)
        if not self.stopping:
            for member in self.members:
                self._start_if_due(member, now)
            due = [member.due_at for member in self.members if member.child is None]
            return max(min(due, default=now + STEADY_SECONDS) - now, 0.0)
        if self._kill_at is None:
            self._kill_at = now + self._drain_seconds
            self._ask_all_to_drain()
        elif now >= self._kill_at:
            self.kill()
            return STEADY_SECONDS
        return self._kill_at - now

    def _ask_all_to_drain(self) -> None:
        for member in self.members:
            if (child := member.child) is not None:
                child.ask_to_drain()

    def _start_if_due(self, member: Member, now: float) -> None:
        if member.child is not None or now < member.due_at:
            return
        member.starts += 1
        member.started_at = now
        try:
            child = self._start(member.index)
        except OSError as error:
            self._plan_restart(member, now)
            self._log.error(
                Event.PROCESS_NOT_STARTED,
                process=member.index,
                message=str(error),
                restart_in_seconds=member.delay_seconds,
            )
            return
        member.child = child
        self._metrics.started(member.index)
        self._log.info(Event.PROCESS_STARTED, process=member.index, pid=child.pid)

    def _take_note(self, member: Member, now: float) -> None:
        """If the process has ended: plan the next one, or give up."""
        child = member.child
        if child is None or (code := child.exit_code()) is None:
            return
        child.close()
        member.child = None
        self._metrics.ended(member.index)
        if self.stopping:
            self.exit_code = self.exit_code or (LOST if code else 0)
        elif self._never_will(member, code, now):
            self.exit_code = code
            self.stop()
        else:
            self._plan_restart(member, now)
        tell = self._log.info if self.stopping and not code else self._log.warning
        tell(
            Event.PROCESS_ENDED,
            process=member.index,
            pid=child.pid,
            exit_code=code,
            restart_in_seconds=None if self.stopping else member.delay_seconds,
        )

    def _never_will(self, member: Member, code: int, now: float) -> bool:
        """Whether a start failed in a way that only an operator can mend: said at once, and once.
        What has worked before is not judged so, however it ends."""
        young = now - member.started_at < STEADY_SECONDS
        return member.starts == 1 and young and code in self._hopeless

    def _plan_restart(self, member: Member, now: float) -> None:
        lived_seconds = now - member.started_at
        member.delay_seconds = delay_seconds(member.delay_seconds, lived_seconds=lived_seconds)
        member.due_at = now + member.delay_seconds
