"""What code under test finds when it asks for ``threading`` and ``time`` in a simulation."""

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace

import greenlet
from simulation.scheduler import EPOCH_SECONDS, Scheduler, Task

PATCHED = ("ondemand.processor.", "ondemand.transport.memory", "ondemand.testing.faults")
"""Modules (by the start of their name) that find the simulated ``threading`` and ``time``."""


@contextlib.contextmanager
def installed(scheduler: Scheduler) -> Iterator[None]:
    """Lead the worker's modules to simulated threads and clocks; at the end, end all threads."""
    fakes = {"threading": _threading(scheduler), "time": _time(scheduler)}
    changed = _users()
    for module, attribute, _ in changed:
        setattr(module, attribute, fakes[attribute])
    try:
        yield
    finally:
        try:
            for task in scheduler.tasks_of(None):
                scheduler.kill(task)
        finally:
            for module, attribute, real in changed:
                setattr(module, attribute, real)


@functools.cache
def _users() -> list[tuple[ModuleType, str, ModuleType]]:
    """Modules of the worker, the name that leads them to threads or clocks, and where to."""
    real = {"threading": threading, "time": time}
    return [
        (module, attribute, library)
        for name, module in sorted(sys.modules.items())
        for attribute, library in real.items()
        if name.startswith(PATCHED) and getattr(module, attribute, None) is library
    ]


class Lock:
    """As ``threading.Lock``; taken by whoever sets a simulation up, too."""

    reentrant = False

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._owner: Task | None = None
        self._depth = 0
        self._waiting: list[Task] = []

    def acquire(self) -> bool:
        scheduler = self._scheduler
        task = scheduler.current
        if self._depth and self._owner is task:
            if not self.reentrant:
                raise RuntimeError(f"{task} waits for itself")
            self._depth += 1
            return True
        if task is None and self._depth:
            raise greenlet.GreenletExit  # one that was killed, on its way out
        scheduler.maybe_give_way()
        while self._depth:
            self._waiting.append(task)
            scheduler.block(None)
        self._owner, self._depth = task, 1
        if task is not None:
            task.held += 1
        return True

    def release(self) -> None:
        task = self._scheduler.current
        if not self._depth or self._owner is not task:
            if task is None:
                return  # one that was killed held it no more
            raise RuntimeError(f"{task} holds no such lock")
        self._depth -= 1
        if not self._depth:
            self._free(task)

    def _free(self, task: Task | None) -> None:
        self._owner = None
        if task is not None:
            task.held -= 1
        for waiting in self._waiting:
            self._scheduler.wake(waiting)
        self._waiting.clear()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock(Lock):
    """As ``threading.RLock``."""

    reentrant = True


class Condition:
    """As ``threading.Condition``."""

    def __init__(self, scheduler: Scheduler, lock: Lock | None = None) -> None:
        self._scheduler = scheduler
        self._lock = lock or RLock(scheduler)
        self._waiting: list[Task] = []
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        lock, task = self._lock, self._scheduler.current
        if task is None:
            raise greenlet.GreenletExit
        depth, lock._depth = lock._depth, 0
        lock._free(task)
        self._waiting.append(task)
        try:
            woken = self._scheduler.block(timeout)
        finally:
            if task in self._waiting:
                self._waiting.remove(task)
        lock.acquire()
        lock._depth = depth
        return woken

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> object:
        end = None if timeout is None else self._scheduler.now + timeout
        while not (result := predicate()):
            left = None if end is None else end - self._scheduler.now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        for task in self._waiting[:n]:
            self._scheduler.wake(task)
        del self._waiting[:n]

    def notify_all(self) -> None:
        self.notify(len(self._waiting))


class Event:
    """As ``threading.Event``."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._changed = Condition(scheduler)
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        with self._changed:
            self._set = True
            self._changed.notify_all()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._set, timeout))


class Thread:
    """As ``threading.Thread``; it belongs to the process of the one that starts it."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        target: Callable[..., object],
        name: str = "thread",
        args: tuple[object, ...] = (),
        daemon: bool = False,
    ) -> None:
        self._scheduler = scheduler
        self._target = lambda: target(*args)
        self.name = name
        self._task: Task | None = None

    def start(self) -> None:
        current = self._scheduler.current
        process = None if current is None else current.process
        self._task = self._scheduler.spawn(
            self._target, name=f"{process}/{self.name}", process=process
        )

    def is_alive(self) -> bool:
        return self._task is not None and self._task.alive

    def join(self, timeout: float | None = None) -> None:
        if self._task is not None and self._task.alive:
            if self._scheduler.current is not None:  # otherwise killed: ``block`` says so
                self._task.waiters.append(self._scheduler.current)
            self._scheduler.block(timeout)


def _threading(scheduler: Scheduler) -> SimpleNamespace:
    """The module ``threading``, as far as a worker uses it."""
    return SimpleNamespace(
        Lock=lambda: Lock(scheduler),
        RLock=lambda: RLock(scheduler),
        Condition=lambda lock=None: Condition(scheduler, lock),
        Event=lambda: Event(scheduler),
        Thread=lambda **options: Thread(scheduler, **options),
    )


def _time(scheduler: Scheduler) -> SimpleNamespace:
    """The module ``time``, as far as a worker uses it."""
    return SimpleNamespace(
        monotonic=lambda: scheduler.now,
        thread_time=lambda: scheduler.now,  # as if no thread ever waited for a processor
        time_ns=lambda: EPOCH_SECONDS * 1_000_000_000 + round(scheduler.now * 1e9),
        sleep=scheduler.sleep,
    )
