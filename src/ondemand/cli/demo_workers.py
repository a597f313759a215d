"""The demo's workers: processes that end with the demo, by whatever death it dies."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ondemand.errors import ConfigurationError
from ondemand.local.broker import Broker, Command

STOP_SECONDS: Final = 12.0
"""A little more than a worker takes at most to drain."""

LINES_SHOWN: Final = 5


class DemoWorkers:
    """``ondemand worker run FOLDER``, once for each model. *logs*: where they write."""

    def __init__(self, kafka: str, folders: Mapping[str, Path], logs: Path) -> None:
        self._kafka = kafka
        self._folders = folders
        self._logs = logs
        self._running: dict[str, Broker] = {}

    def __enter__(self) -> Self:
        try:
            for model in self._folders:
                self.start(model)
        except BaseException:  # Ctrl-C too: those that run already must go
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, model: str) -> None:
        """Start a worker; that it answers is for the first prediction to show."""
        line = [
            *(sys.executable, "-m", "ondemand", "worker", "run", str(self._folders[model])),
            *("--kafka", self._kafka, "--http", "off", "--log-format", "console"),
        ]
        # The guard of local brokers serves any process that must not outlive this one. It also
        # removes the logs where this process could not.
        self._running[model] = Broker(
            Command(line=line, jars=(), log=self._logs / f"{model}.log", scratch=self._logs)
        )

    def kill(self, model: str) -> None:
        """SIGKILL: no draining, no last commit, no word to the group."""
        self._running.pop(model).kill()

    def require_running(self) -> None:
        """Raise ``ConfigurationError`` with a worker's last words if one has ended by itself."""
        for model, process in self._running.items():
            if not process.running:
                words = "\n    ".join(process.log_tail(LINES_SHOWN)) or "(nothing)"
                raise ConfigurationError(
                    f"the worker {model} has ended; it said last:\n    {words}"
                )

    def stop(self) -> None:
        """Let all drain at once; kill what does not end in time."""
        for process in self._running.values():
            process.ask_to_stop()
        for process in self._running.values():
            process.wait(timeout_seconds=STOP_SECONDS)
            process.kill()
        self._running.clear()
