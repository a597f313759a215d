"""What every ``WorkerTransport`` must do with texts beside positions, whatever its guarantee."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from ondemand.contract.record import Partition
from ondemand.errors import TransportError
from ondemand.testing.conformance_harness import (
    Listener,
    TransactionHarness,
    expect_equal,
    fetch,
    fill,
    joined,
    new_group,
    numbered,
    serve_until,
    until,
    values,
)
from ondemand.transport.base import Note, PublishingTransport, WorkerTransport

TEXT = "seen=1 héllo"


class NoteConformance:
    """Texts that one process leaves to the next."""

    def test_note_is_read_by_the_next(self, harness: TransactionHarness) -> None:
        """Position and text are there for whoever reads the partition next; where nothing is
        stored, nothing is returned."""
        for make in (harness.worker, harness.transactional_worker):
            topic, group = harness.create_topic(2), new_group()
            here, empty = Partition(topic, 0), Partition(topic, 1)
            with joined(harness, topic) as writer:
                fill(writer, topic, {0: numbered(3), 1: numbered(1)})
            with _member(make, topic, group) as worker:
                fetch(worker, 4)
                expect_equal(dict(worker.notes([here, empty])), {}, "stored at first")
                worker.note({here: Note(1, TEXT)})
            with _member(make, topic, group) as heir:
                expect_equal(dict(heir.notes([here, empty])), {here: Note(1, TEXT)}, "stored")
                expect_equal(values(fetch(heir, 3)), [b"1", b"2"], "values behind the position")

    def test_note_lasts_until_its_position_moves(self, harness: TransactionHarness) -> None:
        """A commit of the same position leaves the text alone; a later one drops it."""
        topic = harness.create_topic()
        here = Partition(topic, 0)
        with joined(harness, topic) as worker:
            fill(worker, topic, {0: numbered(3)})
            fetch(worker, 3)
            worker.commit({here: 1})
            worker.note({here: Note(1, TEXT)})
            worker.commit_and_wait({here: 1})
            expect_equal(worker.notes([here])[here], Note(1, TEXT), "after the same position")
            worker.commit({here: 1})
            worker.commit({here: 2})
            serve_until(lambda: _stored(worker, here).position == 2, worker, "the commit is stored")
            expect_equal(worker.notes([here])[here], Note(2, ""), "after a later position")

    def test_note_is_dropped_by_a_transaction(self, harness: TransactionHarness) -> None:
        """A transaction that moves the position drops the text, too."""
        topic = harness.create_topic()
        here = Partition(topic, 0)
        with joined(harness, topic) as writer:
            fill(writer, topic, {0: numbered(3)})
        worker = harness.transactional_worker(new_group())
        try:
            worker.subscribe(topic, Listener())
            fetch(worker, 3)
            worker.note({here: Note(0, TEXT)})
            expect_equal(worker.notes([here])[here], Note(0, TEXT), "before the transaction")
            worker.transact([], {here: 2}, worker.membership)
            expect_equal(worker.notes([here])[here], Note(2, ""), "after the transaction")
        finally:
            worker.close()

    def test_note_is_refused_to_whom_was_thrown_out(self, harness: TransactionHarness) -> None:
        """Who has lost its partitions without knowing it changes nothing of what is stored."""
        for make in (harness.worker, harness.transactional_worker):
            topic, group = harness.create_topic(), new_group()
            here, listener = Partition(topic, 0), Listener()
            with _member(make, topic, group, listener) as worker:
                until(partial(_has_partitions, listener), [worker], "it is assigned")
                harness.lose(worker)
                try:
                    worker.note({here: Note(0, TEXT)})
                except TransportError:
                    pass
                else:
                    raise AssertionError("it was stored all the same")


@contextmanager
def _member(
    make: Callable[[str], WorkerTransport],
    topic: str,
    group: str,
    listener: Listener | None = None,
) -> Iterator[WorkerTransport]:
    """A worker that has subscribed; closed in the end."""
    worker = make(group)
    try:
        worker.subscribe(topic, listener or Listener())
        yield worker
    finally:
        worker.close()


def _stored(worker: PublishingTransport, partition: Partition) -> Note:
    return worker.notes([partition]).get(partition, Note(-1, ""))


def _has_partitions(listener: Listener) -> bool:
    return bool(listener.partitions)
