"""All brokers are away while requests are in flight, end to end: a worker process and a client.

`make outage` runs it with the length of a real one.
"""

import asyncio
import os
import signal

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from worker_process import BOUND_SECONDS, RunningWorker, eventually

from ondemand import PredictionClient
from ondemand.errors import NotSentError, OutcomeUnknownError
from ondemand.local import LocalKafka
from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import ffnn

pytestmark = pytest.mark.kafka

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "12"))
"""Longer than the worker's session, so that the group has thrown it out meanwhile."""

SLOW_TURNS = 12
"""Each of half a second, most of which the broker does nothing."""

SESSION_SECONDS = 6.0
GAP_SECONDS = 0.02
ROW = {"x": np.ones((1, 8), dtype=np.float32)}
TOPICS = {"ffnn.requests": 2, "ffnn.dead-letters": 1, "shop.replies": 1}


@pytest.fixture
def broker():
    """A broker of the test's own, to be killed."""
    properties = {
        # A killed broker may come back when its session is over: 9 s by default.
        "broker.session.timeout.ms": "1500",
        "broker.heartbeat.interval.ms": "300",
    }
    with LocalKafka(properties=properties) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.address})
        wanted = [NewTopic(name, num_partitions=count) for name, count in TOPICS.items()]
        for made in admin.create_topics(wanted, operation_timeout=20).values():
            made.result(30)
        yield kafka


@pytest.fixture
def worker(broker, tmp_path):
    """A worker process, ready."""
    (tmp_path / "ffnn.onnx").write_bytes(ffnn((8, 4)))
    folder = new_package(tmp_path / "worker", name="ffnn", model=tmp_path / "ffnn.onnx").folder
    settings = (f"session_timeout_seconds={SESSION_SECONDS}",)
    process = RunningWorker(folder, broker.address, log=tmp_path / "log", settings=settings)
    try:
        yield process.wait_ready()
    finally:
        process.end(signal.SIGKILL)


class Load:
    """Requests at a steady pace, and what became of each."""

    def __init__(self, client: PredictionClient) -> None:
        self._client = client
        self._asked: set[asyncio.Task[None]] = set()
        self.answered = 0
        self.not_acknowledged = 0
        self.unanswered: list[str] = []
        self.stop = False

    async def run(self) -> None:
        """Until told to stop; then until every request has ended."""
        while not self.stop:
            self._asked.add(asyncio.create_task(self._ask()))
            await asyncio.sleep(GAP_SECONDS)
        await asyncio.gather(*self._asked)

    async def _ask(self) -> None:
        patience = OUTAGE_SECONDS + BOUND_SECONDS
        try:
            prediction = await self._client.predict("ffnn", ROW, timeout=patience, unserved="wait")
        except NotSentError:
            self.not_acknowledged += 1
        except OutcomeUnknownError as error:
            if "no reply" in str(error):
                self.unanswered.append(str(error))
            else:
                self.not_acknowledged += 1
        else:
            assert prediction["y"].shape == (1, 4)
            self.answered += 1


def kill(broker):
    """The broker is gone: connections are refused."""
    broker.kill(1)


def freeze(broker):
    """The broker is there and says nothing: connections stay open."""
    os.kill(broker.process_ids[1], signal.SIGSTOP)


def thaw(broker):
    """It goes on where it was."""
    os.kill(broker.process_ids[1], signal.SIGCONT)


def restart(broker):
    """It begins anew on its data."""
    broker.restart(1)


@pytest.mark.parametrize(("away", "back"), [(kill, restart), (freeze, thaw)])
async def test_everybody_comes_back_from_an_outage(broker, worker, away, back):
    """While no broker answers the worker says that it is not ready, and stays alive; afterwards
    worker and client go on by themselves, and every request that a broker has acknowledged is
    answered."""
    async with PredictionClient(kafka=broker.address, service="shop") as client:
        load = Load(client)
        running = asyncio.create_task(load.run())
        await asyncio.to_thread(eventually, lambda: load.answered >= 50, "50 answers")
        await asyncio.to_thread(away, broker)
        await asyncio.to_thread(eventually, lambda: not worker.ready(), "it is not ready")
        await asyncio.sleep(OUTAGE_SECONDS)  # the length of the outage is what is tested
        assert worker.process.poll() is None, worker.log
        assert not worker.ready()
        before = load.answered
        await asyncio.to_thread(back, broker)
        await asyncio.to_thread(eventually, worker.ready, "it is ready again")
        await asyncio.to_thread(eventually, lambda: load.answered >= before + 50, "50 more")
        load.stop = True
        await running

    assert load.unanswered == []
    assert load.not_acknowledged > 0, "there was no outage"
    assert worker.end() == 0, worker.log


async def test_a_slow_broker_costs_time_only(broker, worker):
    """A broker that does nothing for four fifths of the time: every request is answered."""
    async with PredictionClient(kafka=broker.address, service="shop") as client:
        load = Load(client)
        running = asyncio.create_task(load.run())
        await asyncio.to_thread(eventually, lambda: load.answered >= 50, "50 answers")
        try:
            for _ in range(SLOW_TURNS):
                freeze(broker)
                await asyncio.sleep(0.4)  # the slowness is what is tested
                thaw(broker)
                await asyncio.sleep(0.1)
        finally:
            thaw(broker)
        load.stop = True
        await running

    assert (load.unanswered, load.not_acknowledged) == ([], 0)
    assert worker.end() == 0, worker.log
