"""The processor with the guarantee "exactly-once", over the memory broker."""

import itertools
import threading
import time

import pytest
from component.builders import ask, broker, eventually, processing, replies, status
from unit.processor.builders import DoublingModel

from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.errors import TransportError
from ondemand.processor import exactly_once
from ondemand.transport.base import PublishFailure, TransactionAbortedError
from ondemand.transport.memory import MemoryBroker

P0, P1 = Partition("m.requests", 0), Partition("m.requests", 1)
GROUP = "ondemand.m"


class Gate:
    """Lets a call in, and out again when it opens."""

    def __init__(self):
        self.entered, self.opened = threading.Event(), threading.Event()

    def pass_through(self):
        self.entered.set()
        assert self.opened.wait(10)


class GatedModel(DoublingModel):
    """Waits in ``run`` until its gate opens."""

    def __init__(self):
        super().__init__()
        self.gate = Gate()

    def run(self, inputs):
        self.gate.pass_through()
        return super().run(inputs)


class Interposed:
    """Wraps a transport; *before* is called with what is about to be transacted."""

    def __init__(self, kafka, before):
        self.inner = kafka.transactional_worker(group=GROUP)
        self._before = before
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    # What makes a transport a transactional one has to be seen on the class.
    def transact(self, records, positions, membership):
        self.calls += 1
        self._before(self.calls, records)
        self.inner.transact(records, positions, membership)

    @property
    def membership(self):
        return self.inner.membership

    def subscribe(self, topic, listener):
        self.inner.subscribe(topic, listener)

    def fetch(self, records_max, timeout_seconds):
        return self.inner.fetch(records_max, timeout_seconds)

    def pause(self, partitions):
        self.inner.pause(partitions)

    def resume(self, partitions):
        self.inner.resume(partitions)

    def partition_count(self, topic, *, at_least=0):
        return self.inner.partition_count(topic, at_least=at_least)

    def lag(self):
        return self.inner.lag()

    def close(self):
        self.inner.close()


def transactional(kafka):
    """A worker's transport in the group of model `m`."""
    return kafka.transactional_worker(group=GROUP)


def run(transport, meanwhile):
    """A processor on *transport*, whose errors are raised when *meanwhile* is over."""
    with processing(transport) as processor:
        meanwhile(processor)


def test_every_request_is_answered_once_and_committed():
    """A hundred requests on two partitions, good and bad: one answer each, in order."""
    kafka = broker()
    for i in range(100):
        x = [[1.0, 2.0, 3.0]] if i % 10 == 7 else [[i, i]]
        ask(kafka, f"r{i}", x, partition=i % 2, key=b"%d" % (i % 2))
    with processing(transactional(kafka)):
        eventually(lambda: len(replies(kafka)) == 100, "100 replies")

    assert kafka.committed(GROUP) == {P0: 50, P1: 50}
    answered = list(replies(kafka))
    for partition in range(2):
        mine = [name for name in answered if int(name[1:]) % 2 == partition]
        assert mine == [f"r{i}" for i in range(partition, 100, 2)]


def test_an_early_answer_waits_for_its_turn():
    """A refusal is ready before the answer ahead of it: a position cannot move past the gap, and
    what moves with it cannot, either."""
    kafka, model = broker(), GatedModel()
    with processing(transactional(kafka), model) as processor:
        ask(kafka, "slow")
        assert model.gate.entered.wait(10)
        ask(kafka, "refused", [[1.0, 2.0, 3.0]])
        ask(kafka, "elsewhere", [[1.0, 2.0, 3.0]], partition=1)
        eventually(lambda: "elsewhere" in replies(kafka), "the other partition goes on")
        assert processor.answered == 2
        assert list(replies(kafka)) == ["elsewhere"]
        assert kafka.committed(GROUP) == {P0: 0, P1: 1}
        model.gate.opened.set()
        eventually(lambda: len(replies(kafka)) == 3, "all are answered")

    assert list(replies(kafka)) == ["elsewhere", "slow", "refused"]
    assert kafka.committed(GROUP) == {P0: 2, P1: 1}


