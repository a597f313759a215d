"""Bodies from the object store: in order, within bounds, and at nobody else's expense."""

import threading

import pytest
from unit.processor.builders import TERMS, located, record, request

from ondemand.contract.claim import Claim
from ondemand.contract.record import Partition
from ondemand.errors import ObjectMissingError, Status, StoreError
from ondemand.limits import CLAIM_READERS, CLAIMS_WAITING_MAX
from ondemand.processor.claims import Claims
from ondemand.processor.outcome import Rejected
from ondemand.processor.request import Claimed, Request
from ondemand.telemetry.logging import EventLog

ROOM = 1_000_000
BOUND_SECONDS = 10.0


class Store:
    """Gives objects as the test lets it: *gates* hold reads of a key back."""

    def __init__(self):
        self.read_keys = []
        self.gates = {}
        self.failures = {}
        self.began = threading.Semaphore(0)

    def read(self, key, bytes_max):
        self.read_keys.append(key)
        self.began.release()
        if key in self.gates:
            assert self.gates[key].wait(BOUND_SECONDS)
        if key in self.failures:
            raise self.failures[key]
        return b"x" * bytes_max

    def hold(self, key):
        self.gates[key] = threading.Event()


class Line:
    """Claims on a clock that the test moves."""

    def __init__(self, *, timeout_seconds=5.0, bytes_max=ROOM):
        self.now = 0.0
        self.store = Store()
        self.claims = Claims(
            self.store.read,
            self.redeem,
            timeout_seconds=timeout_seconds,
            bytes_max=bytes_max,
            clock=lambda: self.now,
            log=EventLog(),
        )

    @staticmethod
    def redeem(claimed, content):
        of = claimed.located.record
        return request(
            of.offset, partition=of.partition, key=of.key, size_bytes=claimed.claim.size_bytes
        )

    def add(self, offset, *, key=None, size_bytes=10, deadline_ms=None, partition=0):
        claim = Claim(f"k{offset}", size_bytes, "")
        of = located(record(offset, key=key, partition=partition))
        self.claims.add(Claimed(of, claim, TERMS, deadline_ms))

    def turn(self, *, room_bytes=ROOM, now_ms=0):
        """What one turn gives: offsets of requests, statuses by offset of refusals."""
        return [
            (of.record.offset, "" if isinstance(each, Request) else each.status)
            for of, each in self.claims.turn(room_bytes=room_bytes, now_ms=now_ms)
        ]

    def until(self, count, **how):
        """Turn until *count* have come."""
        came = []
        pause = threading.Event()
        for _ in range(int(BOUND_SECONDS / 0.002)):
            came += self.turn(**how)
            if len(came) >= count:
                return came
            pause.wait(0.002)
        raise AssertionError(f"only {came} came")


@pytest.fixture
def line():
    line = Line()
    yield line
    for gate in line.store.gates.values():
        gate.set()
    line.claims.close()


def test_a_body_comes_and_the_request_goes_on(line):
    """One read, by the claim's key; then nothing is active any more."""
    line.add(1)
    assert line.until(1) == [(1, "")]
    assert line.store.read_keys == ["k1"]
    assert not line.claims.active


def test_one_slow_object_holds_back_no_other(line):
    """Without a key, nothing promises order."""
    line.store.hold("k1")
    line.add(1)
    line.add(2)
    assert line.until(1) == [(2, "")]
    line.store.gates["k1"].set()
    assert line.until(1) == [(1, "")]


def test_one_key_keeps_its_order(line):
    """What comes after a claim check of its key waits, whether its own body is there or not."""
    line.store.hold("k1")
    line.add(1, key=b"a")
    line.add(2, key=b"a")
    line.add(3, key=b"b")
    behind = record(4, key=b"a")
    assert line.claims.holds_back(behind)
    assert not line.claims.holds_back(record(4, key=b"a", partition=1))
    assert not line.claims.holds_back(record(4))
    line.claims.follow(request(4, key=b"a"))
    assert line.until(1) == [(3, "")]
    line.store.gates["k1"].set()
    assert line.until(3) == [(1, ""), (2, ""), (4, "")]
    assert not line.claims.holds_back(behind)


