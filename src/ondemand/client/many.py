"""Many predictions with a bounded number under way, in order or as they come."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Final

from ondemand.client.connection import Connection
from ondemand.client.correlation import Arrival
from ondemand.client.exchange import Exchange
from ondemand.client.prediction import Outcome
from ondemand.client.request import Inputs, RequestForm
from ondemand.errors import PredictionError

OFFERS_PER_TURN: Final = 32
"""After so many inputs the event loop gets its turn, however fast the source is."""


class _Slot:
    """One input's place in the window. A ``Waiter``: cheaper than a future, as nobody awaits it."""

    __slots__ = ("_window", "arrival", "arrived_at", "exchange", "failure", "index", "settled")

    def __init__(self, index: int, window: "Window") -> None:
        self.index = index
        self.exchange: Exchange | None = None
        self.arrival: Arrival | None = None
        self.arrived_at = 0.0
        self.failure: Exception | None = None
        self.settled = False
        self._window = window

    def done(self) -> bool:
        return self.settled

    def set_result(self, result: Arrival, /) -> None:
        self.arrival = result
        self._window.arrived(self)

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self._window.arrived(self)


class Window:
    """The inputs that were taken and whose outcomes were not handed out: at most *in_flight*."""

    def __init__(
        self,
        connection: Connection,
        form: RequestForm,
        *,
        in_flight: int,
        ordered: bool,
    ) -> None:
        self.free = in_flight
        self._connection = connection
        self._form = form
        self._ordered = ordered
        self._offered = 0
        self._queue: deque[_Slot] = deque()  # ordered: all, by index; otherwise: what is done
        self._open: set[_Slot] = set()
        self._complete = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def under_way(self) -> int:
        """How many inputs were taken and not handed out."""
        return len(self._open)

    async def offer(self, inputs: Inputs) -> None:
        """Send one input, waiting for a place. Its own faults become its outcome."""
        slot = _Slot(self._offered, self)
        self._offered += 1
        self.free -= 1
        self._open.add(slot)
        if self._ordered:
            self._queue.append(slot)
        try:
            request = self._form.prepare(inputs)
            request = await self._connection.ready(request, None)
            slot.exchange = self._connection.begin(request, slot)
        except (PredictionError, ValueError, TypeError) as error:
            slot.fail(error)

    async def room(self) -> None:
        """Wait until one more input may be taken."""
        while not self.free:
            self._room.clear()
            await self._room.wait()

    def complete(self) -> None:
        """No more inputs will be offered."""
        self._complete = True
        self._arrived.set()

    def arrived(self, slot: _Slot) -> None:
        """*slot* has its arrival or its failure; others may have its place among the pending."""
        slot.settled = True
        slot.arrived_at = self._connection.loop.time()
        if slot.exchange is not None:
            self._connection.end(slot.exchange)
        if not self._ordered:
            self._queue.append(slot)
        if self._queue[0].settled:
            self._arrived.set()

    def take(self) -> list[_Slot]:
        """What can be handed out now, possibly nothing."""
        taken = []
        queue = self._queue
        while queue and queue[0].settled:
            taken.append(queue.popleft())
        return taken

    async def wait(self) -> list[_Slot]:
        """As ``take``, but waits for a first one; empty only where nothing more will come."""
        while not (taken := self.take()):
            if self._complete and not self._open:
                break
            self._arrived.clear()
            await self._arrived.wait()
        return taken

    def hand_out(self, slot: _Slot) -> Outcome:
        """The outcome in *slot*; its room becomes free."""
        self._open.discard(slot)
        if not self.free:
            self._room.set()
        self.free += 1
        if slot.exchange is None or slot.arrival is None:
            return Outcome(
                slot.index, slot.failure or RuntimeError("handed out before it was done")
            )
        try:
            prediction = self._connection.read(slot.arrival, slot.exchange, slot.arrived_at)
        except PredictionError as error:
            return Outcome(slot.index, error)
        return Outcome(slot.index, prediction)

    def close(self) -> None:
        """Forget everything that was not handed out."""
        for slot in self._open:
            if slot.exchange is not None and slot.arrival is None:
                self._connection.end(slot.exchange)
        self._open.clear()


async def outcomes(
    window: Window, inputs: Iterable[Inputs] | AsyncIterable[Inputs]
) -> AsyncGenerator[Outcome, None]:
    """Offer *inputs* as room allows, yield outcomes. What the source raises is raised here, after
    the outcomes of all that it gave before."""
    pump = asyncio.create_task(_pump(window, inputs), name="ondemand predict_many")
    try:
        while slots := await window.wait():
            for slot in slots:
                yield window.hand_out(slot)
        await pump
    finally:
        pump.cancel()
        await asyncio.wait({pump})
        if not pump.cancelled():
            pump.exception()  # seen above, or of no interest to a caller that has left
        window.close()


async def _pump(window: Window, inputs: Iterable[Inputs] | AsyncIterable[Inputs]) -> None:
    """Take from the source only what there is room for, and say when that was all."""
    try:
        await _offer_all(window, inputs)
    finally:
        window.complete()


async def _offer_all(window: Window, inputs: Iterable[Inputs] | AsyncIterable[Inputs]) -> None:
    if isinstance(inputs, AsyncIterable):
        async for item in inputs:
            await window.offer(item)
            if not window.free:
                await window.room()
        return
    for index, item in enumerate(inputs):
        await window.offer(item)
        if not window.free:
            await window.room()
        if index % OFFERS_PER_TURN == OFFERS_PER_TURN - 1:
            await asyncio.sleep(0)
