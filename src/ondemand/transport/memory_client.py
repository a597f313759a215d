"""The requesting side of the memory broker."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import TransportError
from ondemand.transport.base import NotTakenError, OnSent

if TYPE_CHECKING:
    from ondemand.transport.memory import MemoryBroker, _Log

STOPPED: Final = "this transport is not started, or stopped"


class MemoryClientTransport:
    """A ``ClientTransport`` on a ``MemoryBroker``; made by ``MemoryBroker.client``."""

    def __init__(self, broker: "MemoryBroker") -> None:
        self._broker = broker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._replies: Partition | None = None
        self._position = 0
        self._followers: list[MemoryFollower] = []

    def __repr__(self) -> str:
        return f"<MemoryClientTransport [{self._replies or 'not listening'}]>"

    async def start(self) -> None:
        """Be told of new records."""
        self._loop = asyncio.get_running_loop()
        self._broker.watch(self._wake)

    async def partition_count(self, topic: str) -> int | None:
        """How many partitions *topic* has; None if it is not there."""
        return self._broker.partition_count(topic)

    async def listen(self, replies: Partition) -> None:
        """Read *replies* from its end on. Raises ``TransportError`` where it is not there."""
        with self._broker.changed:
            log = self._broker.log(replies)
            if log is None:
                raise TransportError(f"{replies} is not there")
            self._replies, self._position = replies, log.end

    async def fetch(self, timeout_seconds: float) -> Sequence[Record]:
        """The records that are there; waits for a first one."""
        self._require_started()
        records = self._read()
        if records:
            return records
        try:
            async with asyncio.timeout(timeout_seconds):
                while not records:
                    await self._arrived.wait()
                    records = self._read()
        except TimeoutError:
            return ()
        return records

    async def follow(self, partition: Partition) -> "MemoryFollower":
        """Read *partition* from its start on. Raises ``TransportError`` where it is not there."""
        self._require_started()
        follower = MemoryFollower(self._broker, partition)
        self._followers.append(follower)
        return follower

    def send(self, record: OutgoingRecord, on_sent: OnSent) -> None:
        """Append *record*, or tell why the broker does not take it."""
        loop = self._loop
        if loop is None:
            asyncio.get_running_loop().call_soon(on_sent, NotTakenError(STOPPED))
            return
        error: TransportError | None = None
        try:
            self._broker.append(record)
        except TransportError as refusal:
            error = refusal
        loop.call_soon(on_sent, error)

    async def stop(self) -> None:
        """Be told of nothing any more. Idempotent."""
        self._broker.unwatch(self._wake)
        self._loop = None
        await asyncio.sleep(0)  # who was not told of a send yet is told in this turn
        for follower in self._followers:
            await follower.stop()

    def _read(self) -> Sequence[Record]:
        self._arrived.clear()
        if self._replies is None:
            raise TransportError("nothing to fetch: `listen` comes first")
        with self._broker.changed:
            log = self._broker.log(self._replies)
            if log is None:
                raise TransportError(f"{self._replies} is not there any more")
            records = log.read(self._position, len(log.records))
            if records:
                self._position = records[-1].next_offset
            return records

    def _require_started(self) -> None:
        if self._loop is None:
            raise TransportError(STOPPED)

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._arrived.set)


class MemoryFollower:
    """A ``Follower`` of one partition; made by ``MemoryClientTransport.follow``."""

    in_touch = True

    def __init__(self, broker: "MemoryBroker", partition: Partition) -> None:
        self._partition = partition
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._stopped = False
        with broker.changed:
            log = self._log()
            self._position, self._end = log.start, log.end
        broker.watch(self._wake)

    def __repr__(self) -> str:
        return f"<MemoryFollower [{self._partition}/{self._position}]>"

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there in the beginning has been handed over."""
        return self._position >= self._end

    async def fetch(self, timeout_seconds: float) -> Sequence[Record]:
        """The records that are there; waits for a first one."""
        records = self._read()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while not records:
                    await self._arrived.wait()
                    records = self._read()
        return records

    async def stop(self) -> None:
        """Be told of nothing any more. Idempotent."""
        self._stopped = True
        self._broker.unwatch(self._wake)
        self._arrived.set()

    def _read(self) -> Sequence[Record]:
        if self._stopped:
            raise TransportError("this follower is stopped")
        self._arrived.clear()
        with self._broker.changed:
            log = self._log()
            records = log.read(self._position, len(log.records))
            if records:
                self._position = records[-1].next_offset
            return records

    def _log(self) -> "_Log":
        log = self._broker.log(self._partition)
        if log is None:
            raise TransportError(f"{self._partition} is not there")
        return log

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)
