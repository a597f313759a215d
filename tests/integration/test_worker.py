"""The worker as a process, on real Kafka: ready, answering, draining, killed, scaled."""

import asyncio
import collections
import os
import signal
import time

import numpy as np
import pytest
from committed import ask
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions
from worker_process import BOUND_SECONDS, RunningWorker, eventually

from ondemand import PredictionClient
from ondemand.errors import PredictionError

pytestmark = pytest.mark.kafka


@pytest.fixture
def start(package, kafka, names, tmp_path):
    """Starts workers, and leaves none behind."""
    started = []

    def start_one() -> RunningWorker:
        worker = RunningWorker(
            package,
            kafka.address,
            log=tmp_path / f"worker-{len(started)}.log",
            settings=(
                f"request_topic={names}.requests",
                f"dead_letter_topic={names}.dead-letters",
                f"group=ondemand.{names}",
            ),
        )
        started.append(worker)
        return worker

    yield start_one
    for worker in started:
        worker.end(signal.SIGKILL)


async def ask_many(client, names, count, *, while_running=None):
    """*count* predictions, each checked against its own input; the indexes that were answered."""
    inputs = ({"x": np.full((1, 8), i / count, np.float32)} for i in range(count))
    answered = []
    async for outcome in client.predict_many(names, inputs, in_flight=64, timeout=BOUND_SECONDS):
        assert outcome.error is None, outcome.error
        assert outcome.prediction["y"].shape == (1, 4)
        answered.append(outcome.index)
        if while_running is not None:
            await while_running(len(answered))
    return answered


def committed(kafka, names):
    """What the group has committed, over all partitions."""
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": f"ondemand.{names}"})
    try:
        partitions = [TopicPartition(f"{names}.requests", i) for i in range(4)]
        return sum(max(p.offset, 0) for p in consumer.committed(partitions, timeout=10))
    finally:
        consumer.close()


async def test_a_drained_worker_has_committed_all_that_it_answered(kafka, names, start):
    """SIGTERM: settle, commit, leave, exit 0; nothing is left to repeat."""
    worker = start().wait_ready()
    async with PredictionClient(kafka=kafka.address, service=names) as client:
        assert await ask_many(client, names, 300) == list(range(300))

    assert worker.end() == 0, worker.log
    assert committed(kafka, names) == 300
    assert '"worker.stopped"' in worker.log


async def test_a_killed_worker_loses_no_request(kafka, names, start):
    """SIGKILL in the middle, another one takes over: every caller gets an answer."""
    workers = [start().wait_ready()]

    async def kill_and_replace(answered: int) -> None:
        if answered == 200:
            workers[0].process.kill()
            workers.append(start())

    async with PredictionClient(kafka=kafka.address, service=names) as client:
        answered = await ask_many(client, names, 600, while_running=kill_and_replace)

    assert answered == list(range(600))
    assert workers[0].process.wait(5) == -signal.SIGKILL
    assert workers[1].end() == 0, workers[1].log
    assert committed(kafka, names) == 600


def replies(kafka, names):
    """How often each correlation ID was answered, by the topic itself."""
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "none"})
    try:
        starts = [TopicPartition(f"{names}.replies", index, 0) for index in range(2)]
        ends = (consumer.get_watermark_offsets(start, timeout=10)[1] for start in starts)
        consumer.assign(starts)
        records = [consumer.poll(10) for _ in range(sum(ends))]
        return collections.Counter(dict(each.headers())["correlation-id"] for each in records)
    finally:
        consumer.close()


