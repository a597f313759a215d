"""What every ``ClientTransport`` must do."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import TransportError
from ondemand.testing.conformance_harness import (
    PATIENCE_SECONDS,
    TURN_SECONDS,
    Harness,
    expect,
    expect_equal,
    fetch,
    joined,
    numbered,
    outgoing,
    values,
)
from ondemand.transport.base import ClientTransport, Follower, NotTakenError, send_and_wait

BINARY = bytes(range(256))

HEADERS: tuple[tuple[str, bytes | None], ...] = (
    ("null", None),
    ("empty", b""),
    ("binary", BINARY),
    ("repeated", b"1"),
    ("repeated", b"2"),
)

CLOSE_SECONDS_MAX = 8.0


class ClientConformance:
    """Requests out, replies in, nothing created. Each test runs an event loop of its own."""

    def test_client_listen_misses_nothing_later(self, harness: Harness) -> None:
        """What came before ``listen`` is not read; from the first record after it, all is."""

        async def test() -> None:
            replies = harness.create_topic(2)
            async with started(harness) as client:
                await send(client, replies, [b"before"] * 3)
                await client.listen(Partition(replies, 0))
                await send(client, replies, numbered(3))
                await send_and_wait(client, outgoing(replies, b"another partition", partition=1))
                await send(client, replies, numbered(3, 3))
                expect_equal(values(await fetched(client, 6)), numbered(6), "values")

        asyncio.run(test())

    def test_client_listen_to_an_empty_partition(self, harness: Harness) -> None:
        """The very first record of a partition is read."""

        async def test() -> None:
            replies = harness.create_topic()
            async with started(harness) as client:
                await client.listen(Partition(replies, 0))
                await send(client, replies, [b"first"])
                expect_equal(values(await fetched(client, 1)), [b"first"], "values")

        asyncio.run(test())

    def test_client_listen_refuses_what_is_missing(self, harness: Harness) -> None:
        """A reply topic or partition that is not there is said to be so, and not created."""

        async def test() -> None:
            replies = harness.create_topic()
            async with started(harness) as client:
                await refused(client.listen(Partition("not-there.replies", 0)), TransportError)
                await refused(client.listen(Partition(replies, 1)), TransportError)
            expect("not-there.replies" not in harness.topics(), "the topic was created")

        asyncio.run(test())

    def test_client_listen_again(self, harness: Harness) -> None:
        """A second ``listen`` takes the place of the first."""

        async def test() -> None:
            replies = harness.create_topic(2)
            async with started(harness) as client:
                await client.listen(Partition(replies, 0))
                await client.listen(Partition(replies, 1))
                await send_and_wait(client, outgoing(replies, b"0", partition=0))
                await send_and_wait(client, outgoing(replies, b"1", partition=1))
                expect_equal(values(await fetched(client, 1), 1), [b"1"], "values")

        asyncio.run(test())

    def test_client_follow_reads_all_and_goes_on(self, harness: Harness) -> None:
        """A follower hands over what was there, says so, and then what comes; beside the replies,
        which it does not touch."""

        async def test() -> None:
            topic, replies = harness.create_topic(), harness.create_topic()
            async with started(harness) as client:
                await send(client, topic, numbered(3))
                await client.listen(Partition(replies, 0))
                follower = await client.follow(Partition(topic, 0))
                expect_equal(values(await followed(follower, 3)), numbered(3), "values")
                expect(follower.caught_up, "the end was not noticed")
                await send(client, topic, numbered(2, 3))
                await send(client, replies, [b"reply"])
                expect_equal(values(await followed(follower, 2)), numbered(2, 3), "values")
                expect_equal(values(await fetched(client, 1)), [b"reply"], "replies")
                expect(follower.in_touch, "the broker was answering")
                await follower.stop()
                await refused(client.follow(Partition("not-there", 0)), TransportError)

        asyncio.run(test())

    def test_client_follow_of_an_empty_partition(self, harness: Harness) -> None:
        """Where nothing is there, nothing has to come before the end is reached."""

        async def test() -> None:
            topic = harness.create_topic()
            async with started(harness) as client:
                follower = await client.follow(Partition(topic, 0))
                await follower.fetch(TURN_SECONDS)
                expect(follower.caught_up, "there was nothing to wait for")

        asyncio.run(test())

    def test_client_fetch_returns_in_time(self, harness: Harness) -> None:
        """``fetch`` waits for a first record as long as it was told to, and no longer."""

        async def test() -> None:
            replies = harness.create_topic()
            async with started(harness) as client:
                await client.listen(Partition(replies, 0))
                before = time.monotonic()
                expect_equal(len(await client.fetch(0.3)), 0, "records")
                waited = time.monotonic() - before
                expect(0.25 <= waited < 3.0, f"waited {waited:.2f} s, asked for 0.3 s")
                later = asyncio.create_task(client.fetch(PATIENCE_SECONDS))
                await asyncio.sleep(TURN_SECONDS)
                await send(client, replies, [b"reply"])
                expect_equal(values(await later), [b"reply"], "values")

        asyncio.run(test())

    def test_client_fetch_that_was_cancelled_loses_nothing(self, harness: Harness) -> None:
        """A caller may give up a ``fetch`` at any moment; the next call gets what came."""

        async def test() -> None:
            replies = harness.create_topic()
            got: list[Record] = []
            async with started(harness) as client:
                await client.listen(Partition(replies, 0))
                for number in range(20):
                    waiting = asyncio.create_task(client.fetch(PATIENCE_SECONDS))
                    await send_and_wait(client, outgoing(replies, str(number).encode()))
                    for _ in range(number):
                        await asyncio.sleep(0)
                    waiting.cancel()
                    outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
                    got += () if isinstance(outcome, BaseException) else outcome
                got += await fetched(client, 20 - len(got))
            expect_equal(values(got), numbered(20), "values")

        asyncio.run(test())

    def test_client_records_survive_byte_for_byte(self, harness: Harness) -> None:
        """Null, empty, repeated, binary: what was sent is what is read."""

        async def test() -> None:
            topic = harness.create_topic()
            written = [
                outgoing(topic, BINARY, key=BINARY, headers=HEADERS),
                outgoing(topic, None, key=b"null value"),
                outgoing(topic, b"", key=b""),
                outgoing(topic, b"null key", key=None),
            ]
            async with started(harness) as client:
                await client.listen(Partition(topic, 0))
                for record in written:
                    await send_and_wait(client, record)
                records = await fetched(client, len(written))
            for read, sent in zip(records, written, strict=True):
                expect_equal((read.key, read.value), (sent.key, sent.value), "key and value")
                expect_equal(tuple(read.headers), tuple(sent.headers), "headers")

        asyncio.run(test())

    def test_client_record_without_key_and_value(self, harness: Harness) -> None:
        """A record with neither is sent, or (a declared feature) refused as not taken."""

        async def test() -> None:
            topic = harness.create_topic()
            async with started(harness) as client:
                await client.listen(Partition(topic, 0))
                sending = send_and_wait(client, outgoing(topic, None))
                if harness.features.no_record_without_key_and_value:
                    await refused(sending, NotTakenError)
                    return
                await sending
                record = (await fetched(client, 1))[0]
                expect_equal((record.key, record.value), (None, None), "key and value")

        asyncio.run(test())

    def test_client_speaks_with_a_worker(self, harness: Harness) -> None:
        """What a client sends, a worker reads; equal keys meet in one partition, in order."""

        async def test(topic: str) -> None:
            async with started(harness) as client:
                for turn in range(3):
                    for key in range(10):
                        await send_and_wait(client, _keyed(topic, key, turn))

        topic = harness.create_topic(4)
        asyncio.run(test(topic))
        with joined(harness, topic) as worker:
            records = fetch(worker, 30)
        for key in {record.key for record in records}:
            mine = [record for record in records if record.key == key]
            expect_equal(len({record.partition for record in mine}), 1, f"partitions of {key!r}")
            expect_equal([record.value for record in mine], numbered(3), f"values of {key!r}")

    def test_client_many_sends_at_once(self, harness: Harness) -> None:
        """A thousand sends at once are all acknowledged, in their order, and none is repeated."""

        async def test() -> None:
            topic = harness.create_topic()
            async with started(harness) as client:
                await client.listen(Partition(topic, 0))
                await asyncio.gather(
                    *(send_and_wait(client, outgoing(topic, v)) for v in numbered(1000))
                )
                got = values(await fetched(client, 1000))
            expect_equal(got, numbered(1000), "values")

        asyncio.run(test())

    def test_client_send_refuses_what_cannot_be_stored(self, harness: Harness) -> None:
        """Missing topic or partition, too large: certainly not taken; the neighbours are sent."""

        async def test() -> None:
            topic = harness.create_topic()
            records = [
                outgoing(topic, b"a"),
                outgoing("not-there.requests"),
                outgoing(topic, partition=5),
                outgoing(topic, bytes(3_000_000)),
                outgoing(topic, b"b"),
            ]
            async with started(harness) as client:
                await client.listen(Partition(topic, 0))
                sent = await asyncio.gather(
                    *(send_and_wait(client, each) for each in records), return_exceptions=True
                )
                kinds = [type(each) for each in sent]
                wanted = [type(None), NotTakenError, NotTakenError, NotTakenError, type(None)]
                expect_equal(kinds, wanted, "outcomes")
                got = values(await fetched(client, 2))
                expect_equal(set(got), {b"a", b"b"}, "values")
            expect("not-there.requests" not in harness.topics(), "the topic was created")

        asyncio.run(test())

    def test_client_partition_count(self, harness: Harness) -> None:
        """Partitions are counted; a missing topic is None, and asking does not create it."""

        async def test() -> None:
            topic = harness.create_topic(3)
            async with started(harness) as client:
                expect_equal(await client.partition_count(topic), 3, "partitions")
                expect_equal(await client.partition_count("not-there.replies"), None, "partitions")
            expect("not-there.replies" not in harness.topics(), "the topic was created")

        asyncio.run(test())

    def test_client_reply_topic_made_anew(self, harness: Harness) -> None:
        """A reply topic that is gone is said to be so; when it is back, listening works again."""

        async def test() -> None:
            replies = harness.create_topic()
            async with started(harness) as client:
                await client.listen(Partition(replies, 0))
                await send(client, replies, numbered(2))
                await fetched(client, 2)
                harness.delete_topic(replies)
                await refused(_fetch_for_ever(client), TransportError)
                harness.recreate_topic(replies)
                await eventually(lambda: client.listen(Partition(replies, 0)))
                await eventually(lambda: send_and_wait(client, outgoing(replies, b"new")))
                expect_equal(values(await fetched(client, 1)), [b"new"], "values")

        asyncio.run(test())

    def test_client_stop(self, harness: Harness) -> None:
        """Stopping is quick, twice is once, and nothing is sent, told or read afterwards. Of what
        was sent before each sender is told once, after ``send`` has returned."""

        async def test() -> None:
            topic = harness.create_topic()
            client = harness.client()
            await client.start()
            await client.listen(Partition(topic, 0))
            waiting = asyncio.create_task(client.fetch(PATIENCE_SECONDS))
            await send(client, topic, [b"value"])
            await waiting
            told: list[Exception | None] = []
            for _ in range(10):
                client.send(outgoing(topic), told.append)
            expect_equal(told, [], "told before `send` has returned")
            before = time.monotonic()
            await client.stop()
            await client.stop()
            took = time.monotonic() - before
            expect(took < CLOSE_SECONDS_MAX, f"stopping took {took:.1f} s")
            expect_equal(len(told), 10, "sends told of")
            await refused(send_and_wait(client, outgoing(topic)), TransportError)
            await refused(client.fetch(0.0), TransportError)

        asyncio.run(test())

    def test_client_stop_without_start(self, harness: Harness) -> None:
        """A client that never started can be stopped."""
        asyncio.run(harness.client().stop())


@asynccontextmanager
async def started(harness: Harness) -> AsyncIterator[ClientTransport]:
    """A client that is started, and stopped in the end."""
    client = harness.client()
    try:
        await client.start()
        yield client
    finally:
        await client.stop()


async def send(client: ClientTransport, topic: str, bodies: Sequence[bytes]) -> None:
    """Send *bodies*, one after another, to partition 0."""
    for body in bodies:
        await send_and_wait(client, outgoing(topic, body))


async def fetched(client: ClientTransport, count: int) -> list[Record]:
    """Exactly *count* records: waits for them, and a moment longer for one too many."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    records: list[Record] = []
    while len(records) < count:
        left = deadline - time.monotonic()
        expect(left > 0, f"{len(records)} of {count} records within {PATIENCE_SECONDS:g} s")
        records += await client.fetch(min(left, 1.0))
    records += await client.fetch(TURN_SECONDS)
    expect_equal(len(records), count, "records fetched")
    return records


async def refused(sending: Awaitable[object], error: type[TransportError]) -> None:
    """Fail the test unless *sending* raises *error*, within the suite's patience."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await sending
    except error:
        return
    raise AssertionError(f"it was not refused with {error.__name__}")


async def eventually(attempt: Callable[[], Awaitable[object]]) -> None:
    """Repeat *attempt* until it raises no ``TransportError`` any more."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            await attempt()
        except TransportError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(TURN_SECONDS)
        else:
            return


async def followed(follower: Follower, count: int) -> list[Record]:
    """The next *count* records; waits for them."""
    records: list[Record] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(records) < count:
            records += await follower.fetch(TURN_SECONDS)
    return records


async def _fetch_for_ever(client: ClientTransport) -> None:
    while True:
        await client.fetch(TURN_SECONDS)


def _keyed(topic: str, key: int, turn: int) -> OutgoingRecord:
    return outgoing(topic, str(turn).encode(), partition=None, key=f"key {key}".encode())
