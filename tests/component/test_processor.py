"""The loop and its steps over the memory broker: what a worker promises, without Kafka."""

import threading

import pytest
from component.builders import ask, broker, eventually, output, processing, replies, status
from unit.processor.builders import DoublingModel

from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.errors import ConfigurationError, StuckError, TransportError
from ondemand.transport.base import PublishFailure
from ondemand.transport.memory import MemoryBroker

P0 = Partition("m.requests", 0)


class GatedModel(DoublingModel):
    """Waits in ``run`` until its gate opens."""

    def __init__(self):
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()

    def run(self, inputs):
        self.entered.set()
        assert self.gate.wait(10)
        return super().run(inputs)


def test_every_request_is_answered_and_committed():
    """A hundred requests, a hundred answers of their own, and the position one past the last."""
    kafka = broker()
    for i in range(100):
        ask(kafka, f"r{i}", [[i, i]], partition=i % 2)
    with processing(kafka):
        eventually(lambda: len(replies(kafka)) == 100, "100 replies")

    assert {name: output(reply) for name, reply in replies(kafka).items()} == {
        f"r{i}": [[2.0 * i, 2.0 * i]] for i in range(100)
    }
    assert kafka.committed("ondemand.m") == {P0: 50, Partition("m.requests", 1): 50}


def test_while_the_model_is_busy_requests_gather():
    """What arrives during a run travels together in the next: batches by load, not by a window."""
    kafka, model = broker(), GatedModel()
    with processing(kafka, model) as processor:
        ask(kafka, "first")
        assert model.entered.wait(10)
        for i in range(20):
            ask(kafka, f"r{i}")
        eventually(lambda: processor.unsettled == 21, "21 requests taken")
        model.gate.set()
        eventually(lambda: len(replies(kafka)) == 21, "21 replies")

    assert model.runs == [1, 20]


def test_bad_neighbours_disturb_nobody():
    """One batch of every kind of bad request: each gets its own status, the good get answers."""
    kafka = broker()
    ask(kafka, "good")
    ask(kafka, "shape", [[1.0, 2.0, 3.0]])
    ask(kafka, "poison", [[99.0, 99.0]])
    ask(kafka, "deadline", headers={"deadline": b"5"})
    ask(kafka, "version", headers={"model-version": b"7"})
    ask(kafka, "odd", headers={"deadline": b"\xff\xfe"})
    ask(kafka, "nowhere", headers={"reply-topic": b"missing.replies"})
    ask(kafka, "far", headers={"reply-partition": b"9"})
    ask(kafka, "x", headers={"correlation-id": None})
    ask(kafka, "last", [[3.0, 4.0]])
    with processing(kafka, DoublingModel(poison=99.0)) as processor:
        eventually(lambda: processor.answered == 10, "10 answers")

    assert {name: status(reply) for name, reply in replies(kafka).items()} == {
        "good": "ok",
        "shape": "invalid-input",
        "poison": "model-error",
        "deadline": "deadline-exceeded",
        "version": "unsupported-version",
        "odd": "invalid-request",
        "last": "ok",
    }
    reasons = [dict(r.headers)["dead-letter-reason"] for r in kafka.records("m.dead-letters")]
    assert sorted(reasons) == [b"model-error"] + [b"unanswerable"] * 3
    assert kafka.committed("ondemand.m")[P0] == 10


def test_a_deadline_passes_while_a_batch_runs():
    """A request that waits behind a long run is refused when its time is over, not after it."""
    kafka, model = broker(), GatedModel()
    with processing(kafka, model):
        ask(kafka, "first")
        assert model.entered.wait(10)
        soon = kafka.records("m.requests")[0].timestamp_ms + 300
        ask(kafka, "late", headers={"deadline": b"%d" % soon})
        eventually(lambda: "late" in replies(kafka), "the late request is answered")

        assert status(replies(kafka)["late"]) == "deadline-exceeded"
        assert "first" not in replies(kafka)
        model.gate.set()


def test_a_stop_settles_what_runs_and_takes_nothing_more():
    """A stop in the middle of a run: its answers are published and committed, the rest is left."""
    kafka, model = broker(), GatedModel()
    with processing(kafka, model) as processor:
        ask(kafka, "running")
        assert model.entered.wait(10)
        ask(kafka, "waiting")
        eventually(lambda: processor.unsettled == 2, "both taken")
        processor.stop()
        model.gate.set()

    assert list(replies(kafka)) == ["running"]
    assert kafka.committed("ondemand.m") == {P0: 1}

    with processing(kafka):
        eventually(lambda: "waiting" in replies(kafka), "the next worker answers what was left")


def test_a_full_queue_pauses_and_resumes():
    """Rows in memory are bounded while the model is busy; afterwards everything is answered."""
    kafka, model = broker(), GatedModel()
    for i in range(200):
        ask(kafka, f"r{i}")
    with processing(
        kafka, model, batch_rows_max=8, queue_rows_max=16, request_rows_max=8
    ) as processor:
        assert model.entered.wait(10)
        eventually(lambda: processor.paused, "paused")

        assert processor.unsettled <= 16 + 8
        model.gate.set()
        eventually(lambda: len(replies(kafka)) == 200, "200 replies")

        assert max(model.runs) <= 8


def test_shedding_answers_overloaded_instead_of_waiting():
    """Under `oldest` a full queue is made roomy at once: the caller can try elsewhere."""
    kafka, model = broker(), GatedModel()
    for i in range(40):
        ask(kafka, f"r{i}")
    with processing(
        kafka, model, shedding="oldest", batch_rows_max=4, queue_rows_max=16, request_rows_max=4
    ):
        assert model.entered.wait(10)
        eventually(lambda: len(replies(kafka)) >= 8, "old requests are shed")
        model.gate.set()
        eventually(lambda: len(replies(kafka)) == 40, "40 replies")
    statuses = {status(reply) for reply in replies(kafka).values()}

    assert statuses == {"ok", "overloaded"}
    assert status(replies(kafka)["r39"]) == "ok"


