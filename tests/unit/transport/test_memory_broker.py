"""The memory broker, beyond what the conformance suite asks of every transport."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand import limits
from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.errors import TransportError
from ondemand.testing.conformance_harness import Listener, outgoing
from ondemand.transport.base import NotTakenError
from ondemand.transport.memory import MemoryBroker
from ondemand.transport.memory_group import Group, Member


def test_what_a_test_may_look_at() -> None:
    """Records, committed positions and timestamps are open to the test that uses the broker."""
    broker = MemoryBroker({"requests": 2}, now_ms=lambda: 1234)
    record = broker.append(OutgoingRecord("requests", 1, b"key", b"value", [("name", b"1")]))
    assert record == ("requests", 1, 0, b"key", b"value", (("name", b"1"),), 1234)
    assert broker.records("requests") == (record,)
    worker = broker.worker(group="readers")
    worker.subscribe("requests", Listener())
    assert worker.fetch(10, 0.0) == [record]
    worker.commit({Partition("requests", 1): 1})
    assert broker.committed("readers") == {Partition("requests", 1): 1}


def test_a_topic_is_bounded() -> None:
    """The oldest records go where there are too many; who was behind goes on at the oldest left."""
    broker = MemoryBroker({"requests": 1}, records_max=3)
    worker = broker.worker()
    worker.subscribe("requests", Listener())
    broker.append(outgoing("requests", b"0"))
    assert [record.offset for record in worker.fetch(10, 0.0)] == [0]
    for _ in range(9):
        broker.append(outgoing("requests"))
    assert [record.offset for record in worker.fetch(10, 0.0)] == [7, 8, 9]


def test_a_record_is_bounded() -> None:
    """What a broker would refuse for its size is refused here too, headers included."""
    broker = MemoryBroker({"requests": 1})
    with pytest.raises(NotTakenError, match="bytes"):
        broker.append(outgoing("requests", bytes(limits.RECORD_BYTES_MAX + 1)))
    half = bytes(limits.RECORD_BYTES_MAX // 2 + 1)
    with pytest.raises(NotTakenError, match="bytes"):
        broker.append(outgoing("requests", half, headers=[("name", half)]))


def test_topics_are_made_with_care() -> None:
    """A topic is not made twice, and never gets fewer partitions."""
    broker = MemoryBroker({"requests": 2})
    with pytest.raises(ValueError, match="already there"):
        broker.create_topic("requests")
    with pytest.raises(ValueError, match="2 is not more"):
        broker.add_partitions("requests", 2)
    with pytest.raises(ValueError, match="needs a partition, not 0"):
        broker.create_topic("empty", 0)
    assert broker.partition_count("empty") is None


def test_a_waiting_fetch_is_woken_by_another_thread() -> None:
    """A worker that waits gets what another thread publishes, at once."""
    broker = MemoryBroker({"requests": 1})
    worker = broker.worker()
    worker.subscribe("requests", Listener())
    assert worker.fetch(1, 0.0) == ()
    other = threading.Timer(0.05, broker.append, [outgoing("requests", b"late")])
    other.start()
    records = worker.fetch(1, 30.0)
    other.join()
    assert [record.value for record in records] == [b"late"]


async def test_a_waiting_client_is_woken_by_another_thread() -> None:
    """A client that awaits gets what another thread publishes, at once."""
    broker = MemoryBroker({"replies": 1})
    client = broker.client()
    await client.start()
    await client.listen(Partition("replies", 0))
    waiting = asyncio.create_task(client.fetch(30.0))
    await asyncio.to_thread(broker.append, outgoing("replies", b"late"))
    assert [record.value for record in await waiting] == [b"late"]
    await client.stop()


def test_who_was_evicted_commits_nothing() -> None:
    """A commit for partitions that were given to others is refused, and changes nothing."""
    broker = MemoryBroker({"requests": 1})
    worker = broker.worker(group="readers")
    worker.subscribe("requests", Listener())
    worker.fetch(1, 0.0)
    broker.evict(worker)
    worker.commit({Partition("requests", 0): 1})
    with pytest.raises(TransportError, match="requests/0"):
        worker.commit_and_wait({Partition("requests", 0): 1})
    assert broker.committed("readers") == {}


@given(
    st.lists(st.tuples(st.sampled_from(["join", "leave", "finish", "grow"]), st.integers(0, 9))),
    st.integers(1, 7),
)
def test_each_partition_has_one_reader(steps: list[tuple[str, int]], count: int) -> None:
    """Whatever members do, no partition ever has two readers, and after everyone has let go, each
    has exactly one."""
    group = Group()
    for action, number in [*steps, ("finish", 0)]:
        if action == "join":
            group.join(Member("requests"))
        elif action == "leave" and group.members:
            group.leave(group.members[number % len(group.members)])
        elif action == "grow":
            count += 1
            group.start_rebalance()
        elif group.members:
            partitions = [Partition("requests", index) for index in range(count)]
            waiting = [each for each in group.members if group.must_give_up(each)]
            for member in waiting if action == "finish" else waiting[: number % 3]:
                group.give_up(member, partitions)
        read = [partition for member in group.members for partition in member.assigned]
        assert len(read) == len(set(read))
    if group.members:
        assert not group.rebalancing
        assert set(read) == {Partition("requests", index) for index in range(count)}
        shares = [len(member.assigned) for member in group.members]
        assert max(shares) - min(shares) <= 1
