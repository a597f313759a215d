"""Hostile records, and good ones between them, through a worker on a real Kafka: `make fuzz-live`.

What each record must lead to is worked out beforehand, by the same steps around the same model in
this process; what did come is read from the topics themselves.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from fuzz.oracle import Expected, Oracle
from fuzz.records import good_one, one
from fuzz.targets import REPLIES, REQUESTS, TARGETS
from worker_process import RunningWorker, Usage, eventually

from ondemand import limits
from ondemand.contract.codec import decode_response
from ondemand.contract.dead_letter import read_dead_letter
from ondemand.contract.headers import index_headers
from ondemand.contract.record import Record
from ondemand.contract.reply import parse_reply
from ondemand.runtime.package import load_package
from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import ffnn
from ondemand.transport.kafka_worker_records import record_of

GROWTH_BYTES_MAX = 400_000_000
GOOD_EVERY = 4
SETTLED_SECONDS = 300.0
SAMPLE_SECONDS = 0.05
DEAD_LETTER_BYTES_MAX = limits.RECORD_BYTES_MAX + 65_536
REPLY_PARTITIONS = 2
NUMBERS = TARGETS[0]


@dataclass
class Found:
    """What came of a live run."""

    drawn: int = 0
    hostile: int = 0  # that the broker took
    good: int = 0
    not_taken: int = 0  # by the broker: larger than it allows
    seconds: float = 0.0
    replies: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    shared_batches: int = 0  # good requests that were answered from a batch with others
    resident_start_bytes: int = 0
    resident_peak_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def growth_bytes(self) -> int:
        """Of the worker's resident memory, at its peak."""
        return self.resident_peak_bytes - self.resident_start_bytes


@dataclass(frozen=True, slots=True)
class Place:
    """The topics of one run."""

    address: str
    stem: str

    @property
    def requests(self) -> str:
        """Where the records go."""
        return f"{self.stem}.requests"

    @property
    def replies(self) -> str:
        """Where the answers go."""
        return f"{self.stem}.replies"

    @property
    def dead_letters(self) -> str:
        """Where the rest goes."""
        return f"{self.stem}.dead-letters"

    def create(self) -> None:
        """Create the topics as `broker/topics.toml` has them, with one partition for requests: all
        records are neighbours."""
        large = {"max.message.bytes": f"{DEAD_LETTER_BYTES_MAX}"}
        wanted = [
            NewTopic(self.requests, 1),
            NewTopic(self.replies, REPLY_PARTITIONS),
            NewTopic(self.dead_letters, 1, config=large),
        ]
        admin = AdminClient({"bootstrap.servers": self.address})
        for made in admin.create_topics(wanted, operation_timeout=30).values():
            made.result()


