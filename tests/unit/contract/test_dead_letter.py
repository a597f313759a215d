"""Dead letters and the way back: what is kept, what is added, what is taken off."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondemand.contract.dead_letter import (
    DIALECT,
    PREFIX,
    REDRIVE_ATTEMPTS,
    SOURCE,
    TIME,
    dead_letter_record,
    deadline_passed,
    read_dead_letter,
    redrive_attempts,
    redriven_record,
)
from ondemand.contract.headers import ROUTING, Dialect, index_headers, parse_address
from ondemand.contract.record import Record
from ondemand.limits import (
    DEAD_LETTER_BYTES_MAX,
    RECORD_BYTES_MAX,
    REDRIVE_ATTEMPTS_MAX,
)

VALUES = st.none() | st.binary(max_size=8)
NAMES = st.sampled_from(
    [
        "correlation-id",
        "deadline",
        "reply-topic",
        "x",
        REDRIVE_ATTEMPTS,
        SOURCE,
        TIME,
        DIALECT,
    ]
) | st.text(max_size=5)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
RECORDS = st.builds(
    Record,
    st.just("m.requests"),
    st.integers(0, 9),
    st.integers(0, 2**40),
    VALUES,
    VALUES,
    HEADERS,
    st.integers(-1, 2**41),
)


def buried(record, *, dialect=None, time_ms=7):
    """*record* as a worker writes it to the dead letters, and as it is read there."""
    topic, _, key, value, headers = dead_letter_record(
        "m.dead-letters",
        record,
        reason="model-error",
        message="no",
        worker="m/1.2.3",
        time_ms=time_ms,
        dialect=dialect,
    )
    return read_dead_letter(Record(topic, 0, 0, key, value, headers, 8))


@settings(max_examples=40, deadline=None)
@given(RECORDS)
def test_a_redriven_request_is_the_one_that_was_buried(record):
    """Key, value and headers come back as they were, in order; added is the attempt alone."""
    back = redriven_record(buried(record), "m.requests")
    own = [
        (name, value)
        for name, value in record.headers
        if name != REDRIVE_ATTEMPTS and not name.startswith(PREFIX)
    ]
    assert (back.topic, back.key, back.value) == (
        "m.requests",
        record.key,
        record.value,
    )
    assert list(back.headers[:-1]) == own
    assert back.headers[-1][0] == REDRIVE_ATTEMPTS


@settings(max_examples=40, deadline=None)
@given(RECORDS)
def test_each_redrive_counts_one(record):
    """The count goes on when the request fails again, whoever wrote the first number."""
    before = redrive_attempts(index_headers(record.headers))
    for more in (1, 2, 3):
        back = redriven_record(buried(record), "m.requests")
        record = Record("m.requests", 0, 1, back.key, back.value, back.headers, 9)
        found = redrive_attempts(index_headers(record.headers))
        assert found == min(before + more, REDRIVE_ATTEMPTS_MAX)
        assert sum(name == REDRIVE_ATTEMPTS for name, _ in record.headers) == 1


@pytest.mark.parametrize(
    ("claimed", "counted"),
    [
        (b"2", 2),
        (b"999999999", REDRIVE_ATTEMPTS_MAX),
        (b"9" * 4000, 0),
        (b"-3", 0),
        (b"1e3", 0),
        ("٣".encode(), 0),
        (b"", 0),
        (None, 0),
    ],
)
def test_claimed_attempts_are_bounded(claimed, counted):
    """A service can write the header, too: no claim leads out of the range."""
    assert redrive_attempts({REDRIVE_ATTEMPTS: claimed}) == counted


@pytest.mark.parametrize("dialect", Dialect)
def test_the_reply_address_stays(dialect):
    """In every dialect a redriven request is answered where the first one was to be."""
    names = ROUTING[dialect]
    partition = b"3" if names.ascii_partition else b"\0\0\0\3"
    headers = [
        (names.correlation, b"\xff\0id"),
        (names.topic, b"shop.replies"),
        (names.partition, partition),
    ]
    record = Record("m.requests", 0, 5, None, b"{}", headers, 1)
    letter = buried(record, dialect=dialect)
    assert letter.correlation_id == b"\xff\0id"
    back = redriven_record(letter, "m.requests")
    wanted = parse_address(index_headers(headers), list(Dialect))
    assert parse_address(index_headers(back.headers), list(Dialect)) == wanted


@settings(max_examples=40, deadline=None)
@given(RECORDS)
def test_anything_in_the_topic_can_be_read(record):
    """Whatever somebody wrote there, reading it does not fail."""
    letter = read_dead_letter(record)
    assert 0 <= letter.attempts <= REDRIVE_ATTEMPTS_MAX
    assert isinstance(letter.source_topic + letter.version + letter.reason, str)


def test_what_the_worker_wrote_is_read():
    """Reason, message, source, worker and time are the worker's, the last of each."""
    forged = [(SOURCE, b"other.requests/0/0"), (TIME, b"1"), (DIALECT, b"spring")]
    record = Record("m.requests", 4, 17, None, None, forged, 3)
    letter = buried(record, dialect=Dialect.NATIVE)
    assert (letter.reason, letter.message, letter.worker) == (
        "model-error",
        "no",
        "m/1.2.3",
    )
    assert (letter.source, letter.source_topic) == ("m.requests/4/17", "m.requests")
    assert (letter.version, letter.time_ms, letter.dialect) == (
        "1.2.3",
        7,
        Dialect.NATIVE,
    )


