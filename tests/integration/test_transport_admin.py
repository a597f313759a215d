"""``KafkaAdmin`` on a real broker: what it sees is what it made."""

from collections.abc import Callable

import pytest

from ondemand.contract.topics import ChangeKind, TopicChange, TopicSpec
from ondemand.errors import ConfigurationError, TransportError
from ondemand.transport.kafka_admin import KafkaAdmin

pytestmark = pytest.mark.kafka


@pytest.fixture
def admin(kafka) -> KafkaAdmin:
    return KafkaAdmin(kafka=kafka.address)


def test_create_grow_configure(admin: KafkaAdmin, topic_name: Callable[..., str]) -> None:
    """A topic is seen as it was created, then with more partitions, then with another setting."""
    name = topic_name()
    made = TopicSpec(name, partitions=2, config={"retention.ms": "60000"})
    admin.apply(TopicChange(ChangeKind.CREATE, made, ""))
    assert admin.describe()[name] == made

    grown = TopicSpec(name, partitions=5, config=made.config)
    admin.apply(TopicChange(ChangeKind.ADD_PARTITIONS, grown, ""))
    assert admin.describe()[name] == grown

    settings = {"retention.ms": "60000", "max.message.bytes": "2000000"}
    configured = TopicSpec(name, partitions=5, config={"max.message.bytes": "2000000"})
    admin.apply(TopicChange(ChangeKind.SET_CONFIG, configured, ""))
    assert admin.describe()[name] == TopicSpec(name, partitions=5, config=settings)


def test_a_setting_equal_to_the_default_is_seen(
    admin: KafkaAdmin, topic_name: Callable[..., str]
) -> None:
    """What was set is seen although it is the default, or a plan would never come to an end."""
    spec = TopicSpec(topic_name(), partitions=1, config={"cleanup.policy": "delete"})
    admin.apply(TopicChange(ChangeKind.CREATE, spec, ""))
    assert admin.describe()[spec.name] == spec


def test_refused_changes(admin: KafkaAdmin, topic_name: Callable[..., str]) -> None:
    """What a plan refuses is not done; what the broker refuses is told to the operator."""
    name = topic_name()
    refused = TopicChange(ChangeKind.REFUSED, TopicSpec(name, 1), "fewer partitions: never")
    with pytest.raises(ConfigurationError, match="fewer partitions: never"):
        admin.apply(refused)
    too_many = TopicSpec(name, partitions=1, replication_factor=7)
    with pytest.raises(ConfigurationError, match=f"{name!r} was not created"):
        admin.apply(TopicChange(ChangeKind.CREATE, too_many, ""))
    unknown = TopicSpec(name, partitions=1, config={"no.such.setting": "1"})
    with pytest.raises(ConfigurationError, match=r"no\.such\.setting"):
        admin.apply(TopicChange(ChangeKind.CREATE, unknown, ""))
    assert name not in admin.describe()


def test_brokers(admin: KafkaAdmin, kafka) -> None:
    """The broker is listed under the address that clients use."""
    assert kafka.address in {str(broker) for broker in admin.describe_brokers()}


def test_nobody_answers() -> None:
    """Where no broker is, the error says so within its time limit, and what to do."""
    admin = KafkaAdmin(kafka="127.0.0.1:9", connect_timeout_seconds=0.5)
    with pytest.raises(TransportError, match=r"no Kafka answers at 127.0.0.1:9 within 0.5 s"):
        admin.describe()
