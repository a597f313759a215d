"""``PredictionClient.predict`` and ``submit`` over transports that do what a test says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from component.responder import EchoBroker, ScriptedTransport, answer, until

from ondemand.client import ClientStats, PredictionClient
from ondemand.contract.codec import Body, encode_error
from ondemand.errors import (
    InvalidInputError,
    NotSentError,
    OutcomeUnknownError,
    Status,
)
from ondemand.settings import ClientSettings

X = {"x": np.array([1.0, 2.0])}


@pytest.fixture
def transport() -> ScriptedTransport:
    return ScriptedTransport()


def client_of(transport: Any, **settings: Any) -> PredictionClient:
    given = {"service": "checkout", "timeout_seconds": 5.0, **settings}
    return PredictionClient(settings=ClientSettings(**given), transport=transport)


@pytest.fixture
async def client(transport: ScriptedTransport) -> AsyncIterator[PredictionClient]:
    async with client_of(transport) as client:
        yield client


async def test_a_request_goes_in_and_its_answer_comes_out() -> None:
    """The whole path over the memory broker, both body forms."""
    async with client_of(EchoBroker().client()) as client:
        for binary in (True, False):
            prediction = await client.predict("digits", X, binary=binary, key="k")
            assert prediction["sum"].tolist() == [3.0]
            assert prediction.model_version == "1.0.0"
            assert prediction.timing.batch_rows == 1
            assert prediction.round_trip_ms > 0
        assert client.stats == ClientStats(sent=2, answered=2)


async def test_many_callers_get_each_their_own_answer() -> None:
    """A reply reaches only the caller with its correlation ID."""
    async with client_of(EchoBroker().client()) as client:
        inputs = [{"x": np.array([float(n)])} for n in range(300)]
        predictions = await asyncio.gather(*(client.predict("digits", one) for one in inputs))
    assert [p["sum"][0] for p in predictions] == [float(n) for n in range(300)]
    assert len({p.correlation_id for p in predictions}) == 300


async def test_a_reply_may_overtake_the_acknowledgement(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Register before publish: a reply counts even if the send is never acknowledged."""
    transport.acknowledging = False
    transport.answer_all()
    prediction = await client.predict("digits", X)
    assert prediction["sum"].tolist() == [3.0]
    assert client.stats.pending == 0
    transport.acknowledge()


