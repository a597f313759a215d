"""``ondemand deadletters`` on real Kafka: from a worker's dead letter to the answer, and no trace
left by looking."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ondemand.contract.codec import InferRequest, encode_request
from ondemand.contract.dead_letter import REDRIVE_ATTEMPTS, dead_letter_record
from ondemand.contract.headers import Dialect
from ondemand.contract.record import Headers, Record
from ondemand.contract.tensor import Datatype, Tensor

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).resolve().parents[2]
ONDEMAND = (sys.executable, "-m", "ondemand")
BOUND_SECONDS = 60.0
NOW_MS = int(time.time() * 1000)
HOUR_MS = 3_600_000


@pytest.fixture
def stem(topic_name, create_topic):
    """A model of one test's own, with its topics."""
    name = topic_name("x").removesuffix(".x")
    create_topic(f"{name}.requests", partitions=2)
    create_topic(f"{name}.dead-letters", partitions=2)
    return name


@pytest.fixture
def command(kafka):
    """Runs `ondemand deadletters`, to its end."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*ONDEMAND, "deadletters", *arguments],
            env=environment(kafka),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=BOUND_SECONDS,
            check=False,
        )

    return run


def environment(kafka) -> dict[str, str]:
    """The environment of a command: no setting but the broker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONDEMAND_")}
    return {**kept, "ONDEMAND_KAFKA": kafka.address}


def bury(
    producer: Producer,
    stem: str,
    number: int,
    *,
    reason: str = "model-error",
    age_ms: int = 0,
    version: str = "1.0.0",
    more: Headers = (),
) -> None:
    """Write the dead letter of request *number*, as a worker does; odd ones to partition 1."""
    headers = [("correlation-id", b"c-%d" % number), ("reply-topic", b"shop.replies"), *more]
    request = Record(f"{stem}.requests", 0, number, b"k", b"body %d" % number, headers, NOW_MS)
    letter = dead_letter_record(
        f"{stem}.dead-letters",
        request,
        reason=reason,
        message=f"request {number} broke",
        worker=f"{stem}/{version}",
        time_ms=NOW_MS - age_ms,
        dialect=Dialect.NATIVE,
    )
    producer.produce(
        letter.topic,
        letter.value,
        letter.key,
        number % 2,
        headers=list(letter.headers),
        timestamp=NOW_MS - age_ms,
    )


@pytest.fixture
def six(kafka, stem):
    """Six dead letters, one an hour: even ones unanswerable in partition 0, odd ones model errors
    of version 2.0.0 in partition 1."""
    producer = Producer({"bootstrap.servers": kafka.address})
    for number in range(6):
        reason, version = (("unanswerable", "1.0.0"), ("model-error", "2.0.0"))[number % 2]
        bury(producer, stem, number, reason=reason, version=version, age_ms=(5 - number) * HOUR_MS)
    assert producer.flush(BOUND_SECONDS) == 0
    return stem


def records(kafka, topic: str) -> list:
    """All messages of *topic*, in the order of partition and offset."""
    options = {"bootstrap.servers": kafka.address, "group.id": "test", "enable.auto.commit": False}
    consumer = Consumer({**options, "auto.offset.reset": "earliest"})
    found = []
    try:
        for index in range(len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)):
            low, end = consumer.get_watermark_offsets(TopicPartition(topic, index), timeout=10)
            consumer.assign([TopicPartition(topic, index, low)])
            for _ in range(end - low):
                message = consumer.poll(BOUND_SECONDS)
                assert message is not None
                assert message.error() is None
                found.append(message)
    finally:
        consumer.close()
    return found


def letters_in(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """The IDs that `list --json` printed."""
    assert done.returncode == 0, done.stderr
    return [each["id"] for each in json.loads(done.stdout)["dead_letters"]]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], ["0:0", "1:0", "0:1", "1:1", "0:2", "1:2"]),
        (["--reason", "model-error"], ["1:0", "1:1", "1:2"]),
        (["--since", "150m"], ["1:1", "0:2", "1:2"]),
        (["--since", "210m", "--until", "90m"], ["0:1", "1:1"]),
        (["--version", "1.0.0", "--limit", "2"], ["0:1", "0:2"]),
        (["--correlation-id", "c-3"], ["1:1"]),
        (["--reason", "internal"], []),
    ],
)
def test_a_list_shows_what_the_filters_take(command, six, options, found):
    """The newest, oldest first, over all partitions."""
    assert letters_in(command("list", six, "--json", *options)) == found


def test_people_see_a_table_and_how_many_match(command, six):
    """Each dead letter with all that finds it; the sum on standard error."""
    done = command("list", six, "--since", "30m")
    _, row = done.stdout.splitlines()
    for part in ("1:2", "model-error", "request 5 broke", f"{six}/2.0.0", f"{six}.requests/0/5"):
        assert part in row
    assert row.rstrip().endswith("c-5")
    assert "1 of " in done.stderr
    assert "3 unanswerable" in command("list", six, "--reason", "x").stderr