def test_a_partition_that_moves_is_settled_first():
    """A second worker joins: what the first one runs is answered once, and committed before."""
    kafka, model = broker(), GatedModel()
    with processing(kafka, model) as first:
        ask(kafka, "running")
        assert model.entered.wait(10)
        with processing(kafka) as second:
            model.gate.set()
            eventually(lambda: second.joined and len(first.partitions) == 1, "one partition each")
            for i in range(50):
                ask(kafka, f"r{i}", partition=i % 2)
            eventually(lambda: len(replies(kafka)) == 51, "51 replies")
            assert first.answered > 1
            assert second.answered > 0


def test_an_evicted_worker_commits_nothing():
    """Partitions that were lost belong to another worker: what settles late moves nothing."""
    kafka, model = broker(), GatedModel()
    transport = kafka.worker(group="ondemand.m")
    with processing(transport, model) as processor:
        ask(kafka, "running")
        assert model.entered.wait(10)
        lost, on_lost = threading.Event(), processor.on_lost
        processor.on_lost = lambda partitions: (on_lost(partitions), lost.set())
        kafka.evict(transport)
        assert lost.wait(10)
        model.gate.set()
        # At least once: the answer is repeated, as the record was never committed.
        eventually(lambda: len(kafka.records("s.replies")) == 2, "answered again")

    assert kafka.committed("ondemand.m") == {P0: 1}


class FailingOnce:
    """Wraps a transport; the first publish to *topic* fails, by *permanent* for good or not."""

    def __init__(self, inner, topic, *, permanent):
        self._inner, self._topic, self._permanent = inner, topic, permanent
        self.failed = 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def publish(self, records, on_settled):
        bad = [r for r in records if r.topic == self._topic and not self.failed]
        if not bad:
            return self._inner.publish(records, on_settled)
        self.failed += 1
        error = TransportError("the broker says no")
        failures = [PublishFailure(r, error, permanent=self._permanent) for r in bad]
        good = [r for r in records if r not in bad]
        return self._inner.publish(good, lambda others: on_settled([*failures, *others]))


def test_a_reply_that_was_not_taken_is_published_again():
    """A broker that stumbles delays an answer and its offset; it loses neither."""
    kafka = broker()
    transport = FailingOnce(kafka.worker(group="ondemand.m"), "s.replies", permanent=False)
    ask(kafka, "r")
    with processing(transport):
        eventually(lambda: replies(kafka), "the reply came after all")

    assert transport.failed == 1
    assert status(replies(kafka)["r"]) == "ok"
    assert kafka.committed("ondemand.m") == {P0: 1}


def test_a_reply_that_is_refused_for_good_becomes_internal():
    """Never silence: the caller learns that there was an answer, the operator gets the request."""
    kafka = broker()
    transport = FailingOnce(kafka.worker(group="ondemand.m"), "s.replies", permanent=True)
    ask(kafka, "r")
    with processing(transport):
        eventually(lambda: replies(kafka), "a reply came all the same")

    assert status(replies(kafka)["r"]) == "internal"
    assert len(kafka.records("m.dead-letters")) == 1
    assert kafka.committed("ondemand.m") == {P0: 1}


def test_a_dead_letter_that_cannot_be_written_holds_back_the_commit():
    """A record that is in no topic any more must not be committed: it would be lost."""
    kafka = MemoryBroker({"m.requests": 1, "s.replies": 1})
    kafka.append(OutgoingRecord("m.requests", 0, None, b"{}", ()))
    with processing(kafka) as processor:
        eventually(lambda: processor.answered == 1, "answered")

        assert kafka.committed("ondemand.m") == {P0: 0}
        kafka.create_topic("m.dead-letters")
        eventually(lambda: kafka.committed("ondemand.m") == {P0: 1}, "committed once written")

    assert len(kafka.records("m.dead-letters")) == 1


class Deaf:
    """Wraps a transport whose partitions have records that never come."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def fetch(self, records_max, timeout_seconds):
        self._inner.fetch(0, timeout_seconds)
        return ()


def test_a_deaf_partition_ends_the_process():
    """All threads are alive and nothing moves: that is reported, then the process leaves."""
    kafka = broker()
    ask(kafka, "r")
    transport = Deaf(kafka.worker(group="ondemand.m"))

    def serve_until_it_leaves():
        with processing(transport, model_timeout_seconds=0.5, stuck_seconds=2.0) as processor:
            eventually(lambda: processor.standing_still, "readiness says so first")
            eventually(lambda: processor.stopping, "the process leaves")

    with pytest.raises(StuckError, match="partition 0 has 1 records waiting"):
        serve_until_it_leaves()


def test_a_missing_request_topic_refuses_to_start():
    """The operator learns at once what is missing, and how to make it."""
    with pytest.raises(ConfigurationError, match=r"m\.requests"), processing(MemoryBroker()):
        pass


def test_an_error_of_ours_ends_the_process_loudly():
    """A bug in the worker must not leave a process that looks alive and answers nobody."""
    model = DoublingModel()

    def run(inputs):
        raise SystemExit(3)

    model.run = run
    kafka = broker()
    ask(kafka, "r")
    with pytest.raises(SystemExit), processing(kafka, model) as processor:
        eventually(lambda: processor.failed, "the model thread has ended")
