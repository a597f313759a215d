"""One client's tie to the broker: connect, know where replies come, exchange, leave."""

import asyncio
from collections.abc import Callable
from typing import Final

from ondemand.client.correlation import Arrival, CorrelationIds, PendingReplies, Waiter
from ondemand.client.exchange import Exchange, Exchanges
from ondemand.client.prediction import ClientStats, Prediction, Receipt, read_arrival
from ondemand.client.replies import FETCH_WAIT_SECONDS, ReplyReader
from ondemand.client.request import PreparedRequest
from ondemand.contract import topics
from ondemand.contract.headers import Dialect, ReplyAddress
from ondemand.errors import ConfigurationError, NotSentError, OutcomeUnknownError, TransportError
from ondemand.settings import ClientSettings
from ondemand.transport.base import ClientTransport, NotTakenError

PRESENT_SECONDS: Final = 30.0
"""How long a topic that was there is taken to be there."""

ABSENT_SECONDS: Final = 1.0
"""How long a topic that was not there is taken not to be: a storm of wrong names asks once."""

TOPICS_MAX: Final = 1_000
STOP_SECONDS: Final = 5.0


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
        self._starting = asyncio.Lock()
        self._looking_up = asyncio.Lock()
        self._topics: dict[str, tuple[bool, float]] = {}  # there, and until when that is believed

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
        timeout_seconds = self._settings.connect_timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._transport.start()
                await self._reader.start()
        except TimeoutError:
            raise NotSentError(
                f"no broker answers at {self._settings.kafka} within {timeout_seconds} s: "
                "is it running, and is the address right?"
            ) from None
        except TransportError as error:
            raise NotSentError(f"no connection to {self._settings.kafka}: {error}") from error

    async def ready(self, request: PreparedRequest, place_seconds: float | None) -> None:
        """Return when *request* can be begun: replies are read, its topic is there, and it has one
        of the places, for which it waits at most *place_seconds*. Raises ``NotSentError`` where
        that cannot be."""
        if not self._reader.running:
            await self._read_again()
        await self._check_topic(request.topic, _no_model(request))
        await self._exchanges.place(place_seconds)
        if self.closed:
            self._exchanges.leave()
            raise NotSentError("the client was closed before the request was sent")

    def begin(self, request: PreparedRequest, waiter: Waiter) -> Exchange:
        """Publish *request* for *waiter*. After ``ready``; every ``begin`` has its ``end``."""
        correlation_id = self._ids.issue()
        replies = self._reader.replies
        address = ReplyAddress(correlation_id, replies.topic, replies.index, Dialect.NATIVE)
        exchange = Exchange(
            correlation_id=correlation_id,
            model=request.model,
            topic=request.topic,
            timeout_seconds=request.timeout_seconds or self._settings.timeout_seconds,
            started=self.loop.time(),
        )
        try:
            self._exchanges.begin(exchange, request.record(address, self._clock()), waiter)
        except BaseException:
            self._exchanges.leave()
            raise
        return exchange

    def end(self, exchange: Exchange) -> None:
        """Nobody waits for *exchange* any more."""
        self._exchanges.end(exchange)

    def read(self, arrival: Arrival, exchange: Exchange, arrived_at: float) -> Prediction:
        """What came for *exchange*; raises ``PredictionError`` where that is no prediction."""
        return read_arrival(arrival, exchange, arrived_at)

    async def ask(self, request: PreparedRequest) -> Prediction:
        """Publish *request* and await its reply."""
        await self.ready(request, request.timeout_seconds)
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
        await self._check_topic(request.topic, _no_model(request))
        await self._check_topic(
            reply_topic,
            f"reply topic {reply_topic!r} is not there: the answer would be lost. Create it with "
            "`ondemand topics apply`",
        )
        correlation_id = correlation_id or self._ids.issue()
        address = ReplyAddress(correlation_id, reply_topic, None, Dialect.NATIVE)
        record = request.record(address, self._clock())
        try:
            async with asyncio.timeout(self._settings.send_timeout_seconds):
                await self._transport.send(record)
        except NotTakenError as error:
            message = f"the request to {request.model!r} was not sent to {request.topic}: {error}"
            raise NotSentError(message, correlation_id=correlation_id) from error
        except (TransportError, TimeoutError) as error:
            reason = str(error) or "the broker did not confirm it within the send timeout"
            message = (
                f"the request to {request.model!r} may or may not be in {request.topic}: {reason}"
            )
            raise OutcomeUnknownError(message, correlation_id=correlation_id) from error
        self._exchanges.sent += 1
        return Receipt(correlation_id, request.topic, reply_topic)

    async def close(self) -> None:
        """Tell everyone who waits, stop reading, disconnect; within a bound. Idempotent."""
        if self.closed:
            return
        self.closed = True
        await self._exchanges.close()
        await self._reader.stop(2 * FETCH_WAIT_SECONDS)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._transport.stop()
        except (TransportError, TimeoutError):
            pass  # nothing is lost: everyone who waited has been told, nothing more is sent
        finally:
            await self._exchanges.abandon()
            await self._reader.abandon()

    async def _read_again(self) -> None:
        """Start the reader again after it failed; one caller does it for all."""
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds), self._starting:
                if not self._reader.running:
                    await self._reader.start()
        except (ConfigurationError, TransportError, TimeoutError) as error:
            reason = str(error) or "the broker does not answer"
            raise NotSentError(f"replies cannot be read: {reason}") from error

    async def _check_topic(self, topic: str, absent: str) -> None:
        """Raise ``NotSentError`` with the message *absent* unless *topic* is there."""
        there = self._believed(topic)
        if there is None:
            there = await self._look_up(topic)
        if not there:
            raise NotSentError(absent)

    def _believed(self, topic: str) -> bool | None:
        """Whether *topic* is there, as far as is known; None where it has to be looked up."""
        there, until = self._topics.get(topic, (False, 0.0))
        return there if self.loop.time() < until else None

    async def _look_up(self, topic: str) -> bool:
        """Ask the broker, one caller for all: looked up, never tried, so nothing is created."""
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds), self._looking_up:
                there = self._believed(topic)
                if there is not None:
                    return there
                there = bool(await self._transport.partition_count(topic))
        except (TransportError, TimeoutError) as error:
            reason = str(error) or "it does not answer in time"
            message = f"the broker does not say whether {topic!r} is there: {reason}"
            raise NotSentError(message) from error
        if len(self._topics) >= TOPICS_MAX:
            self._topics.clear()
        believed_for = PRESENT_SECONDS if there else ABSENT_SECONDS
        self._topics[topic] = there, self.loop.time() + believed_for
        return there


def _no_model(request: PreparedRequest) -> str:
    return (
        f"no model {request.model!r} is served on this broker (topic {request.topic!r} is not "
        "there): check the name, or create its topics with `ondemand topics apply`"
    )
