"""The workers of a run: one process for each slot, started again when it ends unasked."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

START_PAUSE_SECONDS = 1.0  # before a process that ended by itself is started again
LEAVE_SECONDS = 30.0
ASSIGNED = '"partitions.assigned"'
REBALANCED = (ASSIGNED, '"partitions.lost"', '"partitions.revoked"')


@dataclass(slots=True)
class _Slot:
    process: subprocess.Popen[bytes]
    log: Path
    paused: bool = False
    lost: frozenset[str] = frozenset()  # the partitions that it had when it was paused
    told_by: Mapping[Path, int] = field(default_factory=dict)  # and how much others had told
    ended_at: float | None = None


@dataclass(slots=True)
class Fleet:
    """Starts, hurts and ends workers. For one thread.

    *command* is what a worker is started by; each process writes a log of its own into *logs*.
    """

    command: Sequence[str]
    logs: Path
    exits: Counter[str] = field(default_factory=Counter)
    evictions: int = 0  # pauses in which others were given what the paused process had
    _slots: dict[int, _Slot] = field(default_factory=dict)
    _leaving: list[tuple[subprocess.Popen[bytes], float]] = field(default_factory=list)
    _started: int = 0

    def start(self, slot: int) -> None:
        """Start a process in *slot*."""
        self._started += 1
        log = self.logs / f"worker-{slot}-{self._started}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            )
        self._slots[slot] = _Slot(process, log)

    def kill(self, slot: int) -> None:
        """SIGKILL; at once another process takes its place."""
        hit = self._slots[slot]
        hit.process.kill()
        hit.process.wait()
        self.exits["killed"] += 1
        self.start(slot)

    def pause(self, slot: int) -> None:
        """SIGSTOP."""
        hit = self._slots[slot]
        hit.paused = True
        hit.lost = _holds(_told(hit.log))
        hit.told_by = {path: len(_told(path)) for path in self.logs.iterdir()}
        hit.process.send_signal(signal.SIGSTOP)

    def resume(self, slot: int) -> None:
        """SIGCONT; nothing where the process is another by now, or has left."""
        hit = self._slots.get(slot)
        if hit is not None and hit.paused:
            self.evictions += self.replaced(slot)
            hit.paused = False
            hit.process.send_signal(signal.SIGCONT)

    def has(self, slot: int) -> bool:
        """Whether *slot* has not been asked to leave."""
        return slot in self._slots

    def paused(self, slot: int) -> bool:
        """Whether the process in *slot* is paused; not if another has taken its place."""
        each = self._slots.get(slot)
        return each is not None and each.paused

    def serves(self, slot: int) -> bool:
        """Whether the process in *slot* has partitions, and is awake."""
        each = self._slots.get(slot)
        return each is not None and not each.paused and bool(_holds(_told(each.log)))

    def replaced(self, slot: int) -> bool:
        """Whether others have been given what the process in *slot* had when it was paused: the
        group has thrown it out. False where it is not paused."""
        each = self._slots.get(slot)
        if each is None or not each.paused:
            return False
        return any(
            each.lost & _given(_told(path)[each.told_by.get(path, 0) :])
            for path in self.logs.iterdir()
            if path != each.log
        )

    def leave(self, slot: int) -> None:
        """SIGTERM; the slot ends. ``tend`` sees the process off."""
        self.resume(slot)  # a driver that is late may find it paused: then it would never leave
        left = self._slots.pop(slot)
        left.process.terminate()
        self._leaving.append((left.process, time.monotonic() + LEAVE_SECONDS))

    def tend(self) -> None:
        """Start what ended by itself again, after a moment; see off who leaves."""
        now = time.monotonic()
        for slot, each in list(self._slots.items()):
            if each.process.poll() is None:
                continue
            if each.ended_at is None:
                each.ended_at = now
                self.exits[f"by itself, {_status(each.process.returncode)}"] += 1
            elif now >= each.ended_at + START_PAUSE_SECONDS:
                self.start(slot)
        self._leaving = [entry for entry in self._leaving if not self._seen_off(*entry, now)]

    def stop(self) -> None:
        """Ask all to leave, wait for them, kill who does not."""
        for slot, each in list(self._slots.items()):
            if each.process.poll() is None:
                self.leave(slot)
        self._slots.clear()
        while self._leaving:
            self.tend()
            time.sleep(0.05)

    def abandon(self) -> None:
        """Kill all that still run, at once."""
        for process in [each.process for each in self._slots.values()] + [
            process for process, _ in self._leaving
        ]:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._slots.clear()
        self._leaving.clear()

    def said(self, text: str) -> int:
        """How many lines of all logs hold *text*."""
        return sum(path.read_text("utf-8", "replace").count(text) for path in self.logs.iterdir())

    def last_words(self) -> str:
        """The last line of the newest log that has one."""
        logs = sorted(self.logs.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        lines = [
            line for path in logs for line in path.read_text("utf-8", "replace").splitlines()[-1:]
        ]
        return lines[0] if lines else "nothing was said"

    def _seen_off(self, process: subprocess.Popen[bytes], deadline: float, now: float) -> bool:
        if process.poll() is None and now < deadline:
            return False
        if process.poll() is None:
            process.send_signal(signal.SIGABRT)  # so that its log shows where its threads are
            process.wait()
            self.exits["asked to leave, aborted at the time limit"] += 1
        else:
            self.exits[f"asked to leave, {_status(process.returncode)}"] += 1
        return True


def command(
    folder: Path, kafka: str, settings: Mapping[str, str], *, control: str | None = None
) -> list[str]:
    """What starts a worker; with *control*, one that is broken in that way."""
    start = [sys.executable, "-m", "ondemand"]
    if control is not None:
        start = [sys.executable, str(Path(__file__).with_name("broken.py")), control]
    line = [*start, "worker", "run", str(folder), "--kafka", kafka, "--http", "off"]
    for name, value in settings.items():
        line += ["--set", f"{name}={value}"]
    return [*line, "--log-format", "json"]


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"


def _told(log: Path) -> Sequence[str]:
    """Of the lines of a log, those about partitions."""
    text = log.read_text("utf-8", "replace")
    lines = text[: text.rfind("\n") + 1].splitlines()  # the last one may be half written
    return [line for line in lines if any(event in line for event in REBALANCED)]


def _holds(told: Sequence[str]) -> frozenset[str]:
    """What a process has that has told so much."""
    return _given(told[-1:])


def _given(told: Sequence[str]) -> frozenset[str]:
    """All partitions that a process was given."""
    given = [json.loads(line)["partitions"] for line in told if ASSIGNED in line]
    return frozenset(chain.from_iterable(given))
