"""Requests that kill workers, on real Kafka, under a supervisor that starts them again."""

import asyncio
import hashlib
import signal
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition
from worker_process import BOUND_SECONDS, RunningWorker

from ondemand import PredictionClient
from ondemand.errors import Status
from ondemand.runtime.scaffold import new_package
from ondemand.settings import ClientSettings
from ondemand.testing.models import ffnn

pytestmark = pytest.mark.kafka

KILLS, HANGS = -1.0, -2.0
STUCK = 5  # the exit code of a process that only a new one can replace

TRANSFORM = f"""
import os
import signal
import time

class Transform:
    def __init__(self, files):
        pass

    def signature(self, model):
        return model

    def prepare(self, inputs):
        if (inputs["x"] == {KILLS}).any():
            os.kill(os.getpid(), signal.SIGKILL)
        while (inputs["x"] == {HANGS}).any():
            time.sleep(1)
        return inputs

    def present(self, inputs, outputs):
        return outputs
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A worker folder whose own code kills the process, or never returns, for some inputs."""
    folder = tmp_path_factory.mktemp("deadly")
    (folder / "ffnn.onnx").write_bytes(ffnn((8, 4)))
    made = new_package(folder / "worker", name="ffnn", model=folder / "ffnn.onnx").folder
    (made / "transform.py").write_text(TRANSFORM)
    digest = hashlib.sha256(TRANSFORM.encode()).hexdigest()
    manifest = made / "worker.toml"
    section = f'\n[transform]\nfile = "transform.py"\nsha256 = "{digest}"\n'
    manifest.write_text(manifest.read_text() + section)
    return made


@pytest.fixture
def names(topic_name, create_topic):
    """Topics of one test's own, as settings for its workers, and its service."""
    stem = topic_name("x").removesuffix(".x")
    create_topic(f"{stem}.requests", partitions=2)
    create_topic(f"{stem}.dead-letters")
    create_topic(f"{stem}.replies")
    return stem


class Supervisor:
    """Starts a worker again whenever it has ended, as an orchestrator does."""

    def __init__(self, start) -> None:
        self._start = start
        self.worker: RunningWorker = start()
        self.exits: list[int] = []

    async def watch(self) -> None:
        """For ever."""
        while True:
            code = self.worker.process.poll()
            if code is not None:
                self.exits.append(code)
                assert len(self.exits) < 10, f"a crash loop: {self.exits}\n{self.worker.log}"
                self.worker = self._start()
            await asyncio.sleep(0.02)


@pytest.fixture
def start(package, kafka, names, tmp_path):
    """Starts workers, and leaves none behind."""
    started: list[RunningWorker] = []

    def start_one(*settings: str) -> RunningWorker:
        worker = RunningWorker(
            package,
            kafka.address,
            log=Path(tmp_path / f"worker-{len(started)}.log"),
            settings=(
                f"request_topic={names}.requests",
                f"dead_letter_topic={names}.dead-letters",
                f"group=ondemand.{names}",
                "session_timeout_seconds=1.5",
                *settings,
            ),
        )
        started.append(worker)
        return worker

    yield start_one
    for worker in started:
        worker.end(signal.SIGKILL)


async def ask(kafka, names, supervisor, values):
    """One request for each of *values*, all at once; each one's status."""
    watching = asyncio.create_task(supervisor.watch())
    # Between two processes nobody serves the model.
    settings = ClientSettings(kafka=kafka.address, service=names, unserved="wait")
    async with PredictionClient(settings=settings) as client:
        inputs = ({"x": np.full((1, 8), value, np.float32)} for value in values)
        statuses: dict[int, str] = {}
        many = client.predict_many(names, inputs, in_flight=len(values), timeout=BOUND_SECONDS)
        async for outcome in many:
            assert not watching.done(), watching.exception()
            if outcome.error is None:
                assert outcome.prediction["y"].shape == (1, 4)
                statuses[outcome.index] = Status.OK
            else:
                statuses[outcome.index] = outcome.error.status
    watching.cancel()
    return statuses


def dead_letters(kafka, names):
    """The reason and the source of each dead letter."""
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "none"})
    try:
        at = TopicPartition(f"{names}.dead-letters", 0, 0)
        end = consumer.get_watermark_offsets(at, timeout=10)[1]
        consumer.assign([at])
        records = consumer.consume(end, 10) if end else []
        return [dict(record.headers())["dead-letter-reason"].decode() for record in records]
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("poison", "code", "attempts_max", "settings"),
    [
        (KILLS, -signal.SIGKILL, 3, ()),
        (KILLS, -signal.SIGKILL, 2, ("guarantee=exactly-once",)),
        (HANGS, STUCK, 2, ("model_timeout_seconds=0.5",)),
    ],
    ids=["killed", "killed-exactly-once", "hangs"],
)
async def test_one_request_cannot_crash_loop_a_group(
    kafka, names, start, poison, code, attempts_max, settings
):
    """A request that kills its worker, or never lets go of it, ends so many of them; then it is
    answered `model-error` and kept, and all others have their answers."""
    values = [0.01 * i for i in range(40)]
    values[23] = poison
    supervisor = Supervisor(lambda: start(*settings, f"attempts_max={attempts_max}"))

    statuses = await ask(kafka, names, supervisor, values)

    log = supervisor.worker.log
    assert {index for index, status in statuses.items() if status != Status.OK} == {23}, log
    assert statuses[23] == Status.MODEL_ERROR
    assert set(supervisor.exits) == {code}, log
    # One more where it was not among the first that a worker read: that end looks like a kill.
    assert attempts_max <= len(supervisor.exits) <= attempts_max + 1, log
    assert dead_letters(kafka, names) == [Status.MODEL_ERROR]
    assert supervisor.worker.end() == 0
