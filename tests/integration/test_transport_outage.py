"""The Kafka transports in an outage, and on a broker that creates topics for whoever asks.

The broker is one of its own, to be killed and restarted.
"""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import ConfigurationError, TransportError
from ondemand.local import LocalKafka
from ondemand.testing.conformance_harness import (
    Listener,
    fetch,
    fill,
    new_group,
    outgoing,
    publish,
    until,
    values,
)
from ondemand.transport.base import NotTakenError, send_and_wait
from ondemand.transport.kafka_client import KafkaClientTransport
from ondemand.transport.kafka_worker import KafkaWorkerTransport

pytestmark = pytest.mark.kafka

WAIT_SECONDS = 30.0

_serial = itertools.count(1)


@pytest.fixture(scope="module")
def broker() -> Iterator[LocalKafka]:
    """A broker that may be killed, and that creates topics for whoever asks."""
    properties = {
        "auto.create.topics.enable": "true",
        # A killed broker may come back when its session is over: 9 s by default.
        "broker.session.timeout.ms": "1500",
        "broker.heartbeat.interval.ms": "300",
    }
    with LocalKafka(properties=properties) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def admin(broker: LocalKafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.address, "allow.auto.create.topics": False})


@pytest.fixture
def create(admin: AdminClient) -> Callable[..., str]:
    def create(name: str = "", *, partitions: int = 1, config: dict[str, str] | None = None) -> str:
        name = name or f"outage-{next(_serial)}"
        topic = NewTopic(name, num_partitions=partitions, config=config or {})
        admin.create_topics([topic], operation_timeout=10)[name].result(20)
        deadline = time.monotonic() + WAIT_SECONDS
        while name not in _topics(admin):
            assert time.monotonic() < deadline, f"{name} was created, and is not there"
        return name

    return create


def _worker(broker: LocalKafka, group: str, **options: str) -> KafkaWorkerTransport:
    return KafkaWorkerTransport(
        kafka=broker.address,
        group=group,
        options={name.replace("_", "."): value for name, value in options.items()},
        session_timeout_seconds=3.0,
    )


def _topics(admin: AdminClient) -> set[str]:
    return set(admin.list_topics(timeout=10).topics)


async def test_nothing_is_created(
    broker: LocalKafka,
    admin: AdminClient,
    create: Callable[..., str],
) -> None:
    """On a broker that creates topics by itself, neither side makes it create one: not by asking,
    not by writing, and not by going on after a topic was deleted."""
    worker = _worker(broker, new_group(), message_timeout_ms="3000")
    # aiokafka asks for the topics that it has used again and again; here, often.
    often = {"metadata_max_age_ms": "300"}
    client = KafkaClientTransport(kafka=broker.address, options=often)
    await client.start()
    doomed = create()
    try:
        assert worker.partition_count("missing-1") is None
        with pytest.raises(ConfigurationError, match="missing-2"):
            worker.subscribe("missing-2", Listener())
        assert await client.partition_count("missing-3") is None
        with pytest.raises(TransportError, match="missing-4"):
            await client.listen(Partition("missing-4", 0))
        with pytest.raises(NotTakenError, match="missing-5"):
            await send_and_wait(client, outgoing("missing-5"))
        worker.publish([outgoing("missing-6")], lambda _: None)

        await client.listen(Partition(doomed, 0))
        await send_and_wait(client, outgoing(doomed))
        assert publish(worker, outgoing(doomed)) == []
        admin.delete_topics([doomed], operation_timeout=10)[doomed].result(20)
        with pytest.raises(TransportError, match="not there any more"):
            await _fetch_for_ever(client)
        worker.publish([outgoing(doomed)], lambda _: None)
        for _ in range(10):
            await client.fetch(0.1)
            worker.serve(0.05)
        assert not {name for name in _topics(admin) if name.startswith("missing")}
        assert doomed not in _topics(admin)
    finally:
        await client.stop()
        await asyncio.to_thread(worker.close)


