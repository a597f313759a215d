"""Claim checks from client to worker: over a real folder, a file system in memory, and stores that
fail or hang."""

import asyncio
import threading
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from component.builders import ask, broker, eventually, output, processing, replies, status
from component.responder import EchoBroker, ScriptedTransport, answer, until
from unit.processor.builders import DoublingModel

from ondemand.client import PredictionClient
from ondemand.contract.claim import CLAIM_CHECK, CLAIM_SHA256, claim_headers, claim_of
from ondemand.contract.codec import Body, InferRequest, encode_error, encode_request
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import (
    ConfigurationError,
    ModelFailedError,
    NotSentError,
    OutcomeUnknownError,
    Status,
    StoreError,
)
from ondemand.settings import ClientSettings
from ondemand.store.objects import ObjectStore

BIG = {"x": np.arange(2_000, dtype=np.float64)}  # 16,000 bytes and a head


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    """An empty place for claims."""
    places = {"file": f"file://{tmp_path}/claims", "memory": f"memory://{uuid4().hex}"}
    return places[request.param]


@pytest.fixture
def folder(tmp_path):
    """An empty place that a test can look into."""
    return tmp_path / "claims"


def files(folder: Path) -> list[Path]:
    """The objects in *folder*."""
    return [path for path in folder.rglob("*") if path.is_file()]


def claim(to, store, name, x=((1.0, 2.0),), *, headers=None, **how):
    """Publish a request whose body is in *store*; *headers* replace its own."""
    tensor = Tensor("x", Datatype.FP32, np.asarray(x, dtype=np.float32))
    body = bytes(encode_request(InferRequest((tensor,)), binary=False).value)
    made = claim_of("m.requests", body, day="2026-01-31", unique=uuid4().hex)
    store.write(made.key, body)
    ask(to, name, value=b"", headers={**dict(claim_headers(made)), **(headers or {})}, **how)
    return made


def client_of(transport, url, **settings):
    given = {"service": "checkout", "claim_store": url, "claim_above_bytes": 1_000, **settings}
    return PredictionClient(settings=ClientSettings(**given), transport=transport)


# --- the worker ------------------------------------------------------------------------------


def test_a_worker_answers_by_the_object(url):
    """Beside requests that have their bodies with them, and all positions move."""
    kafka, store = broker(), ObjectStore(url)
    for i in range(20):
        (claim if i % 2 else lambda to, _, *rest: ask(to, *rest))(kafka, store, f"r{i}", [[i, i]])
    with processing(kafka, claim_store=url) as processor:
        eventually(lambda: len(replies(kafka)) == 20, "20 replies")
        eventually(lambda: processor.unsettled == 0, "all settled")

    assert {name: output(reply) for name, reply in replies(kafka).items()} == {
        f"r{i}": [[2.0 * i, 2.0 * i]] for i in range(20)
    }


def test_hostile_claims_are_refused_and_disturb_nobody(folder):
    """Each gets its answer, and the objects of others are not touched."""
    url = f"file://{folder}"
    kafka, store = broker(), ObjectStore(url)
    (folder.parent / "secret").write_bytes(b"{}")
    good = claim(kafka, store, "good")
    claim(kafka, store, "up", headers={CLAIM_CHECK: b"../secret"})
    claim(kafka, store, "absolute", headers={CLAIM_CHECK: f"{folder.parent}/secret".encode()})
    claim(kafka, store, "url", headers={CLAIM_CHECK: b"file://" + good.key.encode()})
    claim(kafka, store, "digest", headers={CLAIM_SHA256: b"0" * 64})
    gone = claim(kafka, store, "gone")
    store.delete(gone.key)
    claim(kafka, store, "large", headers={"claim-bytes": b"9000000"})
    claim(kafka, store, "longer", headers={"claim-bytes": b"1"})
    claim(kafka, store, "late", headers={"deadline": b"5"})
    with processing(kafka, claim_store=url):
        eventually(lambda: len(replies(kafka)) == 9, "9 replies")

    statuses = {name: status(reply) for name, reply in replies(kafka).items()}
    assert statuses == dict.fromkeys(
        ["up", "absolute", "url", "digest", "gone", "longer"], "invalid-request"
    ) | {"good": "ok", "large": "too-large", "late": "deadline-exceeded"}


