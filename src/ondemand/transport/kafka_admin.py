"""What is on the broker, and what ``ondemand topics apply`` changes there. It never deletes."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported, not said so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from ondemand.contract.topics import ChangeKind, TopicChange, TopicSpec
from ondemand.errors import ConfigurationError, TransportError
from ondemand.settings import Security
from ondemand.transport.kafka_worker_config import KafkaAddress, log
from ondemand.transport.kafka_worker_errors import News, error_of, start_error

REQUEST_SECONDS: Final = 15.0
GRACE_SECONDS: Final = 2.0

Answer = TypeVar("Answer")

_OPERATOR: Final = frozenset(
    {
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_REQUEST,
    }
)
"""Repeating it would not help: someone must change the declaration, or the rights."""


@dataclass(frozen=True, slots=True)
class BrokerAt:
    """One broker of the cluster."""

    id: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class KafkaAdmin:
    """Looks at topics and changes them; every call is bounded in time.

    *options* are librdkafka's own, by name, as for a worker. All methods raise ``TransportError``
    where the broker does not answer, and ``ConfigurationError`` where it refuses for good.
    """

    def __init__(
        self,
        *,
        kafka: str,
        options: Mapping[str, str] | None = None,
        connect_timeout_seconds: float = 10.0,
        client_id: str = "ondemand-admin",
        security: Security | None = None,
    ) -> None:
        self._address = KafkaAddress(
            kafka, client_id, connect_timeout_seconds, options or {}, security or Security()
        )
        self._news = News()
        config: dict[str, Any] = {**self._address.admin(), "error_cb": self._news}
        try:
            self._client = AdminClient(config, logger=log)
        except KafkaException as error:
            raise start_error(error) from error

    def __repr__(self) -> str:
        return f"<KafkaAdmin [{self._address.kafka}]>"

    def describe_brokers(self) -> tuple[BrokerAt, ...]:
        """The brokers that are up, by their number."""
        found = self._metadata().brokers.values()
        return tuple(BrokerAt(each.id, each.host, each.port) for each in sorted(found, key=_id))

    def describe(self) -> dict[str, TopicSpec]:
        """Every topic but Kafka's own, with the settings that were made for it."""
        topics = {
            name: topic
            for name, topic in self._metadata().topics.items()
            if not name.startswith("__") and topic.error is None
        }
        config = self._configs(sorted(topics))
        return {
            name: TopicSpec(
                name,
                partitions=len(topic.partitions),
                replication_factor=max(
                    (len(each.replicas) for each in topic.partitions.values()), default=0
                ),
                config=config[name],
            )
            for name, topic in sorted(topics.items())
        }

    def apply(self, change: TopicChange) -> None:
        """Do what *change* says, and return when it is done.

        Raises ``ConfigurationError`` for a change that is REFUSED.
        """
        appliers: Mapping[ChangeKind, Callable[[TopicSpec], None]] = {
            ChangeKind.CREATE: self._create,
            ChangeKind.ADD_PARTITIONS: self._add_partitions,
            ChangeKind.SET_CONFIG: self._set_config,
        }
        applier = appliers.get(change.kind)
        if applier is None:
            raise ConfigurationError(change.text)
        applier(change.topic)

    def _create(self, topic: TopicSpec) -> None:
        new = NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replication_factor,
            config=dict(topic.config),
        )
        made = self._client.create_topics([new], **_timeouts())
        self._done(made[topic.name], f"topic {topic.name!r} was not created")

    def _add_partitions(self, topic: TopicSpec) -> None:
        grown = self._client.create_partitions(
            [NewPartitions(topic.name, topic.partitions)], **_timeouts()
        )
        self._done(grown[topic.name], f"topic {topic.name!r} got no partitions")

    def _set_config(self, topic: TopicSpec) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in topic.config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
        altered = self._client.incremental_alter_configs(
            [resource], request_timeout=REQUEST_SECONDS
        )
        self._done(altered[resource], f"topic {topic.name!r} was not changed")

    def _configs(self, topics: list[str]) -> dict[str, dict[str, str]]:
        """The settings that were made for each topic itself, whatever their value."""
        if not topics:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        asked = self._client.describe_configs(resources, request_timeout=REQUEST_SECONDS)
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        configs = {}
        for resource, future in asked.items():
            entries = self._done(future, f"topic {resource.name!r} was not described")
            configs[resource.name] = {
                name: entry.value for name, entry in entries.items() if entry.source == own
            }
        return configs

    def _metadata(self) -> Any:
        try:
            return self._client.list_topics(timeout=self._address.connect_timeout_seconds)
        except KafkaException as error:
            self._client.poll(0)  # brings the reason, for example a wrong password
            raise TransportError(self._address.unreachable(self._news.last)) from error

    def _done(self, future: "Future[Answer]", otherwise: str) -> Answer:
        try:
            return future.result(REQUEST_SECONDS + GRACE_SECONDS)
        except KafkaException as error:
            failed = error_of(error)
            kind = ConfigurationError if failed.code() in _OPERATOR else TransportError
            raise kind(f"{otherwise}: {failed.str()}") from error
        except TimeoutError as error:
            raise TransportError(f"{otherwise}: no answer within {REQUEST_SECONDS:g} s") from error


def _id(broker: Any) -> int:
    number: int = broker.id
    return number


def _timeouts() -> dict[str, float]:
    return {"operation_timeout": REQUEST_SECONDS, "request_timeout": REQUEST_SECONDS}
