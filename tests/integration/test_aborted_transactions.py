"""After a transaction that was aborted: what goes out again is stored, whatever had arrived."""

import contextlib
import gc

import psutil
import pytest
from committed import Replies
from component.builders import eventually
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from relay import Relay

from ondemand.local import LocalKafka, ports
from ondemand.testing.conformance_harness import Listener, outgoing
from ondemand.transport.base import TransactionAbortedError
from ondemand.transport.kafka_worker_config import KafkaAddress
from ondemand.transport.kafka_worker_errors import News
from ondemand.transport.kafka_worker_exactly_once import KafkaExactlyOnceTransport
from ondemand.transport.kafka_worker_transaction import TransactionalProducer

pytestmark = pytest.mark.kafka

CLIENT_ID = "loses-an-acknowledgement"
ATTEMPT_SECONDS = 1.0
ABORTS = 20

PATIENT = {
    # The records outlast the attempt: it fails of its own deadline, while they wait to be sent once
    # more.
    "message.timeout.ms": "30000",
    "transaction.timeout.ms": "30000",
    # Where this is the only broker, the library would drop its connection to the coordinator, too.
    "metadata.recovery.strategy": "none",
}


@pytest.fixture
def relay():
    """A relay, with a broker of its own behind it."""
    port = ports.free(1)[0]
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(Relay(port, CLIENT_ID))
        advertised = {"advertised.listeners": f"PLAINTEXT://{made.address}"}
        stack.enter_context(LocalKafka(port=port, properties=advertised))
        admin = AdminClient({"bootstrap.servers": made.address})
        admin.create_topics([NewTopic("replies", 1)])["replies"].result(20)
        yield made


def test_a_lost_acknowledgement_and_an_abort_lose_no_answer(relay):
    """The broker has stored a record of a transaction, the producer never heard of it, and the
    transaction was aborted. Sent again in the next one, the record is there once it is committed:
    the broker must not take it for the one that it has."""
    producer = TransactionalProducer(
        KafkaAddress(relay.address, CLIENT_ID, 10.0, PATIENT),
        News(),
        transactional_id="lossy",
        timeout_seconds=ATTEMPT_SECONDS,
    )

    group = {"bootstrap.servers": relay.address, "group.id": "group"}
    membership = Consumer(group).consumer_group_metadata()

    def transact(value):
        producer.transact([outgoing("replies", value)], [], membership)

    producer.start(10)
    transact(b"first")
    relay.lose_an_acknowledgement()
    with pytest.raises(TransactionAbortedError):
        transact(b"second")
    assert relay.lost.is_set(), "the broker has stored nothing: this test has tested nothing"
    assert read(relay.address, "read_uncommitted") == [b"first", b"second"]
    with pytest.raises(TransactionAbortedError) as away:
        transact(b"second")  # nothing is lost by it: it is tried again
    relay.mend()

    def committed():
        with contextlib.suppress(TransactionAbortedError):  # the library connects in its own time
            transact(b"second")
            return True

    eventually(committed, "the broker is back")
    transact(b"third")
    assert read(relay.address, "read_committed") == [b"first", b"second", b"third"]
    assert "no transaction could be begun" in str(away.value)


@pytest.fixture
def worker(kafka, names):
    """A worker's transport, with all of `requests` assigned."""
    transport = joined(kafka, names)
    yield transport
    transport.close()


def test_after_an_abort_the_next_transaction_is_committed(names, kafka, worker):
    """The broker refuses a membership that has ended; the next transaction, by the right one, is
    read committed, and nothing of the refused one is."""
    ended = worker.membership
    joined(kafka, names, beside=worker).close()
    eventually(
        lambda: (
            (worker.fetch(1, 0.05), worker.membership.partitions == ended.partitions)[1]
            and worker.membership != ended
        ),
        "the other has left, too",
    )
    position = {min(ended.partitions): 1}
    reply = outgoing(f"{names}.replies", headers=[("correlation-id", b"refused")])
    with pytest.raises(TransactionAbortedError):
        worker.transact([reply], position, ended)
    committed = reply._replace(headers=[("correlation-id", b"committed")])
    worker.transact([committed], position, worker.membership)
    with Replies(kafka.address, reply.topic) as replies:
        eventually(lambda: replies.names() == ["committed"], "the committed one is read")


def test_what_aborted_is_freed(names, worker):
    """After each abort there is a new producer. The old one goes with its threads, at once: also
    while no garbage is collected."""
    refused = outgoing(f"{names}.replies", partition=7)
    process, counts = psutil.Process(), []
    gc.disable()
    try:
        for _ in range(ABORTS):
            with pytest.raises(TransactionAbortedError):
                worker.transact([refused], {}, worker.membership)
            counts.append(process.num_threads())
    finally:
        gc.enable()
    worker.transact([refused._replace(partition=0)], {}, worker.membership)
    assert max(counts) < counts[0] + ABORTS, counts


def joined(kafka, names, beside=None):
    """One more member of the group, assigned; a member *beside* it lets it in."""
    transport = KafkaExactlyOnceTransport(kafka=kafka.address, group=f"ondemand.{names}")
    listener = Listener()
    transport.subscribe(f"{names}.requests", listener)

    def assigned():
        for each in filter(None, (transport, beside)):
            each.fetch(1, 0.05)
        return listener.partitions

    eventually(assigned, "assigned")
    return transport


def read(address, isolation_level):
    """The values in `replies`, up to the end."""
    options = {
        "bootstrap.servers": address,
        "group.id": "none",
        "isolation.level": isolation_level,
        "enable.partition.eof": True,
    }
    consumer, values = Consumer(options), []
    consumer.assign([TopicPartition("replies", 0, 0)])
    try:
        while True:
            message = consumer.poll(10)
            assert message is not None, "neither a record nor the end"
            if message.error() is not None:
                return values
            values.append(message.value())
    finally:
        consumer.close()
