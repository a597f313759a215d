"""How many partitions a topic has: looked up, never tried, and remembered for a while."""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from ondemand.errors import TransportError
from ondemand.transport.kafka_worker_errors import error_of

THERE_SECONDS: Final = 30.0
AGAIN_SECONDS: Final = 1.0
TOPICS_MAX: Final = 10_000

_MISSING: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - public constants, named with an underscore
        KafkaError.TOPIC_EXCEPTION,  # a name that no topic can have
    }
)


class _Known(NamedTuple):
    partitions: int | None
    looked_up_at: float


class PartitionCounts:
    """Partition counts by topic. *client* is a producer or consumer made with
    ``allow.auto.create.topics=false``: only so does a look-up never create a topic.
    """

    def __init__(
        self,
        client: Any,
        *,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._forbidden: set[str] = set()

    def __call__(self, topic: str, at_least: int = 0) -> int | None:
        """The partition count of *topic*, None if it is not there or this login may not see it.

        At most 30 s old; 1 s for None, and for a count below *at_least*: it may have grown. Raises
        ``TransportError`` where the broker does not answer.
        """
        now = self._clock()
        known = self._known.get(topic)
        if known is not None:
            enough = known.partitions is not None and known.partitions >= at_least
            if now - known.looked_up_at < (THERE_SECONDS if enough else AGAIN_SECONDS):
                return known.partitions
        count = self._look_up(topic)
        if len(self._known) >= TOPICS_MAX:  # callers choose the names: keep the memory bounded
            self._known.clear()
            self._forbidden.clear()
        self._known[topic] = _Known(count, now)
        return count

    def forbidden(self, topic: str) -> bool:
        """Whether the last look-up of *topic* found that this login may not see it."""
        return topic in self._forbidden

    def forget(self, topic: str) -> None:
        """Look *topic* up again the next time."""
        self._known.pop(topic, None)

    def _look_up(self, topic: str) -> int | None:
        try:
            answer = self._client.list_topics(topic, timeout=self._timeout_seconds)
        except KafkaException as error:
            raise TransportError(
                f"the broker does not say whether topic {topic!r} is there: {error_of(error).str()}"
            ) from error
        found = answer.topics[topic]
        self._forbidden.discard(topic)
        if found.error is None:
            return len(found.partitions)
        if found.error.code() in _MISSING:
            return None
        if found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            # An answer, not an outage: whoever asked must not wait for another one.
            self._forbidden.add(topic)
            return None
        raise TransportError(
            f"the broker does not say whether topic {topic!r} is there: {found.error.str()}"
        ) from KafkaException(found.error)
