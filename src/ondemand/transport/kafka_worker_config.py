"""librdkafka's options for a worker: which ones delivery depends on, and why."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from ondemand import limits
from ondemand.errors import ConfigurationError
from ondemand.settings import Security
from ondemand.transport.kafka_security import (
    PROTECTED_LIBRDKAFKA,
    librdkafka_options,
    unreachable,
)

log: Final = logging.getLogger("ondemand.transport.kafka")


def _is_news(line: logging.LogRecord) -> bool:
    """Consumer and producer get the same options: that one has no use for some is no news."""
    text = line.getMessage()
    return not (text.startswith("CONFWARN") and "will be ignored by this" in text)


log.addFilter(_is_news)

PROTECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **PROTECTED_LIBRDKAFKA,
        "bootstrap.servers": "use the setting `kafka`",
        "metadata.broker.list": "use the setting `kafka`",
        "group.id": "use the setting `group`",
        "session.timeout.ms": "use the setting `session_timeout_seconds`",
        "group.protocol": "the rebalance relies on the classic protocol",
        "partition.assignment.strategy": "the rebalance relies on eager assignment",
        "enable.auto.commit": "offsets are committed only after the replies are acknowledged",
        "enable.auto.offset.store": "offsets are committed only after the replies are acknowledged",
        "auto.offset.reset": "a new group must not skip the requests that already wait",
        "allow.auto.create.topics": "a worker creates nothing on the broker",
        "isolation.level": "requests of aborted transactions must not be answered",
        "enable.idempotence": "replies must not be repeated or reordered by retries",
        "acks": "a reply counts only when all in-sync replicas have it",
        "request.required.acks": "a reply counts only when all in-sync replicas have it",
        "transactional.id": "transactions belong to the exactly-once guarantee",
        "delivery.report.only.error": "offsets wait for every reply's acknowledgement",
        "partitioner": "every client library of Kafka must find the same partition for a key",
    }
)
"""Options that cannot be passed through, each with the reason."""

_SHARED: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "allow.auto.create.topics": False,
        "socket.nagle.disable": True,
        # After an outage: be back within a second of the broker, not ten.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        # How late a partition that was added is noticed.
        "topic.metadata.refresh.interval.ms": 30_000,
    }
)

_CONSUMER: Final[Mapping[str, Any]] = MappingProxyType(
    {
        # Measured: eager adds < 15 ms to the worst request of a rebalance, cooperative about 1 s.
        "partition.assignment.strategy": "range",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 50,
        # The default of 1000 stalls a busy consumer: 25 to 31 k records/s instead of 71 to 84 k.
        "fetch.queue.backoff.ms": 10,
        # What lies read ahead in the library: the default of 64 MB made a third of the memory of a
        # worker with a small model, and helped it nothing.
        "queued.max.messages.kbytes": 16_384,
    }
)

_PRODUCER: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 0,
        # As Kafka's Java client and aiokafka: one key, one partition, whoever writes.
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": 131_072,
        "message.timeout.ms": 30_000,
        # Above the broker's own default: a dead letter is larger than the record that it keeps.
        # What a topic takes is the broker's to say.
        "message.max.bytes": limits.DEAD_LETTER_BYTES_MAX,
    }
)


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Where the broker is and how it is spoken to: what consumer and producer share.

    *options* are librdkafka's, by its own names; the PROTECTED ones are refused, and so is what
    *security* does not allow for *kafka*.
    """

    kafka: str
    client_id: str
    connect_timeout_seconds: float
    options: Mapping[str, str] = field(repr=False)
    security: Security = field(default_factory=Security)

    def __post_init__(self) -> None:
        check_options(self.options)
        self.security.protocol(self.kafka)

    def consumer(self, group: str, session_timeout_seconds: float) -> dict[str, Any]:
        """The options of the consumer in *group*."""
        session_ms = round(session_timeout_seconds * 1000)
        return {
            **self._shared(),
            **_CONSUMER,
            "group.id": group,
            "session.timeout.ms": session_ms,
            # By a heartbeat a member learns that another has left, whose partitions wait for it.
            # Shorter for short sessions: three heartbeats must fit one.
            "heartbeat.interval.ms": min(150, session_ms // 3),
            **self.options,
        }

    def producer(self) -> dict[str, Any]:
        """The options of the producer."""
        return {**self._shared(), **_PRODUCER, **self.options}

    def admin(self) -> dict[str, Any]:
        """The options of the admin client."""
        return {**self._shared(), **self.options}

    def unreachable(self, news: str = "") -> str:
        """What to say where no broker answers; *news* is the last that the library said."""
        return unreachable(self.kafka, self.connect_timeout_seconds, news)

    def _shared(self) -> dict[str, Any]:
        return {
            **_SHARED,
            **librdkafka_options(self.security, self.kafka),
            "bootstrap.servers": self.kafka,
            "client.id": self.client_id,
        }


def check_options(options: Mapping[str, str]) -> None:
    """Raises ``ConfigurationError`` that names the first protected option, and why it is one."""
    for name in options:
        if reason := PROTECTED.get(name):
            raise ConfigurationError(f"the Kafka option {name!r} cannot be set: {reason}")
