"""Processes and a clock that do what a test says."""

from itertools import count

from ondemand.supervisor.loop import Supervisor
from ondemand.telemetry.logging import EventLog
from ondemand.telemetry.metrics import SupervisorMetrics

HOPELESS = 1
DRAIN_SECONDS = 20.0


class FakeChild:
    """A process that ends when a test says so, with the *code* that it says."""

    def __init__(self, pid):
        self.pid = pid
        self.address = None
        self.code = None
        self.asked = 0
        self.killed = False
        self.closed = False

    def exit_code(self):
        return self.code

    def ask_to_drain(self):
        self.asked += 1

    def kill(self):
        self.killed = True
        self.code = -9

    def close(self):
        self.closed = True


class Nursery:
    """A supervisor of *members* fake processes, at a time that is set by hand."""

    def __init__(self, members):
        self.now = 100.0
        self.started = []
        self.refuses = False
        self.metrics = SupervisorMetrics(members)
        self._pids = count(1)
        self.supervisor = Supervisor(
            members,
            self._start,
            hopeless=(HOPELESS,),
            drain_seconds=DRAIN_SECONDS,
            clock=lambda: self.now,
            log=EventLog(lambda: self.now),
            metrics=self.metrics,
        )

    def _start(self, index):
        if self.refuses:
            raise OSError("no more processes")
        child = FakeChild(next(self._pids))
        self.started.append((self.now, index))
        return child

    def child(self, index):
        """Who holds that place now."""
        return self.supervisor.members[index].child

    def turn(self, after=0.0):
        """Let time pass, and do what is due."""
        self.now += after
        return self.supervisor.turn()

    def starts_of(self, index, until):
        """When the process of that index was started, if it ends at once, up to a time."""
        while self.now < until:
            wait = self.turn()
            if (child := self.child(index)) is not None:
                child.code = 3
            else:
                self.now += wait
        return [at for at, of in self.started if of == index]
