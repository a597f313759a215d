"""``PredictionClient``: ask a model over Kafka, from asyncio."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Final, Self, Unpack

from ondemand.client.connection import Connection
from ondemand.client.correlation import PREFIX_BYTES
from ondemand.client.many import Window, outcomes
from ondemand.client.prediction import ClientStats, Outcome, Prediction, Receipt
from ondemand.client.request import (
    Inputs,
    RequestForm,
    RequestOptions,
    Sizes,
    correlation_bytes,
    request_form,
)
from ondemand.contract import topics
from ondemand.settings import ClientSettings
from ondemand.transport.base import ClientTransport

IN_FLIGHT: Final = 256
"""What ``predict_many`` keeps under way by default: one full batch of a worker."""


class PredictionClient:
    """Publishes prediction requests and awaits their replies.

        async with PredictionClient(kafka="127.0.0.1:9092", service="checkout") as client:
            prediction = await client.predict("digits", {"image": array}, timeout=2.0)
            prediction["label"]

    Replies come to the service's own topic, ``<service>.replies``, which must be there: the client
    creates nothing. One client serves any number of concurrent callers of one event loop.

    Give either *settings* or *kafka* and *service*. *transport* and *clock* (seconds since the
    epoch, for deadlines) are for tests.

    Raises, from every method that asks: ``ValueError`` or ``TypeError`` for what cannot be sent as
    it is; ``RuntimeError`` for a client that is not started, closed, or used in another event loop.
    """

    def __init__(
        self,
        *,
        kafka: str | None = None,
        service: str | None = None,
        settings: ClientSettings | None = None,
        transport: ClientTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = _settings(kafka, service, settings)
        self._sizes = _sizes(self._settings)
        self._transport = transport
        self._clock = clock
        self._connection: Connection | None = None

    def __repr__(self) -> str:
        stats = self.stats
        where = "not started" if self._connection is None else self._connection.where
        return (
            f"<PredictionClient [{where} | {stats.pending}/{self._settings.pending_max} waiting | "
            f"{stats.answered} answered]>"
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def settings(self) -> ClientSettings:
        """What this client was made with."""
        return self._settings

    @property
    def stats(self) -> ClientStats:
        """Counts since the start."""
        return ClientStats() if self._connection is None else self._connection.stats

    async def start(self) -> None:
        """Connect and read replies; ``async with`` does it.

        Raises ``NotSentError`` where no broker answers within the connect timeout, and
        ``ConfigurationError`` where the reply topic is not there.
        """
        if self._connection is not None:
            raise RuntimeError("this client was started before: make a new one")
        self._connection = Connection(
            self._transport or _kafka_transport(self._settings),
            self._settings,
            prefix=secrets.token_hex(PREFIX_BYTES),
            clock=self._clock,
        )
        try:
            await self._connection.start()
        except BaseException:
            await self._connection.close()
            raise

    async def close(self) -> None:
        """Disconnect within a bound; idempotent. Who still waits gets ``OutcomeUnknownError``."""
        if self._connection is not None and not self._connection.closed:
            await self._usable().close()

    async def predict(
        self,
        model: str,
        inputs: Inputs,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - also the deadline that the worker is told
        **options: Unpack[RequestOptions],
    ) -> Prediction:
        """Ask *model* and await its answer.

        *inputs* maps tensor names to arrays. *timeout*: seconds for the reply, counted from the
        acknowledged send; None means the settings' ``timeout_seconds``. *options*: see
        ``RequestOptions``. Raises ``NotSentError`` (safe to repeat), ``OutcomeUnknownError`` (the
        model may have run), or the ``RefusedError`` of the reply's status.
        """
        connection = self._usable()
        seconds = self._settings.timeout_seconds if timeout is None else timeout
        return await connection.ask(self._form(model, seconds, options).prepare(inputs))

    def predict_many(
        self,
        model: str,
        inputs: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        in_flight: int = IN_FLIGHT,
        ordered: bool = True,
        timeout: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> AsyncGenerator[Outcome, None]:
        """Ask *model* once for each of *inputs*, ten or a million; yields an ``Outcome`` for each.

        *inputs* are taken as they are needed: at most *in_flight* are taken and not yet yielded.
        *ordered*: outcomes come in the order of *inputs*; otherwise as they are there. One input's
        failure is its own outcome and stops nothing. What the source raises is raised here, after
        the outcomes of what it gave before. A loop that is left early forgets what is under way
        (``contextlib.aclosing`` makes that certain at once). Options as for ``predict``.
        """
        return outcomes(
            self.window(model, in_flight=in_flight, ordered=ordered, timeout=timeout, **options),
            inputs,
        )

    def window(
        self,
        model: str,
        *,
        in_flight: int,
        ordered: bool,
        timeout: float | None,
        **options: Unpack[RequestOptions],
    ) -> Window:
        """What ``predict_many`` is made of, for those who drive it themselves."""
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, not {in_flight}")
        seconds = self._settings.timeout_seconds if timeout is None else timeout
        # What is wrong for all inputs fails here, once, not a million times.
        form = self._form(model, seconds, options)
        return Window(self._usable(), form, in_flight=in_flight, ordered=ordered)

    async def submit(
        self,
        model: str,
        inputs: Inputs,
        *,
        reply_topic: str,
        correlation_id: bytes | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline that the worker is told
        **options: Unpack[RequestOptions],
    ) -> Receipt:
        """Publish a request and return when the broker has acknowledged it; whoever reads
        *reply_topic* gets the answer, under *correlation_id* (by default a new one).

        *timeout*: the worker does not run it later than so many seconds from now; None sets no
        deadline. Raises ``NotSentError`` or ``OutcomeUnknownError``.
        """
        connection = self._usable()
        own_id = None if correlation_id is None else correlation_bytes(correlation_id)
        topics.check_name(reply_topic, "reply topic")
        request = self._form(model, timeout, options).prepare(inputs)
        return await connection.submit(request, reply_topic=reply_topic, correlation_id=own_id)

    def _form(
        self, model: str, timeout_seconds: float | None, options: RequestOptions
    ) -> RequestForm:
        return request_form(
            model,
            timeout_seconds=timeout_seconds,
            binary_default=self._settings.binary,
            sizes=self._sizes,
            **options,
        )

    def _usable(self) -> Connection:
        """The connection, if it may be used here and now."""
        if self._connection is None:
            raise RuntimeError(
                "this client is not started: use `async with PredictionClient(…) as client`"
            )
        if self._connection.closed:
            raise RuntimeError("this client is closed: make a new one")
        if asyncio.get_running_loop() is not self._connection.loop:
            raise RuntimeError(
                "this client was started in another event loop: make one in each loop, or use "
                "SyncPredictionClient from threads"
            )
        return self._connection


def _settings(
    kafka: str | None, service: str | None, settings: ClientSettings | None
) -> ClientSettings:
    """One set of settings from what was given. Raises ``ValueError`` where it is malformed."""
    given = {
        name: value for name, value in (("kafka", kafka), ("service", service)) if value is not None
    }
    if settings is None:
        settings = ClientSettings.model_validate(given)
    elif given:
        raise ValueError(f"give settings, or {' and '.join(given)}, not both")
    topics.check_name(settings.service, "service")
    if settings.reply_topic is not None:
        topics.check_name(settings.reply_topic, "reply topic")
    return settings


def _sizes(settings: ClientSettings) -> Sizes:
    """How large bodies may be, in records and, where there is a store, beside them."""
    if settings.claim_store is None:
        return Sizes()
    return Sizes(settings.claim_above_bytes, settings.claim_bytes_max)


def _kafka_transport(settings: ClientSettings) -> ClientTransport:
    """The real transport; imported only where it is used, so that others need no Kafka client."""
    from ondemand.transport.kafka_client import KafkaClientTransport  # noqa: PLC0415 - see above

    return KafkaClientTransport(
        kafka=settings.kafka,
        options=settings.kafka_options,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        send_timeout_seconds=settings.send_timeout_seconds,
        client_id=f"ondemand-{settings.service}",
        security=settings,
    )
