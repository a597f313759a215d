"""A claim check: the body is an object in a store, and the record's headers say which one.

What travels is a key, never an address: each side joins it to a place of its own settings. The key
begins with the topic, so that a request reaches no object of another model.
"""

import re
from hashlib import sha256
from typing import Final, NamedTuple

from ondemand.contract.document import quoted
from ondemand.contract.headers import HeaderFields
from ondemand.errors import RequestError, Status

CLAIM_CHECK: Final = "claim-check"
CLAIM_BYTES: Final = "claim-bytes"
CLAIM_SHA256: Final = "claim-sha256"

KEY_FORM: Final = "<topic>/<YYYY-MM-DD>/<32 hexadecimal digits>"

_REST = re.compile(rb"/[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9a-f]{32}")
_BYTES = re.compile(rb"[1-9][0-9]{0,17}")
_SHA256 = re.compile(rb"[0-9a-f]{64}")


class Claim(NamedTuple):
    """An object: under which *key*, how long, and with which digest, in hexadecimal."""

    key: str
    size_bytes: int
    sha256: str


def claim_of(topic: str, body: bytes, *, day: str, unique: str) -> Claim:
    """The claim check for *body*. *day*: ``YYYY-MM-DD``; *unique*: 32 hexadecimal digits that
    nobody can guess."""
    return Claim(f"{topic}/{day}/{unique}", len(body), sha256(body).hexdigest())


def claim_headers(claim: Claim) -> list[tuple[str, bytes]]:
    """The headers that tell of *claim*."""
    return [
        (CLAIM_CHECK, claim.key.encode()),
        (CLAIM_BYTES, b"%d" % claim.size_bytes),
        (CLAIM_SHA256, claim.sha256.encode()),
    ]


def parse_claim(fields: HeaderFields, topic: str) -> Claim:
    """The claim check of a record that was read from *topic*.

    Raises ``RequestError(INVALID_REQUEST)`` that names the header.
    """
    key = fields.get(CLAIM_CHECK) or b""
    name = topic.encode()
    # Nothing but this very form: no way up, no other place, no scheme, no address.
    if not key.startswith(name) or _REST.fullmatch(key, len(name)) is None:
        raise _malformed(CLAIM_CHECK, fields, f"a key as {KEY_FORM} with the topic {topic!r}")
    size = fields.get(CLAIM_BYTES) or b""
    if _BYTES.fullmatch(size) is None:
        raise _malformed(CLAIM_BYTES, fields, "a count of bytes from 1 up in ASCII decimal digits")
    digest = fields.get(CLAIM_SHA256) or b""
    if _SHA256.fullmatch(digest) is None:
        raise _malformed(CLAIM_SHA256, fields, "64 hexadecimal digits in lower case")
    return Claim(key.decode(), int(size), digest.decode())


def check_object(claim: Claim, content: bytes) -> None:
    """Raise ``RequestError(INVALID_REQUEST)`` unless *content* is what *claim* promises.

    *content* may be cut one byte after the promised length.
    """
    if len(content) != claim.size_bytes:
        found = "more" if len(content) > claim.size_bytes else str(len(content))
        raise RequestError(
            Status.INVALID_REQUEST,
            f"header {CLAIM_BYTES} promises {claim.size_bytes} bytes, the object has {found}",
        )
    if sha256(content).hexdigest() != claim.sha256:
        raise RequestError(
            Status.INVALID_REQUEST, f"the object's digest is not that of header {CLAIM_SHA256}"
        )


def _malformed(name: str, fields: HeaderFields, expected: str) -> RequestError:
    if name not in fields:
        message = f"header {name} is missing; it is required with {CLAIM_CHECK}"
    else:
        message = f"header {name}: expected {expected}, got {quoted(fields[name])}"
    return RequestError(Status.INVALID_REQUEST, message)
