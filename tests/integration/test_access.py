"""Who may come in, and who may do what: both sides against one secured broker."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from certificates import TokenIssuer
from secured import (
    BANK,
    BANK_REQUESTS,
    BOUND_SECONDS,
    CONNECT_SECONDS,
    DEAD_LETTERS,
    EXPIRED,
    FOREIGN,
    GROUP,
    MODEL,
    MTLS,
    REQUESTS,
    ROW,
    SASL,
    SHOP,
    LoggedInWorker,
    Right,
    Secured,
    answered,
    end_of,
    environment,
    eventually,
    join,
    read,
    secured_broker,
    shop,
    transact,
    write,
)

from ondemand import PredictionClient
from ondemand.client.request import request_form
from ondemand.contract.headers import Dialect, ReplyAddress
from ondemand.contract.topics import WORKERS
from ondemand.errors import NotSentError, OndemandError, PredictionError
from ondemand.runtime.scaffold import new_package
from ondemand.settings import Security
from ondemand.testing.models import ffnn
from ondemand.transport.base import send_and_wait
from ondemand.transport.kafka_client import KafkaClientTransport
from ondemand.transport.kafka_worker import KafkaWorkerTransport

pytestmark = pytest.mark.kafka

REFUSED_SECONDS = 2.0
"""The connect timeout of who is not let in."""

MARGIN_SECONDS = 3.0  # what a busy computer may add to a time limit

WayIn = Callable[[Secured], tuple[str, Security]]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A worker folder."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "model.onnx").write_bytes(ffnn((8, 4)))
    return new_package(folder / MODEL, name=MODEL, model=folder / "model.onnx").folder


@pytest.fixture(scope="module")
def worker(secured: Secured, package: Path) -> Iterator[LoggedInWorker]:
    """A worker that has its least rights, and is ready."""
    environ = environment(secured.login("worker"), secured.kafka.address)
    process = LoggedInWorker(
        package, environ, package.parent / "log", "--set", "session_timeout_seconds=3"
    )
    try:
        yield process.wait_for("worker.announced").wait_for("partitions.assigned")
    finally:
        process.stop()


@pytest.fixture(autouse=True)
async def _goodbyes() -> AsyncIterator[None]:
    """Connections that are given up while they are made end later: aiokafka does not wait for TLS
    to say goodbye, and a loop must not end before."""
    yield
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined] # no public name
    async with asyncio.timeout(CONNECT_SECONDS):
        while len(selector.get_map()) > 1:  # noqa: ASYNC110 - nothing tells; the loop's pipe stays
            await asyncio.sleep(0.01)


WAYS_IN: dict[str, WayIn] = {
    "scram": lambda secured: (SASL, secured.login("shop")),
    "plain": lambda secured: (SASL, secured.login("shop", sasl_mechanism="PLAIN")),
    "token": lambda secured: (SASL, secured.token("shop")),
    "mtls": lambda secured: (MTLS, secured.certificate("shop")),
}

NO_WAYS_IN: dict[str, tuple[WayIn, str]] = {
    "wrong password": (
        lambda secured: (SASL, secured.login("shop", sasl_password="wrong-1")),
        "does not accept the login",
    ),
    "unknown user": (
        lambda secured: (SASL, secured.login("shop", sasl_username="nobody")),
        "does not accept the login",
    ),
    "token of another issuer": (
        lambda secured: (SASL, secured.token("shop", TokenIssuer())),
        "does not accept the login",
    ),
    "no client certificate": (
        lambda secured: (MTLS, Security(ssl_ca_file=secured.authority.certificate)),
        "ssl_certificate_file",
    ),
    "broker of an unknown authority": (
        lambda secured: (SASL, secured.login("shop", ssl_ca_file=None)),
        "no trusted connection",
    ),
    "expired certificate of the broker": (
        lambda secured: (EXPIRED, Security(ssl_ca_file=secured.authority.certificate)),
        "no trusted connection",
    ),
    "certificate for another host": (
        lambda secured: (FOREIGN, Security(ssl_ca_file=secured.authority.certificate)),
        "no trusted connection",
    ),
}


def worker_transport(
    kafka: str, security: Security, *, connect_seconds: float = CONNECT_SECONDS
) -> KafkaWorkerTransport:
    """The worker's side."""
    return KafkaWorkerTransport(
        kafka=kafka, group=GROUP, connect_timeout_seconds=connect_seconds, security=security
    )


class Nobody:
    """Hears of no partition."""

    def on_assigned(self, partitions: object) -> None: ...
    def on_revoked(self, partitions: object) -> None: ...
    def on_lost(self, partitions: object) -> None: ...


@pytest.mark.parametrize("way", list(WAYS_IN))
async def test_each_way_in_leads_to_an_answer(
    secured: Secured, worker: LoggedInWorker, way: str
) -> None:
    """Password, token and certificate: who proves to be the shop may do what the shop may."""
    listener, security = WAYS_IN[way](secured)
    async with shop(secured, security=security, kafka=secured.kafka.address_of(listener)) as client:
        assert await answered(client)