async def test_a_broker_is_killed_and_comes_back(
    broker: LocalKafka, create: Callable[..., str]
) -> None:
    """Both sides live through an outage. What was acknowledged is answered, sends end within their
    time limit, offsets that could not be committed are committed afterwards."""
    requests, replies, group = create(), create(), new_group()
    client = KafkaClientTransport(kafka=broker.address, send_timeout_seconds=1.0)
    await client.start()
    await client.listen(Partition(replies, 0))
    acknowledged: list[bytes] = []
    answered: list[bytes | None] = []
    with _Echo(_worker(broker, group), requests, replies) as echo:
        try:
            await _send_some(client, requests, acknowledged, itertools.count(0), 20)
            broker.kill(1)
            started = time.monotonic()
            await _send_some(client, requests, acknowledged, itertools.count(100), 3)
            assert time.monotonic() - started < 3 * 1.0 + 2.0
            assert await client.fetch(0.2) is not None
            await asyncio.to_thread(broker.restart, 1)
            deadline = time.monotonic() + WAIT_SECONDS
            later = itertools.count(200)
            while not any(body.startswith(b"2") and len(body) == 3 for body in acknowledged):
                assert time.monotonic() < deadline, "no send is acknowledged after the outage"
                await _send_some(client, requests, acknowledged, later, 1)
            while not set(acknowledged) <= set(answered):
                assert time.monotonic() < deadline, (
                    f"{set(acknowledged) - set(answered)}: no answer"
                )
                answered += [record.value for record in await client.fetch(0.2)]
        finally:
            await client.stop()
        assert echo.error is None
    successor = _worker(broker, group)
    try:
        successor.subscribe(requests, Listener())
        fill(successor, requests, {0: [b"next"]})
        assert values(fetch(successor, 1)) == [b"next"], "finished requests came again"
    finally:
        successor.close()


async def test_leaving_while_the_broker_is_down(
    broker: LocalKafka, create: Callable[..., str]
) -> None:
    """Both sides end within a bound while no broker answers; what was not acknowledged is told."""
    topic = create()
    client = KafkaClientTransport(kafka=broker.address, send_timeout_seconds=1.0)
    await client.start()
    await client.listen(Partition(topic, 0))
    worker = _worker(broker, new_group(), message_timeout_ms="2000")
    listener = Listener()
    worker.subscribe(topic, listener)
    until(lambda: listener.partitions, [worker], "the worker is assigned")
    settled: list[Any] = []
    broker.kill(1)
    try:
        started = time.monotonic()
        worker.publish([outgoing(topic)], settled.append)
        await asyncio.to_thread(worker.close)
        assert time.monotonic() - started < 15.0
        assert [[failure.permanent for failure in failures] for failures in settled] == [[False]]
        started = time.monotonic()
        with pytest.raises(TransportError):
            await send_and_wait(client, outgoing(topic))
        await client.stop()
        assert time.monotonic() - started < 15.0
    finally:
        await asyncio.to_thread(broker.restart, 1)


async def test_nobody_answers_at_the_start() -> None:
    """Where no broker is, both sides say so within their time limit, and what to do."""
    with socket.socket() as taken:  # bound, not listening: nobody else answers there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = f"no Kafka answers at {address} within 0.5 s"
        client = KafkaClientTransport(kafka=address, connect_timeout_seconds=0.5)
        with pytest.raises(TransportError, match=text):
            await client.start()
        await client.stop()
        worker = KafkaWorkerTransport(kafka=address, group="nobody", connect_timeout_seconds=0.5)
        with pytest.raises(ConfigurationError, match=text):
            worker.subscribe("requests", Listener())
        worker.close()


async def _fetch_for_ever(client: KafkaClientTransport) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            await client.fetch(0.2)


class _Echo:
    """A worker in a thread of its own: answers each request with its own body, then commits."""

    def __init__(self, transport: KafkaWorkerTransport, requests: str, replies: str) -> None:
        self.error: BaseException | None = None
        self._transport = transport
        self._requests = requests
        self._replies = replies
        self._finished: dict[Partition, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        listener = Listener()
        listener.while_revoked = self._commit_for_certain
        try:
            self._transport.subscribe(self._requests, listener)
            while not self._stop.is_set():
                self._answer(self._transport.fetch(100, 0.1))
            self._transport.close()
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.error = error

    def _answer(self, records: list[Record]) -> None:
        if not records:
            return
        waiting = [OutgoingRecord(self._replies, 0, None, record.value, ()) for record in records]
        while waiting and not self._stop.is_set():
            waiting = [failure.record for failure in publish(self._transport, *waiting)]
        at = Partition(self._requests, records[-1].partition)
        self._finished[at] = records[-1].next_offset
        self._transport.commit(dict(self._finished))

    def _commit_for_certain(self) -> None:
        if self._finished:
            self._transport.commit_and_wait(self._finished)


async def _send_some(
    client: KafkaClientTransport,
    topic: str,
    acknowledged: list[bytes],
    numbers: Iterator[int],
    count: int,
) -> None:
    """Send, and note what was acknowledged; an outage may refuse any of them."""
    for number in itertools.islice(numbers, count):
        body = str(number).encode()
        try:
            await send_and_wait(client, outgoing(topic, body))
        except TransportError:
            continue
        acknowledged.append(body)
