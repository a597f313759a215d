"""The doubles that break on demand break as they say, and otherwise not at all."""

import threading

import numpy as np
import pytest
from unit.processor.builders import DoublingModel

from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.errors import ModelError, TransportError
from ondemand.testing.faults import (
    Fate,
    FaultyTransport,
    PoisonedModel,
    RepeatingTransport,
    SlowModel,
    StuckModel,
    WrongModel,
    after,
    first,
    taken,
)
from ondemand.transport.memory import MemoryBroker

P0 = Partition("m.requests", 0)
ROWS = {"x": np.ones((3, 2), np.float32)}


class Listener:
    """Takes what it gets."""

    def on_assigned(self, partitions):
        pass

    def on_revoked(self, partitions):
        pass

    on_lost = on_revoked


def outgoing(value, topic="s.replies"):
    """A record."""
    return OutgoingRecord(topic, 0, None, value, ())


def published(fate, values, *, topic="s.replies"):
    """What is stored, and the failures, after *values* were published one by one."""
    broker = MemoryBroker({"s.replies": 1, "other": 1})
    transport = FaultyTransport(broker.worker(), fate=fate)
    failures = []
    for value in values:
        transport.publish([outgoing(value, topic)], failures.extend)
    transport.serve()
    stored = [record.value for record in broker.records(topic)]
    return stored, [(failure.record.value, failure.permanent) for failure in failures]


@pytest.mark.parametrize(
    ("fate", "stored", "failures"),
    [
        (taken, [b"a", b"b", b"c"], []),
        (first(1, Fate.LOST), [b"b", b"c"], [(b"a", False)]),
        (first(2, Fate.REFUSED), [b"c"], [(b"a", True), (b"b", True)]),
        (after(2, Fate.UNACKNOWLEDGED), [b"a", b"b", b"c"], [(b"c", False)]),
        (after(0, Fate.LOST, topic="elsewhere"), [b"a", b"b", b"c"], []),
    ],
)
def test_each_record_has_its_fate(fate, stored, failures):
    """What is stored and what is told to the sender are two things; both are as the fate says."""
    assert published(fate, [b"a", b"b", b"c"]) == (stored, failures)


def test_one_settlement_tells_of_both_kinds_of_failure():
    """Records that the broker itself refuses are told together with those that were to fail."""
    broker = MemoryBroker({"s.replies": 1})
    transport = FaultyTransport(broker.worker(), fate=first(1, Fate.LOST))
    settlements = []
    transport.publish([outgoing(b"a"), outgoing(b"b", "missing")], settlements.append)
    transport.serve()

    assert [[(f.record.value, f.permanent) for f in each] for each in settlements] == [
        [(b"a", False), (b"b", True)]
    ]


def test_commits_fail_on_demand():
    """A background commit is lost without a word; one that is waited for raises."""
    broker = MemoryBroker({"m.requests": 1})
    failing = [True, True, False]
    transport = FaultyTransport(broker.worker(), commit_fails=lambda: failing.pop(0))
    transport.subscribe("m.requests", Listener())
    transport.fetch(1, 0)

    transport.commit({P0: 1})
    with pytest.raises(TransportError):
        transport.commit_and_wait({P0: 1})
    assert broker.committed("workers") == {}
    transport.commit_and_wait({P0: 1})
    assert broker.committed("workers") == {P0: 1}
    transport.close()


async def test_a_repeating_transport_hands_over_everything_twice():
    """Whoever reads must tell a repeat from a new reply by its correlation ID."""
    broker = MemoryBroker({"s.replies": 1})
    transport = RepeatingTransport(broker.client())
    await transport.start()
    await transport.listen(Partition("s.replies", 0))
    broker.append(outgoing(b"a"))
    broker.append(outgoing(b"b"))

    assert [record.value for record in await transport.fetch(1)] == [b"a", b"a", b"b", b"b"]
    await transport.stop()


def test_a_slow_model_takes_its_time_and_can_be_stopped():
    """The time may depend on the rows; a stop ends the run that goes on, by an error."""
    assert (
        SlowModel(DoublingModel(), lambda rows: rows / 1e6).run(ROWS)["y"].tolist() == [[2, 2]] * 3
    )
    slow = SlowModel(DoublingModel(), 60.0)
    stopper = threading.Timer(0.02, slow.stop)
    stopper.start()
    with pytest.raises(ModelError):
        slow.run(ROWS)
    stopper.join()


def test_a_stuck_model_comes_back_only_when_released():
    """It does not hear a stop."""
    stuck, outputs = StuckModel(DoublingModel(), lambda _: True), []
    thread = threading.Thread(target=lambda: outputs.append(stuck.run(ROWS)))
    thread.start()
    stuck.stop()
    thread.join(0.02)
    assert thread.is_alive()
    stuck.release()
    thread.join(10)
    assert len(outputs) == 1


def test_wrong_and_poisoned_models():
    """One gives a row too few, the other raises; each only where it is told to."""
    wrong = WrongModel(DoublingModel(), lambda inputs: len(inputs["x"]) > 1)
    assert len(wrong.run(ROWS)["y"]) == 2
    assert len(wrong.run({"x": ROWS["x"][:1]})["y"]) == 1
    poisoned = PoisonedModel(DoublingModel(), lambda inputs: bool((inputs["x"] == 7).any()))
    assert len(poisoned.run(ROWS)["y"]) == 3
    with pytest.raises(ModelError):
        poisoned.run({"x": ROWS["x"] * 7})
    assert (poisoned.name, poisoned.version, poisoned.finite_only) == ("m", "1", True)
