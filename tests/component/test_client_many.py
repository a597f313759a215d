"""``predict_many``: a bounded number under way, and nothing left behind."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from component.responder import EchoBroker, ScriptedTransport, answer, until

from ondemand.client import Outcome, PredictionClient
from ondemand.contract.codec import Body, encode_error
from ondemand.contract.record import OutgoingRecord, Record
from ondemand.errors import ModelFailedError, OutcomeUnknownError, Status, TransportError
from ondemand.settings import ClientSettings


def number(value: float) -> dict[str, Any]:
    return {"x": np.array([float(value)])}


def client_of(transport: Any, **settings: Any) -> PredictionClient:
    given = {"service": "checkout", "timeout_seconds": 5.0, **settings}
    return PredictionClient(settings=ClientSettings(**given), transport=transport)


@pytest.fixture
def transport() -> ScriptedTransport:
    return ScriptedTransport()


@pytest.fixture
async def client(transport: ScriptedTransport) -> AsyncIterator[PredictionClient]:
    async with client_of(transport) as client:
        yield client


def total(outcome: Outcome) -> float:
    return float(outcome.prediction["sum"][0])


class Source:
    """Numbers from 0 on, counting how many were taken."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for value in range(self.size):
            self.taken += 1
            yield number(value)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        for value in range(self.size):
            self.taken += 1
            await asyncio.sleep(0)
            yield number(value)


class SyncSource(Source):
    """The same, but an iterable only."""

    __aiter__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [Source, SyncSource])
@pytest.mark.parametrize("ordered", [True, False])
async def test_every_input_has_its_outcome(kind: type[Source], *, ordered: bool) -> None:
    """One outcome for each input, under its index; ordered ones in the inputs' order."""
    async with client_of(EchoBroker().client()) as client:
        outcomes = [
            (outcome.index, total(outcome))
            async for outcome in client.predict_many("digits", kind(1_000), ordered=ordered)
        ]
        assert client.stats.pending == 0
    assert sorted(outcomes) == [(index, float(index)) for index in range(1_000)]
    if ordered:
        assert outcomes == sorted(outcomes)


@pytest.mark.parametrize("kind", [Source, SyncSource])
async def test_no_inputs_yield_no_outcomes(client: PredictionClient, kind: type[Source]) -> None:
    """An empty source ends at once."""
    assert [outcome async for outcome in client.predict_many("digits", kind(0))] == []


@pytest.mark.parametrize("kind", [Source, SyncSource])
async def test_inputs_are_taken_only_as_there_is_room(
    transport: ScriptedTransport, client: PredictionClient, kind: type[Source]
) -> None:
    """At most *in_flight* inputs are taken and not yet yielded, however slow the caller is."""
    source = kind(100)
    transport.answer_all()
    seen = 0
    async for outcome in client.predict_many("digits", source, in_flight=7):
        for _ in range(5):
            await asyncio.sleep(0)
        assert source.taken <= seen + 1 + 7
        assert outcome.index == seen
        seen += 1
    assert seen == 100


