"""Nobody there is told from slow: workers announce themselves, and clients listen."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from component import builders
from component.responder import TOPICS, EchoBroker, until
from unit.contract.test_announcement import ME
from unit.processor.builders import DoublingModel

from ondemand.client import PredictionClient
from ondemand.contract.announcement import (
    Announcement,
    announcement_record,
    leaving_record,
)
from ondemand.contract.record import OutgoingRecord
from ondemand.errors import NobodyServesError, OutcomeUnknownError
from ondemand.processor.announcer import Announcer, introduction
from ondemand.settings import ClientSettings, WorkerSettings
from ondemand.telemetry.logging import EventLog
from ondemand.transport.memory import MemoryBroker
from ondemand.transport.memory_client import MemoryClientTransport, MemoryFollower

X = {"x": np.array([1.0, 2.0])}
SOON = 0.9
"""Seconds: "in under one second", with a little room for the clock of a test."""

WORKER = replace(ME, interval_seconds=5.0)


def broker(*said: OutgoingRecord, silent: bool = False) -> MemoryBroker:
    """Answers for the model `digits`, unless *silent*; with what workers have *said*."""
    topics = {**TOPICS, "ondemand.workers": 1, "idle.requests": 1}
    made = MemoryBroker(topics) if silent else EchoBroker(topics)
    for record in said:
        made.append(record)
    return made


def client_of(to: MemoryBroker, **settings: Any) -> PredictionClient:
    given = {"service": "checkout", "timeout_seconds": 5.0, **settings}
    return PredictionClient(settings=ClientSettings(**given), transport=to.client())


def sent(to: MemoryBroker) -> int:
    """How many requests are on the broker."""
    return len(to.records("digits.requests"))


async def test_a_model_that_nobody_serves_fails_at_once_unsent() -> None:
    """Under one second, for all three ways of asking; and nothing reaches the broker."""
    empty = broker()
    async with client_of(empty) as client:
        started = time.monotonic()
        message = r"nobody serves 'digits' now: its topic 'digits.requests' is there, but no worker"
        with pytest.raises(NobodyServesError, match=message):
            await client.predict("digits", X)
        assert time.monotonic() - started < SOON
        with pytest.raises(NobodyServesError):
            await client.submit("digits", X, reply_topic="audit.replies")
        outcomes = [each async for each in client.predict_many("digits", [X] * 100)]
        assert all(isinstance(each.error, NobodyServesError) for each in outcomes)
        assert time.monotonic() - started < 2 * SOON, "the hundredth does not wait again"
    assert sent(empty) == 0


async def test_who_wants_to_wait_is_sent() -> None:
    """By option for one request, by setting for all."""
    async with client_of(broker()) as client:
        assert (await client.predict("digits", X, unserved="wait"))["sum"] == [3.0]
    async with client_of(broker(), unserved="wait") as client:
        assert (await client.predict("digits", X))["sum"] == [3.0]
        with pytest.raises(NobodyServesError):
            await client.predict("digits", X, unserved="fail")
        with pytest.raises(ValueError, match="unserved must be 'fail' or 'wait', not 'maybe'"):
            await client.predict("digits", X, unserved="maybe")  # type: ignore[typeddict-item]


async def test_a_worker_that_is_announced_is_asked() -> None:
    """Before the client started or after: a request that is held back goes out at once then."""
    async with client_of(broker(announcement_record(WORKER))) as client:
        assert (await client.predict("digits", X))["sum"] == [3.0]
    later = broker()
    async with client_of(later) as client:
        asking = asyncio.create_task(client.predict("digits", X))
        await asyncio.sleep(0.05)
        assert sent(later) == 0
        later.append(announcement_record(WORKER))
        assert (await asking)["sum"] == [3.0]


async def test_who_left_or_fell_silent_is_not_there() -> None:
    """A farewell counts at once, a silence after three intervals; the message says how long."""
    gone = broker(announcement_record(WORKER), leaving_record(WORKER))
    async with client_of(gone) as client:
        with pytest.raises(NobodyServesError, match="announced itself for 0 s"):
            await client.predict("digits", X)
    hasty = replace(WORKER, interval_seconds=0.1)
    async with client_of(broker(announcement_record(hasty))) as client:
        presence = client._connection._presence  # type: ignore[union-attr]
        await until(lambda: not presence.serves("digits.requests"))
        with pytest.raises(NobodyServesError):
            await client.predict("digits", X)


async def test_without_announcements_everything_is_sent() -> None:
    """A broker without the topic, or a login that may not read it: as if there were none."""
    async with client_of(EchoBroker()) as client:
        assert (await client.predict("digits", X))["sum"] == [3.0]
    empty = broker()
    async with client_of(empty) as client:
        with pytest.raises(NobodyServesError):
            await client.predict("digits", X)
        empty.delete_topic("ondemand.workers")
        presence = client._connection._presence  # type: ignore[union-attr]
        empty.notify()
        await until(lambda: not presence.known)
        assert (await client.predict("digits", X))["sum"] == [3.0]


async def test_the_timeout_tells_slow_from_gone() -> None:
    """How many could have answered, and how fast they are; or that there is nobody."""
    slow = [replace(WORKER, instance=str(n), rate_per_second=200.0) for n in range(3)]
    async with client_of(broker(*map(announcement_record, slow), silent=True)) as client:
        told = r"3 workers are alive, answering 600 requests/s in all: slow, or stuck \(correlation"
        with pytest.raises(OutcomeUnknownError, match=told):
            await client.predict("digits", X, timeout=0.05)
    async with client_of(broker(silent=True)) as client:
        with pytest.raises(OutcomeUnknownError, match="nobody serves it now: no worker has announ"):
            await client.predict("digits", X, timeout=0.05, unserved="wait")


async def test_a_client_that_hears_nothing_counts_nobody_as_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In an outage the silence is the broker's: workers are not refused for it afterwards."""
    monkeypatch.setattr(MemoryFollower, "in_touch", False)
    hasty = replace(WORKER, interval_seconds=0.1)
    async with client_of(broker(announcement_record(hasty))) as client:
        await asyncio.sleep(0.6)  # twice what makes a worker count as gone
        assert (await client.predict("digits", X))["sum"] == [3.0]


