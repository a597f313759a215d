"""Requests under way: registered, published, and given their reply or the reason why none came."""

import asyncio
import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from ondemand.client.correlation import Cause, NoReply, PendingReplies, Waiter
from ondemand.contract.claim import Claim
from ondemand.contract.record import OutgoingRecord
from ondemand.errors import NotSentError, TransportError
from ondemand.transport.base import ClientTransport, NotTakenError

SEND_GRACE_SECONDS: Final = 0.5
"""The transport's verdict on a send that timed out is the more exact one: it is waited for."""


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and its reply, as long as either is under way. *started*: the loop's clock;
    *claim*: where its body is, if not in the record. It has its place among the pending until its
    send is over (*sent*) and nobody waits any more (*ended*)."""

    correlation_id: bytes
    model: str
    topic: str
    timeout_seconds: float
    started: float
    claim: Claim | None = None
    sent: bool = False
    ended: bool = False


class Places:
    """A bounded number of places; who comes first gets the next that becomes free."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Whether there was a place to take."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Return with a place."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Hand a place on to who waits, or leave it free."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1


class Exchanges:
    """Publishes requests and bounds, in number and in time, what is awaited.

    A place is taken → ``begin`` → the waiter is given its arrival → ``end``, which gives the place
    back, whatever happened in between.
    """

    def __init__(
        self, transport: ClientTransport, pending: PendingReplies, *, send_timeout_seconds: float
    ) -> None:
        self.sent = 0
        self._transport = transport
        self._pending = pending
        self._send_seconds_max = send_timeout_seconds + SEND_GRACE_SECONDS
        self._loop = asyncio.get_running_loop()
        self.places = Places(pending.pending_max)
        self._sending = 0
        self._all_sent = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def wait_for_place(self, timeout_seconds: float | None) -> None:
        """Return with a place: one more reply may be awaited.

        Raises ``NotSentError`` after *timeout_seconds*. None waits as long as it takes: every reply
        that is awaited has its own timeout, so a place becomes free.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.places.wait()
        except TimeoutError:
            raise NotSentError(
                f"no place became free within {timeout_seconds} s: {self._pending.pending_max} "
                "predictions are awaited already (pending_max). Ask less at once, or add workers"
            ) from None

    def begin(self, exchange: Exchange, record: OutgoingRecord, waiter: Waiter) -> None:
        """Register *waiter*, then publish *record*. Needs a place."""
        expires_at = exchange.started + self._send_seconds_max
        # Register before publish: the reply may be here before the acknowledgement is.
        self._pending.register(exchange.correlation_id, waiter, expires_at=expires_at)
        if expires_at < self._timer_at:
            self._watch(expires_at)
        self.sent += 1
        self._sending += 1
        # A caller that gives up does not tear a send apart, and a reply counts even if the
        # acknowledgement never comes.
        try:
            self._transport.send(record, partial(self._on_sent, exchange))
        except Exception as error:  # noqa: BLE001 - a fault of the transport: the caller must hear it
            self._on_sent(exchange, error)

    def end(self, exchange: Exchange) -> None:
        """Forget the exchange and give its place back, once its send is over too."""
        self._pending.forget(exchange.correlation_id)
        exchange.ended = True
        if exchange.sent:
            self.places.give_back()

    async def close(self, timeout_seconds: float) -> None:
        """Tell everyone who waits; let sends under way end, for at most *timeout_seconds*."""
        self._pending.give_up_all(NoReply(Cause.NOT_READ, "the client was closed"))
        if self._timer is not None:
            self._timer.cancel()
        if self._sending:
            self._all_sent.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self._all_sent.wait()

    def _on_sent(self, exchange: Exchange, error: Exception | None) -> None:
        """Let the reply's timeout count, or tell the waiter what went wrong."""
        exchange.sent = True
        if exchange.ended:
            self.places.give_back()
        elif error is not None:
            self._pending.give_up(exchange.correlation_id, _not_sent(error))
        else:
            # The timeout counts from here: what the send took is not taken from the worker's time.
            expires_at = self._loop.time() + exchange.timeout_seconds
            awaited = self._pending.acknowledge(exchange.correlation_id, expires_at=expires_at)
            if awaited and expires_at < self._timer_at:
                self._watch(expires_at)
        self._sending -= 1
        if not self._sending:
            self._all_sent.set()

    def _watch(self, expires_at: float) -> None:
        """See to it that ``_expire`` runs at *expires_at*: one timer serves all."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(expires_at, self._expire)
        self._timer_at = expires_at

    def _expire(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._pending.expire(self._loop.time())
        expiry = self._pending.next_expiry
        if expiry is not None:
            self._watch(expiry)


def _not_sent(error: Exception) -> NoReply:
    """What a waiter is told whose request was not sent, or not for certain."""
    if isinstance(error, NotTakenError):
        return NoReply(Cause.NOT_TAKEN, str(error), error)
    if isinstance(error, TransportError):
        return NoReply(Cause.SEND_FAILED, str(error), error)
    return NoReply(Cause.SEND_FAILED, f"{type(error).__name__}: {error}", error)
