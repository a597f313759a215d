"""A worker as a process of its own, with its log; and what a process uses."""

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
        self, folder: Path, address: str, *, log: Path, settings: Sequence[str] = ()
    ) -> None:
        self._log = log
        command = [sys.executable, "-m", "ondemand", "worker", "run", str(folder)]
        options = ["--kafka", address, "--http", "127.0.0.1:0", "--log-format", "json"]
        for setting in settings:
            options += ["--set", setting]
        with log.open("wb") as out:
            self._process = subprocess.Popen([*command, *options], stderr=out)
        self.pid = self._process.pid

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
        return self._process.poll() is None

    def wait_ready(self) -> Self:
        """Returns when it reads partitions."""
        eventually(self._ready, "the worker is ready")
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        if self.alive:
            self._process.send_signal(number)
        return self._process.wait(BOUND_SECONDS)

    def _ready(self) -> bool:
        assert self.alive, self.log
        lines = [line for line in self.log.splitlines() if '"http.listening"' in line]
        if not lines:
            return False
        address = lines[0].split('"address": "')[1].split('"')[0]
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