def test_a_store_that_hangs_is_given_up(line):
    """Those whose reads hang, and those behind them, each within the time limit; whatever comes
    back later is nobody's."""
    for offset in range(CLAIM_READERS + 2):
        line.store.hold(f"k{offset}")
        line.add(offset)
    assert line.turn() == []
    line.now = 5.0
    assert line.turn() == []
    line.now = 5.1
    assert line.turn() == [(offset, Status.OVERLOADED) for offset in range(CLAIM_READERS + 2)]
    for _ in range(CLAIM_READERS):
        assert line.store.began.acquire(timeout=BOUND_SECONDS)
    assert sorted(line.store.read_keys) == [f"k{offset}" for offset in range(CLAIM_READERS)]
    for gate in line.store.gates.values():
        gate.set()
    line.add(9)
    assert line.until(1) == [(9, "")]


def test_a_line_that_moves_is_waited_for(line):
    """Many large bodies take long, and nothing is wrong: only the store's silence counts."""
    for offset in range(CLAIM_READERS * 3):
        line.store.hold(f"k{offset}")
        line.add(offset)
    came = []
    for offset in range(CLAIM_READERS * 3):
        line.turn()
        line.now += 1.0
        line.store.gates[f"k{offset}"].set()
        came += line.until(1)
    assert came == [(offset, "") for offset in range(CLAIM_READERS * 3)]


def test_a_deadline_is_refused_before_the_store_is_asked(line):
    """Also of one that waits for a free reader, and of one that is being read."""
    line.add(1, deadline_ms=100)
    assert line.turn(now_ms=100) == [(1, Status.DEADLINE_EXCEEDED)]
    assert line.store.read_keys == []
    line.store.hold("k2")
    line.add(2, deadline_ms=200)
    assert line.turn(now_ms=199) == []
    assert line.store.began.acquire(timeout=BOUND_SECONDS)
    assert line.turn(now_ms=200) == [(2, Status.DEADLINE_EXCEEDED)]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (ObjectMissingError("gone"), Status.INVALID_REQUEST),
        (StoreError("refused"), Status.OVERLOADED),
    ],
)
def test_a_failed_read_is_an_answer(line, failure, status):
    """Who must act differs: the caller, or the operator."""
    line.store.failures["k1"] = failure
    line.add(1)
    line.add(2)
    assert sorted(line.until(2)) == [(1, status), (2, "")]


def test_a_fault_of_ours_is_raised(line):
    """It is no answer, and must not end a thread in silence."""
    line.store.failures["k1"] = ZeroDivisionError("ours")
    line.add(1)
    with pytest.raises(ZeroDivisionError):
        line.until(1)


def test_nothing_is_read_that_there_is_no_room_for(line):
    """Bodies are bounded together with the queue; the first in line goes first."""
    line.add(1, size_bytes=60)
    line.add(2, size_bytes=60)
    line.add(3, size_bytes=1)
    assert line.until(1, room_bytes=100) == [(1, "")]
    assert line.turn(room_bytes=40) == []
    assert line.store.read_keys == ["k1"]
    assert sorted(line.until(2, room_bytes=100)) == [(2, ""), (3, "")]


def test_waiting_for_room_is_not_the_stores_fault(line):
    """While the model is behind, these wait as all others do."""
    line.add(1, size_bytes=60)
    for _ in range(10):
        assert line.turn(room_bytes=10) == []
        line.now += 4.0
    assert line.until(1, room_bytes=60) == [(1, "")]


def test_the_line_is_bounded_by_number_and_by_bytes():
    """Then partitions pause: the rest waits on the broker."""
    line = Line(bytes_max=100)
    line.claims.follow(request(0, key=b"a", size_bytes=99))
    assert not line.claims.full
    assert not line.claims.roomy
    line.claims.follow(request(1, key=b"a", size_bytes=1))
    assert line.claims.full

    line = Line()
    for offset in range(CLAIMS_WAITING_MAX):
        assert not line.claims.full
        line.add(offset)
    assert line.claims.full


def test_partitions_that_go_take_their_requests_along(line):
    """Whoever reads them next answers; nothing of them comes out here."""
    line.store.hold("k1")
    line.add(1, key=b"a")
    line.add(2, partition=1)
    line.turn()
    line.claims.drop([Partition("m.requests", 0)])
    line.store.gates["k1"].set()
    assert line.until(1) == [(2, "")]
    assert not line.claims.holds_back(record(3, key=b"a"))


def test_a_refusal_of_a_broken_object_is_passed_on(line):
    """What ``redeem`` says is the answer."""
    refused = Rejected(Status.INVALID_REQUEST, "digest")
    line.claims._redeem = lambda claimed, content: refused
    line.add(1)
    assert line.until(1) == [(1, Status.INVALID_REQUEST)]
