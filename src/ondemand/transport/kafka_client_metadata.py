"""What the broker says of its topics, asked in a way that never creates one.

aiokafka asks for metadata so that a broker with ``auto.create.topics.enable`` creates what is asked
for, and asks again every few seconds for each topic that it has used: a topic that was deleted
would come back. ``create_nothing`` puts another question in its place.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest

from ondemand.errors import TransportError

THERE_SECONDS: Final = 30.0
MISSING_SECONDS: Final = 1.0
TOPICS_MAX: Final = 10_000
RETRY_SECONDS: Final = 0.1


def create_nothing(owner: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """From here on, *owner*'s metadata requests say ``allow_auto_topic_creation=false``."""
    # Neither class has an option for it, and the consumer's client has no public name.
    client = owner.client if isinstance(owner, AIOKafkaProducer) else owner._client  # noqa: SLF001

    async def update(cluster: Any, topics: Collection[str]) -> bool:
        request = MetadataRequest(sorted(topics), allow_auto_topic_creation=False)
        answer = await _ask_any(client, request)
        if answer is None or not answer.brokers:
            cluster.failed_update(None)
            return False
        cluster.update_metadata(answer)
        return True

    client._metadata_update = update  # noqa: SLF001 - the one place where such a request is made


async def look_up(client: Any, topic: str, *, timeout_seconds: float) -> int | None:
    """How many partitions *topic* has; None if it is not there. *client* is an ``AIOKafkaClient``.

    Raises ``TransportError`` where no broker answers in time.
    """
    request = MetadataRequest([topic], allow_auto_topic_creation=False)
    try:
        async with asyncio.timeout(timeout_seconds):
            answer = await _ask_any(client, request)
            while answer is None:
                await asyncio.sleep(RETRY_SECONDS)
                answer = await _ask_any(client, request)
    except TimeoutError as error:
        raise TransportError(
            f"no broker says within {timeout_seconds:g} s whether topic {topic!r} is there"
        ) from error
    for code, name, _, partitions in answer.topics:
        error_kind = for_code(code)
        if name != topic or error_kind in {UnknownTopicOrPartitionError, InvalidTopicError}:
            continue
        if error_kind is TopicAuthorizationFailedError:
            raise TransportError(
                f"this login may not use topic {topic!r} (authorization failed): give it the "
                "rights that docs/security.md lists"
            )
        if code != 0 and not partitions:
            raise TransportError(f"topic {topic!r} cannot be looked up: {error_kind.__name__}")
        return len(partitions)
    return None


class PartitionCounts:
    """Partition counts by topic, remembered for 30 s where there are any, for 1 s where not."""

    def __init__(
        self,
        client: Callable[[], Any],
        *,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[int | None]] = {}

    async def __call__(self, topic: str) -> int | None:
        """How many partitions *topic* has; None if it is not there. Raises ``TransportError``."""
        known = self._known.get(topic)
        if known is not None and self._clock() < known.until:
            return known.partitions
        asking = self._asking.get(topic)
        if asking is None:  # a thousand sends at once ask once
            asking = asyncio.get_running_loop().create_task(self._ask(topic))
            self._asking[topic] = asking
            asking.add_done_callback(lambda _: self._asking.pop(topic, None))
        return await asyncio.shield(asking)

    def known(self, topic: str) -> int | None:
        """How many partitions *topic* has, where that need not be asked."""
        known = self._known.get(topic)
        return None if known is None or self._clock() >= known.until else known.partitions

    def forget(self, topic: str) -> None:
        """Look *topic* up again the next time."""
        self._known.pop(topic, None)

    async def _ask(self, topic: str) -> int | None:
        count = await look_up(self._client(), topic, timeout_seconds=self._timeout_seconds)
        if len(self._known) >= TOPICS_MAX:
            self._known.clear()
        until = self._clock() + (MISSING_SECONDS if count is None else THERE_SECONDS)
        self._known[topic] = _Known(count, until)
        return count


class _Known(NamedTuple):
    partitions: int | None
    until: float


async def _ask_any(client: Any, request: MetadataRequest) -> Any:
    """The answer of the first broker that gives one; None if none does."""
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    random.shuffle(nodes)
    for node in nodes:
        try:
            return await client.send(node, request)
        except (KafkaError, OSError, TimeoutError):
            continue
    return None