def test_a_worker_without_a_store_says_so(url):
    """Off by default."""
    kafka = broker()
    claim(kafka, ObjectStore(url), "r")
    with processing(kafka):
        eventually(lambda: replies(kafka), "a reply")
    (reply,) = replies(kafka).values()
    assert status(reply) == "invalid-request"
    assert b"claim_store" in (reply.value or b"")


def test_a_store_that_hangs_stops_no_neighbour(url, monkeypatch):
    """Other requests are answered meanwhile, those of the store in time by `overloaded`; and the
    worker ends, though a read does not."""
    kafka, hanging = broker(), threading.Event()
    claim(kafka, ObjectStore(url), "hangs")
    monkeypatch.setattr(ObjectStore, "read", lambda *_: hanging.wait(60))
    with processing(kafka, claim_store=url, claim_timeout_seconds=0.2):
        for i in range(50):
            ask(kafka, f"r{i}")
        eventually(lambda: len(replies(kafka)) == 51, "51 replies")
    hanging.set()
    statuses = {name: status(reply) for name, reply in replies(kafka).items()}
    assert statuses == {f"r{i}": "ok" for i in range(50)} | {"hangs": "overloaded"}


def test_one_key_is_answered_in_order(url, monkeypatch):
    """A claim check and what comes after it, though the latter has nothing to wait for."""
    kafka, store, gate = broker(), ObjectStore(url), threading.Event()
    read = ObjectStore.read

    def slowly(self, *how):
        assert gate.wait(10)
        return read(self, *how)

    monkeypatch.setattr(ObjectStore, "read", slowly)
    claim(kafka, store, "first", key=b"k")
    ask(kafka, "second", key=b"k")
    ask(kafka, "other", key=b"o")
    with processing(kafka, claim_store=url):
        eventually(lambda: list(replies(kafka)) == ["other"], "the other key is answered")
        gate.set()
        eventually(lambda: len(replies(kafka)) == 3, "3 replies")
    assert list(replies(kafka)) == ["other", "first", "second"]


def test_what_a_stop_leaves_the_next_worker_answers(url, monkeypatch):
    """A request that waits for its body is nobody's answer yet: its position has not moved."""
    kafka, hanging = broker(), threading.Event()
    claim(kafka, ObjectStore(url), "r")
    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "read", lambda *_: hanging.wait(60))
        with processing(kafka, claim_store=url) as processor:
            eventually(lambda: processor.unsettled == 1, "taken")
        hanging.set()
    assert not replies(kafka)
    with processing(kafka, claim_store=url):
        eventually(lambda: status(replies(kafka)["r"]) == "ok" if replies(kafka) else 0, "answered")


def test_a_partition_that_was_lost_takes_its_claims_along(url, monkeypatch):
    """Another worker answers them: what this one still reads of them is nobody's."""
    kafka, gate, reads = broker(), threading.Event(), threading.Semaphore(0)
    claim(kafka, ObjectStore(url), "r")
    read = ObjectStore.read

    def slowly(self, *how):
        reads.release()
        assert gate.wait(10)
        return read(self, *how)

    monkeypatch.setattr(ObjectStore, "read", slowly)
    transport = kafka.worker(group="ondemand.m")
    with processing(transport, claim_store=url) as processor:
        assert reads.acquire(timeout=10)
        kafka.evict(transport)
        assert reads.acquire(timeout=10), "read again, after it was assigned again"
        gate.set()
        eventually(lambda: replies(kafka) and not processor._claims.active, "answered")
        eventually(lambda: processor.unsettled == 0, "settled")
    assert len(kafka.records("s.replies")) == 1


def test_a_worker_does_not_start_without_its_store():
    """Rather than refuse every claim check later."""
    with (
        pytest.raises(ConfigurationError, match="claim_store"),
        processing(broker(), DoublingModel(), claim_store="nosuch://x"),
    ):
        pass


# --- the client ------------------------------------------------------------------------------


