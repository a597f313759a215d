"""What every ``TransactionalTransport`` must do."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.errors import ConfigurationError, TransportError
from ondemand.testing.conformance_harness import (
    Listener,
    TransactionHarness,
    expect,
    expect_equal,
    fetch,
    fill,
    joined,
    new_group,
    numbered,
    outgoing,
    until,
    values,
)
from ondemand.transport.base import (
    Membership,
    TransactionAbortedError,
    TransactionalTransport,
)


class TransactionConformance:
    """Records and positions together or not at all, whoever owns the partitions by then."""

    def test_transaction_subscribe_refuses_a_missing_topic(
        self, harness: TransactionHarness
    ) -> None:
        """A topic that is not there stops the start, and is not created."""
        worker = harness.transactional_worker(new_group())
        try:
            worker.subscribe("not-there.requests", Listener())
        except ConfigurationError:
            expect("not-there.requests" not in harness.topics(), "the topic was created")
        else:
            raise AssertionError("it was not refused")
        finally:
            worker.close()

    def test_transaction_moves_records_and_positions(self, harness: TransactionHarness) -> None:
        """What was transacted is read, each partition in order, and the next member starts behind
        it; several transactions follow each other."""
        topic, replies, group = harness.create_topic(2), harness.create_topic(2), new_group()
        write(harness, topic, {0: numbered(6), 1: numbered(6)})
        with transacting(harness, topic, group) as worker:
            fetch(worker, 12)
            for end in (2, 4):
                transact(
                    worker,
                    [outgoing(replies, b"%d" % n, partition=n % 2) for n in range(end - 2, end)],
                    {Partition(topic, 0): end, Partition(topic, 1): end - 1},
                )
        with joined(harness, replies) as reader:
            expect_equal(values(fetch(reader, 4)), [b"0", b"2"], "values that were written")
        with transacting(harness, topic, group) as worker:
            again = fetch(worker, 5)
        expect_equal(values(again, 0), numbered(2, 4), "values after the position")
        expect_equal(values(again, 1), numbered(3, 3), "values after the position")

    def test_transaction_of_positions_alone(self, harness: TransactionHarness) -> None:
        """Requests that are answered by nothing move on, too."""
        topic, group = harness.create_topic(), new_group()
        write(harness, topic, {0: numbered(2)})
        with transacting(harness, topic, group) as worker:
            fetch(worker, 2)
            transact(worker, [], {Partition(topic, 0): 1})
        with transacting(harness, topic, group) as worker:
            expect_equal(values(fetch(worker, 1)), [b"1"], "values after the position")

    def test_transaction_with_a_refused_record(self, harness: TransactionHarness) -> None:
        """One record that the broker will never take: nothing is visible, neither its neighbours
        nor positions, and exactly that one is blamed. Without it all of it goes."""
        topic, replies, group = harness.create_topic(), harness.create_topic(), new_group()
        write(harness, topic, {0: numbered(3)})
        good = [outgoing(replies, value) for value in numbered(2)]
        bad = [outgoing(replies, bytes(3_000_000)), outgoing(replies, b"nowhere", partition=7)]
        with transacting(harness, topic, group) as worker:
            fetch(worker, 3)
            for refused in bad:
                error = aborted(worker, [good[0], refused, good[1]], {Partition(topic, 0): 3})
                expect_equal([f.record for f in error.failures], [refused], "records blamed")
                expect(all(f.permanent for f in error.failures), "it would be refused again")
            transact(worker, good, {Partition(topic, 0): 2})
        with joined(harness, replies) as reader:
            expect_equal(values(fetch(reader, 2)), numbered(2), "values that were written")
        with transacting(harness, topic, group) as worker:
            expect_equal(values(fetch(worker, 1)), [b"2"], "values after the position")

    def test_transaction_while_the_intake_thread_polls(self, harness: TransactionHarness) -> None:
        """One thread transacts while another fetches: neither waits for the other for long."""
        topic, replies, group = harness.create_topic(), harness.create_topic(), new_group()
        write(harness, topic, {0: numbered(20)})
        failed: list[BaseException] = []

        def work() -> None:
            try:
                for end in range(1, 21):
                    transact(worker, [outgoing(replies, b"%d" % end)], {Partition(topic, 0): end})
            except BaseException as error:  # noqa: BLE001 - the test shows it
                failed.append(error)

        with transacting(harness, topic, group) as worker:
            fetch(worker, 20)
            thread = threading.Thread(target=work)
            thread.start()
            until(lambda: not thread.is_alive(), [worker], "twenty transactions")
        expect_equal(failed, [], "errors of the thread that transacts")
        with joined(harness, replies) as reader:
            expect_equal(values(fetch(reader, 20)), numbered(20, 1), "values that were written")

    def test_transaction_of_one_who_was_thrown_out(self, harness: TransactionHarness) -> None:
        """Partitions that the group has given away can be answered by their new owner alone, also
        while the old one does not know it yet. It then joins again, and goes on; what it would
        transact by its old membership stays refused, though the same partitions are its own."""
        topic, replies, group = harness.create_topic(), harness.create_topic(), new_group()
        write(harness, topic, {0: numbered(2)})
        listener = Listener()
        with transacting(harness, topic, group, listener=listener) as worker:
            fetch(worker, 2)
            before = worker.membership
            harness.lose(worker)
            error = aborted(worker, [outgoing(replies, b"stale")], {Partition(topic, 0): 2})
            expect_equal(error.failures, (), "records blamed")
            again = until(lambda: len(listener.told("assigned")) == 2, [worker], "it joins again")
            until(lambda: len(again) >= 2, [worker], "the records come again", before=again)
            expect_equal(values(again), numbered(2), "values that come again")
            stale, ended = [outgoing(replies, b"stale")], {Partition(topic, 0): 2}
            aborted(worker, stale, ended, membership=before)
            transact(worker, [outgoing(replies, b"fresh")], {Partition(topic, 0): 2})
        expect_equal(
            [name for name, _ in listener.events][:3], ["assigned", "lost", "assigned"], "told"
        )
        with joined(harness, replies) as reader:
            expect_equal(values(fetch(reader, 1)), [b"fresh"], "values that were written")

    def test_transaction_while_revoked(self, harness: TransactionHarness) -> None:
        """Inside ``on_revoked`` there is time for a last transaction, and whoever gets the
        partition starts behind it. After that, only what is still assigned can be transacted."""
        topic, replies, group = harness.create_topic(2), harness.create_topic(), new_group()
        write(harness, topic, {0: numbered(6), 1: numbered(6)})
        first, second = Listener(), Listener()

        def settle() -> None:
            first.while_revoked = lambda: None  # a slow computer may revoke once more
            transact(
                worker,
                [outgoing(replies, b"last")],
                {Partition(topic, 0): 4, Partition(topic, 1): 4},
            )

        with transacting(harness, topic, group, listener=first) as worker:
            fetch(worker, 12)
            first.while_revoked = settle
            other = harness.transactional_worker(group)
            try:
                other.subscribe(topic, second)
                fetched = until(
                    lambda: len(first.partitions) == len(second.partitions) == 1,
                    [worker, other],
                    "both have one partition",
                )
                until(
                    lambda: len(fetched) >= 4,
                    [worker, other],
                    "what was not stored comes again",
                    before=fetched,
                )
                gone = next(iter(second.partitions))
                aborted(worker, [outgoing(replies, b"not mine")], {gone: 6})
            finally:
                other.close()
        for index in range(2):
            expect_equal(values(fetched, index), numbered(2, 4), f"values of partition {index}")
        with joined(harness, replies) as reader:
            expect_equal(values(fetch(reader, 1)), [b"last"], "values that were written")

    def test_transaction_close(self, harness: TransactionHarness) -> None:
        """Closing revokes first, and what is transacted there counts; later nothing can be, and
        closing twice is once."""
        topic, replies, group = harness.create_topic(), harness.create_topic(), new_group()
        write(harness, topic, {0: numbered(2)})
        listener = Listener()
        with transacting(harness, topic, group, listener=listener) as worker:
            fetch(worker, 2)
            listener.while_revoked = lambda: transact(
                worker, [outgoing(replies, b"last")], {Partition(topic, 0): 1}
            )
            worker.close()
            worker.close()
        expect_equal(len(listener.told("revoked")), 1, "revocations")
        try:
            transact(worker, [], {Partition(topic, 0): 2})
        except TransportError:
            pass
        else:
            raise AssertionError("a closed transport transacts")
        with joined(harness, topic, group=group) as successor:
            expect_equal(values(fetch(successor, 1)), [b"1"], "values after the position")


@contextmanager
def transacting(
    harness: TransactionHarness, topic: str, group: str, *, listener: Listener | None = None
) -> Iterator[TransactionalTransport]:
    """A worker that has subscribed; closed in the end."""
    worker = harness.transactional_worker(group)
    try:
        worker.subscribe(topic, listener or Listener())
        yield worker
    finally:
        worker.close()


def write(
    harness: TransactionHarness, topic: str, by_partition: dict[int, Sequence[bytes]]
) -> None:
    """Write values, as a producer without transactions does."""
    writer = harness.worker(new_group())
    try:
        fill(writer, topic, by_partition)
    finally:
        writer.close()


def transact(
    worker: TransactionalTransport,
    records: Sequence[OutgoingRecord],
    positions: dict[Partition, int],
) -> None:
    """A transaction of the assignment now."""
    worker.transact(records, positions, worker.membership)


def aborted(
    worker: TransactionalTransport,
    records: Sequence[OutgoingRecord],
    positions: dict[Partition, int],
    *,
    membership: Membership = None,
) -> TransactionAbortedError:
    """The error with which the transaction must end. *membership*: by default that of now."""
    try:
        worker.transact(records, positions, membership or worker.membership)
    except TransactionAbortedError as error:
        return error
    raise AssertionError("the transaction was committed")
