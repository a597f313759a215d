"""The one task that reads this client's replies and hands each to whoever waits for it."""

import asyncio
from typing import Final

from ondemand.client.correlation import Cause, CorrelationIds, NoReply, PendingReplies
from ondemand.contract.record import Partition, Record
from ondemand.contract.reply import correlation_of
from ondemand.errors import ConfigurationError
from ondemand.transport.base import ClientTransport

FETCH_WAIT_SECONDS: Final = 0.2
"""How long one fetch waits: a fetch is never cancelled, so this is also how long a stop waits."""


class ReplyReader:
    """Reads one partition of the reply topic, without a consumer group, from its end on.

    If reading fails, everyone who waits is told why, and ``start`` may be called again.
    """

    def __init__(
        self,
        transport: ClientTransport,
        pending: PendingReplies,
        ids: CorrelationIds,
        *,
        topic: str,
        service: str,
    ) -> None:
        self.foreign = 0
        self.unreadable = 0
        self._transport = transport
        self._pending = pending
        self._ids = ids
        self._topic = topic
        self._service = service
        self._replies: Partition | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def __repr__(self) -> str:
        state = "reading" if self.running else "not reading"
        return f"<ReplyReader [{self._replies or self._topic} | {state}]>"

    @property
    def running(self) -> bool:
        """Whether replies are being read."""
        return self._task is not None and not self._task.done()

    @property
    def replies(self) -> Partition:
        """Where replies are to be sent. Only after ``start``."""
        if self._replies is None:
            raise RuntimeError("the reply reader was not started: await start() first")
        return self._replies

    async def start(self) -> None:
        """Choose a partition and read it; when this returns, no later reply can be missed.

        Raises ``ConfigurationError`` where the reply topic is not there, ``TransportError`` where
        the broker does not answer.
        """
        partition_count = await self._transport.partition_count(self._topic)
        if not partition_count:
            raise ConfigurationError(
                f"reply topic {self._topic!r} is not there: create it with "
                f"`ondemand topics apply --service {self._service}`"
            )
        replies = Partition(self._topic, self._ids.partition_of(partition_count))
        await self._transport.listen(replies)
        self._replies = replies
        self._task = asyncio.create_task(self._read(), name=f"ondemand replies {replies}")

    async def stop(self, timeout_seconds: float) -> None:
        """Stop reading by flag, and wait for at most *timeout_seconds* until it has stopped."""
        self._stopping = True
        if self._task is not None and self.running:
            await asyncio.wait({self._task}, timeout=timeout_seconds)

    async def abandon(self) -> None:
        """Cancel a read that did not stop; for when the transport has stopped already."""
        if self._task is not None and self.running:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=FETCH_WAIT_SECONDS)

    async def _read(self) -> None:
        """Fetch and route until stopped. Whatever ends it, nobody is left waiting in silence."""
        try:
            while not self._stopping:
                for record in await self._transport.fetch(FETCH_WAIT_SECONDS):
                    self._route(record)
        except asyncio.CancelledError as error:
            self._give_up("the reader was cancelled", error)
            raise
        except Exception as error:  # noqa: BLE001 - handed to everyone who waits, as a cause
            self._give_up(str(error) or type(error).__name__, error)

    def _give_up(self, reason: str, error: BaseException) -> None:
        detail = f"replies from {self._replies} are no longer read: {reason}"
        self._pending.give_up_all(NoReply(Cause.NOT_READ, detail, error))

    def _route(self, record: Record) -> None:
        correlation_id = correlation_of(record)
        if correlation_id is None:
            self.unreadable += 1
        elif not self._ids.owns(correlation_id):
            # Another instance shares this partition: its replies are nothing to parse here.
            self.foreign += 1
        else:
            self._pending.resolve(correlation_id, record)
