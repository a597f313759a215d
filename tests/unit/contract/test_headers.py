"""Headers: whom to answer in each dialect, on which terms, and what is refused."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondemand.contract.codec import Body
from ondemand.contract.headers import (
    ROUTING,
    Dialect,
    ReplyAddress,
    Terms,
    index_headers,
    parse_address,
    parse_terms,
    printable,
)
from ondemand.contract.request import request_record
from ondemand.errors import RequestError, Status, UnanswerableError
from ondemand.limits import CORRELATION_ID_BYTES_MAX, HEADER_VALUE_BYTES_MAX, HEADERS_MAX

ALL = tuple(Dialect)
NATIVE = {"correlation-id": b"c", "reply-topic": b"shop.replies"}
SPRING = {"kafka_correlationId": b"\0\xff" * 8, "kafka_replyTopic": b"spring.replies"}
SMALLRYE = {"REPLY_CORRELATION_ID": b"s", "REPLY_TOPIC": b"quarkus.replies"}
NO_TERMS = Terms(None, None, None, None, None)
NAMES = [
    *(name for r in ROUTING.values() for name in (r.correlation, r.topic, r.partition)),
    "content-type",
    "inference-header-content-length",
    "deadline",
    "model-version",
    "traceparent",
    "tracestate",
]


def unanswerable(fields, dialects=ALL):
    """Why nobody can be answered."""
    with pytest.raises(UnanswerableError) as caught:
        parse_address(fields, dialects)
    return str(caught.value)


def refusal(**fields):
    """Why the terms are refused; header names are written with ``_`` for ``-``."""
    with pytest.raises(RequestError) as caught:
        parse_terms({name.replace("_", "-"): value for name, value in fields.items()})
    assert caught.value.status is Status.INVALID_REQUEST
    return caught.value.message


def test_the_last_of_a_repeated_header_counts():
    """Repeated headers: the last counts, also where it is null."""
    fields = index_headers([("a", b"1"), ("b", b"2"), ("a", None)])
    assert fields == {"a": None, "b": b"2"}


def test_each_dialect_is_read_by_its_own_names():
    """The same address comes from the names of each dialect, with its form of the partition."""
    four_bytes = b"\0\0\1\2"
    assert parse_address(NATIVE | {"reply-partition": b"007"}, ALL) == ReplyAddress(
        b"c", "shop.replies", 7, Dialect.NATIVE
    )
    assert parse_address(SPRING | {"kafka_replyPartition": four_bytes}, ALL) == ReplyAddress(
        b"\0\xff" * 8, "spring.replies", 258, Dialect.SPRING
    )
    assert parse_address(SMALLRYE | {"REPLY_PARTITION": four_bytes}, ALL) == ReplyAddress(
        b"s", "quarkus.replies", 258, Dialect.SMALLRYE
    )
    assert parse_address(SMALLRYE, ALL).partition is None


def test_precedence_is_the_enums_and_routing_is_not_mixed():
    """The first dialect whose correlation header is there decides, and only its headers are read;
    the order in which dialects are enabled does not matter."""
    both = SPRING | SMALLRYE | {"kafka_replyPartition": b"\0\0\0\1", "REPLY_PARTITION": b"bad"}
    for dialects in (ALL, ALL[::-1]):
        assert parse_address(NATIVE | both, dialects).dialect is Dialect.NATIVE
        assert parse_address(NATIVE | both, dialects).partition is None
        assert parse_address(both, dialects).dialect is Dialect.SPRING
    assert parse_address(NATIVE | SPRING, [Dialect.SPRING]).dialect is Dialect.SPRING
    mixed = {"kafka_correlationId": b"c", "reply-topic": b"shop.replies"}
    assert "kafka_replyTopic is missing" in unanswerable(mixed)


@pytest.mark.parametrize("value", [None, b""])
def test_a_correlation_that_is_there_but_empty_has_no_fallback(value):
    """Present but null or empty is unanswerable, even where another dialect could answer."""
    assert "correlation-id" in unanswerable({"correlation-id": value} | SPRING | SMALLRYE)


@pytest.mark.parametrize(("fields", "name"), [(SPRING, "spring"), (SMALLRYE, "smallrye")])
def test_a_dialect_that_is_not_enabled_is_named(fields, name):
    """Operators learn from the dead letter which dialect to enable."""
    assert f"dialect {name}, which is not enabled" in unanswerable(fields, [Dialect.NATIVE])


def test_a_missing_correlation_names_the_headers_that_would_do():
    """Without any correlation header, the message lists those of the enabled dialects."""
    assert "correlation-id is missing" in unanswerable({}, [Dialect.NATIVE])
    assert "kafka_correlationId" in unanswerable({"reply-topic": b"x.replies"}, ALL)


def test_a_correlation_id_has_a_longest():
    """128 bytes are taken, 129 are not."""
    longest = b"x" * CORRELATION_ID_BYTES_MAX
    assert parse_address(NATIVE | {"correlation-id": longest}, ALL).correlation_id == longest
    assert "129 bytes" in unanswerable(NATIVE | {"correlation-id": longest + b"x"})


@pytest.mark.parametrize(
    "topic",
    [
        None,
        b"",
        b"Upper.replies",
        b".x",
        b"a b",
        b"\xff",
        b"x" * 101,
        b"a.replies\n",
        b"../a",
        b"__a",
    ],
)
def test_a_malformed_reply_topic_is_unanswerable(topic):
    """A reply topic is a name of 1 to 100 characters; the message names the header."""
    assert "reply-topic" in unanswerable(NATIVE | {"reply-topic": topic})


@pytest.mark.parametrize(
    "partition",
    [None, b"", b"-1", b"+1", b" 1", b"1_0", b"1.0", "\u0661".encode(), b"2147483648", b"9" * 30],
)
def test_a_malformed_native_partition_is_unanswerable(partition):
    """A native partition is ASCII digits, at most 2^31 - 1."""
    assert "reply-partition" in unanswerable(NATIVE | {"reply-partition": partition})


@pytest.mark.parametrize("partition", [None, b"", b"1", b"\0\0\0\0\0\0\0\1", b"\xff\xff\xff\xff"])
def test_a_malformed_binary_partition_is_unanswerable(partition):
    """Spring's and SmallRye's partition is four bytes, big-endian, signed, not negative.
    (NestJS sends Spring's names with ASCII digits: refused.)"""
    assert "kafka_replyPartition" in unanswerable(SPRING | {"kafka_replyPartition": partition})
    assert "REPLY_PARTITION" in unanswerable(SMALLRYE | {"REPLY_PARTITION": partition})


def test_terms_default_to_json_without_conditions():
    """No header of terms: JSON, no deadline, any version."""
    assert parse_terms(SPRING) == NO_TERMS


def test_terms_are_read():
    """All terms come from native names; a head length makes the body binary."""
    fields = {
        "content-type": b"application/octet-stream",
        "inference-header-content-length": b"312",
        "deadline": b"1800000000000",
        "model-version": "1.2-é".encode(),
        "traceparent": b"00-ab-cd-01",
        "tracestate": b"a=b",
    }
    expected = Terms(312, 1_800_000_000_000, "1.2-é", b"00-ab-cd-01", b"a=b")
    assert parse_terms(fields) == expected


@pytest.mark.parametrize(
    "content_type", [b"application/json", b"Application/JSON; charset=utf-8", b"application/json;x"]
)
def test_a_media_types_case_and_parameters_do_not_matter(content_type):
    """`application/json; charset=utf-8` is JSON."""
    assert parse_terms({"content-type": content_type}).head_length is None


@pytest.mark.parametrize(
    "name", ["content_type", "deadline", "model_version", "traceparent", "tracestate"]
)
@pytest.mark.parametrize("value", [None, b""])
def test_a_header_that_is_there_but_empty_is_malformed(name, value):
    """Null or empty is malformed, also for optional headers, and the header is named."""
    assert name.replace("_", "-") in refusal(**{name: value})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"content_type": b"text/plain"}, "content-type"),
        ({"content_type": b"\xff"}, "content-type"),
        ({"content_type": b"application/octet-stream"}, "inference-header-content-length"),
        ({"inference_header_content_length": b"3"}, "inference-header-content-length"),
        ({"deadline": b"soon"}, "deadline"),
        ({"deadline": b"-1"}, "deadline"),
        ({"deadline": b"1.5"}, "deadline"),
        ({"deadline": b"1" * 20}, "deadline"),
        ({"model_version": b"\xff"}, "model-version"),
        ({"model_version": b"v" * (HEADER_VALUE_BYTES_MAX + 1)}, "model-version"),
        ({"traceparent": b"v" * (HEADER_VALUE_BYTES_MAX + 1)}, "traceparent"),
    ],
)
def test_a_malformed_header_is_named(fields, named):
    """Unknown content types, malformed numbers and oversized values are `invalid-request`."""
    assert f"header {named}" in refusal(**fields)


