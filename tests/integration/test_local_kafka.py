"""A real Kafka on this computer: started, used, and gone."""

from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient

pytestmark = pytest.mark.kafka


def test_a_created_topic_is_known(
    kafka_admin: AdminClient, topic_name: Callable[..., str], create_topic: Callable[..., str]
) -> None:
    """The broker of the tests takes topics with partitions and settings of their own."""
    name = create_topic(topic_name(), partitions=3, config={"retention.ms": "60000"})

    topics = kafka_admin.list_topics(timeout=10).topics

    assert len(topics[name].partitions) == 3


def test_a_mistyped_topic_is_not_created(
    kafka_admin: AdminClient, topic_name: Callable[..., str]
) -> None:
    """Asking for a topic does not make one: a typing error is an error."""
    name = topic_name()

    answer = kafka_admin.list_topics(name, timeout=10).topics[name]

    assert answer.error is not None
    assert name not in kafka_admin.list_topics(timeout=10).topics
