"""One client's tie to the broker: connect, know where replies come, exchange, leave."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ondemand.client.claims import ClaimDesk
from ondemand.client.correlation import (
    Arrival,
    CorrelationIds,
    NoReply,
    PendingReplies,
    Waiter,
)
from ondemand.client.exchange import Exchange, Exchanges
from ondemand.client.prediction import ClientStats, Prediction, Receipt, read_arrival
from ondemand.client.presence import Presence
from ondemand.client.replies import ReplyReader
from ondemand.client.request import PreparedRequest, RequestForm
from ondemand.contract import topics
from ondemand.contract.headers import Dialect, ReplyAddress
from ondemand.errors import NobodyServesError, NotSentError, OutcomeUnknownError, TransportError
from ondemand.settings import ClientSettings
from ondemand.transport.base import ClientTransport, NotTakenError, send_and_wait

FLUSH_SECONDS: Final = 1.0
"""How long a closing client waits for what is under way, before it disconnects anyway."""

THERE_SECONDS: Final = 1.0
"""A topic that was there is not looked up again so soon."""


class Connection:
    """A started client. Belongs to the event loop that it was made in."""

    def __init__(
        self,
        transport: ClientTransport,
        settings: ClientSettings,
        *,
        prefix: str,
        clock: Callable[[], float],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self._transport = transport
        self._settings = settings
        self._clock = clock
        self._ids = CorrelationIds(prefix)
        self._pending = PendingReplies(settings.pending_max)
        self._exchanges = Exchanges(
            transport, self._pending, send_timeout_seconds=settings.send_timeout_seconds
        )
        self._reader = ReplyReader(
            transport,
            self._pending,
            self._ids,
            topic=settings.reply_topic or topics.reply_topic(settings.service),
            service=settings.service,
        )
        self._presence = Presence(transport, clock=clock)
        self._claims = ClaimDesk(settings, clock=clock)
        self._there: set[str] = set()  # request topics that were looked up just now
        self._reading_again: asyncio.Task[None] | None = None

    @property
    def where(self) -> str:
        """Where replies are read, ``topic/partition``, for people."""
        if self.closed:
            return "closed"
        return str(self._reader.replies) if self._reader.running else "not reading replies"

    @property
    def stats(self) -> ClientStats:
        """Counts until now."""
        return ClientStats(
            sent=self._exchanges.sent,
            answered=self._pending.delivered,
            late=self._pending.late,
            unknown=self._pending.nobody_waiting + self._reader.unreadable,
            foreign=self._reader.foreign,
            timeouts=self._pending.timeouts,
            pending=len(self._pending),
        )

    async def start(self) -> None:
        """Connect, and read replies. Raises ``NotSentError`` where no broker answers in time,
        ``ConfigurationError`` where the reply topic is not there."""
        try:
            await self._transport.start()
            self._presence.start()
            await self._reader.start()
        except TransportError as error:
            raise NotSentError(str(error)) from error

    async def ready(self, request: PreparedRequest, place_seconds: float | None) -> PreparedRequest:
        """*request* when it can be begun: replies are read, its topic is there and served, it has
        one of the places, for which it waits at most *place_seconds*, and what no record may hold
        is in the object store. Raises ``NotSentError`` where that cannot be."""
        if not self._is_clear(request.form):
            await self._clear(request.form)
        if not self._exchanges.places.take():
            await self._exchanges.wait_for_place(place_seconds)
        if request.by_claim:
            request = await self._deposited(request)
        if self.closed:
            self._exchanges.places.give_back()
            self._claims.discard(request.claim)
            raise NotSentError("the client was closed before the request was sent")
        return request

    def begin(self, request: PreparedRequest, waiter: Waiter) -> Exchange:
        """Publish *request* for *waiter*. After ``ready``; every ``begin`` has its ``end``."""
        correlation_id = self._ids.issue()
        replies = self._reader.replies
        address = ReplyAddress(correlation_id, replies.topic, replies.index, Dialect.NATIVE)
        exchange = Exchange(
            correlation_id=correlation_id,
            model=request.form.model,
            topic=request.form.topic,
            timeout_seconds=request.form.timeout_seconds or self._settings.timeout_seconds,
            started=self.loop.time(),
            claim=request.claim,
        )
        try:
            self._exchanges.begin(exchange, request.record(address, self._clock()), waiter)
        except BaseException:
            self._exchanges.places.give_back()
            self._claims.discard(request.claim)
            raise
        return exchange

    def end(self, exchange: Exchange) -> None:
        """Nobody waits for *exchange* any more."""
        self._exchanges.end(exchange)

    def read(self, arrival: Arrival, exchange: Exchange, arrived_at: float) -> Prediction:
        """What came for *exchange*; raises ``PredictionError`` where that is no prediction."""
        if exchange.claim is not None:
            self._claims.settle(exchange.claim, arrival)
        account = self._presence.account(exchange.topic) if isinstance(arrival, NoReply) else ""
        return read_arrival(arrival, exchange, arrived_at, account=account)

    async def ask(self, request: PreparedRequest) -> Prediction:
        """Publish *request* and await its reply."""
        request = await self.ready(request, request.form.timeout_seconds)
        waiter: asyncio.Future[Arrival] = self.loop.create_future()
        exchange = self.begin(request, waiter)
        try:
            arrival = await waiter
        finally:
            self.end(exchange)
        return self.read(arrival, exchange, self.loop.time())

    async def submit(
        self, request: PreparedRequest, *, reply_topic: str, correlation_id: bytes | None
    ) -> Receipt:
        """Publish *request*, to be answered to *reply_topic*; return when it is acknowledged."""
        form = request.form
        await self._check_topic(form.topic, _no_model(form))
        await self._check_served(form)
        await self._check_topic(
            reply_topic,
            f"reply topic {reply_topic!r} is not there: the answer would be lost. Create it with "
            "`ondemand topics apply`",
        )
        request = await self._claims.deposit(request)
        correlation_id = correlation_id or self._ids.issue()
        address = ReplyAddress(correlation_id, reply_topic, None, Dialect.NATIVE)
        record = request.record(address, self._clock())
        try:
            await send_and_wait(self._transport, record)
        except NotTakenError as error:
            self._claims.discard(request.claim)
            message = f"the request to {form.model!r} was not sent to {form.topic}: {error}"
            raise NotSentError(message, correlation_id=correlation_id) from error
        except TransportError as error:
            message = f"the request to {form.model!r} may or may not be in {form.topic}: {error}"
            raise OutcomeUnknownError(message, correlation_id=correlation_id) from error
        self._exchanges.sent += 1
        return Receipt(correlation_id, form.topic, reply_topic)

    async def close(self) -> None:
        """Tell everyone who waits, stop reading, disconnect; within a bound. Idempotent."""
        if self.closed:
            return
        self.closed = True
        await self._exchanges.close(FLUSH_SECONDS)
        await self._claims.close(FLUSH_SECONDS)
        await asyncio.gather(self._reader.stop(FLUSH_SECONDS), self._presence.stop(FLUSH_SECONDS))
        # What is told or sent is over by now: nothing is lost with an error of the disconnection.
        with suppress(TransportError):
            await self._transport.stop()
        await self._reader.abandon()
        await self._presence.abandon()
        if self._reading_again is not None:
            await asyncio.wait({self._reading_again}, timeout=FLUSH_SECONDS)

    async def _deposited(self, request: PreparedRequest) -> PreparedRequest:
        """*request* once its body is in the object store; gives back its place if it is not."""
        try:
            return await self._claims.deposit(request)
        except BaseException:
            self._exchanges.places.give_back()
            raise

    async def _read_again(self) -> None:
        """Start the reader again after it failed; one task does it for all callers, and none of
        them can cancel it half-way."""
        if self._reading_again is None:
            self._reading_again = self.loop.create_task(
                self._reader.start(), name="ondemand replies: start again"
            )
            self._reading_again.add_done_callback(self._has_read_again)
        task, timeout_seconds = self._reading_again, self._settings.connect_timeout_seconds
        done, _ = await asyncio.wait({task}, timeout=timeout_seconds)
        if not done:
            raise NotSentError(f"replies cannot be read: no answer within {timeout_seconds:g} s")
        error = task.exception()
        if error is not None:
            raise NotSentError(f"replies cannot be read: {error}") from error

    def _has_read_again(self, task: asyncio.Task[None]) -> None:
        self._reading_again = None
        if not task.cancelled():
            task.exception()  # for those who wait; there may be none left

    def _is_clear(self, form: RequestForm) -> bool:
        """Whether there is nothing to wait for and nothing to look up before a request is sent."""
        if form.topic not in self._there or not self._reader.running:
            return False
        return (form.unserved or self._settings.unserved) == "wait" or (
            self._presence.looked and self._presence.serves(form.topic)
        )

    async def _clear(self, form: RequestForm) -> None:
        """See to it that a request can be sent and answered. Raises ``NotSentError``."""
        if not self._reader.running:
            await self._read_again()
        await self._check_topic(form.topic, _no_model(form))
        if form.topic not in self._there:
            self._there.add(form.topic)
            self.loop.call_later(THERE_SECONDS, self._there.discard, form.topic)
        await self._check_served(form)

    async def _check_served(self, form: RequestForm) -> None:
        """Raise ``NobodyServesError`` where it is known that nobody would read *request* now, and
        its caller does not want to wait for somebody."""
        if (form.unserved or self._settings.unserved) == "wait":
            return
        patience_seconds = form.timeout_seconds or self._settings.timeout_seconds
        if not self._presence.looked:  # so soon after the start
            await self._presence.loaded(patience_seconds)
        if self._presence.serves(form.topic):
            return
        if not await self._presence.expect(form.topic, patience_seconds):
            raise NobodyServesError(self._presence.refusal(form.model, form.topic))

    async def _check_topic(self, topic: str, absent: str) -> None:
        """Raise ``NotSentError`` with the message *absent* unless *topic* is there.

        Looked up, never tried, so that nothing is created; the transport remembers the answer.
        """
        try:
            count = await self._transport.partition_count(topic)
        except TransportError as error:
            raise NotSentError(str(error)) from error
        if not count:
            raise NotSentError(absent)


def _no_model(form: RequestForm) -> str:
    return (
        f"no model {form.model!r} is served on this broker (topic {form.topic!r} is not "
        "there): check the name, or create its topics with `ondemand topics apply`"
    )
