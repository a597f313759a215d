"""What one round trip costs a client, by counts: calls of functions do not depend on the computer.

The bounds are what was counted when they were set, and a tenth more. Whoever raises one says why in
docs/performance.md; whoever gets below lowers it.
"""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from unit.calls import calls_of

from ondemand.client import PredictionClient
from ondemand.contract.codec import InferResponse, encode_response
from ondemand.contract.headers import Dialect, ReplyAddress
from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.contract.reply import Served, ServerTiming, reply_record
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import Status
from ondemand.settings import ClientSettings
from ondemand.transport.base import OnSent

ROUND_TRIPS = 1_000
ROW = np.zeros((1, 784), dtype=np.float32)
OUTPUT = Tensor("y", Datatype.FP32, np.zeros((1, 10), dtype=np.float32))
REPLY = reply_record(
    ReplyAddress(b"id", "s.replies", 0, Dialect.NATIVE),
    key=None,
    status=Status.OK,
    served=Served("m", "1"),
    timing=ServerTiming(1.0, 0.5, 32),
    body=encode_response(InferResponse("m", "1", (OUTPUT,)), binary=True),
)


class InstantTransport:
    """A ``ClientTransport`` that answers what is sent in one turn all at once, with few calls."""

    def __init__(self) -> None:
        self._sent: list[tuple[OutgoingRecord, OnSent]] = []
        self._some = asyncio.Event()
        self._shared = REPLY.headers[1:]

    async def start(self) -> None:
        """Nothing to connect to."""

    async def partition_count(self, topic: str) -> int | None:
        return 1 if topic in {"m.requests", "s.replies"} else None

    async def listen(self, replies: Partition) -> None:
        """There is only one place."""

    async def fetch(self, timeout_seconds: float) -> Sequence[Record]:
        while not self._sent:
            self._some.clear()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._some.wait()
            except TimeoutError:
                return ()
        sent, self._sent = self._sent, []
        for _, on_sent in sent:
            on_sent(None)
        return [
            Record("s.replies", 0, 0, None, REPLY.value, (record.headers[0], *self._shared), 0)
            for record, _ in sent
        ]

    def send(self, record: OutgoingRecord, on_sent: OnSent) -> None:
        self._sent.append((record, on_sent))
        self._some.set()

    async def stop(self) -> None:
        """Nothing to disconnect."""


async def started() -> PredictionClient:
    client = PredictionClient(
        settings=ClientSettings(service="s", timeout_seconds=10.0), transport=InstantTransport()
    )
    await client.start()
    return client


async def ask_many(client: PredictionClient, count: int) -> None:
    outcomes = client.predict_many("m", ({"x": ROW} for _ in range(count)), in_flight=256)
    assert [outcome.prediction["y"].shape async for outcome in outcomes] == [(1, 10)] * count


async def ask_one_by_one(client: PredictionClient, count: int) -> None:
    for _ in range(count):
        assert (await client.predict("m", {"x": ROW}))["y"].shape == (1, 10)


def calls_per_round_trip(ask: Callable[[PredictionClient, int], object]) -> float:
    """Calls of functions for each of ``ROUND_TRIPS``, after a few that are not counted."""
    with asyncio.Runner() as runner:
        client = runner.run(started())
        runner.run(ask(client, 10))  # type: ignore[arg-type] # it is a coroutine
        calls = calls_of(lambda: runner.run(ask(client, ROUND_TRIPS)))  # type: ignore[arg-type]
        runner.run(client.close())
    return calls.total() / ROUND_TRIPS


def test_one_of_many_takes_no_more_calls_than_it_did() -> None:
    """From an input to its outcome, with the acknowledgement and the reply between them."""
    assert calls_per_round_trip(ask_many) <= 147


def test_a_single_predict_takes_no_more_calls_than_it_did() -> None:
    """The same for one request at a time, with the turns of the event loop that it needs."""
    assert calls_per_round_trip(ask_one_by_one) <= 262
