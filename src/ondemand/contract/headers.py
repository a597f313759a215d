"""Request headers: where to answer, and on which terms; in three dialects."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from ondemand.contract.document import quoted
from ondemand.contract.record import Headers
from ondemand.errors import RequestError, Status, UnanswerableError
from ondemand.limits import (
    CORRELATION_ID_BYTES_MAX,
    HEADER_VALUE_BYTES_MAX,
    HEADERS_MAX,
    NAME_LENGTH_MAX,
)

CORRELATION_ID: Final = "correlation-id"
REPLY_TOPIC: Final = "reply-topic"
REPLY_PARTITION: Final = "reply-partition"
CONTENT_TYPE: Final = "content-type"
HEAD_LENGTH: Final = "inference-header-content-length"
DEADLINE: Final = "deadline"
MODEL_VERSION: Final = "model-version"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

JSON: Final = b"application/json"
BINARY: Final = b"application/octet-stream"

HeaderFields = Mapping[str, bytes | None]
"""The headers of one record by name. Where one is repeated, the last counts."""

_NAME = re.compile(rb"[a-z0-9][a-z0-9._-]{0,%d}" % (NAME_LENGTH_MAX - 1))
_PARTITION_MAX = 2**31 - 1
_DIGITS_MAX = 19
_TOPICS_KEPT = 256


class Dialect(StrEnum):
    """Whose header names carry correlation and reply address (docs/contract.md, Dialects)."""

    NATIVE = "native"
    SPRING = "spring"
    SMALLRYE = "smallrye"


@dataclass(frozen=True, slots=True)
class RoutingHeaders:
    """The names of a dialect's three routing headers, and the form of its partition."""

    correlation: str
    topic: str
    partition: str
    ascii_partition: bool  # otherwise 4 bytes, big-endian, signed


ROUTING: Final[Mapping[Dialect, RoutingHeaders]] = MappingProxyType(
    {
        Dialect.NATIVE: RoutingHeaders(
            CORRELATION_ID, REPLY_TOPIC, REPLY_PARTITION, ascii_partition=True
        ),
        Dialect.SPRING: RoutingHeaders(
            "kafka_correlationId",
            "kafka_replyTopic",
            "kafka_replyPartition",
            ascii_partition=False,
        ),
        Dialect.SMALLRYE: RoutingHeaders(
            "REPLY_CORRELATION_ID", "REPLY_TOPIC", "REPLY_PARTITION", ascii_partition=False
        ),
    }
)
"""In order of precedence."""


class ReplyAddress(NamedTuple):
    """Where the reply goes, and under which correlation ID: bytes, echoed verbatim."""

    correlation_id: bytes
    topic: str
    partition: int | None
    dialect: Dialect


class Terms(NamedTuple):
    """All else that a request's headers say. Times in milliseconds since the epoch."""

    head_length: (
        int | None
    )  # None: the body is JSON. Otherwise: binary, with a head of so many bytes
    deadline_ms: int | None
    model_version: str | None
    traceparent: bytes | None
    tracestate: bytes | None


def index_headers(headers: Headers) -> HeaderFields:
    """The headers by name; the last of a repeated header counts."""
    return dict(headers)


def parse_address(fields: HeaderFields, dialects: Sequence[Dialect]) -> ReplyAddress:
    """Where to answer. *dialects* are the enabled ones; the order of precedence is the enum's.

    Raises ``UnanswerableError``; its message says which header is missing or malformed and, where a
    dialect that is not enabled was used, names the dialect. Whether the topic is allowed and there,
    and the partition in range, is not checked here.
    """
    for dialect, names in ROUTING.items():
        if names.correlation in fields and dialect in dialects:
            break
    else:
        raise UnanswerableError(_no_correlation(fields, dialects))
    correlation_id = fields[names.correlation]
    if not correlation_id:
        raise UnanswerableError(f"header {names.correlation} is there but null or empty")
    if len(correlation_id) > CORRELATION_ID_BYTES_MAX:
        raise UnanswerableError(
            f"header {names.correlation} has {len(correlation_id)} bytes, "
            f"at most {CORRELATION_ID_BYTES_MAX} are taken"
        )
    topic = fields.get(names.topic)
    if not topic:
        state = "there but null or empty" if names.topic in fields else "missing"
        raise UnanswerableError(f"header {names.topic} is {state}")
    name = _topic_name(topic)
    if name is None:
        raise UnanswerableError(
            f"header {names.topic}: expected a name as [a-z0-9][a-z0-9._-]{{0,99}}, "
            f"got {quoted(topic)}"
        )
    partition = None
    if names.partition in fields:
        partition = _reply_partition(fields[names.partition], names)
    return ReplyAddress(correlation_id, name, partition, dialect)


@lru_cache(maxsize=_TOPICS_KEPT)
def _topic_name(topic: bytes) -> str | None:
    """*topic* as text; None if it is no name. A service names the same one in every request."""
    return topic.decode("ascii") if _NAME.fullmatch(topic) else None


def _no_correlation(fields: HeaderFields, dialects: Sequence[Dialect]) -> str:
    """What to say of a record without the correlation header of any enabled dialect."""
    for dialect, names in ROUTING.items():
        if names.correlation in fields:
            return (
                f"header {names.correlation} is of dialect {dialect}, which is not enabled "
                f"here (enabled: {', '.join(dialects)})"
            )
    expected = " or ".join(
        ROUTING[dialect].correlation for dialect in Dialect if dialect in dialects
    )
    return f"header {expected} is missing"


