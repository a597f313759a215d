"""Workers announce themselves on a real Kafka: seen soon, gone at once or after their silence."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from component.responder import until
from confluent_kafka.admin import AdminClient
from unit.contract.test_announcement import ME
from worker_process import RunningWorker

from ondemand import PredictionClient
from ondemand.contract.announcement import ANNOUNCEMENTS, announcement_record, leaving_record
from ondemand.contract.topics import WORKERS, ChangeKind, load_topics, plan
from ondemand.errors import NobodyServesError, OutcomeUnknownError, TransportError
from ondemand.runtime.scaffold import new_package
from ondemand.settings import ClientSettings
from ondemand.testing.models import ffnn
from ondemand.transport.kafka_admin import KafkaAdmin
from ondemand.transport.kafka_client import KafkaClientTransport
from ondemand.transport.kafka_worker_writer import KafkaRecordWriter

pytestmark = pytest.mark.kafka

X = {"x": np.zeros((1, 8), np.float32)}


@pytest.fixture
def announcing(kafka: SimpleNamespace) -> None:
    """The topic is there, as it is declared."""
    admin = KafkaAdmin(kafka=kafka.address)
    declared = [topic for topic in load_topics("", models=["m"]) if topic.name == WORKERS]
    for change in plan(declared, admin.describe()):
        if change.kind is ChangeKind.CREATE:
            admin.apply(change)


@pytest.fixture
def model(
    announcing: None, topic_name: Callable[..., str], create_topic: Callable[..., str]
) -> str:
    """A model of one test's own, with its topics; it is asked by the service of the same name."""
    stem = topic_name("x").removesuffix(".x")
    create_topic(f"{stem}.requests", partitions=2)
    create_topic(f"{stem}.dead-letters")
    create_topic(f"{stem}.replies")
    return stem


@pytest.fixture
def start(
    kafka: SimpleNamespace, model: str, tmp_path: Path
) -> Iterator[Callable[..., RunningWorker]]:
    """Starts a worker of the model; none is left behind."""
    (tmp_path / "ffnn.onnx").write_bytes(ffnn((8, 4)))
    folder = new_package(tmp_path / "worker", name=model, model=tmp_path / "ffnn.onnx").folder
    started: list[RunningWorker] = []

    def start_one(*settings: str) -> RunningWorker:
        log = tmp_path / f"worker-{len(started)}.log"
        started.append(RunningWorker(folder, kafka.address, log=log, settings=settings))
        return started[-1]

    yield start_one
    for worker in started:
        worker.end(signal.SIGKILL)


def serves(client: PredictionClient, model: str) -> bool:
    """Whether *client* knows of somebody who serves *model*."""
    return client._connection._presence.serves(f"{model}.requests")  # type: ignore[union-attr]


@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
async def test_a_worker_is_seen_and_missed(
    kafka: SimpleNamespace, model: str, start: Callable[..., RunningWorker], guarantee: str
) -> None:
    """Refused under a second while nobody is there; answered as soon as somebody is; refused again
    once it has left; and told as slow where it is there and does not answer."""
    settings = ClientSettings(kafka=kafka.address, service=model, timeout_seconds=20)
    async with PredictionClient(settings=settings) as client:
        asked = time.monotonic()
        with pytest.raises(NobodyServesError, match="no worker has announced itself"):
            await client.predict(model, X)
        assert time.monotonic() - asked < 1
        worker = start(f"guarantee={guarantee}")
        await asyncio.to_thread(worker.wait_ready)
        await until(lambda: serves(client, model))  # it announces itself meanwhile
        assert (await client.predict(model, X)).outputs["y"].shape == (1, 4), worker.log
        worker.process.send_signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknownError, match="1 worker is alive, answering"):
            await client.predict(model, X, timeout=0.5)
        worker.process.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(worker.end) == 0, worker.log
        with pytest.raises(NobodyServesError, match="announced itself for"):
            await client.predict(model, X)


async def test_a_worker_that_was_killed_is_missed_after_its_silence(
    kafka: SimpleNamespace, model: str, start: Callable[..., RunningWorker]
) -> None:
    """No farewell: three intervals later it counts as gone, for new clients too."""
    settings = ClientSettings(kafka=kafka.address, service=model, timeout_seconds=20)
    worker = start("announce_seconds=0.5")
    await asyncio.to_thread(worker.wait_ready)
    async with PredictionClient(settings=settings) as client:
        await until(lambda: serves(client, model))
        await client.predict(model, X)
        worker.end(signal.SIGKILL)
        await until(lambda: not serves(client, model))
    async with PredictionClient(settings=settings) as client:
        with pytest.raises(NobodyServesError):
            await client.predict(model, X)


async def test_the_writer_writes_and_the_follower_reads_from_the_start(
    kafka: SimpleNamespace, announcing: None, kafka_admin: AdminClient
) -> None:
    """All that is there, then what comes; a topic that is not there is not created by looking."""
    writer = KafkaRecordWriter(kafka=kafka.address)
    record = announcement_record(ME)
    await asyncio.to_thread(writer.write, record, 10)
    client = KafkaClientTransport(kafka=kafka.address)
    await client.start()
    try:
        follower = await client.follow(ANNOUNCEMENTS)
        read = []
        async with asyncio.timeout(20):
            while not follower.caught_up:
                read += await follower.fetch(0.2)
            assert record.value in [each.value for each in read if each.key == ME.key]
            await asyncio.to_thread(writer.write, leaving_record(ME), 10)
            while not [each for each in read if each.key == ME.key and each.value is None]:
                read += await follower.fetch(0.2)
        assert follower.in_touch
    finally:
        await client.stop()
    assert writer.partition_count("nowhere.workers") is None
    with pytest.raises(TransportError, match=r"nowhere\.workers"):
        await asyncio.to_thread(writer.write, record._replace(topic="nowhere.workers"), 10)
    assert "nowhere.workers" not in kafka_admin.list_topics(timeout=10).topics
