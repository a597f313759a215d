"""Threads that take turns: one runs at a time, a seed draws who is next, and time is a number.

The code under test is not changed: it calls ``threading`` and ``time`` as it always does, and
inside ``threads.installed`` these names lead here. A thread is a greenlet. It gives way only where
a real one could be interrupted and somebody notice: where it takes a lock, and where it waits.
"""

import heapq
import itertools
import random
from collections.abc import Callable

import greenlet

EPOCH_SECONDS = 1_700_000_000


class Task:
    """One simulated thread. *process* is whatever it dies with."""

    __slots__ = ("alive", "greenlet", "held", "name", "process", "ticket", "waiters", "woken")

    def __init__(self, name: str, process: object) -> None:
        self.greenlet: greenlet.greenlet | None = None
        self.name = name
        self.process = process
        self.alive = True
        self.held = 0  # locks
        self.ticket = 0  # of its last wait: a timer of an earlier one is void
        self.woken = False
        self.waiters: list[Task] = []  # who joins it

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class Scheduler:
    """Runs tasks one at a time. *preempt* is how often one gives way where it takes a lock."""

    def __init__(self, chance: random.Random, *, preempt: float) -> None:
        self._random = chance
        self._preempt = preempt
        self._main = greenlet.getcurrent()
        self._tasks: list[Task] = []
        self._ready: list[Task] = []
        self._timers: list[tuple[float, int, Task, int]] = []
        self._serial = itertools.count()
        self.now = 0.0  # seconds
        self.steps = 0
        self.current: Task | None = None

    def spawn(self, run: Callable[[], object], *, name: str, process: object) -> Task:
        """A task that runs *run*, from its first turn on."""
        task = Task(name, process)

        def body() -> None:
            try:
                run()
            finally:
                task.alive = False
                for waiter in task.waiters:
                    self.wake(waiter)

        task.greenlet = greenlet.greenlet(body, self._main)
        self._tasks.append(task)
        self._ready.append(task)
        return task

    def tasks_of(self, process: object) -> list[Task]:
        """The living tasks of *process*; of all processes for None."""
        self._tasks = [task for task in self._tasks if task.alive]
        return [task for task in self._tasks if process is None or task.process is process]

    def kill(self, task: Task) -> None:
        """End *task* where it stands. What it does on its way out reaches nobody: see ``Lock``."""
        task.alive = False
        if task in self._ready:
            self._ready.remove(task)
        if task.greenlet:  # started, and not finished
            task.greenlet.throw(greenlet.GreenletExit)

    def turn(self) -> bool:
        """Let one task run until it waits, or time go on to the next timer; False: nothing will
        ever happen again."""
        self._fire_timers()
        while not self._ready:
            if not self._timers:
                return False
            self.now = max(self.now, self._timers[0][0])
            self._fire_timers()
        index = self._random.randrange(len(self._ready))
        task = self._ready[index]
        self._ready[index] = self._ready[-1]
        self._ready.pop()
        self.steps += 1
        self.current = task
        try:
            task.greenlet.switch()
        finally:
            self.current = None
        return True

    def sleep(self, seconds: float) -> None:
        """The current task waits."""
        self.block(seconds)

    def block(self, seconds: float | None) -> bool:
        """The current task waits to be woken, at most so long; False if it was not woken."""
        task = self.current
        if task is None or not task.alive:
            raise greenlet.GreenletExit
        task.woken = False
        task.ticket += 1
        if seconds is not None:
            when = self.now + max(seconds, 0.0)
            heapq.heappush(self._timers, (when, next(self._serial), task, task.ticket))
        self._main.switch()
        return task.woken

    def wake(self, task: Task) -> None:
        """*task* waits no longer."""
        if task.alive and not task.woken and task not in self._ready and task is not self.current:
            task.woken = True
            task.ticket += 1
            self._ready.append(task)

    def maybe_give_way(self) -> None:
        """Another task may come first; not while a lock is held, as then nobody could notice."""
        task = self.current
        free = task is not None and task.alive and not task.held
        if free and self._random.random() < self._preempt:
            self._ready.append(task)
            self._main.switch()

    def _fire_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            _, _, task, ticket = heapq.heappop(self._timers)
            if task.alive and ticket == task.ticket:
                task.ticket += 1
                self._ready.append(task)
