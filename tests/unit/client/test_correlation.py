"""Correlation: which waiter a reply belongs to, decided without clock or broker."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from ondemand.client import correlation
from ondemand.client.correlation import Arrival, Cause, CorrelationIds, NoReply, PendingReplies
from ondemand.contract.record import Record
from ondemand.limits import CORRELATION_ID_BYTES_MAX

REPLY = Record("checkout.replies", 0, 7, None, b"{}", (), -1)


class Caller:
    """A waiter that notes what it is given, and refuses a second result."""

    def __init__(self) -> None:
        self.results: list[Arrival] = []
        self.left = False

    def done(self) -> bool:
        return self.left or bool(self.results)

    def set_result(self, result: Arrival, /) -> None:
        assert not self.done(), "a waiter was given a result twice, or after it had left"
        self.results.append(result)


def registered(pending: PendingReplies, correlation_id: bytes, expires_at: float = 10.0) -> Caller:
    caller = Caller()
    pending.register(correlation_id, caller, expires_at=expires_at)
    return caller


def test_a_reply_reaches_the_one_who_waits() -> None:
    """Resolving hands the reply to its own waiter, and to no other."""
    pending = PendingReplies(10)
    mine, other = registered(pending, b"a"), registered(pending, b"b")
    assert pending.resolve(b"a", REPLY) == "delivered"
    assert mine.results == [REPLY]
    assert other.results == []


def test_only_the_first_of_repeated_replies_is_delivered() -> None:
    """At-least-once workers repeat answers after a crash: the second finds nobody."""
    pending = PendingReplies(10)
    caller = registered(pending, b"a")
    pending.resolve(b"a", REPLY)
    assert pending.resolve(b"a", REPLY) == "nobody waiting"
    assert caller.results == [REPLY]
    assert pending.nobody_waiting == 1


def test_a_reply_after_the_timeout_is_late_not_unknown() -> None:
    """Operators see late replies apart from those that nobody asked for."""
    pending = PendingReplies(10)
    registered(pending, b"a", expires_at=5.0)
    pending.expire(5.0)
    assert pending.resolve(b"a", REPLY) == "late"
    assert pending.resolve(b"z", REPLY) == "nobody waiting"


def test_the_reason_says_whether_the_broker_had_the_request() -> None:
    """What expires unacknowledged is told apart from what was acknowledged and not answered."""
    pending = PendingReplies(10)
    unsure, sent = registered(pending, b"a", 5.0), registered(pending, b"b", 5.0)
    assert pending.acknowledge(b"b", expires_at=4.0)
    assert pending.expire(5.0) == 2
    assert unsure.results == [NoReply(Cause.NOT_ACKNOWLEDGED)]
    assert sent.results == [NoReply(Cause.NOT_ANSWERED)]


def test_the_timeout_counts_from_the_acknowledgement() -> None:
    """An acknowledgement replaces the send's time limit, be it later or earlier."""
    pending = PendingReplies(10)
    caller = registered(pending, b"a", expires_at=5.0)
    pending.acknowledge(b"a", expires_at=9.0)
    assert pending.next_expiry == 9.0
    assert pending.expire(8.9) == 0
    assert not caller.results
    assert pending.expire(9.0) == 1


def test_an_id_is_never_awaited_twice() -> None:
    """Registering an ID again would hand one caller another's reply: refused."""
    pending = PendingReplies(10)
    registered(pending, b"a")
    with pytest.raises(ValueError, match="awaited already"):
        registered(pending, b"a")


def test_no_more_than_the_maximum_is_awaited() -> None:
    """The bound holds even for a caller that did not wait for a place."""
    pending = PendingReplies(1)
    registered(pending, b"a")
    with pytest.raises(OverflowError, match="1 replies are awaited"):
        registered(pending, b"b")
    pending.forget(b"a")
    registered(pending, b"b")


def test_a_caller_that_has_left_is_not_given_a_reply() -> None:
    """A cancelled waiter is done before it is forgotten: resolving must not raise."""
    pending = PendingReplies(10)
    caller = registered(pending, b"a")
    caller.left = True
    assert pending.resolve(b"a", REPLY) == "nobody waiting"
    assert len(pending) == 0


def test_giving_up_all_tells_everyone_why() -> None:
    """Nobody is left waiting in silence when replies are no longer read."""
    pending = PendingReplies(10)
    callers = [registered(pending, b"%d" % number) for number in range(3)]
    reason = NoReply(Cause.NOT_READ, "the topic is gone")
    pending.give_up_all(reason)
    assert [caller.results for caller in callers] == [[reason]] * 3
    assert pending.next_expiry is None


