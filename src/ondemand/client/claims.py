"""Bodies that no record may hold: written to the object store before the request is published.

A store's calls block, and some hang: each runs in a thread that nobody waits for at the end.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ondemand.client.correlation import Arrival, Cause, NoReply
from ondemand.client.request import PreparedRequest
from ondemand.contract.claim import Claim, claim_of
from ondemand.contract.reply import parse_reply
from ondemand.errors import NotSentError, Status, StoreError
from ondemand.limits import CLAIM_DELETES_MAX, CLAIM_WRITERS
from ondemand.settings import ClientSettings
from ondemand.store.objects import ObjectStore

UNIQUE_BYTES = 16

_KEPT = frozenset({Status.MODEL_ERROR, Status.MODEL_TIMEOUT, Status.INTERNAL})
"""A dead letter refers to the object: an operator may redrive it."""


class ClaimDesk:
    """Writes bodies to the store, and deletes those that nobody needs any more.

    Belongs to the event loop that it was made in. What it cannot delete, or what nobody may know
    the outcome of, is left to the store's own rule for old objects.
    """

    def __init__(self, settings: ClientSettings, *, clock: Callable[[], float]) -> None:
        self._timeout_seconds = settings.claim_timeout_seconds
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(CLAIM_WRITERS)
        self._deleting: set[asyncio.Future[None]] = set()
        url = settings.claim_store
        self._store = None if url is None else ObjectStore(url)

    async def deposit(self, request: PreparedRequest) -> PreparedRequest:
        """*request* as it can be published: its body written to the store, if that is its way.

        Raises ``NotSentError`` where the store did not take it in time.
        """
        if self._store is None or not request.by_claim:
            return request
        day = time.strftime("%Y-%m-%d", time.gmtime(self._clock()))
        unique = secrets.token_hex(UNIQUE_BYTES)
        body = bytes(request.body.value)
        claim = claim_of(request.form.topic, body, day=day, unique=unique)
        store = self._store
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._places.acquire()
                writing = self._in_thread(lambda: store.write(claim.key, body))
                writing.add_done_callback(self._written)
                await asyncio.shield(writing)
        except TimeoutError:
            raise NotSentError(
                f"the claim store did not take the {len(body):,} bytes of the request to "
                f"{request.form.model!r} within {self._timeout_seconds:g} s (claim_timeout_seconds)"
            ) from None
        except StoreError as error:
            raise NotSentError(
                f"the claim store did not take the request to {request.form.model!r}: {error}"
            ) from error
        return request._replace(claim=claim)

    def settle(self, claim: Claim, arrival: Arrival) -> None:
        """Delete the object of an exchange that is over, unless somebody may need it still."""
        if isinstance(arrival, NoReply):
            over = arrival.cause is Cause.NOT_TAKEN
        else:
            over = parse_reply(arrival).status not in _KEPT
        if over:
            self.discard(claim)

    def discard(self, claim: Claim | None) -> None:
        """Delete the object of a request that was not published, or was answered."""
        if claim is None or self._store is None or len(self._deleting) >= CLAIM_DELETES_MAX:
            return
        store = self._store
        deleting = self._in_thread(lambda: store.delete(claim.key))
        self._deleting.add(deleting)
        deleting.add_done_callback(self._deleted)

    async def close(self, timeout_seconds: float) -> None:
        """Let deletions end, for at most *timeout_seconds*."""
        if self._deleting:
            await asyncio.wait(set(self._deleting), timeout=timeout_seconds)

    def _written(self, writing: asyncio.Future[None]) -> None:
        self._places.release()
        if not writing.cancelled():
            writing.exception()  # told to the caller, unless that one has left

    def _deleted(self, deleting: asyncio.Future[None]) -> None:
        self._deleting.discard(deleting)
        if not deleting.cancelled():
            deleting.exception()  # the store's own rule deletes it later

    def _in_thread(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """The end of *work*, in a daemon thread: an executor's would be waited for at the end."""
        future: asyncio.Future[None] = self._loop.create_future()

        def run() -> None:
            failure: Exception | None = None
            try:
                work()
            except Exception as error:  # noqa: BLE001 - handed to who waits
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(_set, future, failure)

        threading.Thread(target=run, name="ondemand claim", daemon=True).start()
        return future


def _set(future: asyncio.Future[None], failure: Exception | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)
