"""The documentation's marked Python snippets run, as they stand, against the real broker."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from documents import ROOT, Block, all_blocks

pytestmark = pytest.mark.kafka

ONDEMAND = Path(sys.executable).parent / "ondemand"
READY_SECONDS = 60
STOP_SECONDS = 30

RUNNER = """
import ast, asyncio, inspect, sys
text = sys.stdin.read()
code = compile(text, sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
outcome = eval(code, {"__name__": "__main__"})
if inspect.iscoroutine(outcome):
    asyncio.run(outcome)
"""
"""Runs a snippet as a program; where it awaits outside a function, inside an event loop."""


class Broker(Protocol):
    """What the fixture ``kafka`` gives."""

    address: str


def snippets() -> list[Block]:
    """The Python blocks under ``<!-- run -->``."""
    return [block for block in all_blocks() if block.marker == "run"]


def services() -> set[str]:
    """The services that the snippets say they are; `cli` is the one where they say nothing."""
    named = (re.findall(r"service=\"([\w.-]+)\"", block.text) for block in snippets())
    return {"cli"}.union(*named)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when *condition* holds; fail when *process* has ended or the time is over."""
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        assert process.poll() is None, f"the worker ended:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"the worker is not ready:\n{log.read_text()}"
        time.sleep(0.05)


def is_ready(log: Path) -> bool:
    """Whether the worker says where it listens, and answers there that it is ready."""
    listening = re.search(r"127\.0\.0\.1:\d+", _line(log, "http.listening"))
    if not listening:
        return False
    try:
        with urllib.request.urlopen(f"http://{listening[0]}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _line(log: Path, event: str) -> str:
    """The first line of *log* that holds *event*; empty if there is none yet."""
    return next((line for line in log.read_text().splitlines() if event in line), "")


@pytest.fixture(scope="module")
def topics(kafka_admin: AdminClient) -> None:
    """The topics of the model `digits` and of every service in the snippets."""
    names = ["digits.requests", "digits.dead-letters", *(f"{name}.replies" for name in services())]
    made = kafka_admin.create_topics([NewTopic(name, num_partitions=2) for name in names])
    for future in made.values():
        try:
            future.result(timeout=30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


@pytest.fixture(scope="module")
def worker(kafka: Broker, topics: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The worker `digits`, as it is run anywhere else."""
    log = tmp_path_factory.mktemp("worker") / "log"
    arguments = ["--kafka", kafka.address, "--http", "127.0.0.1:0", "--log-format", "json"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [ONDEMAND, "worker", "run", ROOT / "workers" / "digits", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: is_ready(log), process, log)
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_marked_snippets_run(kafka: Broker, worker: None) -> None:
    """Each snippet under ``<!-- run -->`` ends well, with nothing set but ``ONDEMAND_KAFKA``."""
    marked = snippets()
    assert {ROOT / "README.md"} <= {block.path for block in marked}, "README.md has none to run"
    for block in marked:
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, str(block)],
            check=False,  # the message is in stderr
            input=block.text,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            env={**os.environ, "ONDEMAND_KAFKA": kafka.address},
        )
        assert done.returncode == 0, f"{block}:\n{done.stderr}"
