"""``PredictionClient.predict`` and ``submit`` over transports that do what a test says."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from component.responder import EchoBroker, ScriptedTransport, answer, until

from ondemand.client import ClientStats, PredictionClient
from ondemand.contract.codec import Body, encode_error
from ondemand.contract.record import Partition
from ondemand.errors import (
    ConfigurationError,
    InvalidInputError,
    NotSentError,
    OutcomeUnknownError,
    Status,
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
    transport.acknowledging.clear()
    transport.answer_all()
    prediction = await client.predict("digits", X)
    assert prediction["sum"].tolist() == [3.0]
    assert client.stats.pending == 0
    transport.acknowledging.set()


async def test_the_timeout_counts_from_the_acknowledgement(
    transport: ScriptedTransport, client: PredictionClient
) -> None:
    """A slow send takes nothing from the worker's time."""
    transport.acknowledging.clear()
    asking = asyncio.create_task(client.predict("digits", X, timeout=0.1))
    await until(lambda: transport.sent)
    await asyncio.sleep(0.15)  # longer than the timeout, before the acknowledgement
    assert not asking.done()
    transport.acknowledging.set()
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


async def test_an_unacknowledged_send_is_an_unknown_outcome(transport: ScriptedTransport) -> None:
    """Where the broker may have the request, nobody is told that it was not sent."""
    transport.acknowledging.clear()
    async with client_of(transport, send_timeout_seconds=0.05) as client:
        with pytest.raises(OutcomeUnknownError, match="did not confirm"):
            await client.predict("digits", X)
        transport.acknowledging.set()


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
    transport.acknowledging.clear()
    asking = asyncio.create_task(client.predict("digits", X))
    await until(lambda: transport.sent)
    asking.cancel()
    await asyncio.wait({asking})
    transport.acknowledging.set()
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
    transport.acknowledging.clear()
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
