"""Requests under way: registered, published, and given their reply or the reason why none came."""

import asyncio
from dataclasses import dataclass
from typing import Final

from ondemand.client.correlation import Cause, NoReply, PendingReplies, Waiter
from ondemand.contract.claim import Claim
from ondemand.contract.record import OutgoingRecord
from ondemand.errors import NotSentError, TransportError
from ondemand.transport.base import ClientTransport, NotTakenError

SEND_GRACE_SECONDS: Final = 0.5
"""The transport's verdict on a send that timed out is the more exact one: it is waited for."""

ABANDON_SECONDS: Final = 1.0
"""How long a cancelled send may take to end."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its reply, as long as either is under way. *started*: the loop's clock;
    *claim*: where its body is, if not in the record."""

    correlation_id: bytes
    model: str
    topic: str
    timeout_seconds: float
    started: float
    claim: Claim | None = None


class Exchanges:
    """Publishes requests and bounds, in number and in time, what is awaited.

    ``place`` → ``begin`` → the waiter is given its arrival → ``end``, whatever happened in between.
    """

    def __init__(
        self, transport: ClientTransport, pending: PendingReplies, *, send_timeout_seconds: float
    ) -> None:
        self.sent = 0
        self._transport = transport
        self._pending = pending
        self._send_seconds_max = send_timeout_seconds + SEND_GRACE_SECONDS
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(pending.pending_max)
        self._sends: dict[bytes, asyncio.Task[None]] = {}
        self._ended_early: set[bytes] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def place(self, timeout_seconds: float | None) -> None:
        """Wait until one more reply may be awaited; ``end``, or ``leave``, gives the place back.

        Raises ``NotSentError`` after *timeout_seconds*. None waits as long as it takes: every reply
        that is awaited has its own timeout, so a place becomes free.
        """
        if not self._places.locked():
            await self._places.acquire()  # returns at once
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise NotSentError(
                f"no place became free within {timeout_seconds} s: {self._pending.pending_max} "
                "predictions are awaited already (pending_max). Ask less at once, or add workers"
            ) from None

    def leave(self) -> None:
        """Give back a place that no exchange was begun with."""
        self._places.release()

    def begin(self, exchange: Exchange, record: OutgoingRecord, waiter: Waiter) -> None:
        """Register *waiter*, then publish *record*. Needs a place."""
        expires_at = exchange.started + self._send_seconds_max
        # Register before publish: the reply may be here before the acknowledgement is.
        self._pending.register(exchange.correlation_id, waiter, expires_at=expires_at)
        self._watch(expires_at)
        self.sent += 1
        # A task of its own: a caller that gives up must not tear a send apart, and a reply counts
        # even if the acknowledgement never comes.
        send = self._loop.create_task(self._send(exchange, record))
        self._sends[exchange.correlation_id] = send

    def end(self, exchange: Exchange) -> None:
        """Forget the exchange and give its place back, once its send is over too."""
        self._pending.forget(exchange.correlation_id)
        if exchange.correlation_id in self._sends:
            self._ended_early.add(exchange.correlation_id)
        else:
            self._places.release()

    async def close(self, timeout_seconds: float) -> None:
        """Tell everyone who waits; let sends under way end, for at most *timeout_seconds*."""
        self._pending.give_up_all(NoReply(Cause.NOT_READ, "the client was closed"))
        if self._timer is not None:
            self._timer.cancel()
        sends = set(self._sends.values())
        if sends:
            await asyncio.wait(sends, timeout=timeout_seconds)

    async def abandon(self) -> None:
        """Cancel the sends that are still under way; for when the transport has stopped."""
        sends = set(self._sends.values())
        for send in sends:
            send.cancel()
        if sends:
            await asyncio.wait(sends, timeout=ABANDON_SECONDS)

    async def _send(self, exchange: Exchange, record: OutgoingRecord) -> None:
        """Publish; then let the reply's timeout count, or tell the waiter what went wrong."""
        correlation_id = exchange.correlation_id
        try:
            await self._transport.send(record)
        except NotTakenError as error:
            self._pending.give_up(correlation_id, NoReply(Cause.NOT_TAKEN, str(error), error))
        except TransportError as error:
            self._pending.give_up(correlation_id, NoReply(Cause.SEND_FAILED, str(error), error))
        except Exception as error:  # noqa: BLE001 - a fault of the transport: the caller must hear it
            no_reply = NoReply(Cause.SEND_FAILED, f"{type(error).__name__}: {error}", error)
            self._pending.give_up(correlation_id, no_reply)
        else:
            # The timeout counts from here: what the send took is not taken from the worker's time.
            expires_at = self._loop.time() + exchange.timeout_seconds
            if self._pending.acknowledge(correlation_id, expires_at=expires_at):
                self._watch(expires_at)
        finally:
            del self._sends[correlation_id]
            if correlation_id in self._ended_early:
                self._ended_early.remove(correlation_id)
                self._places.release()

    def _watch(self, expires_at: float) -> None:
        """See to it that ``_expire`` runs at *expires_at* or before: one timer serves all."""
        if self._timer is not None:
            if self._timer.when() <= expires_at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(expires_at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._pending.expire(self._loop.time())
        expiry = self._pending.next_expiry
        if expiry is not None:
            self._watch(expiry)