def test_an_aborted_transaction_is_tried_again():
    """Nothing became visible, so nothing is repeated."""
    kafka = broker()

    def stumble(call, records):
        if call <= 2:
            raise TransactionAbortedError("the coordinator moved")

    transport = Interposed(kafka, stumble)
    ask(kafka, "r")
    with processing(transport):
        eventually(lambda: replies(kafka), "answered after all")

    assert transport.calls == 3
    assert status(replies(kafka)["r"]) == "ok"
    assert kafka.committed(GROUP) == {P0: 1}


def test_a_refused_reply_becomes_internal_and_its_neighbours_are_answered():
    """What the broker will never take is replaced, in the same transaction as its neighbours."""
    kafka = broker()
    refused = []

    def refuse(_, records):
        bad = [r for r in records if not refused or r is refused[0]][:1]
        if bad and dict(bad[0].headers)["status"] == b"ok":
            refused.append(bad[0])
            error = TransportError("too large")
            raise TransactionAbortedError(
                "aborted", [PublishFailure(bad[0], error, permanent=True)]
            )

    for name in ("a", "b", "c"):
        ask(kafka, name)
    with processing(Interposed(kafka, refuse)):
        eventually(lambda: len(replies(kafka)) == 3, "three answers")

    assert {name: status(reply) for name, reply in replies(kafka).items()} == {
        "a": "internal", "b": "ok", "c": "ok",
    }  # fmt: skip
    assert len(kafka.records("m.dead-letters")) == 1
    assert kafka.committed(GROUP) == {P0: 3}


def test_a_reply_topic_that_goes_away_stops_nobody():
    """The reply is refused, and so is the reply that says so: a dead letter remains, and the
    others go on. One caller who leaves must not hold up all."""
    kafka = broker()
    kafka.create_topic("gone.replies")
    model = GatedModel()
    with processing(transactional(kafka), model):
        ask(kafka, "gone", headers={"reply-topic": b"gone.replies", "reply-partition": b"0"})
        ask(kafka, "poison", headers={"reply-topic": b"gone.replies", "reply-partition": b"0"})
        assert model.gate.entered.wait(10)
        kafka.delete_topic("gone.replies")
        model.gate.opened.set()
        ask(kafka, "here")
        eventually(lambda: "here" in replies(kafka), "the caller who stayed is answered")

    assert len(kafka.records("m.dead-letters")) == 2
    assert kafka.committed(GROUP) == {P0: 3}


def test_a_dead_letter_that_cannot_be_written_holds_back_its_position():
    """A record that is in no topic any more must not be passed: it would be lost."""
    kafka = MemoryBroker({"m.requests": 1, "s.replies": 1})
    kafka.append(OutgoingRecord("m.requests", 0, None, b"{}", ()))
    with processing(transactional(kafka)) as processor:
        eventually(lambda: processor.answered == 1, "answered")

        assert kafka.committed(GROUP) == {P0: 0}
        kafka.create_topic("m.dead-letters")
        eventually(lambda: kafka.committed(GROUP) == {P0: 1}, "committed once written")

    assert len(kafka.records("m.dead-letters")) == 1


def test_an_evicted_worker_answers_nothing_twice():
    """Partitions that were lost belong to another worker: what is ready late is dropped, and who
    reads the record next gives the only answer."""
    kafka, model = broker(), GatedModel()
    transport = transactional(kafka)
    with processing(transport, model) as processor:
        ask(kafka, "running")
        assert model.gate.entered.wait(10)
        lost, on_lost = threading.Event(), processor.on_lost
        processor.on_lost = lambda partitions: (on_lost(partitions), lost.set())
        kafka.evict(transport)
        assert lost.wait(10)
        model.gate.opened.set()
        eventually(lambda: kafka.committed(GROUP) == {P0: 1}, "answered by the next assignment")

    assert list(replies(kafka)) == ["running"]