def make_package(folder: Path) -> Path:
    """A worker folder for a small network with the inputs of ``NUMBERS``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ffnn.onnx").write_bytes(ffnn((8, 4)))
    return new_package(folder / "worker", name="m", model=folder / "ffnn.onnx").folder


def run_live(
    place: Place, folder: Path, *, hostile: int, seed: int, extra: Sequence[Record] = ()
) -> Found:
    """Send so many hostile records of *seed*, a good one after every third, and *extra*; wait until
    the worker has settled them all, and compare. What is not as it must be is in ``problems``."""
    place.create()
    package = make_package(folder)
    oracle = Oracle(load_package(package).model, {place.replies: REPLY_PARTITIONS})
    found = Found(drawn=hostile)
    settings = [
        f"request_topic={place.requests}",
        f"dead_letter_topic={place.dead_letters}",
        f"group=ondemand.{place.stem}",
    ]
    with RunningWorker(package, place.address, log=folder / "log", settings=settings) as worker:
        worker.wait_ready()
        with _watched(worker.pid, found):
            started = time.monotonic()
            records = [_moved(record, place) for record in (*_drawn(hostile, seed), *extra)]
            expected = _send(place, records, oracle, found)
            _wait_settled(place, worker, len(expected))
            found.seconds = time.monotonic() - started
        if not worker.alive:
            found.problems.append(f"the worker died: {worker.log[-2_000:]}")
        elif code := worker.end():
            found.problems.append(f"the worker left with {code}: {worker.log[-2_000:]}")
    _compare(place, expected, found)
    return found


def _drawn(hostile: int, seed: int) -> Iterator[Record]:
    for number in range(hostile):
        yield one(seed, number, NUMBERS).record
        if number % (GOOD_EVERY - 1) == 0:
            yield good_one(seed, hostile + number, NUMBERS).record


def _moved(record: Record, place: Place) -> Record:
    """*record* for the topics of this run."""
    names = {
        REPLIES.encode(): place.replies.encode(),
        REQUESTS.encode(): place.requests.encode(),
    }
    headers = [
        (name, names.get(value, value) if value else value) for name, value in record.headers
    ]
    return record._replace(topic=place.requests, headers=headers)


def _send(
    place: Place, records: Sequence[Record], oracle: Oracle, found: Found
) -> Mapping[int, Expected]:
    """Publish *records* in their order; what is expected of each that the broker took, by its
    offset."""
    producer = Producer(
        {
            "bootstrap.servers": place.address,
            "enable.idempotence": True,
            "linger.ms": 20,
            "message.max.bytes": 100_000_000,
            "compression.type": "gzip",
        }
    )
    taken: dict[int, Record] = {}

    def report(record: Record, error: object, offset: int | None) -> None:
        if error is None and offset is not None:
            taken[offset] = record._replace(offset=offset)
        else:
            found.not_taken += 1

    for record in records:
        _produce(producer, record, report)
    assert producer.flush(SETTLED_SECONDS) == 0
    expected = {offset: oracle.expect(record) for offset, record in taken.items()}
    found.good = sum(each.is_good for each in expected.values())
    found.hostile = len(expected) - found.good
    return expected


def _produce(producer: Producer, record: Record, report) -> None:
    while True:
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                0,
                lambda error, message: report(record, error, message.offset()),
                headers=list(record.headers),
            )
        except BufferError:
            producer.poll(0.05)
            continue
        producer.poll(0)
        return


@contextmanager
def _watched(pid: int, found: Found) -> Iterator[None]:
    """Take note of the most memory that the process has resident meanwhile."""
    process, over = psutil.Process(pid), threading.Event()
    found.resident_start_bytes = Usage.of(process).resident_bytes

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            try:
                resident = Usage.of(process).resident_bytes
            except psutil.NoSuchProcess:
                return
            found.resident_peak_bytes = max(found.resident_peak_bytes, resident)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _consumer(place: Place, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": place.address,
            "group.id": group,
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 2_000_000,
        }
    )


def _wait_settled(place: Place, worker: RunningWorker, count: int) -> None:
    """Until the group's position is behind the last record, or the worker has died."""
    partition = TopicPartition(place.requests, 0)
    consumer = _consumer(place, f"ondemand.{place.stem}")
    try:
        eventually(
            lambda: not worker.alive or consumer.committed([partition], 10)[0].offset >= count,
            f"all {count} records are settled",
            bound_seconds=SETTLED_SECONDS,
        )
    finally:
        consumer.close()


def _read(place: Place, topic: str, partitions: int) -> Iterator[Record]:
    """All that *topic* holds now."""
    consumer = _consumer(place, f"reader.{place.stem}")
    try:
        for index in range(partitions):
            partition = TopicPartition(topic, index, 0)
            _, end = consumer.get_watermark_offsets(partition, timeout=10)
            consumer.assign([partition])
            position = 0
            while position < end:
                (message,) = consumer.consume(1, 30) or (None,)
                assert message is not None, f"{topic}/{index}: nothing after {position} of {end}"
                assert message.error() is None, message.error()
                position = message.offset() + 1
                yield record_of(message)
    finally:
        consumer.close()


def _compare(place: Place, expected: Mapping[int, Expected], found: Found) -> None:
    """What came against what had to."""
    missing = Counter(each.answer for each in expected.values() if each.answer is not None)
    good = {each.correlation_id: each for each in expected.values() if each.is_good}
    for record in _read(place, place.replies, REPLY_PARTITIONS):
        reply = parse_reply(record)
        found.replies[reply.status] += 1
        correlation_id = index_headers(record.headers)["correlation-id"]
        missing[correlation_id, reply.status] -= 1
        if asked := good.get(correlation_id):
            if reply.status == "ok":
                found.shared_batches += reply.timing.batch_rows > asked.rows
            if not asked.is_answered_by(decode_response(reply.body.value, reply.body.head_length)):
                found.problems.append(f"{correlation_id!r} got a neighbour's answer")
    found.problems += [
        f"{name!r}: {'missing' if count > 0 else 'too many'}, {status} ({abs(count)})"
        for (name, status), count in missing.items()
        if count
    ]
    buried = {offset for offset, each in expected.items() if each.dead_letter}
    for record in _read(place, place.dead_letters, 1):
        found.dead_letters += 1
        offset = int(read_dead_letter(record).source.rpartition("/")[2])
        if offset not in buried:
            found.problems.append(f"record {offset} has a dead letter too many")
        buried.discard(offset)
    found.problems += [f"record {offset} has no dead letter" for offset in sorted(buried)]
