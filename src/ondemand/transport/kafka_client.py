"""The requesting side of Kafka: sends requests, reads one partition of replies, creates nothing."""

import asyncio
from collections.abc import Mapping, Sequence

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import TransportError
from ondemand.settings import Security
from ondemand.transport.base import NotTakenError
from ondemand.transport.kafka_client_config import ClientAddress, IsolationLevel
from ondemand.transport.kafka_client_follower import PartitionFollower
from ondemand.transport.kafka_client_metadata import PartitionCounts
from ondemand.transport.kafka_client_producer import RequestProducer
from ondemand.transport.kafka_client_reader import ReplyReader

LOOK_UP_SECONDS = 5.0


class KafkaClientTransport:
    """A ``ClientTransport`` on aiokafka.

    *kafka* is ``HOST:PORT[,…]``; *options* are aiokafka's own, by name and as text: those that
    delivery depends on are refused with a ``ConfigurationError``. *isolation_level*: with
    ``read_committed`` a reply of an exactly-once worker is seen only when it counts. *security*:
    how and as whom to connect.
    """

    def __init__(
        self,
        *,
        kafka: str,
        options: Mapping[str, str] | None = None,
        connect_timeout_seconds: float = 10.0,
        send_timeout_seconds: float = 10.0,
        isolation_level: IsolationLevel = "read_committed",
        client_id: str = "ondemand-client",
        security: Security | None = None,
    ) -> None:
        self._address = ClientAddress(
            kafka=kafka,
            client_id=client_id,
            connect_timeout_seconds=connect_timeout_seconds,
            isolation_level=isolation_level,
            options=options or {},
            security=security or Security(),
        )
        self._producer = RequestProducer(self._address, send_timeout_seconds=send_timeout_seconds)
        self._counts = PartitionCounts(
            lambda: self._producer.client, timeout_seconds=LOOK_UP_SECONDS
        )
        self._reader: ReplyReader | None = None
        self._followers: list[PartitionFollower] = []

    def __repr__(self) -> str:
        return f"<KafkaClientTransport [{self._address.kafka}]>"

    async def start(self) -> None:
        """Connect. Raises ``TransportError`` when no broker answers within the time limit."""
        await self._producer.start()

    async def partition_count(self, topic: str) -> int | None:
        """How many partitions *topic* has; None if it is not there. Never creates it."""
        return await self._counts(topic)

    async def listen(self, replies: Partition) -> None:
        """Read *replies* from its end on. Raises ``TransportError`` where it is not there."""
        self._counts.forget(replies.topic)
        count = await self._counts(replies.topic)
        if count is None or count <= replies.index:
            raise TransportError(f"{replies} is not there")
        reader = ReplyReader(self._address, replies)
        await reader.start()
        before, self._reader = self._reader, reader
        if before is not None:
            await before.stop()

    async def fetch(self, timeout_seconds: float) -> Sequence[Record]:
        """The replies that are there; waits for a first one. Heals by itself."""
        if self._reader is None:
            raise TransportError("nothing to fetch: `listen` comes first")
        return await self._reader.fetch(timeout_seconds)

    async def follow(self, partition: Partition) -> PartitionFollower:
        """Read *partition* from its start on. Raises ``TransportError`` where it is not there."""
        count = await self._counts(partition.topic)
        if count is None or count <= partition.index:
            raise TransportError(f"{partition} is not there")
        follower = PartitionFollower(self._address, partition)
        await follower.start()
        self._followers.append(follower)
        return follower

    async def send(self, record: OutgoingRecord) -> None:
        """Return when *record* is acknowledged; raises ``NotTakenError`` or ``TransportError``."""
        await self._check(record)
        await self._producer.send(record)

    async def stop(self) -> None:
        """Flush and disconnect, within a bound. Idempotent."""
        reader, self._reader = self._reader, None
        followers, self._followers = self._followers, []
        readers = [*followers, *(() if reader is None else (reader,))]
        await asyncio.gather(*(each.stop() for each in readers))
        await self._producer.stop()

    async def _check(self, record: OutgoingRecord) -> None:
        """Refuse what aiokafka would refuse with a foreign error, or wait for in vain."""
        if record.key is None and record.value is None:
            raise NotTakenError("a record needs a key or a value: aiokafka sends none without both")
        try:
            count = await self._counts(record.topic)
            if count is not None and (record.partition or 0) >= count:
                self._counts.forget(record.topic)  # it may have grown
                count = await self._counts(record.topic)
        except TransportError as error:
            raise NotTakenError(str(error)) from error
        if count is None:
            raise NotTakenError(f"topic {record.topic!r} is not there")
        if record.partition is not None and not 0 <= record.partition < count:
            raise NotTakenError(
                f"topic {record.topic!r} has no partition {record.partition}; it has {count}"
            )
