"""Claim checks as they travel: a key and nothing else, and an object that is what was promised."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.contract.claim import (
    CLAIM_BYTES,
    CLAIM_CHECK,
    CLAIM_SHA256,
    check_object,
    claim_headers,
    claim_of,
    parse_claim,
)
from ondemand.contract.codec import Body
from ondemand.contract.headers import Dialect, ReplyAddress, Terms
from ondemand.contract.request import request_record
from ondemand.errors import RequestError, Status

TOPIC = "digits.requests"
UNIQUE = "0123456789abcdef" * 2
BODY = b'{"inputs":[]}'
CLAIM = claim_of(TOPIC, BODY, day="2026-01-31", unique=UNIQUE)
FIELDS = dict(claim_headers(CLAIM))

PIECES = """digits.requests other.requests 2026-01-31 / .. . // \\ file: s3://b :: %2e%2e ~ ? * a"""
NEAR_KEYS = st.lists(st.sampled_from([*PIECES.split(), UNIQUE, "\0", "\n"]), max_size=8).map(
    lambda pieces: "".join(pieces).encode()
)


def refusal(fields) -> str:
    """Why a record with these headers is refused."""
    with pytest.raises(RequestError) as caught:
        parse_claim(fields, TOPIC)
    assert caught.value.status is Status.INVALID_REQUEST
    return caught.value.message


def test_what_is_written_is_read():
    """The same claim comes back from the headers of a record."""
    assert CLAIM.key == f"digits.requests/2026-01-31/{UNIQUE}"
    assert parse_claim(FIELDS, TOPIC) == CLAIM
    check_object(CLAIM, BODY)


def test_the_record_has_the_claim_instead_of_the_body():
    """The form of the body stays in the headers: it is the object's."""
    record = request_record(
        TOPIC,
        key=b"k",
        address=ReplyAddress(b"1", "s.replies", 0, Dialect.NATIVE),
        terms=Terms(5, None, None, None, None),
        body=Body(BODY, 5),
        claim=CLAIM,
    )
    fields = dict(record.headers)
    assert record.value == b""
    assert fields["inference-header-content-length"] == b"5"
    assert parse_claim(fields, TOPIC) == CLAIM


@given(st.binary(max_size=120) | NEAR_KEYS | NEAR_KEYS.map(lambda key: b"digits.requests/" + key))
def test_no_key_leads_out_of_the_topics_folder(key):
    """Whatever a record says: refused, or an object right below the topic and a day."""
    try:
        claim = parse_claim({**FIELDS, CLAIM_CHECK: key}, TOPIC)
    except RequestError:
        return
    path = PurePosixPath("/store") / claim.key
    assert path.parts[:3] == ("/", "store", TOPIC)
    assert len(path.parts) == 5
    assert ".." not in path.parts
    assert claim.key.isascii()
    assert claim.key.isprintable()


@pytest.mark.parametrize(
    "key",
    [
        f"../secrets/2026-01-31/{UNIQUE}",
        f"other.requests/2026-01-31/{UNIQUE}",
        f"digits.requests2/2026-01-31/{UNIQUE}",
        f"/digits.requests/2026-01-31/{UNIQUE}",
        f"digits.requests/../{UNIQUE}",
        f"digits.requests/2026-01-31/../{UNIQUE}",
        f"digits.requests/2026-01-31/{UNIQUE}\n",
        f"digits.requests/2026-01-31/{UNIQUE}/x",
        f"digits.requests/2026-01-31/{UNIQUE.upper()}",
        f"s3://digits.requests/2026-01-31/{UNIQUE}",
        f"file:///digits.requests/2026-01-31/{UNIQUE}",
        "digits.requests",
        "digits.requests/2026-01-31/",
    ],
)
def test_keys_of_another_form_are_refused(key):
    """No way up, no other topic, no address; the message shows the form that is wanted."""
    assert "digits.requests" in refusal({**FIELDS, CLAIM_CHECK: key.encode()})


@pytest.mark.parametrize("header", [CLAIM_CHECK, CLAIM_BYTES, CLAIM_SHA256])
@pytest.mark.parametrize("value", [None, b"", b"\xff", b"-1", b"0", b"1" * 19, b"1.0", b"g" * 64])
def test_malformed_headers_are_named(header, value):
    """Each of the three is checked."""
    assert f"header {header}: expected" in refusal({**FIELDS, header: value})


@pytest.mark.parametrize("header", [CLAIM_BYTES, CLAIM_SHA256])
def test_missing_headers_are_named(header):
    """A key alone is not enough: whoever can write to the store must not choose the body."""
    fields = {name: value for name, value in FIELDS.items() if name != header}
    assert f"header {header} is missing" in refusal(fields)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BODY[:-1], "promises 13 bytes, the object has 12"),
        (BODY + b" ", "promises 13 bytes, the object has more"),
        (BODY.replace(b"i", b"I"), "digest"),
        (b"", "has 0"),
    ],
)
def test_another_object_than_was_promised_is_refused(content, said):
    """Length first, then digest."""
    with pytest.raises(RequestError, match=said):
        check_object(CLAIM, content)
