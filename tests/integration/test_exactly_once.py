"""The guarantee "exactly-once" on the real Kafka: refusals, zombies, workers that are killed."""

import contextlib
import threading
import time

import pytest
from committed import PARTITIONS, Replies, Workers, ask, judged, settings_of, storm
from component.builders import eventually, processing
from confluent_kafka import Producer, TopicPartition
from unit.processor.builders import DoublingModel

from ondemand.contract.record import Partition
from ondemand.contract.tensor import Datatype
from ondemand.errors import TransportError
from ondemand.runtime.base import Signature, TensorSpec
from ondemand.testing.conformance_harness import Listener
from ondemand.transport.kafka_client import KafkaClientTransport
from ondemand.transport.kafka_worker_exactly_once import KafkaExactlyOnceTransport

pytestmark = pytest.mark.kafka

REQUESTS = 2_000
TURNS = 40
EXPIRY_SECONDS = 60.0  # the broker looks every ten for transactions that have expired


class AnyWidth(DoublingModel):
    """Takes rows of any width."""

    def __init__(self):
        super().__init__()
        axes = (None, None)
        self.signature = Signature(
            inputs=(TensorSpec("x", Datatype.FP32, axes),),
            outputs=(TensorSpec("y", Datatype.FP32, axes),),
            batched=True,
        )


@pytest.fixture
def producer(kafka):
    """Writes requests."""
    made = Producer(
        {"bootstrap.servers": kafka.address, "linger.ms": 0, "enable.idempotence": True}
    )
    yield made
    made.flush(10)


@pytest.fixture
def transport(kafka, names):
    """A transport that is closed in the end, if nobody has done so."""
    made = KafkaExactlyOnceTransport(
        kafka=kafka.address, group=f"ondemand.{names}", session_timeout_seconds=10
    )
    yield made
    made.close()


def test_small_topics_take_each_record_alone(kafka, names, producer, transport, create_topic):
    """A reply topic takes less than a batch of replies: those that fit by themselves are
    answered, the one that does not becomes `internal`, and neighbours notice nothing."""
    small = create_topic(f"{names}-small.replies", config={"max.message.bytes": "1500"})
    for i in range(12):
        width = 400 if i == 5 else 2
        ask(producer, f"{names}.requests", f"small-{i}", replies=small, width=width)
        ask(producer, f"{names}.requests", f"large-{i}", replies=f"{names}.replies")
    producer.flush(10)
    with (
        Replies(kafka.address, small) as of_small,
        Replies(kafka.address, f"{names}.replies") as of_large,
        processing(transport, AnyWidth(), **settings_of(names)),
    ):
        eventually(lambda: len(of_small.read()) == len(of_large.read()) == 12, "all are answered")
        assert of_small.names() == [f"small-{i}" for i in range(12)]
        statuses = of_small.statuses()
        assert {name for name, status in statuses.items() if status != "ok"} == {"small-5"}
        assert statuses["small-5"] == "internal"
        assert set(of_large.statuses().values()) == {"ok"}


def test_a_reply_topic_is_deleted_meanwhile(
    kafka, kafka_admin, names, producer, transport, create_topic
):
    """The caller has left with its topic: its request is kept as a dead letter, and the others
    wait a moment, not for ever."""
    gone = create_topic(f"{names}-gone.replies")
    with (
        Replies(kafka.address, f"{names}.replies") as replies,
        Replies(kafka.address, f"{names}.dead-letters") as letters,
        processing(transport, DoublingModel(), **settings_of(names)),
    ):
        ask(producer, f"{names}.requests", "first", replies=gone)
        with Replies(kafka.address, gone) as of_gone:
            eventually(of_gone.read, "answered while the topic is there")
        kafka_admin.delete_topics([gone], operation_timeout=10)[gone].result(10)
        ask(producer, f"{names}.requests", "left", replies=gone)
        ask(producer, f"{names}.requests", "stayed", replies=f"{names}.replies")
        eventually(lambda: replies.names() == ["stayed"], "the other caller is answered")
        eventually(lambda: letters.names() == ["left"], "the request of who left is kept")