@pytest.mark.parametrize("way", list(WAYS_IN))
def test_a_worker_comes_in_by_each_way(secured: Secured, way: str) -> None:
    """The other library, with the same settings."""
    listener, security = WAYS_IN[way](secured)
    transport = worker_transport(secured.kafka.address_of(listener), security)
    try:
        assert transport.partition_count(SHOP) == 2
    finally:
        transport.close()


@pytest.mark.parametrize("way", list(NO_WAYS_IN))
async def test_a_client_that_is_not_let_in_is_told_why(secured: Secured, way: str) -> None:
    """One line, within the connect timeout, without the secret."""
    (listener, security), said = NO_WAYS_IN[way][0](secured), NO_WAYS_IN[way][1]
    started = time.monotonic()
    with pytest.raises(NotSentError) as told:
        async with shop(
            secured,
            security=security,
            kafka=secured.kafka.address_of(listener),
            connect_timeout_seconds=REFUSED_SECONDS,
        ):
            pass
    assert time.monotonic() - started < REFUSED_SECONDS + MARGIN_SECONDS
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert "wrong-1" not in str(told.value)


@pytest.mark.parametrize("way", list(NO_WAYS_IN))
def test_a_worker_that_is_not_let_in_is_told_why(secured: Secured, way: str) -> None:
    """As for a client."""
    (listener, security), said = NO_WAYS_IN[way][0](secured), NO_WAYS_IN[way][1]
    started = time.monotonic()
    transport = worker_transport(
        secured.kafka.address_of(listener), security, connect_seconds=REFUSED_SECONDS
    )
    try:
        with pytest.raises(OndemandError) as told:
            transport.subscribe(REQUESTS, Nobody())
    finally:
        transport.close()
    assert time.monotonic() - started < REFUSED_SECONDS + MARGIN_SECONDS
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert "wrong-1" not in str(told.value)


def test_a_worker_that_may_not_read_its_topic_is_told_so(secured: Secured) -> None:
    """Not "create it": it is there, for others."""
    transport = worker_transport(secured.kafka.address, secured.login("worker"))
    try:
        with pytest.raises(OndemandError, match=f"may not use topic '{BANK}'"):
            transport.subscribe(BANK, Nobody())
    finally:
        transport.close()


async def test_a_service_that_may_not_write_a_request_topic_cannot(
    secured: Secured, worker: LoggedInWorker
) -> None:
    """It hears of authorization, not of a timeout, and knows that nothing was sent."""
    async with shop(secured) as client:
        started = time.monotonic()
        with pytest.raises(NotSentError, match="authorization failed"):
            await client.predict("bank", ROW)
        assert time.monotonic() - started < MARGIN_SECONDS


async def test_a_service_that_may_write_nothing_is_told_at_its_start(secured: Secured) -> None:
    """Not that no Kafka answers: it does, and says no."""
    with pytest.raises(NotSentError, match="gives it no right"):
        async with shop(
            secured,
            security=secured.login("bank"),
            service="bank",
            connect_timeout_seconds=REFUSED_SECONDS,
        ):
            pass


async def test_a_service_that_may_see_but_not_write_a_request_topic_cannot(
    secured: Secured, worker: LoggedInWorker
) -> None:
    """As the one before, where the broker says so only to the record itself."""
    right = read("shop", BANK_REQUESTS)
    secured.allow(right)
    try:
        async with shop(secured) as client:
            with pytest.raises(NotSentError, match="Authorization"):
                await client.predict("bank", ROW, unserved="wait")
            assert await answered(client)
    finally:
        secured.withdraw(right)