def test_looking_leaves_no_trace(command, six, kafka_admin: AdminClient):
    """No consumer group appears, nothing is committed, no record is written."""

    def groups() -> set[str]:
        return {each.group_id for each in kafka_admin.list_consumer_groups().result(10).valid}

    before = groups()
    assert command("list", six).returncode == 0
    assert command("show", six, "0:1").returncode == 0
    assert command("purge-plan", six, "--until", "90m").returncode == 0
    assert groups() - before == set()


def test_one_is_shown_without_its_payload(command, six, tmp_path):
    """Headers and size always; key and value on demand; the raw value as a file, once."""
    done = command("show", six, "1:2")
    assert done.returncode == 0, done.stderr
    assert "dead-letter-source" in done.stdout
    assert "6 bytes, not shown" in done.stdout
    assert "body 5" not in done.stdout
    assert "body 5" in command("show", six, "1:2", "--payload").stdout

    file = tmp_path / "value.bin"
    assert command("show", six, "1:2", "--output", str(file)).returncode == 0
    assert file.read_bytes() == b"body 5"
    assert file.stat().st_mode & 0o077 == 0
    again = command("show", six, "1:2", "--output", str(file))
    assert (again.returncode, again.stdout) == (1, "")
    assert "is there already" in again.stderr


def test_a_plan_changes_nothing(kafka, command, six):
    """--dry-run, nobody to ask, refused ones: the request topic stays empty."""
    dry = command("redrive", six, "--all", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "3 to " in dry.stdout
    assert "3 model-error" in dry.stdout
    assert "unanswerable and would come straight back" in dry.stdout
    assert "Nothing was published" in dry.stderr
    unasked = command("redrive", six, "1:0")
    assert (unasked.returncode, "--yes" in unasked.stderr) == (1, True)
    refused = command("redrive", six, "0:0", "--yes")
    assert refused.returncode == 1
    assert "nothing to redrive" in refused.stderr
    assert records(kafka, f"{six}.requests") == []


def test_interrupted_it_says_how_to_continue(kafka, command, stem):
    """Ctrl-C between two: the command that is printed does the rest, each once, in order."""
    producer = Producer({"bootstrap.servers": kafka.address})
    for number in range(0, 12, 2):
        bury(producer, stem, number)
    producer.flush(BOUND_SECONDS)
    process = subprocess.Popen(
        [*ONDEMAND, "deadletters", "redrive", stem, "--all", "--yes", "--rate", "0.2"],
        env={**environment(kafka), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        line = next(line for line in process.stdout if " is now " in line)
        assert line.startswith("0:0 is now ")
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=BOUND_SECONDS)
    assert process.returncode == 130, told
    assert "1 redriven." in rest
    assert "5 were not redriven" in told

    words = shlex.split(told.splitlines()[-1])
    assert words[:3] == ["ondemand", "deadletters", "redrive"]
    assert words[words.index("--after") + 1] == "0:0"
    words[words.index("--rate") + 1] = "1000"
    done = command(*words[2:], "--yes")
    assert done.returncode == 0, done.stderr
    values = [message.value() for message in records(kafka, f"{stem}.requests")]
    assert values == [b"body %d" % number for number in range(0, 12, 2)]


def test_attempts_are_counted_and_end(kafka, command, stem):
    """The header goes up with each redrive; beyond --attempts-max it is refused."""
    producer = Producer({"bootstrap.servers": kafka.address})
    bury(producer, stem, 0, more=[(REDRIVE_ATTEMPTS, b"2"), ("deadline", b"1")])
    bury(producer, stem, 2, more=[(REDRIVE_ATTEMPTS, b"3")])
    producer.flush(BOUND_SECONDS)
    done = command("redrive", stem, "--all", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    plan, redriven, outcome = map(json.loads, done.stdout.splitlines())
    assert plan["plan"]["ids"] == ["0:0"]
    assert ["3 times" in why for why in plan["plan"]["refused"]] == [True]
    assert (redriven["redriven"]["id"], redriven["redriven"]["attempt"]) == ("0:0", 3)
    assert (outcome["outcome"]["ending"], outcome["outcome"]["taken"]) == ("done", 1)
    (message,) = records(kafka, f"{stem}.requests")
    assert message.headers() == [
        ("correlation-id", b"c-0"),
        ("reply-topic", b"shop.replies"),
        (REDRIVE_ATTEMPTS, b"3"),
    ]


def test_a_purge_plan_means_what_it_says(command, six, kafka_admin: AdminClient):
    """Offsets as Kafka deletes by them: what was to stay stays, what was to go is gone; and the
    plan itself deletes nothing."""
    done = command("purge-plan", six, "--until", "150m")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("Nothing was deleted.")
    assert "2 unanswerable" in done.stdout
    planned = json.loads(command("purge-plan", six, "--until", "150m", "--json").stdout)
    assert len(letters_in(command("list", six, "--json"))) == 6

    offsets = [
        TopicPartition(each["topic"], each["partition"], each["offset"])
        for each in planned["delete_records"]["partitions"]
    ]
    for deleted in kafka_admin.delete_records(offsets).values():
        deleted.result(BOUND_SECONDS)
    assert letters_in(command("list", six, "--json")) == ["1:1", "0:2", "1:2"]
    gone = command("show", six, "0:0")
    assert "partition 0 holds 2 to 2" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list", "no-such-model"), "there is no topic 'no-such-model.dead-letters'"),
        (("list", "UPPER"), "no model name"),
        (("show", "{stem}", "9:0"), "its partitions are 0 to 1"),
        (("show", "{stem}", "0:3"), "partition 0 is empty"),
        (("show", "{stem}", "x"), "PARTITION:OFFSET"),
        (("list", "{stem}", "--since", "soon"), "is no time"),
        (("redrive", "{stem}", "--all", "--yes"), "no dead letter in"),
        (("redrive", "{stem}", "0:0", "--set", "request_topic=nowhere"), "no topic 'nowhere'"),
        (("purge-plan", "{stem}"), "no retention.ms"),
        (("purge-plan", "{stem}", "--before", "7:1"), "no partition 7"),
        (("list", "{stem}", "--kafka", "127.0.0.1:1"), "no Kafka answers at 127.0.0.1:1"),
    ],
)
def test_every_failure_is_one_line(command, stem, arguments, told):
    """What was wrong and what to do; no traceback, exit code 1."""
    words = [word.replace("{stem}", stem) for word in arguments]
    done = command(*words, "--set", "connect_timeout_seconds=2")
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_wrong_usage_is_told(command, stem):
    """IDs or --all, never both or neither; filters belong to --all."""
    for arguments in ([], ["0:0", "--all"], ["0:0", "--reason", "internal"]):
        done = command("redrive", stem, *arguments)
        assert done.returncode == 2
        assert "--all" in done.stderr


@pytest.fixture
def worker(kafka, stem, tmp_path) -> Iterator[None]:
    """The worker `digits`, reading this test's own topics."""
    log = tmp_path / "worker.log"
    settings = (f"request_topic={stem}.requests", f"dead_letter_topic={stem}.dead-letters")
    options = [word for each in (*settings, f"group=ondemand.{stem}") for word in ("--set", each)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*ONDEMAND, "worker", "run", "workers/digits", "--http", "off", *options],
            cwd=ROOT,
            env=environment(kafka),
            stderr=out,
        )
    try:
        yield
        process.terminate()
        assert process.wait(BOUND_SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_a_redriven_request_is_answered_at_its_own_address(
    kafka, command, stem, create_topic, worker
):
    """A request names a reply topic that is not there: a dead letter. Once the topic is there, a
    redrive brings the answer to it, under the caller's correlation ID."""
    image = Tensor("image", Datatype.FP32, np.zeros((1, 64), np.float32))
    body = encode_request(InferRequest((image,)), binary=False)
    headers = [
        ("correlation-id", b"\xffid"),
        ("reply-topic", f"{stem}.replies".encode()),
        ("reply-partition", b"1"),
        ("deadline", b"%d" % (int(time.time() * 1000) + 1000)),
    ]
    producer = Producer({"bootstrap.servers": kafka.address})
    producer.produce(f"{stem}.requests", body.value, b"key", headers=headers)
    assert producer.flush(BOUND_SECONDS) == 0
    buried = eventually(lambda: letters_in(command("list", stem, "--json")))
    shown = command("list", stem).stdout
    assert "unanswerable" in shown
    assert "ff6964" in shown

    create_topic(f"{stem}.replies", partitions=2)
    done = command("redrive", stem, *buried, "--unanswerable", "--yes")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"\n{buried[0]} is now {stem}\.requests/\d/\d+, attempt 1\n", done.stdout)

    (reply,) = eventually(lambda: records(kafka, f"{stem}.replies"))
    answered = dict(reply.headers())
    assert (reply.partition(), reply.key()) == (1, b"key")
    assert (answered["correlation-id"], answered["status"]) == (b"\xffid", b"ok")
    assert REDRIVE_ATTEMPTS not in answered
    assert letters_in(command("list", stem, "--json")) == buried


def eventually(look):
    """What *look* finds, once it finds anything."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, "still nothing"
        time.sleep(0.05)
    return found
