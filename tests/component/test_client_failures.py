"""What a caller is told, and what is left behind, when the path is broken."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from component.responder import ScriptedTransport, answer, until

from ondemand.client import PredictionClient
from ondemand.contract.record import Partition
from ondemand.errors import (
    ConfigurationError,
    NotSentError,
    OutcomeUnknownError,
    TransportError,
)
from ondemand.settings import ClientSettings
from ondemand.transport.base import NotTakenError

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


async def test_an_unacknowledged_send_is_an_unknown_outcome(transport: ScriptedTransport) -> None:
    """Where the broker may have the request, nobody is told that it was not sent."""
    transport.acknowledging = False
    async with client_of(transport, send_timeout_seconds=0.05) as client:
        with pytest.raises(OutcomeUnknownError, match="did not confirm"):
            await client.predict("digits", X)
        transport.acknowledge()


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (NotTakenError("record too large"), NotSentError, "was not sent .* record too large"),
        (TransportError("connection reset"), OutcomeUnknownError, "may or may not .* reset"),
        (ValueError("a fault"), OutcomeUnknownError, "ValueError: a fault"),
    ],
)
async def test_a_failed_send_says_what_is_certain(
    transport: ScriptedTransport,
    client: PredictionClient,
    error: Exception,
    kind: type[Exception],
    message: str,
) -> None:
    """*Not sent* is said only where the broker certainly has not taken the request."""
    transport.send_error = error
    with pytest.raises(kind, match=message) as caught:
        await client.predict("digits", X)
    assert caught.value.__cause__ is error
    assert client.stats.pending == 0


async def test_when_replies_can_no_longer_be_read_everyone_hears_why(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """The pending caller gets the reason at once; the next predict starts the reader again."""
    asking = asyncio.create_task(client.predict("digits", X))
    await until(lambda: transport.sent)
    transport.fetch_error = TransportError("the topic is gone")
    with pytest.raises(OutcomeUnknownError, match="the topic is gone"):
        await asking
    transport.fetch_error = None
    transport.answer_all()
    assert (await client.predict("digits", X))["sum"].tolist() == [3.0]


async def test_a_reader_that_cannot_start_again_is_said_before_sending(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Where no reply could be read, nothing is sent, and a later predict tries again."""
    transport.fetch_error = TransportError("the topic is gone")
    await until(lambda: "not reading" in repr(client))
    replies = transport.topics.pop("checkout.replies")
    with pytest.raises(NotSentError, match=r"replies cannot be read: .*checkout\.replies"):
        await client.predict("digits", X)
    assert not transport.sent
    transport.fetch_error = None
    transport.topics["checkout.replies"] = replies
    transport.answer_all()
    assert (await client.predict("digits", X))["sum"].tolist() == [3.0]


