"""Log lines on stderr: one event a line, as JSON or for a console, never a payload or a key."""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, Literal

import structlog

from ondemand.telemetry.events import Event

LINES_PER_SECOND_MAX = 20
"""Of one event. A flood of bad requests must not become a flood of lines."""

LogFormat = Literal["auto", "console", "json"]
Fields = MutableMapping[str, Any]


def configure_logging(log_format: LogFormat, level: str, *, process: int | None = None) -> None:
    """Send every log line of this process, the libraries' too, to stderr in one format.

    *process*: which of a supervisor's it is; each line says so.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Callable[[Any, str, Fields], Any]] = [
        structlog.contextvars.merge_contextvars,
        partial(_of_process, process),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # The line and its end in one write: several processes may share stderr, unbuffered.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def _of_process(process: int | None, _logger: Any, _method: str, fields: Fields) -> Fields:
    """Not by a context variable: those are a thread's, and every thread logs."""
    if process is not None:
        fields["process"] = process
    return fields


class EventLog:
    """Writes events of the catalogue, at most ``LINES_PER_SECOND_MAX`` of each in one second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = structlog.get_logger()
        self._clock = clock
        self._second = 0
        self._lines: dict[Event, int] = {}

    def info(self, event: Event, **fields: object) -> None:
        """Something that an operator expects."""
        self._write("info", event, fields)

    def warning(self, event: Event, **fields: object) -> None:
        """Something that heals by itself, and should not happen often."""
        self._write("warning", event, fields)

    def error(self, event: Event, **fields: object) -> None:
        """Something that someone must look at."""
        self._write("error", event, fields)

    def _write(self, level: str, event: Event, fields: dict[str, object]) -> None:
        self._begin_second(int(self._clock()))
        lines = self._lines[event] = self._lines.get(event, 0) + 1
        if lines <= LINES_PER_SECOND_MAX:
            getattr(self._logger, level)(event.value, **fields)

    def _begin_second(self, second: int) -> None:
        if second == self._second:
            return
        ended, self._second, self._lines = self._lines, second, {}
        for event, lines in ended.items():
            if lines > LINES_PER_SECOND_MAX:
                self._logger.warning(
                    Event.LINES_LEFT_OUT.value,
                    of=event.value,
                    left_out=lines - LINES_PER_SECOND_MAX,
                )
