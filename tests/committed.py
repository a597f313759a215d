"""Requests to the real Kafka, replies that are committed there, workers that come and go.

``python -m committed FIRST COUNT``, in this folder: storms by so many seeds, on a broker of their
own; one line for each, with what was found.
"""

import collections
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ondemand.contract.codec import InferRequest, encode_request
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.local import LocalKafka
from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import ffnn

WIDTH = 8
PARTITIONS = 4
KEYS = 40
IN_FLIGHT_MAX = 300
SESSION_SECONDS = 2.0
STOPPED_SECONDS = 4.0
STORM_REQUESTS = 4_000
STORM_SECONDS = 150.0
STORM_FAULTS = 8


def body(value, width=2):
    """A request's JSON body: one row, all of it *value*."""
    tensor = Tensor("x", Datatype.FP32, np.full((1, width), value, np.float32))
    return encode_request(InferRequest((tensor,)), binary=False).value


def ask(producer, topic, name, *, replies, value=1.0, partition=0, key=None, reply_partition=0,
        width=2):  # fmt: skip
    """Publish a request by the correlation ID *name*."""
    headers = {
        "correlation-id": name,
        "reply-topic": replies,
        "reply-partition": str(reply_partition),
    }
    producer.produce(topic, body(value, width), key, partition, headers=headers)
    producer.poll(0)


def settings_of(stem):
    """What names the topics of one test to a worker."""
    return {
        "request_topic": f"{stem}.requests",
        "dead_letter_topic": f"{stem}.dead-letters",
        "group": f"ondemand.{stem}",
    }


class Replies:
    """Reads a topic from its beginning, committed records only."""

    def __init__(self, address, topic, partitions=1):
        self._consumer = Consumer(
            {"bootstrap.servers": address, "group.id": "none", "isolation.level": "read_committed"}
        )
        self._consumer.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
        self.records = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._consumer.close()

    def read(self, timeout_seconds=0.1):
        """What has come by now, in order: headers by name."""
        for message in self._consumer.consume(1_000, timeout_seconds):
            assert message.error() is None, message.error()
            headers = message.headers() or ()
            self.records.append({name: (value or b"").decode() for name, value in headers})
        return self.records

    def names(self):
        """The correlation IDs by now, in order."""
        return [record.get("correlation-id") for record in self.read()]

    def statuses(self):
        """Status by correlation ID."""
        return {record["correlation-id"]: record["status"] for record in self.read()}


class Workers:
    """Worker processes that are killed, stopped, and replaced as an orchestrator does."""

    def __init__(self, address, stem, folder, **settings):
        (folder / "ffnn.onnx").write_bytes(ffnn((WIDTH, 4)))
        package = new_package(folder / "worker", name="ffnn", model=folder / "ffnn.onnx").folder
        settings |= settings_of(stem) | {"batch_rows_max": 32}
        settings.setdefault("session_timeout_seconds", SESSION_SECONDS)
        self._command = [
            sys.executable, "-m", "ondemand", "worker", "run", str(package),
            "--kafka", address, "--http", "off", "--log-format", "json",
        ]  # fmt: skip
        for name, value in settings.items():
            self._command += ["--set", f"{name}={value}"]
        self._folder = folder
        self._wakers = []
        self._logs = {}
        self.running = []
        self.killed = 0
        self.left = collections.Counter()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wake_all()
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(10)

    def start(self):
        """One more."""
        log = self._folder / f"worker-{len(self._logs)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(self._command, stderr=out)
        self._logs[process.pid] = log
        self.running.append(process)

    def replace_who_left(self):
        """One that was killed, or that left because it cannot go on. It must have said why."""
        for process in [each for each in self.running if each.poll() is not None]:
            self.running.remove(process)
            self.left[process.returncode] += 1
            if process.returncode >= 0:
                log = self._logs[process.pid].read_text()
                assert log.count("worker.failed") == 1, log
            self.start()

    def kill(self, chosen):
        """Dead at once: *chosen*, or another one where that has just left by itself."""
        victim = next(each for each in (chosen, *self.running) if each.poll() is None)
        victim.kill()
        self.killed += victim.wait(10) == -signal.SIGKILL

    def stop(self, chosen):
        """Silent for longer than its session, then on as if nothing had been."""
        chosen.send_signal(signal.SIGSTOP)
        waker = threading.Timer(STOPPED_SECONDS, chosen.send_signal, [signal.SIGCONT])
        waker.start()
        self._wakers.append(waker)

    def join(self, _):
        """One more worker: partitions change hands while nobody has failed."""
        self.start()

    def leave(self, chosen):
        """One is asked to go."""
        if len(self.running) > 1:
            self.running.remove(chosen)
            chosen.terminate()
            self.left[chosen.wait(30)] += 1

    def wake_all(self):
        """Nobody is silent any more."""
        for waker in self._wakers:
            waker.join()


