"""Log lines: one event a line, bounded, without payloads."""

import io
import json
import logging
import sys

import pytest
import structlog

from ondemand.telemetry.events import Event
from ondemand.telemetry.logging import LINES_PER_SECOND_MAX, EventLog, configure_logging


@pytest.fixture(autouse=True)
def _own_configuration():
    """Logging is the process's: what a test sets goes with it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys):
    """What was written, parsed."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_flood_of_one_event_is_cut_and_counted(capsys):
    """A caller that sends a million bad requests must not fill the disk; nothing is hidden."""
    configure_logging("json", "info")
    now = 10.0
    log = EventLog(clock=lambda: now)
    for i in range(LINES_PER_SECOND_MAX + 5):
        log.info(Event.REQUEST_REFUSED, source=f"t/0/{i}")
    log.warning(Event.COMMIT_FAILED, message="other events are not cut")
    now = 11.0
    log.info(Event.REQUEST_REFUSED, source="t/0/99")
    written = lines(capsys)

    assert len(written) == LINES_PER_SECOND_MAX + 3
    assert written[-2]["event"] == "log.left-out"
    assert written[-2]["left_out"] == 5
    assert written[-1]["source"] == "t/0/99"


def test_levels_filter(capsys):
    """Below the level nothing is written."""
    configure_logging("json", "error")
    EventLog().info(Event.QUEUE_FULL, queue_rows=1, queue_bytes=1)
    EventLog().error(Event.WORKER_FAILED, message="x")

    assert [line["event"] for line in lines(capsys)] == ["worker.failed"]


class Unbuffered(io.StringIO):
    """A stream that remembers what it was given at once."""

    def __init__(self):
        super().__init__()
        self.writes = []

    def write(self, text):
        self.writes.append(text)
        return super().write(text)


def test_a_line_is_written_at_once(monkeypatch):
    """Else lines of two processes that share a stream would stand in one, and be read by nobody."""
    stream = Unbuffered()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("json", "info")
    EventLog().info(Event.QUEUE_FULL, queue_rows=1, queue_bytes=1)
    logging.getLogger("library").warning("x")

    assert len(stream.writes) == 2
    assert all(text.endswith("}\n") for text in stream.writes)


def test_a_process_of_several_says_which_it_is(capsys):
    """Their lines meet in one stream; those of a worker alone need no such field."""
    configure_logging("json", "info", process=1)
    EventLog().info(Event.QUEUE_FULL, queue_rows=1, queue_bytes=1)
    logging.getLogger("library").warning("x")
    configure_logging("json", "info")
    structlog.get_logger().info("alone")

    assert [line.get("process") for line in lines(capsys)] == [1, 1, None]