def test_a_partition_begins_where_a_pending_transaction_leaves_it(
    kafka, names, producer, transport
):
    """A worker died within a transaction, and its partitions change hands three times before the
    broker has ended that: whoever gets them waits, and begins at the stored position, not at the
    first record. (The library forgets to wait, where a change meets its question.)"""
    topic, first = f"{names}.requests", Listener()
    for number in range(3 * PARTITIONS):
        producer.produce(topic, b"%d" % number, partition=number % PARTITIONS)
    producer.flush(10)
    transport.subscribe(topic, first)
    eventually(lambda: transport.fetch(1, 0.05) and first.partitions, "assigned")
    stored = dict.fromkeys((Partition(topic, index) for index in range(PARTITIONS)), 1)
    transport.transact([], stored, transport.membership)
    dying = transport._producer.handle.current
    dying.begin_transaction()
    pending = [TopicPartition(topic, index, 2) for index in range(PARTITIONS)]
    dying.send_offsets_to_transaction(pending, transport.membership.metadata, 5)
    transport._consumer.close()

    records, heirs = [], [heir(kafka, names) for _ in range(3)]

    def read_on():
        for each in heirs:
            if each._listener is not None:
                records.extend(each.fetch(10, 0.02))

    try:
        for each in heirs:
            listener = Listener()
            each.subscribe(topic, listener)
            eventually(lambda told=listener.told: (read_on(), told("assigned"))[1], "joined")
        assert records == []
        assert sum(max(each.lag().values(), default=0) for each in heirs) >= 1
        dying.abort_transaction(10)
        for number in range(TURNS * PARTITIONS):
            producer.produce(topic, b"more", partition=number % PARTITIONS)
            if number % PARTITIONS == 0:
                read_on()  # for seconds: what the library puts off must not move a position
        producer.flush(10)
        left = (2 + TURNS) * PARTITIONS
        eventually(lambda: (read_on(), len(records))[1] >= left, "all that is not stored comes")
    finally:
        for each in heirs:
            each.close()
    assert sorted((record.partition, record.offset) for record in records) == [
        (index, offset) for index in range(PARTITIONS) for offset in range(1, 3 + TURNS)
    ]


def test_a_fenced_producer_makes_the_process_leave(kafka, names, producer, transport):
    """Someone else has its name, within a transaction: nothing of that counts, the process leaves,
    and whoever comes next begins at the stored position. No answer is lost or repeated."""
    topic, replied = f"{names}.requests", f"{names}.replies"

    def serve_until_it_leaves():
        with processing(transport, DoublingModel(), **settings_of(names)) as processor:
            ask(producer, topic, "first", replies=replied)
            eventually(lambda: replies.names() == ["first"], "answered")
            before_commit(transport, lambda: taken_over(kafka, transport))
            for name in ("second", "third"):
                ask(producer, topic, name, replies=replied)
            eventually(lambda: processor.stopping, "it leaves")

    with Replies(kafka.address, replied) as replies:
        with pytest.raises(TransportError, match="fenced"):
            serve_until_it_leaves()
        with processing(heir(kafka, names), DoublingModel(), **settings_of(names)):
            ask(producer, topic, "fourth", replies=replied)
            eventually(lambda: "fourth" in replies.names(), "the next one answers")
        assert replies.names() == ["first", "second", "third", "fourth"]


