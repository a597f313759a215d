"""Which requests travel together, and when."""

from hypothesis import given
from hypothesis import strategies as st
from unit.processor.builders import request

from ondemand.contract.record import Partition
from ondemand.processor.cost import CostModel
from ondemand.processor.micro_batch import BatchLimits, MicroBatcher


def offsets(batch):
    """The batch by its records' offsets."""
    return [r.located.record.offset for r in batch]


def batcher(*requests, **limits):
    """A batcher in which *requests* wait."""
    made = MicroBatcher(BatchLimits(**limits))
    for waiting in requests:
        made.offer(waiting)
    return made


def test_takes_what_there_is():
    """Without a window nothing waits for company: greedy and work-conserving."""
    queue = batcher(request(0), request(1))

    assert offsets(queue.take(now=0.0)) == [0, 1]
    assert queue.take(now=0.0) == ()
    assert repr(queue) == "<MicroBatcher [0/1024 rows]>"


def test_rows_bound_a_batch_not_records():
    """Two requests of three rows do not fit a batch of five: the second one waits."""
    queue = batcher(request(0, rows=3), request(1, rows=3), request(2), rows_max=5)

    assert offsets(queue.take(now=0.0)) == [0]
    assert offsets(queue.take(now=0.0)) == [1, 2]


def test_a_request_larger_than_a_batch_travels_alone():
    """What was accepted is run: it must not wait for ever."""
    queue = batcher(request(0, rows=9), request(1), rows_max=5)

    assert offsets(queue.take(now=0.0)) == [0]
    assert offsets(queue.take(now=0.0)) == [1]


def test_bytes_bound_a_batch():
    """A batch's memory is bounded beside its rows."""
    queue = batcher(request(0, size_bytes=60), request(1, size_bytes=60), bytes_max=100)

    assert offsets(queue.take(now=0.0)) == [0]


def test_the_window_counts_from_the_oldest_request():
    """A later request does not start the window anew: nobody waits longer than it."""
    queue = batcher(
        request(0, taken_at=10.0), request(1, taken_at=10.04), wait_seconds=0.05, rows_max=4
    )

    assert queue.take(now=10.049) == ()
    assert queue.ready_at() == 10.05
    assert offsets(queue.take(now=10.05)) == [0, 1]


def test_a_full_batch_does_not_wait():
    """The window is for company; a full batch has it."""
    queue = batcher(request(0, rows=4, taken_at=10.0), wait_seconds=5.0, rows_max=4)

    assert offsets(queue.take(now=10.0)) == [0]


def test_kinds_do_not_mix():
    """Requests whose shapes differ cannot be concatenated; the others need not wait for them."""
    queue = batcher(request(0), request(1, kind="b"), request(2))

    assert offsets(queue.take(now=0.0)) == [0, 2]
    assert offsets(queue.take(now=0.0)) == [1]


def test_one_key_keeps_its_order_across_kinds():
    """A request may overtake another kind, but never one of its own key and partition."""
    queue = batcher(
        request(0, key=b"k"),
        request(1, key=b"k", kind="b"),
        request(2, key=b"k"),
        request(3, key=b"k", partition=1),
        request(4),
    )

    assert offsets(queue.take(now=0.0)) == [0, 3, 4]
    assert offsets(queue.take(now=0.0)) == [1]
    assert offsets(queue.take(now=0.0)) == [2]


def costly(per_call=0.0, per_row=0.0):
    """A cost model that has seen runs of this cost."""
    cost = CostModel()
    for rows in (1, 2, 4, 8):
        cost.learn(rows=rows, seconds=per_call + per_row * rows)
    return cost