async def test_the_timeout_counts_from_the_acknowledgement(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """A slow send takes nothing from the worker's time."""
    transport.acknowledging = False
    asking = asyncio.create_task(client.predict("digits", X, timeout=0.1))
    await until(lambda: transport.sent)
    await asyncio.sleep(0.15)  # longer than the timeout, before the acknowledgement
    assert not asking.done()
    transport.acknowledge()
    transport.reply(answer(transport.sent[0]))
    assert (await asking)["sum"].tolist() == [3.0]


async def test_no_reply_in_time_is_an_unknown_outcome(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """The message names model, time and topic; the late reply is counted, and given to nobody."""
    message = (
        r"no reply from 'digits' within 0.05 s: the request is in digits.requests; is a worker"
    )
    with pytest.raises(OutcomeUnknownError, match=message) as caught:
        await client.predict("digits", X, timeout=0.05)
    assert caught.value.correlation_id is not None
    transport.reply(answer(transport.sent[0]))
    await until(lambda: client.stats.late)
    assert client.stats == ClientStats(sent=1, late=1, timeouts=1)


async def test_a_refusal_raises_the_error_of_its_status(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """The worker's words and version reach the caller."""
    body = Body(encode_error("invalid-input", "x must have 3 elements"), None)
    transport.on_send = lambda record: transport.reply(
        answer(record, status=Status.INVALID_INPUT, body=body)
    )
    with pytest.raises(InvalidInputError, match="x must have 3 elements") as caught:
        await client.predict("digits", X)
    assert caught.value.model_version == "1.0.0"


async def test_repeated_and_strange_replies_reach_nobody(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Repeats, replies to other instances and records without an ID are counted, and harmless."""
    transport.answer_all()
    await client.predict("digits", X)
    good = answer(transport.sent[0])
    transport.reply(good)
    transport.reply(good._replace(headers=[("correlation-id", b"another-instance-1")]))
    transport.reply(good._replace(headers=[("correlation-id", None)]))
    transport.reply(good._replace(headers=[], value=None))
    await until(lambda: client.stats.unknown + client.stats.foreign == 4)
    assert client.stats == ClientStats(sent=1, answered=1, unknown=3, foreign=1)
    assert (await client.predict("digits", X))["sum"].tolist() == [3.0]


async def test_no_more_than_pending_max_are_awaited(transport: ScriptedTransport) -> None:
    """A further predict waits for a place, in turn, and gets it when one is answered."""
    async with client_of(transport, pending_max=2) as client:
        asking = [asyncio.create_task(client.predict("digits", X)) for _ in range(4)]
        await until(lambda: len(transport.sent) == 2)
        await asyncio.sleep(0.02)  # time enough for a third, if there were no bound
        assert len(transport.sent) == 2
        assert "2/2 waiting" in repr(client)
        transport.reply(answer(transport.sent[0]))
        await until(lambda: len(transport.sent) == 3)
        transport.answer_all()
        for record in transport.sent[1:]:
            transport.reply(answer(record))
        assert [p["sum"][0] for p in await asyncio.gather(*asking)] == [3.0] * 4


async def test_waiting_for_a_place_has_an_end(transport: ScriptedTransport) -> None:
    """Who gets no place within the timeout hears that nothing was sent, and why."""
    async with client_of(transport, pending_max=1) as client:
        first = asyncio.create_task(client.predict("digits", X))
        await until(lambda: transport.sent)
        with pytest.raises(NotSentError, match=r"no place became free within 0\.05 s: 1 "):
            await client.predict("digits", X, timeout=0.05)
        transport.reply(answer(transport.sent[0]))
        await first
        assert len(transport.sent) == 1


async def test_mistakes_in_inputs_raise_before_anything_is_sent(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """``ValueError`` and ``TypeError``, as from NumPy."""
    with pytest.raises(ValueError, match="complex"):
        await client.predict("digits", {"x": np.zeros(2, dtype=complex)})
    with pytest.raises(TypeError, match="map names to arrays"):
        await client.predict("digits", X["x"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="colour"):
        await client.predict("digits", X, colour=1)  # type: ignore[call-arg]
    assert not transport.sent


async def test_the_deadline_comes_from_the_clock(transport: ScriptedTransport) -> None:
    """The worker is told now + timeout; the default timeout is the settings'."""
    transport.answer_all()
    settings = ClientSettings(service="checkout", timeout_seconds=3.0)
    async with PredictionClient(
        settings=settings, transport=transport, clock=lambda: 1_000.0
    ) as client:
        await client.predict("digits", X, timeout=2.0)
        await client.predict("digits", X)
    deadlines = [dict(record.headers)["deadline"] for record in transport.sent]
    assert deadlines == [b"1002000", b"1003000"]


async def test_submit_returns_when_it_is_acknowledged(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Nobody here waits for the answer; it goes where the caller says, under the caller's ID."""
    receipt = await client.submit(
        "digits", X, reply_topic="audit.replies", correlation_id="order-7"
    )
    headers = dict(transport.sent[0].headers)
    assert receipt.correlation_id == headers["correlation-id"] == b"order-7"
    assert receipt.topic == "digits.requests"
    assert headers["reply-topic"] == b"audit.replies"
    assert "reply-partition" not in headers
    assert "deadline" not in headers
    assert client.stats == ClientStats(sent=1)


@pytest.mark.parametrize(
    "given",
    [
        {"service": "Check Out"},
        {"kafka": "no-port"},
        {"settings": ClientSettings(), "service": "checkout"},
        {"settings": ClientSettings(reply_topic="no/topic")},
    ],
)
def test_malformed_settings_are_refused_at_once(given: dict[str, Any]) -> None:
    """Before any connection is tried."""
    with pytest.raises(ValueError, match=r"service|kafka|settings|reply topic"):
        PredictionClient(**given)


async def test_more_clients_than_partitions_share_them() -> None:
    """Each instance gets its own answers, and counts those of its neighbours as foreign."""
    broker = EchoBroker({"digits.requests": 1, "checkout.replies": 2})
    clients = [client_of(broker.client()) for _ in range(6)]
    for client in clients:
        await client.start()

    async def ask(client: PredictionClient, number: float) -> float:
        prediction = await client.predict("digits", {"x": np.array([number])})
        return float(prediction["sum"][0])

    answers = await asyncio.gather(
        *(ask(client, float(n)) for n, client in enumerate(clients) for _ in range(20))
    )
    assert answers == [float(n) for n in range(6) for _ in range(20)]
    await until(lambda: sum(c.stats.foreign for c in clients) >= 20 * (6 - 2))
    assert all(client.stats.unknown == 0 for client in clients)
    for client in clients:
        await client.close()


async def test_nothing_is_created_on_the_broker() -> None:
    """Asking for a model that is not there leaves the broker's topics as they were."""
    broker = EchoBroker()
    async with client_of(broker.client()) as client:
        with pytest.raises(NotSentError):
            await client.predict("digitz", X)
    assert broker.partition_count("digitz.requests") is None


async def test_one_timer_serves_all_timeouts(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Shorter timeouts asked for later end earlier; each caller gets its own."""
    ended: list[float] = []

    async def ask(seconds: float) -> None:
        with pytest.raises(OutcomeUnknownError, match=f"within {seconds} s"):
            await client.predict("digits", X, timeout=seconds)
        ended.append(seconds)

    await asyncio.gather(*(ask(seconds) for seconds in (0.3, 0.1, 0.2, 0.05)))
    assert ended == [0.05, 0.1, 0.2, 0.3]
    assert client.stats.timeouts == 4
