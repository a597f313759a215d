"""Replies and dead letters: which headers they carry, and how a client reads any of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondemand.contract.codec import Body, decode_error
from ondemand.contract.dead_letter import UNANSWERABLE, dead_letter_record
from ondemand.contract.headers import ROUTING, Dialect, ReplyAddress
from ondemand.contract.record import Record
from ondemand.contract.reply import (
    Served,
    ServerTiming,
    correlation_of,
    parse_reply,
    reply_record,
)
from ondemand.errors import Status
from ondemand.limits import HEADER_VALUE_BYTES_MAX

SERVED = Served("digits", "1.2.0")
TIMING = ServerTiming(1.2, 0.4, 32)
BODY = Body(b"{}tail", 2)


def published(dialect=Dialect.NATIVE, *, status=Status.OK, body=BODY, trace=(None, None)):
    """A reply as it goes to the broker."""
    return reply_record(
        ReplyAddress(b"\0id", "shop.replies", 3, dialect),
        key=b"k",
        status=status,
        served=SERVED,
        timing=TIMING,
        body=body,
        trace=trace,
    )


def received(headers, value=b"{}"):
    """A record on a reply topic."""
    return Record("shop.replies", 3, 9, b"k", value, headers, 0)


def test_a_reply_goes_where_it_was_asked_to():
    """Topic, partition and key are the request's; the body is untouched."""
    record = published()
    assert (record.topic, record.partition, record.key) == ("shop.replies", 3, b"k")
    assert record.value == b"{}tail"


def test_a_native_replys_headers():
    """Every header of the contract is there, once, in this form."""
    assert published(trace=(b"00-a-b-01", b"v=1")).headers == [
        ("correlation-id", b"\0id"),
        ("status", b"ok"),
        ("model-name", b"digits"),
        ("model-version", b"1.2.0"),
        ("content-type", b"application/octet-stream"),
        ("inference-header-content-length", b"2"),
        ("server-timing", b"queue;dur=1.200, model;dur=0.400, batch;desc=32"),
        ("traceparent", b"00-a-b-01"),
        ("tracestate", b"v=1"),
    ]


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("status", Status)
def test_a_reply_carries_its_dialects_correlation_and_no_other_routing(dialect, status):
    """Of all routing headers of all dialects only one comes back; no header is ever null."""
    names = [name for name, _ in published(dialect, status=status).headers]
    routing = {n for r in ROUTING.values() for n in (r.correlation, r.topic, r.partition)}
    assert [name for name in names if name in routing] == [ROUTING[dialect].correlation]
    assert {"status", "model-name", "model-version", "content-type", "server-timing"} < set(names)
    assert all(value for _, value in published(dialect).headers)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("body", [BODY, Body(b"{}", None)])
def test_a_reply_is_read_as_it_was_written(status, body):
    """A client reads status, model, version, timing, form and body of a reply."""
    record = published(status=status, body=body)
    found = parse_reply(received(record.headers, record.value))
    assert (found.status, found.body, found.timing) == (status, body, TIMING)
    assert (found.model_name, found.model_version) == ("digits", "1.2.0")
    assert correlation_of(received(record.headers)) == b"\0id"


@pytest.mark.parametrize(
    ("headers", "value", "said"),
    [
        ([], b"{}", "status"),
        ([("status", None)], b"{}", "status"),
        ([("status", b"great")], b"{}", "great"),
        ([("status", b"ok")], None, "no body"),
        ([("status", b"ok")], b"", "no body"),
        ([("status", b"ok"), ("content-type", b"text/html")], b"{}", "content-type"),
        (
            [
                ("status", b"ok"),
                ("content-type", b"application/octet-stream"),
                ("inference-header-content-length", b"x"),
            ],
            b"{}",
            "inference-header-content-length",
        ),
    ],
)
def test_a_malformed_reply_is_internal(headers, value, said):
    """What breaks the contract reads as `internal`, with a message that says what was wrong."""
    found = parse_reply(received(headers, value))
    assert found.status is Status.INTERNAL
    assert said in decode_error(found.body.value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["status", "model-name", "content-type", "server-timing", "x"]),
            st.none() | st.binary(max_size=12) | st.sampled_from([b"ok", b"application/json"]),
        ),
        max_size=8,
    ),
    st.none() | st.binary(max_size=9),
)
def test_reading_a_reply_never_raises(headers, value):
    """Any record on a reply topic reads as a reply of a known status."""
    assert parse_reply(received(headers, value)).status in Status


