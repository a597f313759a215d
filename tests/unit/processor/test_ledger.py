"""What may be committed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.contract.record import Partition
from ondemand.processor.ledger import Ledger, Track

P0, P1 = Partition("m.requests", 0), Partition("m.requests", 1)


def test_position_stops_before_the_first_unfinished_record():
    """A gap holds the position back, however much behind it is finished."""
    track = Track()
    for offset in (5, 6, 7):
        track.take(offset)
    track.finish(6)
    track.finish(7)

    assert track.position is None

    track.finish(5)

    assert track.position == 8
    assert len(track) == 0


def test_what_is_held_comes_out_in_order():
    """An answer that is ready early waits for those before it, then they come out together."""
    track = Track()
    for offset in (5, 6, 7):
        track.take(offset)

    assert track.finish(6, "six") == []
    assert track.finish(5, "five") == ["five", "six"]
    assert track.finish(7) == []


def test_offsets_may_have_gaps():
    """Transaction markers and compaction leave holes: a position is one past the last finished."""
    track = Track()
    for offset in (5, 9):
        track.take(offset)
    track.finish(5)

    assert track.position == 6

    track.finish(9)

    assert track.position == 10


@pytest.mark.parametrize("offset", [4, 5, 9])
def test_finishing_twice_or_out_of_the_blue_is_a_fault(offset):
    """An answer that settles twice would be counted twice: that is a bug, and must be loud."""
    track = Track()
    track.take(5)
    track.take(6)
    track.finish(5)
    if offset == 9:
        track.take(9)
        track.finish(9)

    with pytest.raises(ValueError, match="not unfinished"):
        track.finish(offset)


@given(st.data())
def test_position_is_one_past_the_longest_finished_run(data):
    """Whatever the order of settling, everything below the position is finished, and no more."""
    offsets = sorted(data.draw(st.sets(st.integers(0, 1000), min_size=1, max_size=30)))
    order = data.draw(st.permutations(offsets))
    track = Track()
    for offset in offsets:
        track.take(offset)
    finished = set()
    for offset in order:
        track.finish(offset)
        finished.add(offset)
        run = [o for o in offsets if all(p in finished for p in offsets if p <= o)]

        assert track.position == (run[-1] + 1 if run else None)
        assert track.unfinished == len(offsets) - len(finished)
        assert len(track) == len(offsets) - len(run)


def test_what_settles_after_a_partition_went_moves_nothing():
    """A partition that leaves and comes back starts anew: an old batch is nobody's position."""
    ledger = Ledger("m.requests")
    ledger.assign([P0])
    ledger.take(0, 5)
    old = ledger.tracks()
    ledger.release([P0])
    ledger.assign([P0])
    ledger.take(0, 5)
    old[0].finish(5)

    assert ledger.committable() == {}
    assert ledger.unfinished == 1


def test_committable_is_what_moved_since():
    """A position is handed to the broker once; a last commit takes all of them again."""
    ledger = Ledger("m.requests")
    ledger.assign([P0, P1])
    ledger.take(0, 1)
    ledger.take(1, 7)
    ledger.tracks()[0].finish(1)

    assert ledger.committable() == {P0: 2}

    ledger.committed({P0: 2})

    assert ledger.committable() == {}
    assert ledger.positions() == {P0: 2}
    assert repr(ledger) == "<Ledger [1 unfinished | 2 partitions]>"


def test_records_of_partitions_that_went_are_left_alone():
    """A record read just before its partition went is not taken: the next worker answers it."""
    ledger = Ledger("m.requests")
    ledger.assign([P0])

    assert ledger.take(0, 1)
    assert not ledger.take(1, 1)
