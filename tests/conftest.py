"""What all tests share: the real broker, and topics of one's own on it."""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import settings

from ondemand.local import LocalKafka

CREATE_TIMEOUT_SECONDS = 30

# No test depends on how fast the computer is.
settings.register_profile("ondemand", deadline=None)
settings.load_profile("ondemand")


@dataclass(frozen=True, slots=True)
class KafkaAt:
    """Where the broker for the tests is."""

    address: str


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaAt]:
    """A real broker for the whole run: the one named by ONDEMAND_TEST_KAFKA, otherwise our own."""
    if address := os.environ.get("ONDEMAND_TEST_KAFKA"):
        yield KafkaAt(address)
        return
    with LocalKafka() as broker:
        yield KafkaAt(broker.address)


@pytest.fixture(scope="session")
def kafka_admin(kafka: KafkaAt) -> AdminClient:
    """An admin client of the broker for the tests."""
    return AdminClient({"bootstrap.servers": kafka.address})


@pytest.fixture(scope="session")
def _serial() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def topic_name(request: pytest.FixtureRequest, _serial: Iterator[int]) -> Callable[..., str]:
    """Makes a valid name that no other test and no earlier run uses: `topic_name("requests")`."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")

    def make(suffix: str = "requests") -> str:
        return f"{test}-{os.getpid()}-{next(_serial)}.{suffix}"

    return make


@pytest.fixture
def create_topic(kafka_admin: AdminClient) -> Callable[..., str]:
    """Creates a topic and returns its name: `create_topic(name, partitions=1, config={…})`."""

    def create(name: str, *, partitions: int = 1, config: dict[str, str] | None = None) -> str:
        topic = NewTopic(name, num_partitions=partitions, config=config or {})
        kafka_admin.create_topics([topic], operation_timeout=CREATE_TIMEOUT_SECONDS)[name].result()
        return name

    return create