@pytest.mark.parametrize("headers", [[], [("correlation-id", None)], [("correlation-id", b"")]])
def test_a_record_without_correlation_is_nobodys(headers):
    """Missing, null and empty are the same to a client: none."""
    assert correlation_of(received(headers)) is None


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 10**9), st.floats(0, 10**9), st.integers(0, 10**9))
def test_timing_comes_back_to_the_microsecond(queue_ms, model_ms, batch_rows):
    """Times are milliseconds with three decimals."""
    found = ServerTiming.parse(ServerTiming(queue_ms, model_ms, batch_rows).header())
    assert found.queue_ms == pytest.approx(queue_ms, abs=0.001)
    assert found.model_ms == pytest.approx(model_ms, abs=0.001)
    assert found.batch_rows == batch_rows


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ServerTiming()),
        (b"", ServerTiming()),
        (b"nonsense \xff", ServerTiming()),
        (b"queue;dur=fast, model;dur=0.4", ServerTiming(model_ms=0.4)),
        (b"queue;dur=-1, batch;desc=2", ServerTiming(batch_rows=2)),
        (b"queue;dur=" + b"9" * 400, ServerTiming()),
        (b"model;dur=2,batch;desc=3", ServerTiming(model_ms=2, batch_rows=3)),
    ],
)
def test_malformed_timings_are_zeroes(value, expected):
    """Timings never fail a prediction: what cannot be read is 0."""
    assert ServerTiming.parse(value) == expected


def test_a_dead_letter_is_the_record_and_the_reason():
    """Key, value and headers stay as they came, null and repeated ones too; the reasons follow."""
    headers = [("a", None), ("a", b"\xff"), ("dead-letter-reason", b"old")]
    record = Record("digits.requests", 2, 41, None, b"\0", headers, 5)
    letter = dead_letter_record(
        "digits.dead-letters",
        record,
        reason=UNANSWERABLE,
        message="header correlation-id is missing",
        worker="digits-7",
        time_ms=1_800_000_000_000,
        dialect=Dialect.SPRING,
        extra=[("x", b"y")],
    )
    assert (letter.topic, letter.partition) == ("digits.dead-letters", None)
    assert (letter.key, letter.value) == (None, b"\0")
    assert letter.headers == [
        *headers,
        ("dead-letter-reason", b"unanswerable"),
        ("dead-letter-message", b"header correlation-id is missing"),
        ("dead-letter-source", b"digits.requests/2/41"),
        ("dead-letter-worker", b"digits-7"),
        ("dead-letter-time", b"1800000000000"),
        ("dead-letter-dialect", b"spring"),
        ("x", b"y"),
    ]
    assert headers == record.headers, "the record itself is not changed"


def test_a_dead_letter_has_no_dialect_that_nobody_knows():
    """Without a known dialect there is no header for it; a long message is cut, still UTF-8."""
    letter = dead_letter_record(
        "digits.dead-letters",
        Record("digits.requests", 0, 0, None, None, [], -1),
        reason=Status.INTERNAL,
        message="é" * HEADER_VALUE_BYTES_MAX,
        worker="w",
        time_ms=0,
        dialect=None,
    )
    fields = dict(letter.headers)
    assert "dead-letter-dialect" not in fields
    assert fields["dead-letter-reason"] == b"internal"
    assert fields["dead-letter-message"].decode() == "é" * (HEADER_VALUE_BYTES_MAX // 2)


@pytest.mark.parametrize("name", ["status", "content-type", "inference-header-content-length"])
def test_headers_that_are_known_let_nothing_pass(name):
    """A reply that differs from a sound one in one header is judged by itself."""
    sound = {
        "status": b"ok",
        "model-name": b"digits",
        "model-version": b"1",
        "content-type": b"application/octet-stream",
        "inference-header-content-length": b"2",
    }
    assert parse_reply(received(list(sound.items()), b"{}")).status is Status.OK
    for value in (None, b"", b"other"):
        changed = list({**sound, name: value}.items())
        assert parse_reply(received(changed, b"{}")).status is Status.INTERNAL
    assert parse_reply(received(list(sound.items()), b"")).status is Status.INTERNAL
