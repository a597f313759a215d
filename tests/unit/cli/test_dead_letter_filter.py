"""IDs, times and filters of ``ondemand deadletters`` as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.cli.letters import NOW_MS, letter

from ondemand.cli.deadletters_filter import (
    Filter,
    LetterId,
    parse_id,
    parse_ids,
    parse_time,
    shown_time,
)
from ondemand.errors import ConfigurationError

TIMES = st.integers(-(10**12), 10**14)


@given(st.integers(0, 999_999_999), st.integers(0, 10**18 - 1))
def test_an_id_that_is_shown_can_be_given(partition: int, offset: int) -> None:
    """What a list prints is what the other commands take."""
    assert parse_id(str(LetterId(partition, offset))) == (partition, offset)


@pytest.mark.parametrize(
    "text", ["", "7", "0:", ":1", "0:-1", "0/1", "a:b", "0:1:2", "\u0660:\u0661"]
)
def test_what_is_no_id_is_told(text: str) -> None:
    """The message shows how an ID is written."""
    with pytest.raises(ConfigurationError, match="PARTITION:OFFSET"):
        parse_id(text)


def test_ids_are_taken_once_and_in_order() -> None:
    """An ID that is named twice is one record."""
    assert parse_ids(["1:2", "0:9", "1:2", "0:10"]) == ((0, 9), (0, 10), (1, 2))


@given(TIMES)
def test_a_time_that_is_shown_can_be_given(time_ms: int) -> None:
    """To the millisecond, without rounding."""
    assert parse_time(shown_time(time_ms), NOW_MS) == time_ms


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("1w", 604_800)],
)
def test_a_time_ago_counts_from_now(text: str, seconds_ago: int) -> None:
    """Relative times are relative to the time that is handed over."""
    assert parse_time(text, NOW_MS) == NOW_MS - 1000 * seconds_ago


def test_a_time_without_a_zone_is_utc() -> None:
    """As times are shown; a date is its first moment."""
    assert parse_time("1970-01-02", 0) == 86_400_000
    assert parse_time("1970-01-01T01:00:00+01:00", 0) == 0
    assert parse_time("1970-01-01T00:00:01.5", 0) == 1500


@pytest.mark.parametrize("text", ["", "2", "h", "2 hours", "-2h", "yesterday", "2026-13-01"])
def test_what_is_no_time_is_told(text: str) -> None:
    """The message shows the forms that there are."""
    with pytest.raises(ConfigurationError, match="2h"):
        parse_time(text, NOW_MS)


def test_a_number_that_is_no_date_is_shown_as_it_is() -> None:
    """Nineteen digits in a header end no command."""
    assert shown_time(10**18) == str(10**18)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Filter(), True),
        (Filter(reasons=("internal", "model-error")), True),
        (Filter(reasons=("internal",)), False),
        (Filter(since_ms=NOW_MS), True),
        (Filter(since_ms=NOW_MS + 1), False),
        (Filter(until_ms=NOW_MS + 1), True),
        (Filter(until_ms=NOW_MS), False),
        (Filter(versions=("1.0.0",)), True),
        (Filter(versions=("m/1.0.0",)), True),
        (Filter(versions=("1.0",)), False),
        (Filter(correlation_id="c-1"), True),
        (Filter(correlation_id="c-"), False),
        (Filter(after=LetterId(1, 4)), True),
        (Filter(after=LetterId(0, 99)), True),
        (Filter(after=LetterId(1, 5)), False),
        (Filter(after=LetterId(2, 0)), False),
        (Filter(reasons=("model-error",), until_ms=NOW_MS), False),
    ],
)
def test_a_filter_takes_what_fits_all_its_parts(wanted, taken):
    """From --since on, before --until; all parts must hold."""
    assert wanted.takes(letter(5, partition=1)) is taken


def test_a_correlation_id_is_found_as_it_is_shown() -> None:
    """Text by its text, other bytes by their hex."""
    found = letter(headers=(("correlation-id", b"\xff\x00"),))
    assert Filter(correlation_id="ff00").takes(found)
    assert Filter(correlation_id="größe").takes(
        letter(headers=(("correlation-id", "größe".encode()),))
    )
    assert not Filter(correlation_id="ff00").takes(letter(headers=()))


def test_options_say_what_the_filter_says() -> None:
    """The command line for the rest asks for the same, times made absolute."""
    wanted = Filter(("internal",), 1500, NOW_MS, ("1.0.0",), "c-1", LetterId(0, 7))
    assert wanted.options() == [
        *("--reason", "internal", "--since", "1970-01-01T00:00:01.500Z"),
        *("--until", "2027-01-15T08:00:00.000Z", "--version", "1.0.0"),
        *("--correlation-id", "c-1", "--after", "0:7"),
    ]
    assert Filter().options() == []