async def test_a_service_that_may_not_read_announcements_is_answered(
    secured: Secured, worker: LoggedInWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """They tell sooner that nobody serves a model; nothing else depends on them.
    It is said once."""
    with secured.without(read("shop", WORKERS)):
        async with shop(secured) as client:
            assert await answered(client)
    (said,) = [each for each in caplog.messages if "who serves a model is not known" in each]
    assert "authorization failed" in said


async def test_a_worker_that_may_not_announce_itself_answers(
    secured: Secured, worker: LoggedInWorker, package: Path, tmp_path: Path
) -> None:
    """It says once what is missing, serves who asks all the same, and ends as always."""
    with secured.without(write("worker", WORKERS)):
        environ = environment(secured.login("worker"), secured.kafka.address)
        options = ("--set", "announce_seconds=0.2", "--set", "session_timeout_seconds=3")
        mute = LoggedInWorker(package, environ, tmp_path / "log", *options)
        try:
            mute.wait_for("partitions.assigned").wait_for("worker.unannounced")
            worker.wait_for("worker.unannounced")
            async with shop(secured) as client:
                prediction = await client.predict(MODEL, ROW, unserved="wait")
                assert prediction["y"].shape == (1, 4)
        finally:
            assert mute.stop() == 0
        assert mute.said.count("worker.unannounced") == 1
        assert WORKERS in mute.said
    eventually(lambda: worker.said.count("worker.announced") == 2, "announced once more")


async def test_a_service_cannot_read_the_replies_of_another(secured: Secured) -> None:
    """Not even by naming its topic as its own."""
    with pytest.raises(NotSentError, match="authorization"):
        async with shop(secured, reply_topic=BANK):
            pass


@pytest.mark.parametrize("target", [BANK, REQUESTS, "__consumer_offsets"])
async def test_a_worker_cannot_be_made_to_write_into_a_foreign_topic(
    secured: Secured, worker: LoggedInWorker, target: str
) -> None:
    """A request names the topic of another as its reply's. By the allow-list or by the worker's own
    rights it becomes a dead letter, and the worker goes on at once."""
    buried = end_of(secured, DEAD_LETTERS)
    before = end_of(secured, target) if target == BANK else 0
    address = ReplyAddress(b"forged-1", target, 0, Dialect.NATIVE)
    request = request_form(MODEL, timeout_seconds=None, binary_default=True).prepare(ROW)
    transport = KafkaClientTransport(kafka=secured.kafka.address, security=secured.login("shop"))
    await transport.start()
    try:
        await send_and_wait(transport, request.record(address, time.time()))
    finally:
        await transport.stop()
    async with shop(secured) as client:
        assert await answered(client)
    eventually(lambda: end_of(secured, DEAD_LETTERS) > buried, "a dead letter")
    if target == BANK:
        assert end_of(secured, BANK) == before


async def test_an_exactly_once_worker_needs_the_right_to_its_transactions(
    secured: Secured, package: Path, tmp_path: Path
) -> None:
    """Without it the worker ends and says why; with it, it answers."""
    group = "ondemand.bank"
    words = [f"group={group}", f"request_topic={BANK_REQUESTS}", "guarantee=exactly-once"]
    options = [word for each in words for word in ("--set", each)]
    rights = (read("worker", BANK_REQUESTS), join("worker", group), write("shop", BANK_REQUESTS))
    environ = environment(secured.login("worker"), secured.kafka.address)
    secured.allow(*rights)
    refused = LoggedInWorker(package, environ, tmp_path / "refused", *options)
    try:
        assert refused.process.wait(BOUND_SECONDS) != 0
    finally:
        refused.stop()
    assert "authorization failed" in refused.said
    assert "Traceback" not in refused.said
    secured.allow(transact("worker", f"{group}."))
    allowed = LoggedInWorker(package, environ, tmp_path / "allowed", *options)
    try:
        allowed.wait_for("partitions.assigned")
        async with shop(secured) as client:
            prediction = await client.predict("bank", ROW, unserved="wait")
            assert prediction["y"].shape == (1, 4)
    finally:
        allowed.stop()
        secured.withdraw(*rights, transact("worker", f"{group}."))


async def goes_wrong(client: PredictionClient) -> None:
    """Until a prediction fails: what was fetched before is still answered."""
    async with asyncio.timeout(30.0):
        with contextlib.suppress(PredictionError):
            while True:
                await client.predict(MODEL, ROW, timeout=1.0)


async def comes_back(client: PredictionClient) -> None:
    """Until a prediction is answered again, by itself."""
    async with asyncio.timeout(30.0):
        while True:
            try:
                await client.predict(MODEL, ROW, timeout=2.0)
            except PredictionError:
                await asyncio.sleep(0.1)
            else:
                return


WITHDRAWN: dict[str, tuple[Right, ...]] = {
    "worker reads requests": (read("worker", REQUESTS),),
    "worker is in its group": (join("worker", GROUP),),
    "worker writes replies": (write("worker", SHOP),),
    "worker writes dead letters": (write("worker", SHOP), write("worker", DEAD_LETTERS)),
    "service writes requests": (write("shop", REQUESTS),),
    "service reads replies": (read("shop", SHOP),),
}


@pytest.mark.parametrize("what", list(WITHDRAWN))
async def test_rights_that_come_back_bring_the_answers_back(
    secured: Secured, worker: LoggedInWorker, what: str
) -> None:
    """While a right is withdrawn predictions fail; given back, the same processes go on."""
    reads = what not in {"worker reads requests", "worker is in its group"}
    async with shop(secured) as client:
        assert await answered(client)
        with secured.without(*WITHDRAWN[what]):
            await goes_wrong(client)
            eventually(lambda: worker.ready() == reads, "a worker that may not read is not ready")
        await comes_back(client)
    eventually(worker.ready, "it is ready again")
    assert worker.process.poll() is None, worker.said[-2_000:]
