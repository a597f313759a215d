"""The Kafka transports where topics change under them, and records are broken or too large."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record import default_records
from confluent_kafka.admin import AdminClient, NewPartitions

from ondemand.contract.record import Partition
from ondemand.testing.conformance_client import fetched
from ondemand.testing.conformance_harness import (
    Listener,
    fetch,
    fill,
    new_group,
    numbered,
    outgoing,
    publish,
    until,
    values,
)
from ondemand.transport.base import NotTakenError, send_and_wait
from ondemand.transport.kafka_client import KafkaClientTransport
from ondemand.transport.kafka_worker import KafkaWorkerTransport

pytestmark = pytest.mark.kafka

WAIT_SECONDS = 30.0


@pytest.fixture
def create(
    kafka_admin: AdminClient, topic_name: Callable[..., str], create_topic: Callable[..., str]
) -> Callable[..., str]:
    """Creates a topic and waits until the broker tells of it."""

    def create(*, partitions: int = 1, config: dict[str, str] | None = None) -> str:
        name = create_topic(topic_name(), partitions=partitions, config=config)
        deadline = time.monotonic() + WAIT_SECONDS
        while name not in kafka_admin.list_topics(timeout=10).topics:
            assert time.monotonic() < deadline, f"{name} was created, and is not there"
        return name

    return create


@pytest.fixture
def worker(kafka) -> Iterator[KafkaWorkerTransport]:
    transport = KafkaWorkerTransport(kafka=kafka.address, group=new_group())
    yield transport
    transport.close()


async def test_a_reply_topic_grows(
    kafka,
    kafka_admin: AdminClient,
    create: Callable[..., str],
    worker: KafkaWorkerTransport,
) -> None:
    """A partition that was added is found within a second by who asks for it, and written to."""
    replies = create()
    client = KafkaClientTransport(kafka=kafka.address)
    await client.start()
    try:
        assert worker.partition_count(replies) == 1
        assert await client.partition_count(replies) == 1
        await send_and_wait(client, outgoing(replies))
        assert publish(worker, outgoing(replies)) == []
        kafka_admin.create_partitions([NewPartitions(replies, 3)])[replies].result(20)
        await client.listen(Partition(replies, 2))
        deadline = time.monotonic() + WAIT_SECONDS
        while worker.partition_count(replies, at_least=3) != 3:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert publish(worker, outgoing(replies, b"reply", partition=2)) == []
        await send_and_wait(client, outgoing(replies, b"request", partition=2))
        got = await fetched(client, 2)
        assert values(got, 2) == [b"reply", b"request"]
    finally:
        await client.stop()


def test_a_request_topic_grows(kafka, kafka_admin: AdminClient, create: Callable[..., str]) -> None:
    """A worker comes to read a partition that was added while it runs, from its first record."""
    requests = create()
    listener = Listener()
    worker = KafkaWorkerTransport(
        kafka=kafka.address,
        group=new_group(),
        options={"topic.metadata.refresh.interval.ms": "500"},
    )
    try:
        worker.subscribe(requests, listener)
        until(lambda: len(listener.partitions) == 1, [worker], "one partition is read")
        kafka_admin.create_partitions([NewPartitions(requests, 2)])[requests].result(20)
        assert worker.partition_count(requests, at_least=2) == 2
        fill(worker, requests, {1: numbered(3)})
        got = until(lambda: len(listener.partitions) == 2, [worker], "two partitions are read")
        got += fetch(worker, 3 - len(got))
        assert values(got, 1) == numbered(3)
    finally:
        worker.close()


async def test_a_header_name_that_is_not_text(
    kafka, create: Callable[..., str], worker: KafkaWorkerTransport
) -> None:
    """A record whose header names are not UTF-8 does not break what others wrote.

    A worker reads all of its batch. A client reads the batch up to it: aiokafka gets no further.
    """
    topic = create()
    client = KafkaClientTransport(kafka=kafka.address)
    await client.start()
    try:
        await client.listen(Partition(topic, 0))
        await send_and_wait(client, outgoing(topic, b"0"))
        await _write_raw(kafka, topic, [b"1", b"2", *[b"broken"] * 50, b"4"])
        await send_and_wait(client, outgoing(topic, b"6"))
        got = await fetched(client, 4)
        assert values(got) == [b"0", b"1", b"2", b"6"]
    finally:
        await client.stop()
    worker.subscribe(topic, Listener())
    records = fetch(worker, 55)
    assert values(records) == [b"0", b"1", b"2", *[b"broken"] * 50, b"4", b"6"]
    assert [tuple(record.headers) for record in records if record.value == b"broken"] == [()] * 50


async def test_a_topic_that_takes_less_than_a_batch(
    kafka, create: Callable[..., str], worker: KafkaWorkerTransport
) -> None:
    """Where a topic takes less than is sent at once, only what is itself too large fails."""
    topic = create(config={"max.message.bytes": "20000"})
    records = [outgoing(topic, bytes(3_000) + str(n).encode()) for n in range(20)]
    records.insert(10, outgoing(topic, bytes(50_000)))
    client = KafkaClientTransport(kafka=kafka.address)
    await client.start()
    try:
        await client.listen(Partition(topic, 0))
        outcomes = await asyncio.gather(
            *(send_and_wait(client, record) for record in records), return_exceptions=True
        )
        assert [type(each) for each in outcomes] == [
            NotTakenError if number == 10 else type(None) for number in range(21)
        ]
        got = await fetched(client, 20)
        assert {record.value for record in got} == {r.value for r in records} - {bytes(50_000)}
    finally:
        await client.stop()
    failures = publish(worker, *records)
    assert [failure.record for failure in failures] == [records[10]]
    assert failures[0].permanent


class _NotText(str):
    """A header's name as no client library would write it."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


async def _write_raw(kafka, topic: str, bodies: list[bytes]) -> None:
    """One batch, as bytes; the records with the body ``broken`` have a name that is not UTF-8."""
    builder = default_records._DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 100_000)
    for offset, body in enumerate(bodies):
        name = _NotText("?") if body == b"broken" else "name"
        builder.append(offset, int(time.time() * 1000), None, body, [(name, b"value")])
    client = AIOKafkaClient(bootstrap_servers=kafka.address)
    await client.bootstrap()
    try:
        node = client.get_random_node()
        batch = [(topic, [(0, bytes(builder.build()))])]
        answer = await client.send(
            node,
            ProduceRequest(required_acks=-1, timeout=5000, topics=batch, transactional_id=None),
        )
        assert answer.topics[0][1][0][1] == 0, "the broker refused the batch"
    finally:
        await client.close()
