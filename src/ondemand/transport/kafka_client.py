"""The requesting side of Kafka: sends requests, reads one partition of replies, creates nothing."""

import asyncio
from collections.abc import Mapping, Sequence

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import TransportError
from ondemand.settings import Security
from ondemand.transport.base import NotTakenError, OnSent
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
        self._held: dict[str, list[tuple[OutgoingRecord, OnSent]]] = {}
        self._asking: set[asyncio.Task[None]] = set()

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

    def send(self, record: OutgoingRecord, on_sent: OnSent) -> None:
        """Send *record*; *on_sent* is told later, by the event loop."""
        topic = record.topic
        count = self._counts.known(topic)
        if topic in self._held or not count or (record.partition or 0) >= count:
            self._hold(record, on_sent)
        else:
            self._pass_on(record, on_sent, count)

    async def stop(self) -> None:
        """Flush and disconnect, within a bound. Idempotent."""
        reader, self._reader = self._reader, None
        followers, self._followers = self._followers, []
        readers = [*followers, *(() if reader is None else (reader,))]
        await asyncio.gather(*(each.stop() for each in readers))
        if self._asking:
            await asyncio.wait(self._asking)  # a look-up has an end of its own
        await self._producer.stop()

    def _hold(self, record: OutgoingRecord, on_sent: OnSent) -> None:
        """Keep *record*, and what follows it on its topic, until the partitions are known."""
        held = self._held.get(record.topic)
        if held is not None:
            held.append((record, on_sent))
            return
        self._held[record.topic] = [(record, on_sent)]
        asking = asyncio.get_running_loop().create_task(self._release(record.topic))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _release(self, topic: str) -> None:
        """Look *topic* up, then pass on what is held, in its order."""
        count: int | None = None
        refusal = f"topic {topic!r} is not there"
        try:
            count = await self._counts(topic)
            wanted = max([record.partition or 0 for record, _ in self._held[topic]])
            if count is not None and wanted >= count:
                self._counts.forget(topic)  # it may have grown
                count = await self._counts(topic)
        except TransportError as error:
            refusal = str(error)
        for record, on_sent in self._held.pop(topic):
            if count:
                self._pass_on(record, on_sent, count)
            else:
                on_sent(NotTakenError(refusal))

    def _pass_on(self, record: OutgoingRecord, on_sent: OnSent, count: int) -> None:
        """Send *record*, unless aiokafka would refuse it with a foreign error."""
        partition = record.partition
        refusal = None
        if record.key is None and record.value is None:
            refusal = "a record needs a key or a value: aiokafka sends none without both"
        elif partition is not None and not 0 <= partition < count:
            refusal = f"topic {record.topic!r} has no partition {partition}; it has {count}"
        if refusal is not None:
            asyncio.get_running_loop().call_soon(on_sent, NotTakenError(refusal))
            return
        if partition is None:
            partition = self._producer.partition_for(record, count)
        self._producer.send(record, partition, on_sent)