def storm(producer, replies, workers, stem, *, requests, faults, seed, bound_seconds):
    """Send *requests*, as fast as they are answered, and let *faults* (names of methods of
    ``Workers``), evenly spread, hit workers drawn by *seed*, until everything is answered."""
    chance = random.Random(seed)  # noqa: S311 - whom a fault hits need not be secret
    due = [(requests * at // (len(faults) + 1), fault) for at, fault in enumerate(faults, start=1)]
    asked, deadline = 0, time.monotonic() + bound_seconds
    while len(replies.read(0.02)) < requests:
        assert time.monotonic() < deadline, f"{len(replies.records)} of {requests} answered"
        workers.replace_who_left()
        # No faster, so that every fault hits workers that are at work.
        while asked < min(requests, len(replies.records) + IN_FLIGHT_MAX):
            key = asked % KEYS
            ask(
                producer,
                f"{stem}.requests",
                str(asked),
                replies=f"{stem}.replies",
                key=b"%d" % key,
                partition=key % PARTITIONS,
                reply_partition=key % 2,
                width=WIDTH,
            )
            asked += 1
        if due and len(replies.records) >= due[0][0]:
            getattr(workers, due.pop(0)[1])(chance.choice(workers.running))
    workers.wake_all()
    # Whoever woke up late, or has read a position of the past, answers once more about now.
    quiet_until = time.monotonic() + STOPPED_SECONDS / 2
    while time.monotonic() < quiet_until:
        replies.read()


def judged(replies, requests):
    """What is wrong: empty if each request has one good answer, and each key's are in order."""
    names = [int(record["correlation-id"]) for record in replies.records]
    counts = collections.Counter(names)
    by_key = {key: [name for name in names if name % KEYS == key] for key in range(KEYS)}
    found = {
        "missing": sorted(set(range(requests)) - counts.keys()),
        "duplicate": sorted(name for name, count in counts.items() if count > 1),
        "failed": [record for record in replies.records if record["status"] != "ok"],
        "disorder": [key for key, mine in by_key.items() if mine != sorted(mine)],
    }
    return {kind: each for kind, each in found.items() if each}


def storm_by(seed, kafka, folder):
    """One storm of faults drawn by *seed*, on topics of its own: what was done, and found."""
    stem, chance = f"storm-{seed}", random.Random(seed)  # noqa: S311 - not a secret
    faults = [
        chance.choice(["kill", "stop", "stop", "kill", "join", "leave"])
        for _ in range(STORM_FAULTS)
    ]
    counts = {"requests": PARTITIONS, "replies": 2, "dead-letters": 1}
    topics = [NewTopic(f"{stem}.{suffix}", count) for suffix, count in counts.items()]
    created = AdminClient({"bootstrap.servers": kafka}).create_topics(topics, operation_timeout=30)
    for each in created.values():
        each.result()
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0, "enable.idempotence": True})
    with (
        Replies(kafka, f"{stem}.replies", 2) as replies,
        Workers(kafka, stem, folder, guarantee="exactly-once") as workers,
    ):
        for _ in range(3):
            workers.start()
        with contextlib.suppress(AssertionError):  # what is missing is found below
            storm(
                producer, replies, workers, stem, requests=STORM_REQUESTS, faults=faults,
                seed=seed, bound_seconds=STORM_SECONDS,
            )  # fmt: skip
        found = {kind: len(each) for kind, each in judged(replies, STORM_REQUESTS).items()}
        done = {"faults": faults, "left": dict(workers.left), "answers": len(replies.records)}
    producer.flush(10)
    return {"seed": seed, **done, "found": found}


def main(first, count):
    """Storms by *count* seeds from *first* on; 1 if anything was found in one of them."""
    wrong = 0
    with LocalKafka() as kafka:
        for seed in range(first, first + count):
            with tempfile.TemporaryDirectory() as folder:
                result = storm_by(seed, kafka.address, Path(folder))
            wrong |= bool(result["found"])
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