async def test_an_announcement_costs_a_request_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is there is looked up in memory: nothing is fetched for the single request."""
    transport = broker(announcement_record(WORKER)).client()
    settings = ClientSettings(service="checkout", timeout_seconds=5.0)
    async with PredictionClient(settings=settings, transport=transport) as client:
        monkeypatch.setattr(MemoryClientTransport, "follow", None)
        monkeypatch.setattr("ondemand.client.presence.Presence.expect", None)
        for _ in range(10):
            await client.predict("digits", X)


async def test_a_start_waits_for_no_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request does, for a moment; where reading them takes longer, it is sent unasked."""
    monkeypatch.setattr(MemoryFollower, "caught_up", False)
    async with client_of(broker()) as client:
        presence = client._connection._presence  # type: ignore[union-attr]
        assert not presence.looked
        assert (await client.predict("digits", X))["sum"] == [3.0]
        assert presence.looked
        assert not presence.known


async def test_an_empty_topic_is_known_without_waiting_for_a_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is nothing to read: the first fetch, which waits, comes after that is known."""
    client, known, fetch = client_of(broker()), list[bool](), MemoryFollower.fetch

    async def watched(self: MemoryFollower, timeout_seconds: float) -> Any:
        known.append(client._connection._presence.known)  # type: ignore[union-attr]
        return await fetch(self, timeout_seconds)

    monkeypatch.setattr(MemoryFollower, "fetch", watched)
    async with client:
        await until(lambda: known)
    assert known[0]


class MemoryWriter:
    """A ``RecordWriter`` on a memory broker."""

    def __init__(self, to: MemoryBroker) -> None:
        self._broker = to

    def partition_count(self, topic: str) -> int | None:
        return self._broker.partition_count(topic)

    def write(self, record: OutgoingRecord, timeout_seconds: float) -> None:
        self._broker.append(record)


async def test_a_worker_comes_answers_and_goes() -> None:
    """Both sides together: asked while it is there, refused as soon as it has left."""
    on = builders.broker()
    on.create_topic("ondemand.workers")
    me: Announcement = introduction(
        DoublingModel(), WorkerSettings(), topic="m.requests", now_ms=time.time_ns() // 1_000_000
    )
    settings = ClientSettings(service="s", timeout_seconds=5.0)
    async with PredictionClient(settings=settings, transport=on.client()) as client:
        x = {"x": np.ones((1, 2), np.float32)}
        with builders.processing(on) as processor:
            announcer = Announcer(
                me,
                processor,
                MemoryWriter(on),
                log=EventLog(),
                clock=time.monotonic,
                now_ms=lambda: time.time_ns() // 1_000_000,
            )
            announcer.start()
            assert (await client.predict("m", x)).outputs["y"].tolist() == [[2.0, 2.0]]
            directory = client._connection._presence.directory  # type: ignore[union-attr]
            await until(
                lambda: [each.announcement.partitions for each in directory.alive()] == [(0, 1)]
            )
            await asyncio.to_thread(announcer.close)
        with pytest.raises(NobodyServesError):
            await client.predict("m", x)
