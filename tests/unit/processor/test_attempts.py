"""Which request processes die of: markers, groups, and that the culprit is found in time."""

from hypothesis import given
from hypothesis import strategies as st

from ondemand.processor.attempts import (
    SPARED_MAX,
    SUSPECTS_MAX,
    Marker,
    Suspects,
    at_rest,
    interrupted,
)

offsets = st.integers(0, 10**12)


@given(st.integers(0, 999_999), st.none() | offsets, st.integers(0, SPARED_MAX))
def test_a_marker_is_read_as_it_was_written(attempt, last, spared):
    """What one process stores is what the next one finds."""
    marker = Marker(attempt, last, spared)

    assert Marker.parse(str(marker)) == marker
    assert len(str(marker)) < 100


@given(st.text())
def test_whatever_else_is_stored_there_is_no_marker(text):
    """Other programs may store texts of their own beside a position; they accuse nobody."""
    found = Marker.parse(text)

    assert found is None or str(found) == text


def test_nobody_is_suspected_without_a_marker():
    """A position alone says that whoever was here made progress, or gave up in good order."""
    assert Suspects.of(None, first=5, end=9) is None
    assert Suspects.of(Marker(2, last=4), first=5, end=9) is None
    assert Suspects.of(Marker(1), first=5, end=5) is None


@given(offsets, st.integers(1, 10 * SUSPECTS_MAX))
def test_after_a_first_death_all_that_may_have_been_taken_is_suspected(first, count):
    """Up to the end of the partition, and no more than a process ever holds of one."""
    suspects = Suspects.of(Marker(1), first=first, end=first + count)

    assert suspects == Suspects(1, first, first + min(count, SUSPECTS_MAX) - 1)


def attempt(suspects, culprit, attempts_max):
    """One process that runs group after group and dies of *culprit*: what the next one finds, and
    how many groups were run."""
    groups = 0
    while True:
        groups += 1
        last = min(suspects.first + suspects.group_size(attempts_max) - 1, suspects.last)
        if suspects.first <= culprit <= last:
            marker = Marker(suspects.attempt + 1, last)
            found = Suspects.of(marker, first=suspects.first, end=suspects.last + 1)
            assert found is not None
            return found, groups
        rest = suspects.behind(last)
        assert rest is not None, "the culprit was passed over"
        suspects = rest


@given(
    st.integers(2, 10),
    offsets,
    st.integers(1, 1_000).flatmap(
        lambda count: st.tuples(st.just(count), st.integers(0, count - 1))
    ),
)
def test_the_culprit_is_known_after_as_many_deaths_as_are_allowed(attempts_max, first, drawn):
    """Neither more processes die, nor is anybody else found guilty; and no attempt takes long: the
    suspects are run in a few times the k-th root of their number of groups."""
    count, place = drawn
    culprit = first + place
    suspects = Suspects.of(Marker(1), first=first, end=first + count)
    assert suspects is not None
    deaths = 1
    bound = (attempts_max - 1) * count ** (1 / (attempts_max - 1)) + 2
    while not suspects.are_one(attempts_max):
        suspects, groups = attempt(suspects, culprit, attempts_max)
        deaths += 1
        assert groups <= bound
        assert deaths <= attempts_max

    assert (suspects.first, suspects.last) == (culprit, culprit)
    assert deaths == attempts_max


@given(st.integers(1, SUSPECTS_MAX), st.integers(2, 10))
def test_the_last_attempt_is_with_one_request(count, attempts_max):
    """Nobody is found guilty who did not run alone."""
    suspects = Suspects(attempts_max - 1, 0, count - 1)

    assert suspects.group_size(attempts_max) == 1
    assert not Suspects(attempts_max, 0, count).are_one(attempts_max)


@given(st.none() | st.builds(Marker, st.integers(0, 9), st.none() | offsets))
def test_an_interrupted_run_is_spared_so_often_and_no_more(rest):
    """A rebalance during a slow run accuses nobody; one during every run does, in the end."""
    for spared in range(1, SPARED_MAX + 1):
        rest = interrupted(rest)
        assert rest is not None
        assert rest.spared == spared
        assert rest.attempt < 10

    assert interrupted(rest) is None


def test_at_rest_the_suspects_that_are_left_stay_suspects():
    """What was passed is free; what was not stays as it was, also how often it was spared."""
    suspects = Suspects(2, first=5, last=9, spared=1)

    assert at_rest(suspects, 0, 7) == Marker(2, 9, 1)
    assert at_rest(suspects, 0, 10) is None
    assert at_rest(None, 0, 7) is None
    assert at_rest(None, 3, 7) == Marker(0, None, 3)
    assert suspects.behind(6) == Suspects(2, 7, 9)
    assert Suspects.of(Marker(0, None, 3), first=7, end=9) is None
