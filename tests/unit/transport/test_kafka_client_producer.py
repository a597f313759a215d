"""How requests are sent: by batches, in order, and what is certain of those that failed."""

import asyncio
import time
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from ondemand.errors import TransportError
from ondemand.testing.conformance_harness import numbered, outgoing
from ondemand.transport import kafka_client_producer
from ondemand.transport.base import NotTakenError
from ondemand.transport.kafka_client_config import ClientAddress
from ondemand.transport.kafka_client_producer import RequestProducer

BOUND_SECONDS = 10.0
BATCH_BYTES = 10_000


class ScriptedProducer:
    """aiokafka's producer as far as it is used, with batches that the test settles."""

    made: list["ScriptedProducer"]

    def __init__(self, **_: Any) -> None:
        self.client = self
        self.sent: list[tuple[list[bytes | None], asyncio.Future[None]]] = []
        self.refuse: Exception | None = None
        self.made.append(self)

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        for _, acknowledged in self.sent:
            if not acknowledged.done():
                acknowledged.set_result(None)

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1}

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_BYTES, 0)

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> "asyncio.Future[None]":
        if self.refuse is not None:
            raise self.refuse
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        records = MemoryRecords(bytes(batch._build())).next_batch()
        self.sent.append(([record.value for record in records], acknowledged))
        return acknowledged

    @property
    def _message_accumulator(self) -> "ScriptedProducer":
        return self

    def fail_all(self, error: Exception) -> None:
        """What was not settled is now."""
        for _, acknowledged in self.sent:
            if not acknowledged.done():
                acknowledged.set_exception(error)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedProducer]:
    """The producers that were made, the last one last."""
    monkeypatch.setattr(ScriptedProducer, "made", [], raising=False)
    monkeypatch.setattr(kafka_client_producer, "AIOKafkaProducer", ScriptedProducer)
    monkeypatch.setattr(kafka_client_producer, "create_nothing", lambda _: None)
    return ScriptedProducer.made


async def started(*, send_timeout_seconds: float = BOUND_SECONDS) -> RequestProducer:
    address = ClientAddress("127.0.0.1:9", "test", 1.0, "read_committed", {})
    producer = RequestProducer(address, send_timeout_seconds=send_timeout_seconds)
    await producer.start()
    return producer


class Told:
    """What was told of each record, by its value."""

    def __init__(self, producer: RequestProducer, bodies: list[bytes], partition: int = 0) -> None:
        self.errors: dict[bytes, Exception | None] = {}
        self._count = len(bodies)
        for body in bodies:
            producer.send(outgoing("r", body), partition, self._teller(body))

    def _teller(self, body: bytes) -> Any:
        def tell(error: Exception | None) -> None:
            assert body not in self.errors, "told twice"
            self.errors[body] = error

        return tell

    async def all(self) -> dict[bytes, type[Exception] | None]:
        """Wait until each was told of; the kinds of errors."""
        await until(lambda: len(self.errors) == self._count)
        return {body: error and type(error) for body, error in self.errors.items()}


async def until(condition: Any) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():  # noqa: ASYNC110 - a condition on foreign state has no event
            await asyncio.sleep(0)


async def test_what_is_sent_in_one_turn_travels_together(made: list[ScriptedProducer]) -> None:
    """A hundred records are one batch; what comes while it is under way is the next one."""
    producer = await started()
    first = Told(producer, numbered(100))
    await until(lambda: made[0].sent)
    second = Told(producer, numbered(50, 100))
    await asyncio.sleep(0.01)
    assert [records for records, _ in made[0].sent] == [numbered(100)]
    assert not first.errors
    made[0].sent[0][1].set_result(None)
    assert await first.all() == dict.fromkeys(numbered(100))
    await until(lambda: len(made[0].sent) == 2)
    assert made[0].sent[1][0] == numbered(50, 100)
    made[0].sent[1][1].set_result(None)
    assert await second.all() == dict.fromkeys(numbered(50, 100))
    await producer.stop()


async def test_partitions_do_not_wait_for_each_other(made: list[ScriptedProducer]) -> None:
    """A partition whose batch is not acknowledged holds back no other."""
    producer = await started()
    Told(producer, [b"slow"], 0)
    await until(lambda: made[0].sent)
    quick = Told(producer, [b"quick"], 1)
    await until(lambda: len(made[0].sent) == 2)
    made[0].sent[1][1].set_result(None)
    assert await quick.all() == {b"quick": None}
    made[0].sent[0][1].set_result(None)
    await producer.stop()


async def test_a_batch_that_is_full_is_followed_by_another(made: list[ScriptedProducer]) -> None:
    """Nothing is lost, repeated or reordered where a batch ends."""
    producer = await started()
    bodies = [str(number).encode().ljust(3_000) for number in range(10)]
    told = Told(producer, bodies)
    for number in range(4):
        await until(lambda number=number: len(made[0].sent) > number)
        made[0].sent[number][1].set_result(None)
    await told.all()
    assert [body for records, _ in made[0].sent for body in records] == bodies
    assert [len(records) for records, _ in made[0].sent] == [3, 3, 3, 1]
    await producer.stop()


