"""The client on real Kafka, against a responder of its own: what no imitation of Kafka shows."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Self

import numpy as np
import pytest
from component.responder import answer, until
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ondemand.client import PredictionClient, SyncPredictionClient
from ondemand.contract.record import Record
from ondemand.errors import ConfigurationError, NotSentError, PredictionError
from ondemand.local import LocalKafka
from ondemand.settings import ClientSettings

pytestmark = pytest.mark.kafka

X = {"x": np.array([1.0, 2.0])}
PARTITIONS = 3


class Responder:
    """A thread that answers every request of one topic, from its beginning on."""

    def __init__(self, address: str, topic: str) -> None:
        self._topic = topic
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": "unused",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
                "reconnect.backoff.max.ms": 200,
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._producer = Producer(
            {"bootstrap.servers": address, "linger.ms": 0, "reconnect.backoff.max.ms": 200}
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"responder {topic}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()
        self._producer.flush(5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(0.1)
            self._producer.poll(0)
            if message is None or message.error():
                continue
            headers = message.headers() or []
            request = Record(self._topic, 0, 0, message.key(), message.value(), headers, -1)
            reply = answer(request)
            self._producer.produce(
                reply.topic,
                reply.value,
                reply.key,
                -1 if reply.partition is None else reply.partition,
                headers=list(reply.headers),
            )


@pytest.fixture
def model(kafka, topic_name: Callable[..., str], create_topic: Callable[..., str]) -> Iterator[str]:
    """A model that is answered for: the name before `.requests`."""
    topic = create_topic(topic_name("requests"))
    with Responder(kafka.address, topic):
        yield topic.removesuffix(".requests")


@pytest.fixture
def service(topic_name: Callable[..., str], create_topic: Callable[..., str]) -> str:
    """A service whose reply topic is there."""
    return create_topic(topic_name("replies"), partitions=PARTITIONS).removesuffix(".replies")


def settings_of(address: str, service: str) -> ClientSettings:
    """The responder here does not announce itself."""
    return ClientSettings(kafka=address, service=service, unserved="wait")


@asynccontextmanager
async def clients(address: str, service: str, count: int) -> AsyncIterator[list[PredictionClient]]:
    made = [PredictionClient(settings=settings_of(address, service)) for _ in range(count)]
    try:
        await asyncio.gather(*(client.start() for client in made))
        yield made
    finally:
        await asyncio.gather(*(client.close() for client in made))


async def test_the_first_reply_is_never_missed(kafka, model: str, service: str) -> None:
    """A client that has just started, on partitions that hold replies to others already."""
    for _ in range(5):
        async with PredictionClient(settings=settings_of(kafka.address, service)) as client:
            assert (await client.predict(model, X))["sum"].tolist() == [3.0]
            assert client.stats.unknown == 0


async def test_more_clients_than_partitions_share_them(kafka, model: str, service: str) -> None:
    """Each of them gets all of its own answers and none of the others'."""

    async def ask(client: PredictionClient, start: int) -> list[float]:
        inputs = ({"x": np.array([float(start + n)])} for n in range(100))
        return [float(o.prediction["sum"][0]) async for o in client.predict_many(model, inputs)]

    async with clients(kafka.address, service, 2 * PARTITIONS + 1) as made:
        results = await asyncio.gather(*(ask(c, 1_000 * n) for n, c in enumerate(made)))
        assert sum(client.stats.foreign for client in made) > 0
        assert all(client.stats.unknown == 0 for client in made)
    assert results == [[float(1_000 * n + m) for m in range(100)] for n in range(len(made))]


async def test_predict_many_on_a_real_broker(kafka, model: str, service: str) -> None:
    """Two thousand requests, each answered once, in order and as they come."""
    inputs = [{"x": np.array([float(n)])} for n in range(2_000)]
    async with PredictionClient(settings=settings_of(kafka.address, service)) as client:
        for ordered in (True, False):
            outcomes = client.predict_many(model, inputs, ordered=ordered)
            seen = [(o.index, float(o.prediction["sum"][0])) async for o in outcomes]
            assert (seen if ordered else sorted(seen)) == [(n, float(n)) for n in range(2_000)]
        assert client.stats.pending == 0