@pytest.mark.parametrize("value", [None, b"", b"x", b"-1", b"1e2", b"9" * 20])
def test_a_malformed_head_length_is_named(value):
    """The head's length is ASCII digits."""
    fields = {"content_type": b"application/octet-stream", "inference_header_content_length": value}
    assert "header inference-header-content-length" in refusal(**fields)


def test_headers_are_counted():
    """64 headers are taken, 65 are not."""
    fields = {f"x_{number}": b"" for number in range(HEADERS_MAX)}
    assert parse_terms(fields) == NO_TERMS
    assert "65 headers" in refusal(**fields, more=b"")


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(NAMES) | st.text(max_size=5),
        st.none()
        | st.binary(max_size=8)
        | st.sampled_from([b"a.replies", b"application/octet-stream", b"application/json", b"7"]),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(HEADERS, st.lists(st.sampled_from(Dialect), max_size=3))
def test_arbitrary_headers_raise_nothing_else(headers, dialects):
    """Any headers give an address and terms, or the two errors that the contract knows."""
    fields = index_headers(headers)
    with suppress(UnanswerableError):
        address = parse_address(fields, dialects)
        assert address.dialect in dialects
        assert address.correlation_id == fields[ROUTING[address.dialect].correlation]
    with suppress(RequestError):
        terms = parse_terms(fields)
        assert (terms.head_length is None) != ("inference-header-content-length" in fields)


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        ReplyAddress,
        st.binary(min_size=1, max_size=CORRELATION_ID_BYTES_MAX),
        st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,99}\Z"),
        st.none() | st.integers(0, 2**31 - 1),
        st.sampled_from(Dialect),
    ),
    st.builds(
        Terms,
        st.none() | st.integers(0, 10**9),
        st.none() | st.integers(0, 2**63 - 1),
        st.none() | st.text(min_size=1, max_size=9),
        st.none() | st.binary(min_size=1, max_size=9),
        st.none() | st.binary(min_size=1, max_size=9),
    ),
)
def test_a_published_request_is_read_as_it_was_meant(address, terms):
    """What ``request_record`` writes, ``parse_address`` and ``parse_terms`` read: each dialect."""
    body = Body(b"{}", terms.head_length)
    record = request_record("m.requests", key=b"k", address=address, terms=terms, body=body)
    fields = index_headers(record.headers)
    assert parse_address(fields, [address.dialect]) == address
    assert parse_terms(fields) == terms
    assert (record.topic, record.partition, record.key, record.value) == (
        "m.requests",
        None,
        b"k",
        b"{}",
    )


@pytest.mark.parametrize(
    ("correlation_id", "shown"),
    [
        (b"order 7/a", "order 7/a"),
        (b"\0\xff", "00ff"),
        ("é".encode(), "c3a9"),
        (b"a\n", "610a"),
        (b"\x7f", "7f"),
    ],
)
def test_only_printable_ascii_is_shown_as_text(correlation_id, shown):
    """A correlation ID never puts control characters or broken text into a log."""
    assert printable(correlation_id) == shown