async def test_a_client_deposits_what_is_large_and_takes_it_back(folder) -> None:
    """The record holds no body; when the answer is there, the object is deleted."""
    transport = ScriptedTransport()
    async with client_of(transport, f"file://{folder}") as client:
        asking = asyncio.create_task(client.predict("digits", BIG))
        await until(lambda: transport.sent)
        (sent,) = transport.sent
        (path,) = files(folder)
        key = dict(sent.headers)[CLAIM_CHECK] or b""
        assert sent.value == b""
        assert str(path.relative_to(folder)).encode() == key
        transport.reply(answer(sent._replace(value=path.read_bytes())))
        assert (await asking)["sum"].tolist() == [BIG["x"].sum()]
        await until(lambda: not files(folder))


async def test_small_requests_go_by_themselves(folder) -> None:
    """The store is asked only where a record is too small."""
    async with client_of(EchoBroker().client(), f"file://{folder}") as client:
        assert (await client.predict("digits", {"x": np.ones(3)}))["sum"].tolist() == [3.0]
    assert not files(folder)


async def test_what_nobody_knows_the_outcome_of_is_left_to_the_store(folder) -> None:
    """A worker may still read it."""
    async with client_of(ScriptedTransport(), f"file://{folder}") as client:
        with pytest.raises(OutcomeUnknownError):
            await client.predict("digits", BIG, timeout=0.05)
    assert len(files(folder)) == 1


async def test_what_a_dead_letter_refers_to_is_left_to_the_store(folder) -> None:
    """Otherwise it could not be redriven."""
    transport = ScriptedTransport()
    async with client_of(transport, f"file://{folder}") as client:
        asking = asyncio.create_task(client.predict("digits", BIG))
        await until(lambda: transport.sent)
        body = Body(encode_error(Status.MODEL_ERROR, "no"), None)
        transport.reply(answer(transport.sent[0], status=Status.MODEL_ERROR, body=body))
        with pytest.raises(ModelFailedError):
            await asking
    assert len(files(folder)) == 1


async def test_many_go_through_the_store_too(folder) -> None:
    """One at a time or thousands: the same way."""
    transport = ScriptedTransport()

    def reply(sent) -> None:
        path = folder / (dict(sent.headers)[CLAIM_CHECK] or b"").decode()
        transport.reply(answer(sent._replace(value=path.read_bytes())))

    transport.on_send = reply
    async with client_of(transport, f"file://{folder}") as client:
        inputs = ({"x": BIG["x"] + n} for n in range(20))
        sums = [
            outcome.prediction["sum"][0]
            async for outcome in client.predict_many("digits", inputs, in_flight=4)
        ]
        await until(lambda: not files(folder))
    assert sums == [(BIG["x"] + n).sum() for n in range(20)]


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_store_that_does_not_take_it_is_not_sent(folder, monkeypatch, hangs) -> None:
    """Safe to repeat; the place is free again, and the client closes though the write hangs."""
    hanging, transport = threading.Event(), ScriptedTransport()

    def write(*_) -> None:
        if hangs:
            hanging.wait(60)
        raise StoreError("no access")

    monkeypatch.setattr(ObjectStore, "write", write)
    settings = {"claim_timeout_seconds": 0.1 if hangs else 10.0, "pending_max": 1}
    async with client_of(transport, f"file://{folder}", **settings) as client:
        for _ in range(2):
            said = "within 0.1 s" if hangs else "no access"
            with pytest.raises(NotSentError, match=said):
                await client.predict("digits", BIG)
    assert not transport.sent
    hanging.set()


async def test_a_submitted_request_leaves_its_object(folder) -> None:
    """Somebody else reads the answer: only the store can know when it is old."""
    transport = ScriptedTransport()
    async with client_of(transport, f"file://{folder}") as client:
        await client.submit("digits", BIG, reply_topic="audit.replies")
    assert len(files(folder)) == 1
    assert CLAIM_CHECK in dict(transport.sent[0].headers)


async def test_both_limits_are_told_before_anything_is_sent(folder) -> None:
    """With a store, its own; without one, that there could be one."""
    big = {"x": np.zeros(1_100_000 // 8)}
    async with client_of(ScriptedTransport(), f"file://{folder}", claim_bytes_max=1_000) as client:
        with pytest.raises(ValueError, match="more than the 1,000 that a request may have"):
            await client.predict("digits", big)
    async with client_of(ScriptedTransport(), None) as client:
        with pytest.raises(ValueError, match="or set claim_store"):
            await client.predict("digits", big)
    assert not files(folder)