async def test_ordered_outcomes_wait_for_the_first(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Replies out of order are held back, and no more than *in_flight* of them."""
    outcomes = client.predict_many("digits", Source(10), in_flight=4)
    first = asyncio.ensure_future(anext(outcomes))
    await until(lambda: len(transport.sent) == 4)
    for record in transport.sent[1:]:
        transport.reply(answer(record))
    await until(lambda: client.stats.answered == 3)
    assert not first.done()
    assert len(transport.sent) == 4
    transport.reply(answer(transport.sent[0]))
    assert (await first).index == 0
    assert (await anext(outcomes)).index == 1
    await outcomes.aclose()


async def test_unordered_outcomes_come_as_they_are_there(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """A slow request holds nobody back."""
    outcomes = client.predict_many("digits", Source(3), ordered=False)
    first = asyncio.ensure_future(anext(outcomes))
    await until(lambda: len(transport.sent) == 3)
    transport.reply(answer(transport.sent[2]))
    assert (await first).index == 2
    transport.reply(answer(transport.sent[1]))
    assert (await anext(outcomes)).index == 1
    await outcomes.aclose()


async def test_leaving_the_loop_early_leaves_nothing_behind(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Pending replies are forgotten, tasks end, the source is not touched again."""
    before = asyncio.all_tasks()
    transport.on_send = lambda record: (
        transport.reply(answer(record)) if len(transport.sent) == 1 else None
    )
    source = Source(1_000)
    async with aclosing(client.predict_many("digits", source, in_flight=8)) as outcomes:
        async for outcome in outcomes:
            assert total(outcome) == 0.0
            break
    assert client.stats.pending == 0
    assert source.taken <= 9
    await until(lambda: asyncio.all_tasks() == before)
    for record in transport.sent[1:]:
        transport.reply(answer(record))
    await until(lambda: client.stats.unknown == len(transport.sent) - 1)
    transport.answer_all()
    assert (await client.predict("digits", number(5)))["sum"].tolist() == [5.0]


async def test_a_bare_break_is_enough(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Without ``aclosing`` too, what is pending is forgotten as soon as the loop is left."""
    transport.answer_all()
    before = asyncio.all_tasks()
    async for outcome in client.predict_many("digits", Source(1_000), in_flight=8):
        assert outcome.index == 0
        break
    await until(lambda: client.stats.pending == 0 and asyncio.all_tasks() == before)


async def test_cancelling_the_caller_leaves_nothing_behind(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """A cancelled task that iterates takes its pending requests with it."""
    before = asyncio.all_tasks()

    async def consume() -> list[Outcome]:
        return [outcome async for outcome in client.predict_many("digits", Source(100))]

    task = asyncio.create_task(consume())
    await until(lambda: len(transport.sent) == 100)
    task.cancel()
    await asyncio.wait({task})
    await until(lambda: client.stats.pending == 0 and asyncio.all_tasks() == before)


async def test_one_failure_is_its_own_outcome_and_stops_nothing(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """A refused reply and an input that cannot be sent: their neighbours are answered."""
    failed = Body(encode_error("model-error", "division by zero"), None)

    def respond(record: OutgoingRecord) -> None:
        broken = len(transport.sent) == 2
        transport.reply(
            answer(record, status=Status.MODEL_ERROR, body=failed) if broken else answer(record)
        )

    transport.on_send = respond
    inputs = [number(0), number(1), {"x": np.zeros(2, dtype=complex)}, {}, number(4)]
    outcomes = [outcome async for outcome in client.predict_many("digits", inputs)]
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        ModelFailedError,
        ValueError,
        ValueError,
        type(None),
    ]
    assert total(outcomes[4]) == 4.0


async def test_using_a_prediction_that_is_not_there_stops_the_loop(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Who just takes ``outcome.prediction`` gets the error raised, and nothing stays behind."""

    async def consume() -> list[float]:
        outcomes = client.predict_many("digits", Source(5), timeout=0.05)
        return [total(outcome) async for outcome in outcomes]

    with pytest.raises(OutcomeUnknownError, match="no reply"):
        await consume()
    await until(lambda: client.stats.pending == 0)


class Failing(Source):
    """Breaks after its last number."""

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        for value in range(self.size):
            yield number(value)
        raise OSError("the file ended in the middle of a line")


async def test_what_the_source_raises_comes_after_what_it_gave(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """The outcomes of all inputs before the failure are yielded first."""
    transport.answer_all()
    seen: list[float] = []

    async def consume() -> None:
        async for outcome in client.predict_many("digits", Failing(5)):
            seen.append(total(outcome))  # noqa: PERF401 - what came before the error counts

    with pytest.raises(OSError, match="middle of a line"):
        await consume()
    assert seen == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_a_window_wider_than_pending_max_waits_for_places() -> None:
    """Places are free when replies arrive, not when outcomes are consumed: a slow caller cannot
    starve others, and no input fails for want of a place."""
    async with client_of(EchoBroker().client(), pending_max=4, timeout_seconds=0.2) as client:
        seen = []
        async for outcome in client.predict_many("digits", Source(50), in_flight=32):
            if outcome.index == 0:
                await asyncio.sleep(0.3)  # longer than the timeout
                await client.predict("digits", number(1))
            seen.append(total(outcome))
    assert seen == [float(value) for value in range(50)]


async def test_a_reader_that_dies_fails_what_is_pending_and_no_more(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Later inputs of the same loop are answered: the reader is started again for them."""
    outcomes = client.predict_many("digits", Source(4), in_flight=2)
    first = asyncio.ensure_future(anext(outcomes))
    await until(lambda: len(transport.sent) == 2)
    transport.fetch_error = TransportError("gone")
    failed = [await first]
    transport.fetch_error = None
    transport.answer_all()
    rest = [outcome async for outcome in outcomes]
    assert all(isinstance(o.error, OutcomeUnknownError) for o in [*failed, rest[0]])
    assert [total(outcome) for outcome in rest[1:]] == [2.0, 3.0]


async def test_a_closed_client_ends_the_loop(transport: ScriptedTransport) -> None:
    """Closing in the middle gives every input its outcome; nobody waits for ever."""
    client = client_of(transport)
    await client.start()

    async def consume() -> list[Outcome]:
        return [o async for o in client.predict_many("digits", Source(20), in_flight=5)]

    task = asyncio.create_task(consume())
    await until(lambda: len(transport.sent) == 5)
    await client.close()
    async with asyncio.timeout(2.0):
        outcomes = await task
    assert len(outcomes) == 20
    assert all(outcome.error is not None for outcome in outcomes)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"in_flight": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"model": "No/Such"}, ValueError),
        ({"colour": 1}, TypeError),
    ],
)
async def test_what_is_wrong_for_all_inputs_is_said_at_once(
    client: PredictionClient, arguments: dict[str, Any], kind: type[Exception]
) -> None:
    """Before the first input is taken."""
    model = arguments.pop("model", "digits")
    with pytest.raises(kind):
        client.predict_many(model, Source(1), **arguments)


async def test_two_loops_share_a_client() -> None:
    """Each loop sees its own outcomes only."""
    broker = EchoBroker()

    def respond(record: Record) -> OutgoingRecord:
        return answer(record)

    broker.respond = respond

    async def consume(client: PredictionClient, start: int) -> list[float]:
        inputs = (number(start + value) for value in range(200))
        return [total(o) async for o in client.predict_many("digits", inputs, in_flight=16)]

    async with client_of(broker.client()) as client:
        results = await asyncio.gather(consume(client, 0), consume(client, 1_000))
    assert results == [
        [float(value) for value in range(200)],
        [float(1_000 + value) for value in range(200)],
    ]
