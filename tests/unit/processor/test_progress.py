"""A partition that is deaf is noticed, whatever its threads say."""

from ondemand.processor.progress import Progress


def seconds(standing):
    """Partition and seconds of each."""
    return {each.partition: each.seconds for each in standing}


def test_only_the_partition_that_stands_still_is_named():
    """One of three moves, one has nothing to do: the third one is deaf."""
    progress = Progress(patience_seconds=10)
    progress.observe({0: (1, 1), 1: (5, 5), 2: (7, 7)}, {0: 3, 1: 0, 2: 9}, now=0)
    standing = progress.observe({0: (2, 4), 1: (5, 5), 2: (7, 7)}, {0: 3, 1: 0, 2: 9}, now=10)

    assert seconds(standing) == {2: 10}
    assert str(standing[0]) == "partition 2 has 9 records waiting and has not moved for 10 s"


def test_work_that_comes_after_an_idle_time_starts_the_count_anew():
    """A partition that had nothing to do for an hour is not late with its first record."""
    progress = Progress(patience_seconds=10)
    progress.observe({0: (1, 1)}, {0: 0}, now=0)
    progress.observe({0: (1, 1)}, {0: 0}, now=3600)

    assert progress.observe({0: (1, 1)}, {0: 1}, now=3605) == []
    assert seconds(progress.observe({0: (1, 1)}, {0: 1}, now=3610)) == {0: 10}


def test_either_mark_is_progress():
    """Taking records is progress, and so is finishing them."""
    progress = Progress(patience_seconds=10)
    progress.observe({0: (1, 1)}, {0: 5}, now=0)
    progress.observe({0: (1, 2)}, {0: 5}, now=9)
    progress.observe({0: (2, 2)}, {0: 5}, now=18)

    assert progress.observe({0: (2, 2)}, {0: 5}, now=27) == []


def test_a_partition_that_comes_back_starts_anew():
    """What stood still before a rebalance is not held against the new assignment."""
    progress = Progress(patience_seconds=10)
    progress.observe({0: (1, 1)}, {0: 5}, now=0)
    progress.observe({}, {}, now=5)

    assert progress.observe({0: (1, 1)}, {0: 5}, now=12) == []