def test_a_transaction_that_outlasts_its_assignment_holds_up_nobody():
    """Its partitions go and come back while it is under way: the group does not wait for it. It
    carries the membership of its own assignment, so it is refused, and the next one answers."""
    kafka, gate, order = broker(), Gate(), []

    def before(call, _):
        if call == 1:
            gate.pass_through()
            order.append("transacted")

    transport = Interposed(kafka, before)
    with processing(transport) as processor:
        on_assigned = processor.on_assigned
        ask(kafka, "r")
        assert gate.entered.wait(10)
        processor.on_assigned = lambda new: (on_assigned(new), order.append("assigned"))
        kafka.evict(transport.inner)
        eventually(lambda: order == ["assigned"], "assigned again within the transaction")
        gate.opened.set()
        eventually(lambda: kafka.committed(GROUP) == {P0: 1}, "answered and committed")

    assert order == ["assigned", "transacted"]
    assert list(replies(kafka)) == ["r"]


def test_an_unknown_outcome_makes_the_process_leave():
    """It may be committed or not: a second attempt could answer twice."""
    kafka = broker()

    def vanish(*_):
        raise TransportError("no answer to the commit")

    transport = Interposed(kafka, vanish)
    ask(kafka, "r")
    with pytest.raises(TransportError, match="no answer"):
        run(transport, lambda processor: eventually(lambda: processor.stopping, "it leaves"))

    assert transport.calls == 1


def test_answers_that_cannot_be_committed_stop_the_intake(monkeypatch):
    """The broker takes no transactions for a while: what is kept in memory is bounded, and counts
    as waiting, so that the partition is seen to stand still."""
    monkeypatch.setattr("ondemand.processor.loop.HELD_RECORDS_MAX", 20)
    kafka, gate = broker(), Gate()
    for i in range(200):
        ask(kafka, f"r{i}")
    transport = Interposed(kafka, lambda *_: gate.pass_through())
    with processing(
        transport, batch_rows_max=8, queue_rows_max=16, request_rows_max=8
    ) as processor:
        assert gate.entered.wait(10)
        eventually(lambda: processor.paused, "paused")
        eventually(lambda: processor.answered == processor.unsettled, "the model has run on all")

        assert processor.unsettled <= 20 + 2 * 16
        assert sum(processor._delivery.waiting().values()) == processor.unsettled
        gate.opened.set()
        eventually(lambda: len(replies(kafka)) == 200, "all are answered")

    assert kafka.committed(GROUP) == {P0: 200}


def test_transactions_are_bounded(monkeypatch):
    """One that grew without end would outlast the broker's patience, and never be committed."""
    monkeypatch.setattr(exactly_once, "TRANSACTION_RECORDS_MAX", 10)
    kafka, gate, sizes = broker(), Gate(), []

    def before(call, records):
        sizes.append(len(records))
        if call == 1:
            gate.pass_through()

    for i in range(60):
        ask(kafka, f"r{i}", partition=i % 2)
    with processing(Interposed(kafka, before)) as processor:
        eventually(lambda: processor.answered == 60, "the model has run on all")
        gate.opened.set()
        eventually(lambda: len(replies(kafka)) == 60, "all are answered")

    assert max(sizes) == 10
    assert kafka.committed(GROUP) == {P0: 30, P1: 30}


def test_a_stop_settles_what_runs_and_takes_nothing_more():
    """A stop in the middle of a run: its answers are committed, the rest is left to the next."""
    kafka, model = broker(), GatedModel()
    with processing(transactional(kafka), model) as processor:
        ask(kafka, "running")
        assert model.gate.entered.wait(10)
        ask(kafka, "waiting")
        eventually(lambda: processor.unsettled == 2, "both taken")
        processor.stop()
        model.gate.opened.set()

    assert list(replies(kafka)) == ["running"]
    assert kafka.committed(GROUP) == {P0: 1}

    with processing(transactional(kafka)):
        eventually(lambda: "waiting" in replies(kafka), "the next worker answers what was left")


def test_a_retry_waits_a_moment():
    """What arrives meanwhile must not make an aborted transaction be tried at once, again and
    again."""
    kafka, times = broker(), []

    def stumble(call, _):
        times.append(time.monotonic())
        if call <= 3:
            ask(kafka, f"more{call}", [[1.0, 2.0, 3.0]], partition=1)
            raise TransactionAbortedError("the coordinator moved")

    ask(kafka, "r")
    with processing(Interposed(kafka, stumble)):
        eventually(lambda: len(replies(kafka)) == 4, "all are answered")

    assert min(b - a for a, b in itertools.pairwise(times[:4])) >= 0.09
