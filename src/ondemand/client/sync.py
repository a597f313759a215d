"""The client for code that is not asyncio: scripts, notebooks, threaded services."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from ondemand.client.client import IN_FLIGHT, PredictionClient
from ondemand.client.many import Window
from ondemand.client.prediction import ClientStats, Outcome, Prediction, Receipt
from ondemand.client.request import Inputs, RequestOptions
from ondemand.settings import ClientSettings
from ondemand.transport.base import ClientTransport

T = TypeVar("T")

CHUNK: Final = 64
"""Inputs that cross into the event loop's thread together: a crossing costs 50 to 100 µs."""

LEAVE_SECONDS: Final = 1.0
"""How long a close waits for callers that were just told of it."""

CHUNK_SECONDS: Final = 0.001
"""How long a chunk gathers where the source is slow."""


class SyncPredictionClient:
    """``PredictionClient`` without ``await``: a private event loop in one thread of its own.

        with SyncPredictionClient(kafka="127.0.0.1:9092", service="checkout") as client:
            client.predict("digits", {"image": array}, timeout=2.0)["label"]

    Any number of threads may use it at once. Arguments and errors are those of the async client.
    """

    def __init__(
        self,
        *,
        kafka: str | None = None,
        service: str | None = None,
        settings: ClientSettings | None = None,
        transport: ClientTransport | None = None,
    ) -> None:
        self._client = PredictionClient(
            kafka=kafka, service=service, settings=settings, transport=transport
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Sync{repr(self._client).removeprefix('<')}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def stats(self) -> ClientStats:
        """Counts since the start."""
        return self._client.stats

    def start(self) -> None:
        """Connect and read replies; ``with`` does it. Errors as of ``PredictionClient.start``."""
        with self._lock:
            if self._thread is not None:
                raise RuntimeError("this client was started before: make a new one")
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="ondemand client", daemon=True
            )
            self._thread.start()
        try:
            self._run(self._client.start)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect within a bound, and end the thread. Idempotent."""
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is None or self._thread is None:
                return
            try:
                asyncio.run_coroutine_threadsafe(self._client.close(), loop).result()
                asyncio.run_coroutine_threadsafe(_let_callers_leave(), loop).result()
            finally:
                loop.call_soon_threadsafe(loop.stop)
                self._thread.join()
                loop.close()

    def predict(
        self,
        model: str,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> Prediction:
        """Ask *model* and wait for its answer: see ``PredictionClient.predict``."""
        return self._run(lambda: self._client.predict(model, inputs, timeout=timeout, **options))

    def submit(
        self,
        model: str,
        inputs: Inputs,
        *,
        reply_topic: str,
        correlation_id: bytes | str | None = None,
        timeout: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> Receipt:
        """Publish without waiting for an answer: see ``PredictionClient.submit``."""
        return self._run(
            lambda: self._client.submit(
                model,
                inputs,
                reply_topic=reply_topic,
                correlation_id=correlation_id,
                timeout=timeout,
                **options,
            )
        )

    def predict_many(
        self,
        model: str,
        inputs: Iterable[Inputs],
        *,
        in_flight: int = IN_FLIGHT,
        ordered: bool = True,
        timeout: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> Generator[Outcome, None, None]:
        """Ask *model* once for each of *inputs*: see ``PredictionClient.predict_many``.

        *inputs* are iterated in the caller's thread. A loop that is left early forgets what is
        under way.
        """

        async def open_window() -> Window:
            return self._client.window(
                model, in_flight=in_flight, ordered=ordered, timeout=timeout, **options
            )

        return self._outcomes(self._run(open_window), _Source(inputs), in_flight)

    def _outcomes(
        self, window: Window, source: "_Source", in_flight: int
    ) -> Generator[Outcome, None, None]:
        under_way = 0
        try:
            while source.more or under_way:
                chunk = source.gather(min(in_flight - under_way, CHUNK))
                wait = not source.more or under_way + len(chunk) == in_flight
                outcomes = self._run(partial(_step, window, chunk, wait=wait))
                under_way += len(chunk) - len(outcomes)
                yield from outcomes
            if source.failure is not None:
                raise source.failure
        finally:
            self._forget(window)

    def _forget(self, window: Window) -> None:
        # No lock: this may run wherever a generator happens to be finalised, the loop included.
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # closed just now: nothing is left to forget
                loop.call_soon_threadsafe(window.close)

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do *work* in the loop's thread; wait for it in this one."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("this is the client's own thread: await a PredictionClient here")
        with self._lock:  # or work could be handed to a loop that stops before it is done
            if self._loop is None:
                state = "closed: make a new one" if self._thread else "not started: use `with`"
                raise RuntimeError(f"this client is {state}")
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C in the waiting thread: forget the request too
            raise


class _Source:
    """A caller's iterable, read in chunks. What it raises is kept for after what it gave."""

    def __init__(self, inputs: Iterable[Inputs]) -> None:
        self.more = True
        self.failure: Exception | None = None
        self._inputs = iter(inputs)

    def gather(self, size: int) -> list[Inputs]:
        """At most *size* inputs, fewer where they come slowly."""
        chunk: list[Inputs] = []
        until = monotonic() + CHUNK_SECONDS
        while self.more and len(chunk) < size:
            try:
                chunk.append(next(self._inputs))
            except StopIteration:
                self.more = False
            except Exception as error:  # noqa: BLE001 - raised by the reader, in its turn
                self.more, self.failure = False, error
            if monotonic() >= until:
                break
        return chunk


async def _step(window: Window, chunk: Iterable[Inputs], *, wait: bool) -> list[Outcome]:
    """Offer *chunk*; the outcomes that are there, at least one where the caller can only *wait*."""
    for inputs in chunk:
        await window.offer(inputs)
    if not chunk and not window.under_way:
        return []
    slots = await window.wait() if wait else window.take()
    return [window.hand_out(slot) for slot in slots]


async def _let_callers_leave() -> None:
    """Let every caller that was just told of the end be through before the loop stops."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, pending = await asyncio.wait(others, timeout=LEAVE_SECONDS)
        for task in pending:
            task.cancel()