@pytest.mark.parametrize("source", [b"", b"m.requests", b"m.requests/0", b"m/0/x", b"m/-1/0"])
def test_a_source_that_is_none_names_no_topic(source):
    """Only `topic/partition/offset` says where to redrive to."""
    record = Record("m.dead-letters", 0, 0, None, None, [(SOURCE, source)], 3)
    assert read_dead_letter(record).source_topic == ""


def test_a_letter_without_time_has_its_records():
    """Where the header is missing or malformed, the broker's timestamp stands in."""
    for headers in ([], [(TIME, b"soon")], [(TIME, None)]):
        assert read_dead_letter(Record("t", 0, 0, None, None, headers, 55)).time_ms == 55


def test_only_a_deadline_that_has_passed_has_passed():
    """A deadline passes at its own millisecond; what is no deadline never does."""
    for value, passed in (
        (b"99", True),
        (b"100", True),
        (b"101", False),
        (b"x", False),
    ):
        assert deadline_passed([("deadline", b"1"), ("deadline", value)], 100) is passed
    assert not deadline_passed([], 100)


def test_named_headers_are_left_out():
    """All of a repeated header go: the last but one must not count instead."""
    record = Record(
        "m.requests",
        0,
        0,
        None,
        None,
        [("deadline", b"1"), ("a", b""), ("deadline", b"2")],
        3,
    )
    back = redriven_record(buried(record), "m.requests", without=frozenset({"deadline"}))
    assert list(back.headers) == [("a", b""), (REDRIVE_ATTEMPTS, b"1")]


def full(**parts):
    """A record of the full size, in its value or elsewhere."""
    return Record(
        "m.requests",
        0,
        7,
        **{"key": None, "value": None, "headers": (), **parts},
        timestamp_ms=1,
    )


@pytest.mark.parametrize(
    "parts",
    [
        {"value": bytes(RECORD_BYTES_MAX + 1)},
        {"key": bytes(RECORD_BYTES_MAX + 1)},
        {"headers": (("h", bytes(RECORD_BYTES_MAX)),)},
        {"headers": (("h", None),) * 300_000},
    ],
    ids=["value", "key", "a header", "many headers"],
)
def test_what_no_topic_takes_is_not_kept(parts):
    """A record that was compressed may be larger than any dead letter: if it were kept, it could
    never be written, and its partition would stand still. Where it was, and why, is said."""
    letter = buried(full(**parts))

    assert (letter.record.key, letter.record.value) == (None, None)
    assert letter.source == "m.requests/0/7"
    assert letter.reason == "model-error"
    assert "too large to be kept" in letter.message
    assert len(letter.record.headers) < 10


def test_a_record_of_full_size_is_kept():
    """What a broker takes as a request fits the dead letters, with what the worker adds."""
    record = full(value=bytes(RECORD_BYTES_MAX - 300), headers=(("h", b"v" * 200),))
    letter = buried(record)

    assert letter.record.value == record.value
    added = sum(len(name) + len(value or b"") for name, value in letter.record.headers)
    assert len(record.value) + added < DEAD_LETTER_BYTES_MAX