def _reply_partition(value: bytes | None, names: RoutingHeaders) -> int:
    if names.ascii_partition:
        expected = "ASCII decimal digits"
        partition = decimal(value)
    else:
        expected = "4 bytes, big-endian, signed"
        is_int = value is not None and len(value) == 4
        partition = int.from_bytes(value, "big", signed=True) if value and is_int else None
    if partition is None or not 0 <= partition <= _PARTITION_MAX:
        raise UnanswerableError(
            f"header {names.partition}: expected a partition from 0 up as {expected}, "
            f"got {quoted(value)}"
        )
    return partition


def encode_partition(partition: int, names: RoutingHeaders) -> bytes:
    """The value of a reply partition header in the form of its dialect."""
    return b"%d" % partition if names.ascii_partition else partition.to_bytes(4, "big", signed=True)


def parse_terms(fields: HeaderFields) -> Terms:
    """The rest of the headers. Raises ``RequestError(INVALID_REQUEST)`` that names the header."""
    if len(fields) > HEADERS_MAX:
        raise RequestError(
            Status.INVALID_REQUEST,
            f"the record has {len(fields)} headers, at most {HEADERS_MAX} are taken",
        )
    return Terms(
        parse_head_length(fields),
        _milliseconds(fields) if DEADLINE in fields else None,
        _text(fields, MODEL_VERSION) if MODEL_VERSION in fields else None,
        _present(fields, TRACEPARENT) if TRACEPARENT in fields else None,
        _present(fields, TRACESTATE) if TRACESTATE in fields else None,
    )


def parse_head_length(fields: HeaderFields) -> int | None:
    """The length of the JSON head that the headers tell; None where the whole body is JSON.

    Raises ``RequestError(INVALID_REQUEST)`` that names the header.
    """
    if fields.get(CONTENT_TYPE) == BINARY:  # nearly always, and then nearly always sound
        head_length = decimal(fields.get(HEAD_LENGTH))
        if head_length is not None:
            return head_length
    content_type = _present(fields, CONTENT_TYPE) if CONTENT_TYPE in fields else JSON
    if content_type not in {JSON, BINARY}:
        # Parameters (charset=utf-8) and case do not matter in a media type.
        essence = content_type.partition(b";")[0].strip().lower()
        if essence not in {JSON, BINARY}:
            raise _malformed(CONTENT_TYPE, content_type, f"{JSON.decode()} or {BINARY.decode()}")
        content_type = essence
    if content_type == JSON:
        if HEAD_LENGTH in fields:
            raise RequestError(
                Status.INVALID_REQUEST,
                f"header {HEAD_LENGTH} needs {CONTENT_TYPE} {BINARY.decode()}, not {JSON.decode()}",
            )
        return None
    if HEAD_LENGTH not in fields:
        raise RequestError(
            Status.INVALID_REQUEST,
            f"header {HEAD_LENGTH} is missing; it is required with {BINARY.decode()}",
        )
    head_length = decimal(fields[HEAD_LENGTH])
    if head_length is None:
        raise _malformed(
            HEAD_LENGTH, fields[HEAD_LENGTH], "a count of bytes in ASCII decimal digits"
        )
    return head_length


def form_headers(head_length: int | None) -> list[tuple[str, bytes]]:
    """The headers that tell the form of a body."""
    if head_length is None:
        return [(CONTENT_TYPE, JSON)]
    return [(CONTENT_TYPE, BINARY), (HEAD_LENGTH, b"%d" % head_length)]


def printable(correlation_id: bytes) -> str:
    """A correlation ID for logs: as text where it is printable ASCII, otherwise as hex."""
    text = correlation_id.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else correlation_id.hex()


def decimal(value: bytes | None) -> int | None:
    """The number in *value*; None where it is not one to nineteen ASCII digits."""
    if value is None or len(value) > _DIGITS_MAX or not value.isdigit():
        return None
    return int(value)


def _milliseconds(fields: HeaderFields) -> int:
    deadline = decimal(fields[DEADLINE])
    if deadline is None:
        expected = "milliseconds since the epoch in ASCII decimal digits"
        raise _malformed(DEADLINE, fields[DEADLINE], expected)
    return deadline


def _text(fields: HeaderFields, name: str) -> str:
    value = _present(fields, name)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _malformed(name, value, "text in UTF-8") from None


def _present(fields: HeaderFields, name: str) -> bytes:
    """The value of a header that is there: neither null nor empty, and of bounded size."""
    value = fields[name]
    if not value:
        raise _malformed(name, value, "a value, or no such header")
    if len(value) > HEADER_VALUE_BYTES_MAX:
        raise RequestError(
            Status.INVALID_REQUEST,
            f"header {name} has {len(value)} bytes, at most {HEADER_VALUE_BYTES_MAX} are taken",
        )
    return value


def _malformed(name: str, value: bytes | None, expected: str) -> RequestError:
    message = f"header {name}: expected {expected}, got {quoted(value)}"
    return RequestError(Status.INVALID_REQUEST, message)
