"""aiokafka's options for a client: which ones delivery depends on, and why."""

import asyncio
import inspect
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ondemand import limits
from ondemand.errors import ConfigurationError
from ondemand.settings import Security
from ondemand.transport.kafka_client_security import (
    PROTECTED_AIOKAFKA,
    aiokafka_options,
    why_refused,
)
from ondemand.transport.kafka_security import unreachable

log: Final = logging.getLogger("ondemand.transport.kafka")

REASON_SECONDS: Final = 2.0
"""How long a failed connection is tried again, only to hear why."""

IsolationLevel = Literal["read_committed", "read_uncommitted"]

_NO_TEXT: Final = "it cannot be written as text"
_NO_GROUP: Final = "replies are read without a consumer group"
_NO_CODE: Final = "bodies are read and written as bytes: one bad record would break its neighbours"

PROTECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **PROTECTED_AIOKAFKA,
        "bootstrap_servers": "use the setting `kafka`",
        "acks": "a request counts as sent only when all in-sync replicas have it",
        "enable_idempotence": "requests must not be repeated or reordered by retries",
        "transactional_id": "a client sends each request by itself",
        "isolation_level": "it belongs to the guarantee that the client was made for",
        "auto_offset_reset": "after a truncation no reply may be skipped",
        "partitioner": "every client library of Kafka must find the same partition for a key",
        "group_id": _NO_GROUP,
        "group_instance_id": _NO_GROUP,
        "enable_auto_commit": _NO_GROUP,
        "partition_assignment_strategy": _NO_GROUP,
        "key_serializer": _NO_CODE,
        "value_serializer": _NO_CODE,
        "key_deserializer": _NO_CODE,
        "value_deserializer": _NO_CODE,
        "loop": _NO_TEXT,
    }
)
"""Options that cannot be passed through, each with the reason."""

_SHARED: Final[Mapping[str, Any]] = MappingProxyType(
    {
        # One silent connection is given up after this long; sends have a deadline of their own.
        "request_timeout_ms": 5_000,
        "metadata_max_age_ms": 30_000,
        "retry_backoff_ms": 100,
    }
)

_PRODUCER: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 0,
        # The default of 16 KiB holds five requests of 3 KB: a round trip for each five.
        "max_batch_size": 262_144,
        "max_request_size": limits.RECORD_BYTES_MAX,
    }
)

_CONSUMER: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "enable_auto_commit": False,
        # Only after a truncation or a topic made anew: listening itself starts at the end.
        "auto_offset_reset": "earliest",
        "max_partition_fetch_bytes": 4_194_304,
    }
)


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """Where the broker is and how it is spoken to: what producer and consumer share.

    *options* are aiokafka's keyword arguments as text; PROTECTED ones are refused with a
    ``ConfigurationError``, and so is what *security* does not allow for *kafka*.
    """

    kafka: str
    client_id: str
    connect_timeout_seconds: float
    isolation_level: IsolationLevel
    options: Mapping[str, str] = field(repr=False)
    security: Security = field(default_factory=Security)

    def __post_init__(self) -> None:
        self.security.protocol(self.kafka)
        known = _parameters(AIOKafkaProducer) | _parameters(AIOKafkaConsumer)
        for name in self.options:
            if reason := PROTECTED.get(name):
                raise ConfigurationError(f"the Kafka option {name!r} cannot be set: {reason}")
            if name not in known:
                raise ConfigurationError(
                    f"the Kafka option {name!r} is not known: a client takes those of aiokafka"
                )
        self.producer()  # refuses values that cannot be
        self.consumer()

    def producer(self) -> dict[str, Any]:
        """The keyword arguments of the producer."""
        return {**self._shared(), **_PRODUCER, **self._own(AIOKafkaProducer)}

    def consumer(self) -> dict[str, Any]:
        """The keyword arguments of the consumer."""
        return {
            **self._shared(),
            **_CONSUMER,
            "isolation_level": self.isolation_level,
            **self._own(AIOKafkaConsumer),
        }

    def secured(self) -> dict[str, Any]:
        """The keyword arguments of security. Raises ``ConfigurationError`` for bad files."""
        return aiokafka_options(self.security, self.kafka)

    async def unreachable(self) -> str:
        """What to say where no broker has let us in; asks once more, for the reason."""
        reason = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(REASON_SECONDS):
                reason = await why_refused(self.kafka, self.client_id, self.secured())
        return unreachable(self.kafka, self.connect_timeout_seconds, reason)

    def _shared(self) -> dict[str, Any]:
        return {**_SHARED, "bootstrap_servers": self.kafka, "client_id": self.client_id}

    def _own(self, owner: type[AIOKafkaProducer | AIOKafkaConsumer]) -> dict[str, Any]:
        known = _parameters(owner)
        given = {name: text for name, text in self.options.items() if name in known}
        return {name: _value(name, text, known[name]) for name, text in given.items()}


def _parameters(owner: type[AIOKafkaProducer | AIOKafkaConsumer]) -> dict[str, Any]:
    """The keyword arguments that *owner* takes, with their defaults."""
    parameters = inspect.signature(owner.__init__).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _value(name: str, text: str, default: object) -> object:
    """*text* as what aiokafka takes there, judged by its default."""
    if isinstance(default, bool):
        if text.lower() not in {"true", "false"}:
            raise ConfigurationError(f"the Kafka option {name!r} is true or false, not {text!r}")
        return text.lower() == "true"
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError as error:
            raise ConfigurationError(
                f"the Kafka option {name!r} is a whole number, not {text!r}"
            ) from error
    return text