async def test_a_cancelled_predict_leaves_nothing_behind(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Neither a registration nor a task stays; its reply finds nobody."""
    before = asyncio.all_tasks()
    asking = asyncio.create_task(client.predict("digits", X))
    await until(lambda: transport.sent)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert client.stats.pending == 0
    transport.reply(answer(transport.sent[0]))
    await until(lambda: client.stats.unknown == 1)
    assert asyncio.all_tasks() == before


async def test_a_cancelled_predict_does_not_tear_its_send_apart(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """A send that has begun is finished; its place is free again only then."""
    transport.acknowledging = False
    asking = asyncio.create_task(client.predict("digits", X))
    await until(lambda: transport.sent)
    asking.cancel()
    await asyncio.wait({asking})
    transport.acknowledge()
    transport.answer_all()
    assert (await client.predict("digits", X))["sum"].tolist() == [3.0]


async def test_closing_tells_everyone_who_waits(transport: ScriptedTransport) -> None:
    """Pending callers get an error within a bound; no fetch is cancelled; the transport stops."""
    client = client_of(transport)
    await client.start()
    asking = [asyncio.create_task(client.predict("digits", X)) for _ in range(3)]
    await until(lambda: len(transport.sent) == 3)
    async with asyncio.timeout(2.0):
        await client.close()
        results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(result) for result in results] == [OutcomeUnknownError] * 3
    assert "the client was closed" in str(results[0])
    assert (transport.stopped, transport.fetches_cancelled) == (1, 0)
    await client.close()
    assert transport.stopped == 1


async def test_closing_is_bounded_while_the_broker_hangs(transport: ScriptedTransport) -> None:
    """Sends that never return and a transport that does not stop do not hold a closing client."""
    transport.acknowledging = False
    before = asyncio.all_tasks()
    client = client_of(transport)
    await client.start()
    asking = asyncio.create_task(client.predict("digits", X))
    await until(lambda: transport.sent)
    async with asyncio.timeout(3.0):
        await client.close()
    with pytest.raises(OutcomeUnknownError, match="closed"):
        await asking
    assert asyncio.all_tasks() == before


async def test_a_model_that_is_not_there_is_named(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """An unknown model is not sent to: its topic is looked up, never tried."""
    message = r"no model 'digitz' is served on this broker \(topic 'digitz.requests' is not there\)"
    with pytest.raises(NotSentError, match=message):
        await client.predict("digitz", X)
    assert not transport.sent


async def test_a_missing_reply_topic_refuses_to_start() -> None:
    """The operator is told what to run; the transport is not left connected."""
    transport = ScriptedTransport({"digits.requests": 1})
    message = (
        "reply topic 'checkout.replies' is not there: create it with "
        "`ondemand topics apply --service checkout`"
    )
    with pytest.raises(ConfigurationError, match=message):
        await client_of(transport).start()
    assert transport.stopped == 1


async def test_an_unreachable_broker_is_one_clear_sentence(transport: ScriptedTransport) -> None:
    """The transport's own, and safe to repeat; nothing stays connected."""

    async def refuse() -> None:
        raise TransportError("no Kafka answers at 127.0.0.1:9092 within 10 s: is it running?")

    transport.start = refuse  # type: ignore[method-assign]
    with pytest.raises(NotSentError, match=r"^no Kafka answers at .* is it running\?$"):
        await client_of(transport).start()
    assert transport.stopped == 1


async def test_a_broker_that_stops_answering_look_ups_means_not_sent(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """Without knowing that the topic is there, nothing is sent."""

    async def silence(topic: str) -> int | None:
        raise TransportError(f"no broker says within 5 s whether topic {topic!r} is there")

    transport.partition_count = silence  # type: ignore[method-assign]
    with pytest.raises(NotSentError, match=r"whether topic 'digits\.requests' is there"):
        await client.predict("digits", X)
    assert not transport.sent


async def test_starting_to_read_again_is_done_once_for_all(
    transport: ScriptedTransport,
) -> None:
    """Callers that are cancelled or give up meanwhile do not tear it apart for the others."""
    listening = asyncio.Event()
    async with client_of(transport, connect_timeout_seconds=0.2) as client:
        listened = transport.listen
        calls = 0

        async def slowly(replies: Partition) -> None:
            nonlocal calls
            calls += 1
            await listening.wait()
            await listened(replies)

        transport.listen = slowly  # type: ignore[method-assign]
        transport.fetch_error = TransportError("gone")
        await until(lambda: "not reading" in repr(client))
        transport.fetch_error = None
        transport.answer_all()
        cancelled, impatient = (asyncio.create_task(client.predict("digits", X)) for _ in "ab")
        await until(lambda: calls)
        cancelled.cancel()
        with pytest.raises(NotSentError, match=r"no answer within 0\.2 s"):
            await impatient
        waiting = asyncio.create_task(client.predict("digits", X))
        await asyncio.sleep(0)
        listening.set()
        assert (await waiting)["sum"].tolist() == [3.0]
        assert calls == 1


@pytest.mark.parametrize(
    ("break_it", "kind", "message"),
    [
        (lambda t: t.topics.pop("audit.replies"), NotSentError, "'audit.replies' is not there"),
        (lambda t: t.topics.pop("digits.requests"), NotSentError, "no model 'digits'"),
        (lambda t: setattr(t, "send_error", NotTakenError("full")), NotSentError, "not sent"),
        (lambda t: setattr(t, "send_error", TransportError("?")), OutcomeUnknownError, "may or"),
    ],
)
async def test_submit_says_what_is_certain(
    transport: ScriptedTransport,
    break_it: Callable[[ScriptedTransport], object],
    kind: type[Exception],
    message: str,
) -> None:
    """The same two kinds of error as ``predict``."""
    async with client_of(transport, send_timeout_seconds=0.05) as client:
        break_it(transport)
        with pytest.raises(kind, match=message):
            await client.submit("digits", X, reply_topic="audit.replies")


async def test_a_client_says_how_it_must_be_used(transport: ScriptedTransport) -> None:
    """Not started, started twice, closed, or in another event loop: a sentence, not a hang."""
    client = client_of(transport)
    with pytest.raises(RuntimeError, match="not started: use `async with"):
        await client.predict("digits", X)
    with pytest.raises(RuntimeError, match="not started"):
        client.predict_many("digits", [X])
    await client.start()
    with pytest.raises(RuntimeError, match="started before"):
        await client.start()

    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(client.predict("digits", X))
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "another event loop" in str(errors[0])
    await client.close()
    with pytest.raises(RuntimeError, match="closed: make a new one"):
        await client.predict("digits", X)
