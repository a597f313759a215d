"""Request headers: where to answer, and on which terms; in three dialects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ondemand.contract.record import Headers

HeaderFields = Mapping[str, bytes | None]
"""The headers of one record by name. Where one is repeated, the last counts."""


class Dialect(StrEnum):
    """Whose header names carry correlation and reply address (docs/contract.md, Dialects)."""

    NATIVE = "native"
    SPRING = "spring"
    SMALLRYE = "smallrye"


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """Where the reply goes, and under which correlation ID: bytes, echoed verbatim."""

    correlation_id: bytes
    topic: str
    partition: int | None
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class Terms:
    """All else that a request's headers say. Times in milliseconds since the epoch."""

    head_length: int | None  # None: the body is JSON. Otherwise: binary, with a head of so many bytes
    deadline_ms: int | None
    model_version: str | None
    traceparent: bytes | None
    tracestate: bytes | None


def index_headers(headers: Headers) -> HeaderFields:
    """The headers by name; the last of a repeated header counts."""
    raise NotImplementedError


def parse_address(fields: HeaderFields, dialects: Sequence[Dialect]) -> ReplyAddress:
    """Where to answer. *dialects* are the enabled ones; the order of precedence is the enum's.

    Raises ``UnanswerableError``; its message says which header is missing or malformed and, where a
    dialect that is not enabled was used, names the dialect. Whether the topic is allowed and there,
    and the partition in range, is not checked here.
    """
    raise NotImplementedError


def parse_terms(fields: HeaderFields) -> Terms:
    """The rest of the headers. Raises ``RequestError(INVALID_REQUEST)`` that names the header."""
    raise NotImplementedError


def printable(correlation_id: bytes) -> str:
    """A correlation ID for logs: as text where it is printable ASCII, otherwise as hex."""
    raise NotImplementedError
