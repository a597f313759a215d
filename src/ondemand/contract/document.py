"""JSON documents of strangers: read within bounds, complained about in short sentences."""

import re
from typing import Any

import numpy as np
import orjson

from ondemand.errors import RequestError, Status
from ondemand.limits import JSON_DEPTH_MAX

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as int8: one level in, one level out
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[{]}")
_QUOTED_LENGTH_MAX = 60


def malformed(message: str) -> RequestError:
    """The error for a body that cannot be decoded."""
    return RequestError(Status.INVALID_REQUEST, message)


def quoted(value: object) -> str:
    """*value* as Python writes it, cut so that no message grows with what a stranger sent."""
    if isinstance(value, str | bytes):
        value = value[: _QUOTED_LENGTH_MAX + 1]
    elif isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'JSON object'}"
    text = repr(value)
    return text if len(text) <= _QUOTED_LENGTH_MAX else f"{text[:_QUOTED_LENGTH_MAX]}…"


def parse_object(head: bytes) -> dict[str, Any]:
    """The JSON object in *head*. Raises ``RequestError(INVALID_REQUEST)``."""
    try:
        members = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise malformed(f"the body is not valid JSON: {error}") from error
    if type(members) is not dict:
        raise malformed(f"the body must be a JSON object, got {quoted(members)}")
    # Few brackets cannot nest deep: most documents are never measured.
    if _has_many_brackets(head) and _depth(head) > JSON_DEPTH_MAX:
        raise malformed(f"the JSON nests deeper than {JSON_DEPTH_MAX} levels")
    return members


def _has_many_brackets(document: bytes) -> bool:
    """Whether more than JSON_DEPTH_MAX brackets of a kind open. Jumping from one to the next takes
    a tenth of the time that counting them takes: most documents are numbers."""
    for bracket in (b"[", b"{"):
        position = -1
        for _ in range(JSON_DEPTH_MAX // 2):
            position = document.find(bracket, position + 1)
            if position < 0:
                break
        else:
            return True
    return False


def _depth(document: bytes) -> int:
    """How deep *document* nests. It must be valid JSON: on an unclosed string the pattern would
    take quadratic time."""
    brackets = _STRING.sub(b"", document).translate(_STEPS, _NOT_BRACKETS)
    return int(np.frombuffer(brackets, np.int8).cumsum(dtype=np.int32).max())


def optional_text(members: dict[str, Any], member: str) -> str | None:
    """A text member; None where it is absent or null."""
    value = members.get(member)
    if value is None or type(value) is str:
        return value
    raise malformed(f"`{member}` must be text, got {quoted(value)}")


def optional_list(members: dict[str, Any], member: str, length_max: int) -> list[Any]:
    """A list of JSON objects; empty where it is absent or null."""
    value = members.get(member)
    if value is None:
        return []
    if type(value) is not list:
        raise malformed(f"`{member}` must be a list, got {quoted(value)}")
    if len(value) > length_max:
        raise malformed(f"`{member}` has {len(value)} entries, at most {length_max} are taken")
    for index, entry in enumerate(value):
        if type(entry) is not dict:
            raise malformed(f"`{member}[{index}]` must be a JSON object, got {quoted(entry)}")
    return value