async def test_workers_come_and_go_while_requests_flow(kafka, names, start):
    """Scaling 1 → 3 → 1: every request is answered, and once only, as every worker settles and
    commits before it lets go; all of them answer."""
    first = start().wait_ready()
    joined = []

    async def scale(answered: int) -> None:
        if answered == 200:
            joined.extend((start(), start()))
            for worker in joined:
                await asyncio.to_thread(worker.wait_ready)
        if answered == 500:
            for worker in (first, joined[0]):
                worker.process.terminate()

    async with PredictionClient(kafka=kafka.address, service=names) as client:
        assert await ask_many(client, names, 800, while_running=scale) == list(range(800))

    assert set(replies(kafka, names).values()) == {1}
    assert len(replies(kafka, names)) == 800
    for worker in (first, *joined):
        assert worker.end() == 0, worker.log
        assert worker.events("worker.stopped")[-1]["requests"] > 0


async def test_a_request_topic_that_is_deleted_and_made_anew_is_served_again(
    kafka, kafka_admin, names, start, create_topic
):
    """The same worker answers from the new topic's first record on, and nobody restarts it."""
    worker = start().wait_ready()
    topic = f"{names}.requests"
    async with PredictionClient(kafka=kafka.address, service=names) as client:
        await ask_many(client, names, 50)
        await asyncio.to_thread(lambda: kafka_admin.delete_topics([topic])[topic].result(30))
        create_topic(topic, partitions=4)
        # Until the client's own view of the topic is fresh, a send may be refused.
        await answered_again(client, names)
        assert await ask_many(client, names, 50) == list(range(50))

    assert worker.end() == 0, worker.log


async def test_partitions_that_are_added_are_served(kafka, names, start, kafka_admin):
    """A request on a partition that was added while the worker ran is answered by it."""
    worker = start().wait_ready()
    topic = f"{names}.requests"
    growing = kafka_admin.create_partitions([NewPartitions(topic, 6)])[topic]
    await asyncio.to_thread(growing.result, 30)
    producer = Producer({"bootstrap.servers": kafka.address})
    ask(producer, topic, "added", replies=f"{names}.replies", partition=5, width=8)
    assert producer.flush(BOUND_SECONDS) == 0

    await asyncio.to_thread(
        eventually, lambda: b"added" in replies(kafka, names), "the request is answered"
    )
    assert worker.end() == 0, worker.log


async def answered_again(client, names):
    """Ask until there is an answer; bounded."""
    deadline = time.monotonic() + BOUND_SECONDS
    while True:
        try:
            await client.predict(names, {"x": np.zeros((1, 8), np.float32)}, timeout=5.0)
        except PredictionError:
            assert time.monotonic() < deadline, "the new topic is not served"
        else:
            return


async def test_a_second_signal_leaves_at_once(kafka, names, start):
    """An operator who cannot wait is obeyed; the exit code says by which signal."""
    worker = start().wait_ready()
    os.kill(worker.process.pid, signal.SIGSTOP)
    # Two different signals: the same one twice while stopped would arrive once.
    os.kill(worker.process.pid, signal.SIGTERM)
    os.kill(worker.process.pid, signal.SIGINT)
    os.kill(worker.process.pid, signal.SIGCONT)

    assert worker.process.wait(BOUND_SECONDS) in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert '"worker.abandoned"' in worker.log


def test_a_missing_topic_is_one_line(package, kafka, tmp_path):
    """The operator reads what is missing and how to make it; no traceback."""
    worker = RunningWorker(
        package, kafka.address, log=tmp_path / "log", settings=("request_topic=nobody.requests",)
    )

    assert worker.process.wait(BOUND_SECONDS) == 1
    assert "nobody.requests" in worker.log
    assert "ondemand topics apply" in worker.log
    assert "Traceback" not in worker.log


def test_no_broker_is_one_line(package, tmp_path):
    """Nothing listens there: said within the connect timeout, with what to do."""
    worker = RunningWorker(
        package, "127.0.0.1:1", log=tmp_path / "log", settings=("connect_timeout_seconds=2",)
    )

    assert worker.process.wait(BOUND_SECONDS) == 1
    assert "127.0.0.1:1" in worker.log
    assert "Traceback" not in worker.log