def test_the_synchronous_facade_on_a_real_broker(kafka, model: str, service: str) -> None:
    """No event loop in sight, and nothing left open."""
    with SyncPredictionClient(settings=settings_of(kafka.address, service)) as client:
        assert client.predict(model, X)["sum"].tolist() == [3.0]
        outcomes = client.predict_many(model, (X for _ in range(200)), in_flight=32)
        assert [float(o.prediction["sum"][0]) for o in outcomes] == [3.0] * 200


async def test_submit_is_answered_elsewhere(
    kafka, model: str, service: str, create_topic: Callable[..., str], topic_name
) -> None:
    """Another reader of another topic finds the answer under the given correlation ID."""
    audit = create_topic(topic_name("replies"))
    async with PredictionClient(settings=settings_of(kafka.address, service)) as client:
        await client.submit(model, X, reply_topic=audit, correlation_id="order-7")
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "unused"})
    try:
        consumer.assign([TopicPartition(audit, 0, 0)])
        message = await asyncio.to_thread(consumer.poll, 20)
    finally:
        consumer.close()
    assert dict(message.headers())["correlation-id"] == b"order-7"


async def test_missing_topics_are_named_and_stay_missing(
    kafka, kafka_admin: AdminClient, service: str, topic_name
) -> None:
    """Neither a model's nor a reply topic is made by asking for it."""
    nowhere = topic_name("replies").removesuffix(".replies")
    with pytest.raises(ConfigurationError, match=f"ondemand topics apply --service {nowhere}"):
        await PredictionClient(kafka=kafka.address, service=nowhere).start()
    async with PredictionClient(settings=settings_of(kafka.address, service)) as client:
        with pytest.raises(NotSentError, match=f"no model '{nowhere}' is served on this broker"):
            await client.predict(nowhere, X)
    there = kafka_admin.list_topics(timeout=10).topics
    assert not [topic for topic in there if topic.startswith(nowhere + ".")]


async def test_an_unreachable_broker_is_said_in_time() -> None:
    """One sentence, within the connect timeout."""
    settings = ClientSettings(kafka="127.0.0.1:9", connect_timeout_seconds=0.5)
    async with asyncio.timeout(5):
        with pytest.raises(NotSentError, match=r"127\.0\.0\.1:9 within 0\.5 s"):
            await PredictionClient(settings=settings).start()


async def test_a_deleted_reply_topic_that_comes_back_is_read_again(
    kafka, kafka_admin: AdminClient, model: str, service: str, create_topic: Callable[..., str]
) -> None:
    """While it is gone callers hear why; afterwards the same client serves again."""
    topic = f"{service}.replies"
    async with PredictionClient(settings=settings_of(kafka.address, service)) as client:
        await client.predict(model, X)
        kafka_admin.delete_topics([topic])[topic].result()
        await until(lambda: "not reading" in repr(client))
        with pytest.raises(NotSentError, match="replies cannot be read"):
            await client.predict(model, X)
        create_topic(topic, partitions=1)
        assert await answered_again(client, model) == [3.0]


async def test_a_broker_that_restarts_between_two_requests() -> None:
    """The same client is answered before and after; in between, errors say what is certain."""
    with LocalKafka() as broker:
        admin = AdminClient({"bootstrap.servers": broker.address})
        wanted = [NewTopic("digits.requests", 1), NewTopic("checkout.replies", 2)]
        for created in admin.create_topics(wanted, operation_timeout=30).values():
            created.result()
        with Responder(broker.address, "digits.requests"):
            await ask_through_a_restart(broker)


async def ask_through_a_restart(broker: LocalKafka) -> None:
    settings = ClientSettings(
        kafka=broker.address, service="checkout", timeout_seconds=1, send_timeout_seconds=2
    )
    async with PredictionClient(settings=settings) as client:
        assert (await client.predict("digits", X))["sum"].tolist() == [3.0]
        await asyncio.to_thread(broker.kill, 1)
        with pytest.raises(PredictionError):
            await client.predict("digits", X)
        await asyncio.to_thread(broker.restart, 1)
        assert await answered_again(client, "digits") == [3.0]


async def answered_again(client: PredictionClient, model: str) -> list[float]:
    """The first answer after a fault; every refusal before it is a ``PredictionError``."""
    async with asyncio.timeout(30):
        while True:
            try:
                total: list[float] = (await client.predict(model, X, timeout=1.0))["sum"].tolist()
            except PredictionError:
                await asyncio.sleep(0.1)
            else:
                return total
