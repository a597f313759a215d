"""Several processes under one supervisor, on real Kafka: sharing, replaced, drained, never left."""

import asyncio
import contextlib
import os
import signal

import numpy as np
import psutil
import pytest
from committed import SESSION_SECONDS, settings_of
from prometheus_client.parser import text_string_to_metric_families
from worker_process import BOUND_SECONDS, RunningWorker, eventually

from ondemand import PredictionClient


@pytest.fixture
def two(package, kafka, names, tmp_path):
    """A worker of two processes; none of them is left behind, whatever a test does."""
    settings = [f"{name}={value}" for name, value in settings_of(names).items()]
    settings.append(f"session_timeout_seconds={SESSION_SECONDS}")
    log = tmp_path / "worker.log"
    with RunningWorker(package, kafka.address, log=log, settings=settings, processes=2) as worker:
        yield worker
    pids = [line["pid"] for line in worker.events("process.started")]
    eventually(lambda: not any(map(runs, pids)), "its processes have gone with it")


def runs(pid):
    """Whether a process is there that has not ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def samples(worker, name):
    """The samples of that name on its page, by the values of their labels."""
    status, page = worker.get("/metrics")
    assert status == 200
    return {
        tuple(sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }


def pid_of(worker, process):
    """Who is that process now."""
    lines = [line for line in worker.events("process.started") if line["process"] == process]
    return lines[-1]["pid"]


async def ask_many(client, names, count, *, while_running=None):
    """*count* predictions; the indexes that were answered, and by *while_running* what is done."""
    inputs = ({"x": np.full((1, 8), index / count, np.float32)} for index in range(count))
    answered = []
    async for outcome in client.predict_many(names, inputs, in_flight=64, timeout=BOUND_SECONDS):
        assert outcome.error is None, outcome.error
        answered.append(outcome.index)
        if while_running is not None:
            while_running(len(answered))
    return answered


@pytest.mark.kafka
async def test_processes_share_the_work_and_one_that_is_killed_is_replaced(kafka, names, two):
    """Each has partitions and answers; every request is answered, over a SIGKILL; one address
    serves the metrics of all; SIGTERM drains all, exit code 0."""
    await asyncio.to_thread(two.wait_ready)
    shares = {("0",): 2.0, ("1",): 2.0}
    await asyncio.to_thread(
        eventually,
        lambda: samples(two, "ondemand_assigned_partitions") == shares,
        "each process has half of the partitions",
    )

    def kill_one(answered: int) -> None:
        if answered == 200:
            os.kill(pid_of(two, 0), signal.SIGKILL)

    async with PredictionClient(kafka=kafka.address, service=names) as client:
        answered = await ask_many(client, names, 600, while_running=kill_one)
        await asyncio.to_thread(
            eventually,
            lambda: samples(two, "ondemand_process_starts_total") == {("0",): 2.0, ("1",): 1.0},
            "the one that was killed is started again",
        )
        await asyncio.to_thread(two.wait_ready)
        await asyncio.to_thread(
            eventually,
            lambda: samples(two, "ondemand_assigned_partitions") == shares,
            "the new process has half of the partitions",
        )
        assert await ask_many(client, names, 200) == list(range(200))

    assert answered == list(range(600))
    requests = samples(two, "ondemand_requests_total")
    assert requests["0", "ok"] > 0
    assert requests["1", "ok"] > 0
    ended = [(line["process"], line["exit_code"]) for line in two.events("process.ended")]
    assert ended == [(0, -signal.SIGKILL)]
    assert {line["process"] for line in two.events("worker.starting")} == {0, 1}

    assert two.end() == 0, two.log
    ended = [(line["process"], line["exit_code"]) for line in two.events("process.ended")]
    assert sorted(ended[1:]) == [(0, 0), (1, 0)]
    assert len(two.events("worker.stopped")) == 2


@pytest.mark.kafka
def test_processes_drain_when_their_supervisor_was_killed(two):
    """They settle, commit and leave the group, as if a signal had come: nobody is left behind who
    answers and cannot be seen."""
    two.wait_ready()
    assert two.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: len(two.events("worker.stopped")) == 2, "both have drained")
    assert {line["signal"] for line in two.events("worker.draining")} == {"supervisor"}


@pytest.mark.kafka
def test_a_signal_to_everybody_drains_and_does_not_abandon(two):
    """Some send SIGTERM to every process of a service: it counts once, as it is meant."""
    two.wait_ready()
    for process in (0, 1):
        os.kill(pid_of(two, process), signal.SIGTERM)
    assert two.end() == 0, two.log
    assert two.events("worker.abandoned") == []


@pytest.mark.kafka
def test_a_second_signal_leaves_at_once_with_all(two):
    """An operator who cannot wait is obeyed; the exit code says by which signal."""
    two.wait_ready()
    # Two different signals while it is stopped: the same one twice would arrive once.
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        os.kill(two.pid, number)
    code = two.process.wait(BOUND_SECONDS)
    assert code in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert len(two.events("worker.abandoned")) == 1


def test_what_cannot_work_is_not_tried_again(package, tmp_path):
    """No broker there: the exit code and the words of a worker without a supervisor."""
    worker = RunningWorker(
        package,
        "127.0.0.1:1",
        log=tmp_path / "log",
        settings=("connect_timeout_seconds=2",),
        processes=2,
    )

    assert worker.process.wait(BOUND_SECONDS) == 1
    assert "error: " in worker.log
    assert "127.0.0.1:1" in worker.log
    assert "Traceback" not in worker.log
    assert len(worker.events("process.started")) == 2