async def test_a_batch_too_large_for_its_topic_is_taken_apart(made: list[ScriptedProducer]) -> None:
    """Each of its records gets its own attempt, in order; only what is too large alone fails."""
    producer = await started()
    told = Told(producer, [b"a", b"large", b"c"])
    await until(lambda: made[0].sent)
    made[0].sent[0][1].set_exception(errors.MessageSizeTooLargeError())
    await until(lambda: len(made) == 2 and made[1].sent)
    assert made[1].sent[0][0] == [b"a"]
    made[1].sent[0][1].set_result(None)
    await until(lambda: len(made[1].sent) == 2)
    assert made[1].sent[1][0] == [b"large"]
    made[1].sent[1][1].set_exception(errors.MessageSizeTooLargeError())
    await until(lambda: len(made) == 3 and made[2].sent)
    assert made[2].sent[0][0] == [b"c"]
    made[2].sent[0][1].set_result(None)
    assert await told.all() == {b"a": None, b"large": NotTakenError, b"c": None}
    await producer.stop()


async def test_a_record_that_no_request_holds_fails_alone(made: list[ScriptedProducer]) -> None:
    """Too large for any broker, or not bytes at all: told at once; its neighbours are sent."""
    producer = await started()
    told = Told(producer, [b"a", bytes(2_000_000), b"b", 5])  # type: ignore[list-item] # as a caller may
    await until(lambda: made[0].sent)
    made[0].sent[0][1].set_result(None)
    await until(lambda: len(made[0].sent) == 2)
    made[0].sent[1][1].set_result(None)
    assert list((await told.all()).values()).count(NotTakenError) == 2
    assert [records for records, _ in made[0].sent] == [[b"a"], [b"b"]]
    await producer.stop()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.TopicAuthorizationFailedError("r"), NotTakenError),
        (errors.UnknownTopicOrPartitionError(), TransportError),
        (errors.NotEnoughReplicasAfterAppendError(), TransportError),
    ],
)
async def test_a_refused_batch_says_what_is_certain(
    made: list[ScriptedProducer], error: Exception, kind: type[Exception]
) -> None:
    """*Not taken* only where the broker says so; the reason is chained; the next record goes on."""
    producer = await started()
    told = Told(producer, [b"a", b"b"])
    await until(lambda: made[0].sent)
    made[0].sent[0][1].set_exception(error)
    assert await told.all() == {b"a": kind, b"b": kind}
    assert told.errors[b"a"] is not None
    assert told.errors[b"a"].__cause__ is error
    after = Told(producer, [b"c"])
    await until(lambda: made[-1].sent and made[-1] is not made[0])
    made[-1].sent[0][1].set_result(None)
    assert await after.all() == {b"c": None}
    await producer.stop()


async def test_a_batch_that_never_left_is_not_taken(made: list[ScriptedProducer]) -> None:
    """What was refused before the broker was asked, whatever the error, is not on it."""
    producer = await started()
    made[0].refuse = AssertionError("Unrecognized partition")
    told = Told(producer, [b"a"])
    assert await told.all() == {b"a": NotTakenError}
    await producer.stop()


async def test_a_send_ends_in_time(made: list[ScriptedProducer]) -> None:
    """Without an acknowledgement: unknown for what is under way, not taken for what waits."""
    producer = await started(send_timeout_seconds=0.05)
    under_way = Told(producer, [b"a"])
    await until(lambda: made[0].sent)
    behind = Told(producer, [b"b"])
    assert await under_way.all() == {b"a": TransportError}
    assert await behind.all() == {b"b": NotTakenError}
    await producer.stop()
    assert [records for made_one in made for records, _ in made_one.sent] == [[b"a"]]


async def test_another_producer_goes_on_at_once(made: list[ScriptedProducer]) -> None:
    """Where nothing is acknowledged, what comes later does not wait for what hangs; and what hung
    is sent anew once the old producer is closed, unless somebody was told."""
    producer = await started(send_timeout_seconds=0.05)
    hung = Told(producer, [b"a"])
    await hung.all()
    await until(lambda: len(made) == 2)
    later = Told(producer, [b"b"])
    await until(lambda: made[1].sent)
    assert made[1].sent[0][0] == [b"b"]
    made[1].sent[0][1].set_result(None)
    assert await later.all() == {b"b": None}
    await producer.stop()


async def test_stopping_flushes(made: list[ScriptedProducer]) -> None:
    """What was handed over before is sent; what comes afterwards is refused as not taken."""
    producer = await started()
    told = Told(producer, numbered(3))
    acknowledging = asyncio.create_task(_acknowledge_all(made[0]))
    await producer.stop()
    acknowledging.cancel()
    assert await told.all() == dict.fromkeys(numbered(3))
    assert await Told(producer, [b"late"]).all() == {b"late": NotTakenError}


async def test_stopping_is_bounded(
    made: list[ScriptedProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not acknowledged within the bound is told as unknown, and what waits as not taken."""
    monkeypatch.setattr(kafka_client_producer, "FLUSH_SECONDS", 0.05)
    producer = await started()
    under_way = Told(producer, [b"a"])
    await until(lambda: made[0].sent)
    monkeypatch.setattr(made[0], "stop", asyncio.Event().wait)
    monkeypatch.setattr(made[0], "close", asyncio.Event().set, raising=False)
    behind = Told(producer, [b"b"])
    before = time.monotonic()
    await producer.stop()
    assert time.monotonic() - before < BOUND_SECONDS
    assert under_way.errors.keys() == {b"a"}
    assert (await under_way.all(), await behind.all()) == (
        {b"a": TransportError},
        {b"b": NotTakenError},
    )


async def _acknowledge_all(producer: ScriptedProducer) -> None:
    while True:
        for _, acknowledged in producer.sent:
            if not acknowledged.done():
                acknowledged.set_result(None)
        await asyncio.sleep(0)
