"""A local Kafka that outlives the command that started it.

``python -m ondemand.local.daemon OPTIONS`` holds a ``LocalKafka`` until SIGTERM. A lock on a file
says that it is there: the kernel frees it with the process, whatever ended that, so that a process
ID in an old state file is never taken for ours.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from ondemand.errors import ConfigurationError
from ondemand.local.cache import cache_folder
from ondemand.local.kafka import LocalKafka
from ondemand.local.memory import resident_bytes
from ondemand.local.metadata import known_brokers

STOP_SECONDS = 20.0
BROKER_CHECK_SECONDS = 1.0
PROBE_SECONDS = 2.0
POLL_SECONDS = 0.05
LOCK_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What to start: how many brokers, the first one's port, the data folder (None: temporary)."""

    brokers: int
    port: int
    folder: str | None


@dataclass(frozen=True, slots=True)
class Running:
    """What runs, as its process wrote it down. ``started_at`` is in seconds since the epoch."""

    pid: int
    address: str
    folder: str
    started_at: float
    broker_pids: dict[str, int]

    @property
    def memory_bytes(self) -> int | None:
        """What it and its brokers hold in memory; None where it cannot be told."""
        parts = [resident_bytes(pid) for pid in (self.pid, *self.broker_pids.values())]
        known = [part for part in parts if part is not None]
        return sum(known) if known else None

    def answers(self) -> bool:
        """Whether one of its brokers answers metadata now."""
        for address in self.address.split(","):
            host, port = address.split(":")
            with contextlib.suppress(OSError, ValueError):
                if known_brokers(host, int(port), timeout_seconds=PROBE_SECONDS):
                    return True
        return False


def running() -> Running | None:
    """The local Kafka that runs in the background or in the foreground of a terminal, if any."""
    if not _is_locked():
        return None
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Running(**json.loads(_state_file().read_text(encoding="utf-8")))
    return None  # it is about to start, or about to end


def start(options: Options) -> Running:
    """Start one in the background; return when it is ready.

    Raises ``ConfigurationError`` if one runs already or this one cannot start.
    """
    _folder().mkdir(parents=True, exist_ok=True)
    with (_folder() / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(  # noqa: S603 - this interpreter and our own module
            [sys.executable, "-m", __name__, json.dumps(asdict(options))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        # Its end of the pipe closes when it is ready, or with the reason why it cannot be.
        answer = daemon.stdout.read() if daemon.stdout else b""
    except BaseException:  # Ctrl-C while it starts: it goes too
        daemon.terminate()
        daemon.wait()
        raise
    if error := answer.decode("utf-8").strip():
        raise ConfigurationError(error)
    if (found := running()) is None:
        raise ConfigurationError(f"the local Kafka ended at once: see {_folder() / 'daemon.log'}")
    return found


def stop() -> Running | None:
    """Stop what runs and wait until it is gone; None if nothing ran."""
    found = running()
    if found is None:
        return None
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_locked() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if not _is_locked():
            return found
    raise ConfigurationError(f"process {found.pid} does not end: end it with `kill -9 {found.pid}`")


def hold(kafka: LocalKafka, announce: Callable[[Running], None]) -> None:
    """Run ``kafka`` until SIGTERM or Ctrl-C, known to ``status`` and ``stop`` meanwhile.

    Raises ``ConfigurationError`` if another one runs, if it cannot start, or if a broker dies.
    """
    asked_to_stop = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda *_: _interrupt(asked_to_stop))
    try:
        with _locked(), kafka, contextlib.suppress(KeyboardInterrupt):
            state = _state_of(kafka)
            _write(state)
            announce(state)
            while not asked_to_stop.wait(BROKER_CHECK_SECONDS):
                _require_all(kafka, state)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _require_all(kafka: LocalKafka, state: Running) -> None:
    if len(kafka.process_ids) < len(state.broker_pids):
        raise ConfigurationError(
            "a broker of the local Kafka ended by itself: start again, --folder keeps its log"
        )


def _state_of(kafka: LocalKafka) -> Running:
    return Running(
        pid=os.getpid(),
        address=kafka.address,
        folder=str(kafka.folder),
        started_at=time.time(),
        broker_pids={str(number): pid for number, pid in kafka.process_ids.items()},
    )


def _interrupt(asked_to_stop: threading.Event) -> None:
    """SIGTERM ends a start that is under way, too."""
    asked_to_stop.set()
    raise KeyboardInterrupt


def _folder() -> Path:
    return cache_folder() / "kafka"


def _state_file() -> Path:
    return _folder() / "running.json"


def _write(state: Running) -> None:
    """Whole or not at all: `status` may read at any moment."""
    draft = _state_file().with_suffix(".new")
    draft.write_text(json.dumps(asdict(state), indent=2), encoding="utf-8")
    draft.replace(_state_file())


@contextmanager
def _locked() -> Iterator[None]:
    """Be the one that runs. Raises ``ConfigurationError`` if another one is."""
    _folder().mkdir(parents=True, exist_ok=True)
    with (_folder() / "lock").open("ab") as lock:
        if not _taken(lock):
            found = running()
            where = f", on {found.address}" if found else ""
            raise ConfigurationError(
                f"a local Kafka runs already{where}: use it, or stop it with `ondemand kafka stop`"
            )
        try:
            yield
        finally:
            _state_file().unlink(missing_ok=True)


def _taken(lock: BinaryIO) -> bool:
    """Take the lock; who only asks whether it is held holds it for a moment, so ask again."""
    for _ in range(LOCK_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(POLL_SECONDS)
    return False


def _is_locked() -> bool:
    try:
        with (_folder() / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def main(arguments: list[str]) -> int:
    """Hold a local Kafka; print nothing once it is ready, or why it could not be."""
    options = Options(**json.loads(arguments[0]))
    folder = Path(options.folder) if options.folder else None
    kafka = LocalKafka(brokers=options.brokers, folder=folder, port=options.port)
    try:
        hold(kafka, lambda _: _close_stdout())
    except ConfigurationError as error:
        sys.stdout.write(str(error))
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _close_stdout() -> None:
    """The end of our output is what the starter waits for."""
    sys.stdout = sys.stderr
    os.dup2(sys.stderr.fileno(), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
