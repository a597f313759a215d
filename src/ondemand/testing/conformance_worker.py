"""What every ``PublishingTransport`` must do."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from ondemand.contract.record import Partition
from ondemand.errors import ConfigurationError, OndemandError, TransportError
from ondemand.testing.conformance_harness import (
    PATIENCE_SECONDS,
    TURN_SECONDS,
    Harness,
    Listener,
    expect,
    expect_equal,
    fetch,
    fill,
    joined,
    new_group,
    numbered,
    outgoing,
    publish,
    serve_until,
    until,
    values,
)
from ondemand.transport.base import PublishFailure

BINARY = bytes(range(256))

HEADERS: tuple[tuple[str, bytes | None], ...] = (
    ("null", None),
    ("empty", b""),
    ("binary", BINARY),
    ("repeated", b"1"),
    ("repeated", b"2"),
    ("repeated", None),
    ("", b"no name"),
    ("ünïcode", b"name"),
)


class WorkerConformance:
    """Records in, replies out, offsets, rebalances, leaving."""

    def test_worker_subscribe_refuses_a_missing_topic(self, harness: Harness) -> None:
        """A topic that is not there stops the start, and is not created."""
        worker = harness.worker(new_group())
        try:
            _refused(lambda: worker.subscribe("not-there.requests", Listener()), ConfigurationError)
            expect("not-there.requests" not in harness.topics(), "the topic was created")
        finally:
            worker.close()

    def test_worker_reads_what_was_written_before_it_came(self, harness: Harness) -> None:
        """A new group starts at the first record: requests that wait are not skipped."""
        topic = harness.create_topic()
        writer = harness.worker(new_group())
        fill(writer, topic, {0: numbered(3)})
        writer.close()
        with joined(harness, topic) as worker:
            expect_equal(values(fetch(worker, 3)), numbered(3), "values")

    def test_worker_order_within_each_partition(self, harness: Harness) -> None:
        """Each partition's records come in the order in which they were written, with offsets."""
        topic = harness.create_topic(3)
        with joined(harness, topic) as worker:
            for start in range(0, 60, 20):
                fill(worker, topic, {index: numbered(20, start) for index in range(3)})
            records = fetch(worker, 180)
        for index in range(3):
            expect_equal(values(records, index), numbered(60), f"values of partition {index}")
            offsets = [record.offset for record in records if record.partition == index]
            expect_equal(offsets, list(range(60)), f"offsets of partition {index}")

    def test_worker_fetch_bounds(self, harness: Harness) -> None:
        """``fetch`` never returns more than asked for, and does not wait for more than one."""
        topic = harness.create_topic()
        with joined(harness, topic) as worker:
            fill(worker, topic, {0: numbered(25)})
            sizes: list[int] = []
            while sum(sizes) < 25:
                sizes.append(len(worker.fetch(10, PATIENCE_SECONDS)))
            expect(max(sizes) <= 10, f"fetched {sizes}, asked for at most 10 at once")
            fill(worker, topic, {0: numbered(1)})
            before = time.monotonic()
            while not worker.fetch(10, PATIENCE_SECONDS):
                pass
            waited = time.monotonic() - before
            expect(waited < PATIENCE_SECONDS / 2, f"waited {waited:.1f} s for more than is there")

    def test_worker_fetch_returns_in_time(self, harness: Harness) -> None:
        """``fetch`` returns nothing where nothing comes, when its time is over."""
        listener = Listener()
        with joined(harness, harness.create_topic(), listener=listener) as worker:
            until(lambda: listener.told("assigned"), [worker], "the worker is assigned")
            before = time.monotonic()
            records = worker.fetch(10, 0.3)
            waited = time.monotonic() - before
            expect_equal(len(records), 0, "records")
            expect(0.25 <= waited < 3.0, f"waited {waited:.2f} s, asked for 0.3 s")

    def test_worker_records_survive_byte_for_byte(self, harness: Harness) -> None:
        """Null, empty, repeated, binary: what was written is what is read, neighbours included."""
        topic = harness.create_topic()
        written = [
            outgoing(topic, b"first", key=b"k"),
            outgoing(topic, BINARY, key=BINARY, headers=HEADERS),
            outgoing(topic, None, key=b"null value"),
            outgoing(topic, b"", key=b""),
            outgoing(topic, b"null key", key=None),
            outgoing(topic, None, key=None),
            outgoing(topic, b"last"),
        ]
        with joined(harness, topic) as worker:
            expect_equal(publish(worker, *written), [], "failures")
            records = fetch(worker, len(written))
        for record, sent in zip(records, written, strict=True):
            expect_equal((record.key, record.value), (sent.key, sent.value), "key and value")
            expect_equal(tuple(record.headers), tuple(sent.headers), "headers")
        age_ms = time.time() * 1000 - records[0].timestamp_ms
        expect(abs(age_ms) < 60_000, f"the timestamp is {age_ms:.0f} ms old")

    def test_worker_same_key_same_partition(self, harness: Harness) -> None:
        """Without a partition the key decides: equal keys meet, in their order."""
        topic = harness.create_topic(4)
        written = [
            outgoing(topic, str(turn).encode(), partition=None, key=f"key {key}".encode())
            for turn in range(5)
            for key in range(20)
        ]
        with joined(harness, topic) as worker:
            expect_equal(publish(worker, *written), [], "failures")
            records = fetch(worker, len(written))
        for key in {record.key for record in records}:
            mine = [record for record in records if record.key == key]
            expect_equal(len({record.partition for record in mine}), 1, f"partitions of {key!r}")
            expect_equal([record.value for record in mine], numbered(5), f"values of {key!r}")
        expect(len({record.partition for record in records}) > 1, "all keys met in one partition")

    def test_worker_publish_settles_once(self, harness: Harness) -> None:
        """Each publish settles exactly once, when all of it is acknowledged; an empty one too."""
        topic = harness.create_topic(2)
        calls: list[int] = []
        with joined(harness, topic) as worker:
            for number, size in enumerate((0, 1, 7, 100)):
                records = [outgoing(topic, partition=each % 2) for each in range(size)]
                worker.publish(records, partial(_count, calls, number))
            serve_until(lambda: len(calls) >= 4, worker, "four publishes settle")
            fetch(worker, 108)
            worker.serve(TURN_SECONDS)
        expect_equal(sorted(calls), [0, 1, 2, 3], "settled publishes")

    def test_worker_publish_is_told_in_the_intake_thread(self, harness: Harness) -> None:
        """Any thread may publish; what has settled is told in the thread that serves."""
        topic = harness.create_topic()
        told: list[int] = []

        def work() -> None:
            for _ in range(20):
                worker.publish([outgoing(topic)], lambda _: told.append(threading.get_ident()))

        with joined(harness, topic) as worker:
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            serve_until(lambda: len(told) >= 60, worker, "sixty publishes settle")
            for thread in threads:
                thread.join(PATIENCE_SECONDS)
            fetch(worker, 60)
        expect_equal(told, [threading.get_ident()] * 60, "threads that were told")

    def test_worker_publish_tells_what_failed(self, harness: Harness) -> None:
        """A record that the broker refuses is reported as permanent; its neighbours are written."""
        topic = harness.create_topic()
        too_large = outgoing(topic, bytes(3_000_000))
        nowhere = outgoing(topic, b"nowhere", partition=7)
        with joined(harness, topic) as worker:
            failures = publish(
                worker, outgoing(topic, b"a"), too_large, nowhere, outgoing(topic, b"b")
            )
            expect_equal(values(fetch(worker, 2)), [b"a", b"b"], "values that were written")
        expect_equal({failure.record for failure in failures}, {too_large, nowhere}, "failures")
        for failure in failures:
            expect(failure.permanent, f"{failure.error}: would fail again, and is not permanent")
            expect(isinstance(failure.error, TransportError), f"{failure.error!r}: a foreign error")

    def test_worker_committed_is_where_the_next_starts(self, harness: Harness) -> None:
        """The next member starts at what was committed; what was not comes again."""
        topic, group = harness.create_topic(2), new_group()
        with joined(harness, topic, group=group) as worker:
            fill(worker, topic, {0: numbered(5), 1: numbered(5)})
            fetch(worker, 10)
            worker.commit_and_wait({Partition(topic, 0): 3})
        with joined(harness, topic, group=group) as worker:
            records = fetch(worker, 7)
        expect_equal(values(records, 0), numbered(2, 3), "values after the commit")
        expect_equal(values(records, 1), numbered(5), "values where nothing was committed")

    def test_worker_commit_in_the_background(self, harness: Harness) -> None:
        """``commit`` does not wait, and is stored soon; the last of several counts."""
        topic, group = harness.create_topic(), new_group()
        with joined(harness, topic, group=group) as worker:
            fill(worker, topic, {0: numbered(6)})
            fetch(worker, 6)
            for position in (1, 2, 4):
                worker.commit({Partition(topic, 0): position})
            for _ in range(10):
                worker.fetch(1, TURN_SECONDS)
        with joined(harness, topic, group=group) as worker:
            expect_equal(values(fetch(worker, 2)), numbered(2, 4), "values after the commit")

    def test_worker_pause_and_resume(self, harness: Harness) -> None:
        """A paused partition gives nothing and loses nothing; the others go on."""
        topic = harness.create_topic(2)
        with joined(harness, topic) as worker:
            fill(worker, topic, {0: numbered(3), 1: numbered(3)})
            fetch(worker, 6)
            worker.pause([Partition(topic, 0)])
            fill(worker, topic, {0: numbered(3, 3), 1: numbered(3, 3)})
            records = fetch(worker, 3)
            expect_equal(values(records, 1), numbered(3, 3), "values of the partition that is read")
            worker.resume([Partition(topic, 0)])
            expect_equal(values(fetch(worker, 3)), numbered(3, 3), "values after the pause")

    def test_worker_pause_from_the_first_record(self, harness: Harness) -> None:
        """Partitions can be paused while they are assigned, before any record of them comes."""
        topic = harness.create_topic()
        listener = Listener()
        listener.while_assigned = lambda: worker.pause(listener.partitions)
        writer = harness.worker(new_group())
        fill(writer, topic, {0: numbered(2)})
        writer.close()
        worker = harness.worker(new_group())
        try:
            worker.subscribe(topic, listener)
            early = until(lambda: listener.events, [worker], "the worker is assigned")
            early += worker.fetch(10, 0.5)
            expect_equal(len(early), 0, "records of a paused partition")
            worker.resume(listener.partitions)
            expect_equal(values(fetch(worker, 2)), numbered(2), "values")
        finally:
            worker.close()

    def test_worker_pause_ends_with_its_assignment(self, harness: Harness) -> None:
        """What was paused when a partition was lost is read when that comes back."""
        topic, listener = harness.create_topic(), Listener()
        with joined(harness, topic, listener=listener) as worker:
            fill(worker, topic, {0: numbered(2)})
            fetch(worker, 2)
            worker.pause([Partition(topic, 0)])
            harness.lose(worker)
            expect_equal(values(fetch(worker, 2)), numbered(2), "values that come again")
            expect(listener.told("lost"), "the partition was not lost")

    def test_worker_rebalance_between_two(self, harness: Harness) -> None:
        """A second member gets its part only after the first let go; its last commit counts."""
        topic, group = harness.create_topic(2), new_group()
        story: list[str] = []
        first, second = Listener(), Listener()
        second.while_assigned = lambda: story.append("second assigned")
        with joined(harness, topic, group=group, listener=first) as one:

            def commit() -> None:
                one.commit_and_wait({Partition(topic, 0): 4, Partition(topic, 1): 4})
                story.append("first revoked")

            fill(one, topic, {0: numbered(6), 1: numbered(6)})
            fetch(one, 12)
            first.while_revoked = commit
            two = harness.worker(group)
            try:
                two.subscribe(topic, second)
                fetched = until(
                    lambda: len(first.partitions) == len(second.partitions) == 1,
                    [one, two],
                    "both have one partition",
                )
                until(
                    lambda: len(fetched) >= 4,
                    [one, two],
                    "what was not committed comes again",
                    before=fetched,
                )
            finally:
                first.while_revoked = lambda: None
                two.close()
        expect_equal(story[:2], ["first revoked", "second assigned"], "the order of events")
        expect_equal(values(fetched, 0), numbered(2, 4), "values of partition 0")
        expect_equal(values(fetched, 1), numbered(2, 4), "values of partition 1")

    def test_worker_more_members_than_partitions(self, harness: Harness) -> None:
        """A member without a partition is told so, and takes over when the other leaves."""
        topic, group = harness.create_topic(1), new_group()
        idle = Listener()
        with joined(harness, topic, group=group) as busy:
            spare = harness.worker(group)
            try:
                spare.subscribe(topic, idle)
                until(lambda: idle.told("assigned"), [busy, spare], "the second member has joined")
                leaver, heir = (busy, spare) if not idle.partitions else (spare, busy)
                fill(leaver, topic, {0: numbered(1)})
                leaver.close()
                before = time.monotonic()
                expect_equal(values(fetch(heir, 1)[-1:]), numbered(1), "values")
                took = time.monotonic() - before
                expect(took < 5.0, f"taken over after {took:.1f} s: the first did not say good-bye")
            finally:
                spare.close()

    def test_worker_lost(self, harness: Harness) -> None:
        """Who was thrown out is told that its partitions are lost, not revoked, and its commit is
        refused; then it joins again."""
        topic, group = harness.create_topic(), new_group()
        listener = Listener()
        with joined(harness, topic, group=group, listener=listener) as worker:
            fill(worker, topic, {0: numbered(2)})
            fetch(worker, 2)
            harness.lose(worker)
            _refused(lambda: worker.commit_and_wait({Partition(topic, 0): 2}), TransportError)
            again = until(lambda: len(listener.told("assigned")) == 2, [worker], "it joins again")
            until(lambda: len(again) >= 2, [worker], "the records come again", before=again)
        expect_equal(
            [name for name, _ in listener.events][:3], ["assigned", "lost", "assigned"], "told"
        )
        expect_equal(values(again), numbered(2), "values that come again")

    def test_worker_listener_errors_surface(self, harness: Harness) -> None:
        """An exception of the listener comes out of ``fetch``; it is not swallowed."""
        listener = Listener()

        def fail() -> None:
            raise RuntimeError("from the listener")

        listener.while_assigned = fail
        worker = harness.worker(new_group())
        try:
            worker.subscribe(harness.create_topic(), listener)
            _refused(lambda: until(lambda: False, [worker], "an error"), RuntimeError)
        finally:
            worker.close()

    def test_worker_partition_count(self, harness: Harness) -> None:
        """Partitions are counted; a missing topic is None, and asking does not create it."""
        topic = harness.create_topic(3)
        with joined(harness, topic) as worker:
            expect_equal(worker.partition_count(topic), 3, "partitions")
            for name in ("not-there.replies", "not a name!"):
                expect_equal(worker.partition_count(name), None, f"partitions of {name!r}")
                expect(name not in harness.topics(), f"{name!r} was created")

    def test_worker_lag(self, harness: Harness) -> None:
        """The lag counts what was not fetched."""
        topic = harness.create_topic()
        with joined(harness, topic) as worker:
            fill(worker, topic, {0: numbered(5)})
            while not worker.fetch(2, TURN_SECONDS):
                pass
            lag = worker.lag()
            expect(0 < lag[Partition(topic, 0)] <= 4, f"the lag with records left is {lag}")
            until(lambda: worker.lag() == {Partition(topic, 0): 0}, [worker], "no lag is left")

    def test_worker_close(self, harness: Harness) -> None:
        """Closing revokes first, and what is published and committed then counts; twice is once."""
        topic, group = harness.create_topic(), new_group()
        listener = Listener()
        settled: list[Sequence[PublishFailure]] = []
        with joined(harness, topic, group=group, listener=listener) as worker:
            fill(worker, topic, {0: numbered(2)})
            fetch(worker, 2)
            listener.while_revoked = lambda: worker.commit_and_wait({Partition(topic, 0): 1})
            worker.publish([outgoing(topic, b"2")], settled.append)
            worker.close()
            worker.close()
        expect_equal(len(listener.told("revoked")), 1, "revocations")
        expect_equal(settled, [[]], "settled while closing")
        _refused(lambda: worker.fetch(1, 0.0), TransportError)
        with joined(harness, topic, group=group) as successor:
            expect_equal(values(fetch(successor, 2)), [b"1", b"2"], "values after the commit")


def _count(calls: list[int], number: int, failures: Sequence[PublishFailure]) -> None:
    expect_equal(len(failures), 0, f"failures of publish {number}")
    calls.append(number)


def _refused(call: Callable[[], object], error: type[OndemandError] | type[RuntimeError]) -> None:
    """Fail the test unless *call* raises *error*."""
    try:
        call()
    except error:
        return
    raise AssertionError(f"it was not refused with {error.__name__}")
