"""A worker as a process of its own, with its log; and what a process uses."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

BOUND_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses at one moment."""

    resident_bytes: int
    files: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> "Usage":
        """Raises ``psutil.NoSuchProcess`` where it has ended."""
        with process.oneshot():
            return cls(process.memory_info().rss, process.num_fds(), process.num_threads())


class RunningWorker:
    """`ondemand worker run` for *folder*; ends with the ``with`` block."""

    def __init__(
        self,
        folder: Path,
        address: str,
        *,
        log: Path,
        settings: Sequence[str] = (),
        processes: int | None = None,
    ) -> None:
        self._log = log
        command = [sys.executable, "-m", "ondemand", "worker", "run", str(folder)]
        options = ["--kafka", address, "--http", "127.0.0.1:0", "--log-format", "json"]
        if processes is not None:
            options += ["--processes", str(processes)]
        for setting in settings:
            options += ["--set", setting]
        with log.open("wb") as out:
            self.process = subprocess.Popen([*command, *options], stderr=out)
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    @property
    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text()

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait_ready(self) -> Self:
        """Returns when it reads partitions."""
        eventually(self.ready, "the worker is ready")
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        if self.alive:
            self.process.send_signal(number)
        return self.process.wait(BOUND_SECONDS)

    def ready(self) -> bool:
        """What `/readyz` says."""
        assert self.alive, self.log
        return is_ready(self.log)

    def events(self, name: str) -> list[dict[str, object]]:
        """The lines of its log that tell of the event *name*."""
        lines = [line for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["event"] == name]

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page of the address that it serves health at, once it does."""
        (told, *_) = self.events("http.listening")
        try:
            with urllib.request.urlopen(f"http://{told['address']}{path}", timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def is_ready(log: str) -> bool:
    """What `/readyz` says, at the address that *log* tells."""
    lines = [line for line in log.splitlines() if '"http.listening"' in line]
    if not lines:
        return False
    address = json.loads(lines[0])["address"]
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as reply:
            return reply.status == 200
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except urllib.error.URLError:
        return False


def eventually(
    holds: Callable[[], object], what: str, *, bound_seconds: float = BOUND_SECONDS
) -> None:
    """Wait until *holds*; a bound that a working system never needs."""
    deadline = time.monotonic() + bound_seconds
    while not holds():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.05)
