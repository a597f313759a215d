"""The one task that listens to workers announcing themselves, and what callers are told of it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ondemand.client.directory import Directory
from ondemand.client.prediction import UNKNOWN
from ondemand.contract.announcement import ANNOUNCEMENTS
from ondemand.errors import TransportError
from ondemand.transport.base import ClientTransport, Follower

log: Final = logging.getLogger(__name__)

LOAD_SECONDS: Final = 1.0
"""How long a request waits, right after the start, until all announcements are read; after that
requests are sent unasked."""

HOLD_SECONDS: Final = 0.5
"""How long a request to a model that nobody serves is held back: a worker may be starting."""

FETCH_WAIT_SECONDS: Final = 0.2
"""A fetch is never cancelled, so this is also how long a stop waits."""

GAP_SECONDS: Final = 2.0
"""More time than this between two fetches was not spent listening."""

AGAIN_SECONDS: Final = 10.0
"""How often it is looked whether announcements can be read after all."""


class Presence:
    """Follows the announcements of workers, where there are any; without, every model counts as
    served. *clock*: seconds since the epoch, to tell how old a record was when it was read."""

    def __init__(
        self,
        transport: ClientTransport,
        *,
        clock: Callable[[], float],
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self.directory = Directory()
        self.known = False
        self._transport = transport
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._complained = False
        self._looked = asyncio.Event()
        self._stopping = asyncio.Event()
        self._heard_at = 0.0
        self._asked: dict[str, float] = {}  # by topic: since when it is asked for in vain
        self._served: dict[str, asyncio.Event] = {}
        self._load_seconds = load_seconds
        self._give_up: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Presence [{self.directory!r}]>" if self.known else "<Presence [nothing known]>"

    def start(self) -> None:
        """Begin to listen. After the transport has started."""
        # What takes longer goes on in the background.
        self._give_up = self._loop.call_later(self._load_seconds, self._looked.set)
        self._task = self._loop.create_task(self._run(), name="ondemand announcements")

    @property
    def looked(self) -> bool:
        """Whether everything that was said before is read, or cannot be, or takes too long."""
        return self._looked.is_set()

    async def loaded(self, timeout_seconds: float) -> None:
        """Return when that is so, or *timeout_seconds* are over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._looked.wait()

    async def stop(self, timeout_seconds: float) -> None:
        """Stop listening by flag, and wait for at most *timeout_seconds* until that is done."""
        self._stopping.set()
        if self._give_up is not None:
            self._give_up.cancel()
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=timeout_seconds)

    async def abandon(self) -> None:
        """Cancel what did not stop; for when the transport has stopped already."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=FETCH_WAIT_SECONDS)

    def serves(self, topic: str) -> bool:
        """Whether somebody reads *topic*, as far as is known. Costs a look into a dictionary."""
        return not self.known or self.directory.serves(topic)

    async def expect(self, topic: str, timeout_seconds: float) -> bool:
        """Wait a moment for somebody who reads *topic*; the moment counts from the first who asked,
        so that the thousandth request in vain is refused at once."""
        since = self._asked.setdefault(topic, self._loop.time())
        left = min(since + HOLD_SECONDS - self._loop.time(), timeout_seconds)
        if left > 0:
            served = self._served.setdefault(topic, asyncio.Event())
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await served.wait()
        return self.serves(topic)

    def refusal(self, model: str, topic: str) -> str:
        """Why a request to *model* is not sent."""
        return (
            f"nobody serves {model!r} now: its topic {topic!r} is there, but {self._silence(topic)}"
            ". Start one with `ondemand worker run …`, or wait with unserved='wait'"
        )

    def account(self, topic: str) -> str:
        """Who could have answered a request on *topic* that was not answered in time."""
        if not self.known:
            return UNKNOWN
        workers = self.directory.alive(topic)
        if not workers:
            return f"nobody serves it now: {self._silence(topic)}"
        rate = sum(each.announcement.rate_per_second for each in workers)
        are = "1 worker is" if len(workers) == 1 else f"{len(workers)} workers are"
        return f"{are} alive, answering {rate:.0f} requests/s in all: slow, or stuck"

    def _silence(self, topic: str) -> str:
        seconds = self.directory.silent_seconds(topic)
        since = "" if seconds is None else f" for {seconds:.0f} s"
        return f"no worker has announced itself{since}"

    async def _run(self) -> None:
        """Follow; where that cannot be, look again once in a while."""
        while not self._stopping.is_set():
            try:
                await self._follow()
            except TransportError as error:  # not to be read, or not any more
                self._complain(error)
            finally:
                self.known = False
                self._looked.set()
                self._wake_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS):
                    await self._stopping.wait()

    def _complain(self, error: TransportError) -> None:
        """Once: requests are sent as ever, and a login without the right stays without it."""
        if not self._complained and not self._stopping.is_set():
            self._complained = True
            log.warning(
                "who serves a model is not known, so every request is sent: %s cannot be read: %s",
                ANNOUNCEMENTS.topic,
                error,
            )

    async def _follow(self) -> None:
        if not await self._transport.partition_count(ANNOUNCEMENTS.topic):
            return
        follower = await self._transport.follow(ANNOUNCEMENTS)
        self.directory = Directory()
        self._heard_at = self._loop.time()
        self._look(follower)  # there may be nothing to read
        try:
            while not self._stopping.is_set():
                await self._hear(follower)
        finally:
            await follower.stop()

    async def _hear(self, follower: Follower) -> None:
        records = await follower.fetch(FETCH_WAIT_SECONDS)
        now = self._loop.time()
        if follower.in_touch:
            self.directory.advance(min(now - self._heard_at, GAP_SECONDS))
        self._heard_at = now
        for record in records:
            # What came while we listened is as old as its arrival, whatever the clocks say.
            age = 0.0 if self.known else self._clock() - record.timestamp_ms / 1_000
            topic = self.directory.hear(record, age_seconds=age)
            if topic is not None:
                self._wake(topic)
        self._look(follower)

    def _look(self, follower: Follower) -> None:
        if follower.caught_up and not self.known:
            self.known = True
            self._looked.set()

    def _wake(self, topic: str) -> None:
        self._asked.pop(topic, None)
        if served := self._served.pop(topic, None):
            served.set()

    def _wake_all(self) -> None:
        for topic in list(self._served):
            self._wake(topic)
