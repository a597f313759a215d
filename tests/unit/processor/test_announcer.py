"""The announcer says when it must, once what is wrong, and never keeps anybody waiting."""

import threading
import time

import pytest
from unit.processor.builders import DoublingModel

from ondemand.contract.announcement import read_announcement
from ondemand.contract.record import Partition
from ondemand.errors import TransportError
from ondemand.processor.announcer import JOIN_SECONDS, Announcer, introduction
from ondemand.settings import WorkerSettings
from ondemand.telemetry.events import Event


class Worker:
    """What the announcer looks at."""

    def __init__(self):
        self.stopping, self.answered = False, 0
        self.partitions = [Partition("m.requests", 1)]


class Writer:
    """A broker that takes what it is given, unless it is away."""

    def __init__(self):
        self.partitions, self.error, self.written = 1, None, []

    def partition_count(self, topic):
        assert topic == "ondemand.workers"
        return self.partitions

    def write(self, record, timeout_seconds):
        if self.error is not None:
            raise self.error
        self.written.append(None if record.value is None else read_announcement(record.value))


class Log:
    """Takes down which events were written."""

    def __init__(self):
        self.events = []

    def info(self, event, **fields):
        self.events.append(event)

    warning = info


class Bench:
    """An announcer with its surroundings, and a clock that the test moves."""

    def __init__(self):
        self.now = 100.0
        self.worker, self.writer, self.log = Worker(), Writer(), Log()
        model, settings = DoublingModel(), WorkerSettings(announce_seconds=5)
        self.announcer = Announcer(
            introduction(model, settings, topic="m.requests", now_ms=7),
            self.worker,
            self.writer,
            log=self.log,
            clock=lambda: self.now,
            now_ms=lambda: round(self.now * 1000),
        )

    def turn(self, seconds=0.0):
        """Some time passes, and the announcer has its turn."""
        self.now += seconds
        self.announcer.turn()


@pytest.fixture
def bench():
    return Bench()


def test_a_worker_is_announced_as_soon_as_it_is_there(bench):
    """All is told that clients need; that no partition is assigned yet keeps nobody silent."""
    bench.worker.partitions = []
    bench.turn()
    bench.worker.partitions = [Partition("m.requests", 1)]
    bench.turn()
    waiting, told = bench.writer.written
    assert waiting.partitions == ()
    assert (told.model, told.topic, told.since_ms) == ("m", "m.requests", 7)
    assert (told.partitions, told.sent_ms, told.guarantee) == ((1,), 100_000, "at-least-once")
    assert [tensor.name for tensor in told.inputs] == ["x"]
    assert bench.log.events == [Event.WORKER_ANNOUNCED]


def test_it_is_said_again_at_the_interval_and_at_once_on_a_change(bench):
    """Every 5 s; a change of partitions is told without waiting for that."""
    bench.turn()
    bench.turn(4.9)
    assert len(bench.writer.written) == 1
    bench.turn(0.1)
    assert len(bench.writer.written) == 2
    bench.worker.partitions = []
    bench.turn(0.2)
    assert bench.writer.written[-1].partitions == ()
    assert len(bench.writer.written) == 3
    assert bench.log.events == [Event.WORKER_ANNOUNCED], "what goes well is told once"


def test_the_rate_is_that_of_the_last_interval(bench):
    """Requests answered a second, measured over an interval or more."""
    bench.turn()
    bench.worker.answered = 500
    bench.turn(5)
    assert bench.writer.written[-1].rate_per_second == 100
    bench.worker.partitions = []
    bench.turn(0.2)
    assert bench.writer.written[-1].rate_per_second == 100, "a change does not measure anew"
    bench.turn(9.8)
    assert bench.writer.written[-1].rate_per_second == 0


@pytest.mark.parametrize("trouble", ["no topic", "no answer"])
def test_trouble_is_told_once_and_tried_again(bench, trouble):
    """Without the topic, or without the broker, the worker goes on; later it is announced."""
    if trouble == "no topic":
        bench.writer.partitions = None
    else:
        bench.writer.error = TransportError("away")
    for _ in range(3):
        bench.turn(5)
    assert bench.log.events == [Event.WORKER_UNANNOUNCED]
    bench.writer.partitions, bench.writer.error = 1, None
    bench.turn(1)
    assert bench.writer.written == [], "not in every turn"
    bench.turn(4)
    assert len(bench.writer.written) == 1
    assert bench.log.events == [Event.WORKER_UNANNOUNCED, Event.WORKER_ANNOUNCED]


def test_who_leaves_takes_it_back(bench):
    """A record without a value; nothing where nothing was said."""
    bench.announcer.leave()
    assert bench.writer.written == []
    bench.turn()
    bench.announcer.leave()
    assert bench.writer.written[-1] is None
    bench.writer.error = TransportError("away")
    bench.announcer.leave()  # and a broker that is away is no reason to fail


def test_what_was_not_acknowledged_is_taken_back_as_well(bench):
    """It may come late; a farewell that nothing came before does no harm."""
    bench.writer.error = TransportError("no acknowledgement")
    bench.turn()
    bench.writer.error = None
    bench.announcer.leave()
    bench.announcer.leave()
    assert bench.writer.written == [None]


def test_what_clients_would_not_read_is_told_as_trouble(bench):
    """A worker whose announcement breaks the contract's limits must not believe itself seen."""
    bench.worker.partitions = [Partition("m.requests", index) for index in range(10_001)]
    bench.turn()
    assert bench.writer.written == []
    assert bench.log.events == [Event.WORKER_UNANNOUNCED]


def test_who_drains_says_goodbye_when_that_begins(bench):
    """Not when it ends: until then nobody would take what clients still send."""
    bench.announcer.start()
    wait_for(lambda: bench.writer.written)
    bench.worker.stopping = True
    wait_for(lambda: bench.writer.written[-1] is None)
    bench.announcer.close()
    assert bench.writer.written.count(None) == 1


def wait_for(condition):
    """Until it holds, bounded."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_broker_that_hangs_keeps_nobody(bench, monkeypatch):
    """A process that leaves waits for its announcer only so long."""
    monkeypatch.setattr("ondemand.processor.announcer.JOIN_SECONDS", 0.05)
    hanging, free = threading.Event(), threading.Event()

    def hang(topic):
        hanging.set()
        free.wait(JOIN_SECONDS)

    bench.writer.partition_count = hang
    bench.announcer.start()
    assert hanging.wait(5)
    bench.announcer.close()
    assert not free.is_set()
    free.set()
