"""librdkafka's errors, sorted: which heal by themselves, which say that a record is not stored."""

import time
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from ondemand.errors import ConfigurationError, TransportError
from ondemand.transport.base import NotTakenError
from ondemand.transport.kafka_worker_config import log

REPEAT_SECONDS: Final = 10.0

REFUSED: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - public constants, named with an underscore
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError._INVALID_ARG,  # noqa: SLF001
    }
)
"""The record is not on the broker, and would be refused again."""

NOT_HEALING: Final = frozenset(
    {
        KafkaError.INCONSISTENT_GROUP_PROTOCOL,
        KafkaError.INVALID_SESSION_TIMEOUT,
        KafkaError.GROUP_MAX_SIZE_REACHED,
    }
)
"""Someone must act before the group can be read, and the worker must be started anew.

Rights that are withdrawn are not among them: the library asks again until they are back.
"""

COMMIT_AGAIN: Final = frozenset(
    {
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
    }
)
"""A commit that failed so may succeed by itself a moment later."""

_KEEPS_AWAY: Final = {
    KafkaError._ALL_BROKERS_DOWN: "no broker answers",  # noqa: SLF001
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "this worker may not read its request topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "this worker may not use its consumer group",
}
"""Errors of the consumer while which no records come, in an operator's words."""


def error_of(failure: KafkaException) -> KafkaError:
    """The error inside of *failure*."""
    error: KafkaError = failure.args[0]
    return error


def publish_error(error: KafkaError, topic: str) -> TransportError:
    """What went wrong with a record for *topic*: certainly not taken, or left open."""
    kind = NotTakenError if error.code() in REFUSED else TransportError
    raised = kind(f"a record for topic {topic!r} was not acknowledged: {error.str()}")
    raised.__cause__ = KafkaException(error)
    return raised


def start_error(failure: KafkaException) -> ConfigurationError:
    """The library refused its options: a name that it does not know, a value out of range."""
    return ConfigurationError(f"Kafka's client library refuses its options: {failure}")


class News:
    """What the library reports beside records: logged, the same thing once in a while.

    A broker that is away is news and heals; a *fatal* error does not.
    """

    def __init__(self) -> None:
        self.last = ""
        self.problem = ""
        """Why no records come, as far as is known; empty until then, and once that has healed."""
        self.fatal: KafkaError | None = None
        self._told: dict[int, float] = {}

    def __call__(self, error: KafkaError) -> None:
        """Take note of *error*; the signature is librdkafka's ``error_cb``."""
        if error.fatal():
            self.fatal = error
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self.last = error.str()
        self.tell(error)

    def tell(self, error: KafkaError) -> None:
        """Log *error*, unless it was logged a moment ago."""
        if (problem := _KEEPS_AWAY.get(error.code())) is not None:
            self.problem = problem
        now = time.monotonic()
        if now - self._told.get(error.code(), -REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._told[error.code()] = now
            log.warning("Kafka: %s", error.str())

    def raise_fatal(self) -> None:
        """Raises ``TransportError`` where an error came that does not heal."""
        if self.fatal is not None:
            raise TransportError(
                f"Kafka's client library gave up: {self.fatal.str()}"
            ) from KafkaException(self.fatal)