def test_expiries_of_answered_requests_do_not_pile_up() -> None:
    """A million quick answers under a long timeout leave no million entries behind."""
    pending = PendingReplies(10)
    for number in range(5 * correlation.COMPACTION_MIN):
        registered(pending, b"%d" % number, expires_at=3_600.0)
        pending.resolve(b"%d" % number, REPLY)
    assert len(pending._expiries) <= correlation.COMPACTION_MIN + 1


def test_remembered_timeouts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest timed-out IDs are forgotten first."""
    monkeypatch.setattr(correlation, "REMEMBERED_MAX", 2)
    pending = PendingReplies(10)
    for number in range(3):
        registered(pending, b"%d" % number, expires_at=number)
        pending.expire(number)
    assert [pending.resolve(b"%d" % number, REPLY) for number in range(3)] == [
        "nobody waiting",
        "late",
        "late",
    ]


def test_repr_says_how_many_wait() -> None:
    """What a person sees in a debugger."""
    pending = PendingReplies(10_000)
    for number in range(3):
        registered(pending, b"%d" % number)
    assert repr(pending) == "<PendingReplies [3/10000 waiting]>"


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.integers(1, 64))
def test_ids_belong_to_one_instance(mine: bytes, other: bytes, partitions: int) -> None:
    """IDs are ASCII of 1 to 128 bytes, never repeated, and owned by their own instance alone."""
    ids, others = CorrelationIds(mine.hex()), CorrelationIds(other.hex())
    issued = [ids.issue() for _ in range(50)]
    assert len(set(issued)) == 50
    assert all(one.isascii() and 1 <= len(one) <= CORRELATION_ID_BYTES_MAX for one in issued)
    assert all(ids.owns(one) for one in issued)
    assert all(others.owns(one) == (mine == other) for one in issued)
    assert 0 <= ids.partition_of(partitions) < partitions


class Correlating(RuleBasedStateMachine):
    """Any order of events: each waiter gets at most one result, and the counts add up."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pending = PendingReplies(8)
        self.callers: dict[bytes, Caller] = {}
        self.waiting: dict[bytes, tuple[float, bool]] = {}
        self.timed_out: set[bytes] = set()
        self.issued = 0

    @rule(target=ids, seconds=st.floats(0.1, 10.0))
    def register(self, seconds: float) -> object:
        if len(self.waiting) == 8:
            return multiple()
        self.issued += 1
        correlation_id = b"%d" % self.issued
        self.callers[correlation_id] = registered(self.pending, correlation_id, self.now + seconds)
        self.waiting[correlation_id] = (self.now + seconds, False)
        return correlation_id

    @rule(correlation_id=ids, seconds=st.floats(0.1, 10.0))
    def acknowledge(self, correlation_id: bytes, seconds: float) -> None:
        awaited = self.pending.acknowledge(correlation_id, expires_at=self.now + seconds)
        assert awaited == (correlation_id in self.waiting)
        if awaited:
            self.waiting[correlation_id] = (self.now + seconds, True)

    @rule(correlation_id=ids)
    def resolve(self, correlation_id: bytes) -> None:
        delivery = self.pending.resolve(correlation_id, REPLY)
        if self.waiting.pop(correlation_id, None):
            assert delivery == "delivered"
            assert self.callers[correlation_id].results == [REPLY]
        else:
            late = correlation_id in self.timed_out
            assert delivery == ("late" if late else "nobody waiting")

    @rule(correlation_id=ids)
    def forget(self, correlation_id: bytes) -> None:
        self.pending.forget(correlation_id)
        self.waiting.pop(correlation_id, None)

    @rule(seconds=st.floats(0.0, 6.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = {key: sent for key, (at, sent) in self.waiting.items() if at <= self.now}
        assert self.pending.expire(self.now) == len(due)
        for correlation_id, sent in due.items():
            cause = Cause.NOT_ANSWERED if sent else Cause.NOT_ACKNOWLEDGED
            assert self.callers[correlation_id].results == [NoReply(cause)]
            del self.waiting[correlation_id]
            self.timed_out.add(correlation_id)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.pending) == len(self.waiting)
        assert self.pending.timeouts == len(self.timed_out)
        earliest = min((at for at, _ in self.waiting.values()), default=math.inf)
        expiry = self.pending.next_expiry
        assert (math.inf if expiry is None else expiry) == earliest


TestCorrelating = Correlating.TestCase
