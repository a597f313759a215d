"""The synchronous facade: threads, generators and closing."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np
import pytest
from component.responder import EchoBroker, answer

from ondemand.client import SyncPredictionClient
from ondemand.contract.record import OutgoingRecord, Record
from ondemand.errors import ConfigurationError, NotSentError, OutcomeUnknownError
from ondemand.settings import ClientSettings
from ondemand.transport.memory import MemoryBroker

SETTINGS = ClientSettings(service="checkout", timeout_seconds=5.0)
SILENT = {"digits.requests": 1, "checkout.replies": 1}


def number(value: float) -> dict[str, Any]:
    return {"x": np.array([float(value)])}


@pytest.fixture
def client() -> Iterator[SyncPredictionClient]:
    with SyncPredictionClient(settings=SETTINGS, transport=EchoBroker().client()) as client:
        yield client


def test_predict_returns_the_answer(client: SyncPredictionClient) -> None:
    """The same arguments, results and errors as with ``await``."""
    assert client.predict("digits", number(3), timeout=2.0)["sum"].tolist() == [3.0]
    assert client.stats.answered == 1
    assert repr(client).startswith("<SyncPredictionClient [checkout.replies/")
    with pytest.raises(NotSentError, match="no model 'digitz'"):
        client.predict("digitz", number(3))
    with pytest.raises(ValueError, match="complex"):
        client.predict("digits", {"x": np.zeros(1, dtype=complex)})


def test_many_threads_share_one_client(client: SyncPredictionClient) -> None:
    """Each thread gets its own answers."""
    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(lambda n: client.predict("digits", number(n))["sum"][0], range(300))
        )
    assert answers == [float(n) for n in range(300)]


@pytest.mark.parametrize("ordered", [True, False])
def test_predict_many_is_a_generator(client: SyncPredictionClient, *, ordered: bool) -> None:
    """One outcome for each input; lazily, and in order where asked for."""
    outcomes = client.predict_many("digits", map(number, range(1_000)), ordered=ordered)
    seen = [(outcome.index, outcome.prediction["sum"][0]) for outcome in outcomes]
    assert sorted(seen) == [(value, float(value)) for value in range(1_000)]
    if ordered:
        assert seen == sorted(seen)


def test_an_endless_source_can_be_left(client: SyncPredictionClient) -> None:
    """No more than *in_flight* inputs beyond those yielded are taken, in the caller's thread."""
    threads: set[str] = set()
    taken = count()

    def endless() -> Iterator[dict[str, Any]]:
        for value in taken:
            threads.add(threading.current_thread().name)
            yield number(value)

    outcomes = client.predict_many("digits", endless(), in_flight=10)
    assert [next(outcomes).index for _ in range(25)] == list(range(25))
    outcomes.close()
    assert next(taken) <= 25 + 10
    assert threads == {threading.current_thread().name}
    assert client.predict("digits", number(1))["sum"].tolist() == [1.0]
    assert client.stats.pending == 0


def test_what_the_source_raises_comes_after_what_it_gave(client: SyncPredictionClient) -> None:
    """As with the async client."""

    def failing() -> Iterator[dict[str, Any]]:
        yield number(0)
        yield number(1)
        raise OSError("the file ended in the middle of a line")

    outcomes = client.predict_many("digits", failing())
    assert [next(outcomes).index, next(outcomes).index] == [0, 1]
    with pytest.raises(OSError, match="middle of a line"):
        next(outcomes)


def test_submit_returns_a_receipt() -> None:
    """Nobody here reads the answer."""
    broker = EchoBroker()
    with SyncPredictionClient(settings=SETTINGS, transport=broker.client()) as client:
        receipt = client.submit("digits", number(2), reply_topic="audit.replies")
    (reply,) = broker.records("audit.replies")
    assert dict(reply.headers)["correlation-id"] == receipt.correlation_id


def test_closing_tells_threads_that_wait() -> None:
    """A thread in ``predict`` gets an error; nothing hangs."""
    arrived = threading.Event()

    class Silent(EchoBroker):
        def append(self, record: OutgoingRecord) -> Record:
            arrived.set()
            return MemoryBroker.append(self, record)

    client = SyncPredictionClient(settings=SETTINGS, transport=Silent(SILENT).client())
    client.start()
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(client.predict, "digits", number(1))
        assert arrived.wait(5)
        client.close()
        with pytest.raises(OutcomeUnknownError, match="closed"):
            asking.result(5)
    client.close()
    with pytest.raises(RuntimeError, match="closed: make a new one"):
        client.predict("digits", number(1))


def test_a_start_that_fails_leaves_no_thread() -> None:
    """The error is the async client's, and the private thread is gone."""
    client = SyncPredictionClient(settings=SETTINGS, transport=MemoryBroker().client())
    with pytest.raises(RuntimeError, match="not started: use `with`"):
        client.predict("digits", number(1))
    before = threading.active_count()
    with pytest.raises(ConfigurationError, match=r"checkout\.replies"):
        client.start()
    assert threading.active_count() == before


def test_a_callback_in_the_clients_own_thread_is_refused() -> None:
    """Waiting there would stop the loop that it waits for."""
    errors: list[RuntimeError] = []
    broker = EchoBroker()
    client = SyncPredictionClient(settings=SETTINGS, transport=broker.client())

    def respond(record: Record) -> OutgoingRecord:
        try:
            client.predict("digits", number(1))
        except RuntimeError as error:
            errors.append(error)
        return answer(record)

    broker.respond = respond
    with client:
        client.predict("digits", number(1))
    assert "the client's own thread" in str(errors[0])