def test_a_batch_is_no_longer_than_its_tightest_deadline_allows():
    """Ten milliseconds a row, a deadline in 35: three rows make it, the fourth would not."""
    queue = MicroBatcher(BatchLimits(), costly(per_row=0.01))
    for i in range(8):
        queue.offer(request(i, deadline_ms=1035 if i == 2 else None))

    assert offsets(queue.take(now=0.0, now_ms=1000)) == [0, 1, 2]
    assert offsets(queue.take(now=0.0, now_ms=1000)) == [3, 4, 5, 6, 7]


def test_a_request_that_cannot_make_it_is_still_run():
    """Whether it is too late is the deadline's to say, not the estimate's."""
    queue = MicroBatcher(BatchLimits(), costly(per_call=1.0))
    queue.offer(request(0, deadline_ms=1001))
    queue.offer(request(1))

    assert offsets(queue.take(now=0.0, now_ms=1000)) == [0]


def test_shedding_the_oldest_leaves_a_roomy_queue():
    """Under the policy `oldest` those go who waited longest, and no more than have to."""
    queue = batcher(*[request(i) for i in range(8)], queue_rows_max=8)

    assert offsets(queue.take_oldest()) == [0, 1, 2, 3]
    assert queue.roomy


def test_shedding_by_deadline_takes_only_the_hopeless():
    """Who has no deadline waits; who will make it waits; what is shed delays nobody."""
    queue = MicroBatcher(BatchLimits(rows_max=1), costly(per_call=0.1))
    for i, deadline_ms in enumerate([None, 1150, 1250, 1350]):
        queue.offer(request(i, deadline_ms=deadline_ms))

    assert offsets(queue.take_hopeless(now_ms=1000)) == [1]
    assert offsets(queue.take_hopeless(now_ms=1100)) == [2]


def test_expired_requests_leave_while_others_wait():
    """A deadline that passes in the queue is answered now, not when the model is free."""
    queue = batcher(request(0, deadline_ms=100), request(1, deadline_ms=50), request(2))

    assert queue.deadline_ms == 50
    assert queue.take_expired(now_ms=49) == ()
    assert offsets(queue.take_expired(now_ms=50)) == [1]
    assert queue.deadline_ms == 100
    assert offsets(queue.take(now=0.0)) == [0, 2]


def test_dropped_partitions_leave_nothing():
    """What waits of a partition that goes is the next worker's; the rest stays."""
    queue = batcher(request(0), request(1, partition=1))
    queue.drop([Partition("m.requests", 0)])

    assert offsets(queue.take(now=0.0)) == [1]


def test_full_and_roomy_are_apart():
    """Partitions pause at the bound and resume at half of it: not at every request."""
    queue = batcher(*[request(i) for i in range(8)], queue_rows_max=8, rows_max=3)

    assert queue.full
    assert queue.room_rows == 0

    queue.take(now=0.0)

    assert not queue.full
    assert not queue.roomy

    queue.take(now=0.0)

    assert queue.roomy


@given(
    st.lists(
        st.tuples(
            st.integers(1, 5),
            st.sampled_from("ab"),
            st.sampled_from([None, b"k", b"l"]),
            st.integers(0, 1),
        ),
        max_size=40,
    )
)
def test_every_request_leaves_once_in_order_and_within_bounds(shapes):
    """Nothing is lost, repeated, mixed or reordered within its key and partition."""
    requests = [
        request(i, rows=rows, kind=kind, key=key, partition=partition)
        for i, (rows, kind, key, partition) in enumerate(shapes)
    ]
    queue = batcher(*requests, rows_max=7)
    left = []
    while batch := queue.take(now=0.0):
        assert sum(r.rows for r in batch) <= 7
        assert len({r.kind for r in batch}) == 1
        left += batch

    assert sorted(offsets(left)) == list(range(len(requests)))
    assert (queue.rows, queue.size_bytes, len(queue)) == (0, 0, 0)
    for key in (b"k", b"l"):
        for partition in (0, 1):
            mine = [
                r.located.record.offset
                for r in left
                if r.located.record.key == key and r.located.record.partition == partition
            ]
            assert mine == sorted(mine)