def test_a_transaction_that_expires_is_not_committed(kafka, names, producer):
    """The process was silent for longer than its transaction may last: the broker aborts that.
    Whether it can go on or has to be replaced, every request has one answer."""
    topic, replied = f"{names}.requests", f"{names}.replies"
    slow = heir(kafka, names, session_timeout_seconds=1.0)
    expired = threading.Event()

    def outlast():
        if not expired.is_set():
            wait_until_aborted(kafka, producer, names)
            expired.set()

    with Replies(kafka.address, replied) as replies:
        with (
            contextlib.suppress(TransportError),  # "fenced": the process is replaced
            processing(slow, DoublingModel(), **settings_of(names)) as processor,
        ):
            before_commit(slow, outlast)
            ask(producer, topic, "first", replies=replied)
            eventually(expired.is_set, "it has expired", bound_seconds=EXPIRY_SECONDS)
            eventually(lambda: processor.stopping or replies.names()[1:], "it went on or left")
        assert expired.is_set()
        with processing(heir(kafka, names), DoublingModel(), **settings_of(names)):
            ask(producer, topic, "second", replies=replied)
            eventually(lambda: "second" in replies.names(), "the next one answers")
        assert replies.names() == ["behind it", "first", "second"]


@pytest.mark.parametrize("level", ["read_committed", "read_uncommitted"])
async def test_clients_see_what_is_committed(kafka, names, level):
    """A client's transport hands over the replies of committed transactions only, unless it is
    asked for all."""
    topic = f"{names}.replies"
    writer = Producer({"bootstrap.servers": kafka.address, "transactional.id": topic})
    writer.init_transactions(10)
    client = KafkaClientTransport(kafka=kafka.address, isolation_level=level)
    await client.start()
    try:
        await client.listen(Partition(topic, 0))
        for value, end in ((b"aborted", "abort"), (b"committed", "commit")):
            writer.begin_transaction()
            writer.produce(topic, value, partition=0)
            writer.flush(10)
            getattr(writer, f"{end}_transaction")(10)
        values, deadline = [], time.monotonic() + 10
        while b"committed" not in values and time.monotonic() < deadline:
            values += [record.value for record in await client.fetch(0.2)]
    finally:
        await client.stop()
    everything = [b"aborted", b"committed"]
    assert values == (everything if level == "read_uncommitted" else everything[1:])


def test_nothing_is_lost_or_answered_twice_whoever_comes_and_goes(kafka, names, producer, tmp_path):
    """Workers are killed, stopped for longer than their session lasts, join and leave while
    requests flow: read committed, each request has one answer, and each key's are in its order."""
    faults = ("stop", "kill", "join", "stop", "leave", "kill")
    with (
        Replies(kafka.address, f"{names}.replies", 2) as replies,
        Workers(kafka.address, names, tmp_path, guarantee="exactly-once") as workers,
    ):
        for _ in range(3):
            workers.start()
        storm(
            producer,
            replies,
            workers,
            names,
            requests=REQUESTS,
            faults=faults,
            seed=20_261_121,
            bound_seconds=100.0,
        )
        assert judged(replies, REQUESTS) == {}
        assert workers.killed == faults.count("kill")


def heir(kafka, names, **settings):
    """One more member of the same group."""
    return KafkaExactlyOnceTransport(kafka=kafka.address, group=f"ondemand.{names}", **settings)


def before_commit(transport, happens):
    """Let something happen between a transaction's last record and its end."""
    commit = transport._producer._commit

    def interposed():
        happens()
        commit()

    transport._producer._commit = interposed


def taken_over(kafka, transport):
    """Someone else begins with the same transactional ID."""
    options = {"bootstrap.servers": kafka.address, "transactional.id": transport.transactional_id}
    Producer(options).init_transactions(10)


def wait_until_aborted(kafka, producer, names):
    """Until what comes after the open transaction in the reply topic can be read: it is over."""
    topic = f"{names}.replies"
    producer.produce(topic, b"", partition=0, headers={"correlation-id": "behind it"})
    producer.flush(10)
    with Replies(kafka.address, topic) as replies:
        eventually(replies.read, "the broker ends it", bound_seconds=EXPIRY_SECONDS)
