"""Hostile, broken or merely odd records, drawn from a seed: a good request, then one to four
changes, each one that somebody's client, network or malice could make."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from fuzz import bombs
from fuzz.targets import (
    FORMS,
    HEADER_NAMES,
    PARTITIONS,
    REQUESTS,
    TARGETS,
    Good,
    Target,
    good,
)

from ondemand import limits
from ondemand.contract.headers import HEAD_LENGTH
from ondemand.contract.record import Record
from ondemand.contract.tensor import Datatype

BOMB_SHARE = 1 / 1_000  # near the size limit: each costs as much as hundreds of others
UNCHANGED_SHARE = 1 / 50
TENSORS_DRAWN_MAX = 300

_ODD_NUMBERS = (
    -1, 0, 1, 2, 7, 2**31, 2**32, 2**53 + 1, 2**62, 2**63, 2**64, 10**40, 1.5, -0.0, 1e308, 65_504,
    65_520,
)  # fmt: skip
_ODD_VALUES = (
    *_ODD_NUMBERS, None, True, "", "x", "8", "\u2028", [], {}, [[]], [1, [2]], "é" * 99,
    "n" * 9_000,
)  # fmt: skip
_ODD_BYTES = (
    None, b"", b"\0", b"-1", b"0", b"+5", b" 7 ", b"1e3", b"9" * 19, b"9" * 400, b"\xff\xfe",
    b"true", "٣".encode(), b"application/json", b"application/octet-stream; charset=utf-8", b"gzip",
    b"deflate", b"../../x.replies", b"m.requests", b"m.dead-letters", b"S.REPLIES", b"s.replies",
    b"gone.replies", b"x" * 129, b"x" * 5_000, "é".encode() * 2_000, b"{}\r\n", b"%s%n", b"1.0",
    *PARTITIONS,
)  # fmt: skip


@dataclass(slots=True)
class Draft:
    """A record that is being made. *members* and *tail* become the body, once it is *raw*."""

    members: Any
    tail: bytes
    headers: list[tuple[str, bytes | None]]
    key: bytes | None
    head_length: int | None
    is_raw: bool = False
    value: bytes | None = None
    changes: list[str] = field(default_factory=list)


Change = Callable[[Draft, random.Random], None]


def _tensor(draft: Draft, chance: random.Random) -> dict[str, Any]:
    """One of the tensors; where there are none any more, one that changes nothing."""
    inputs = draft.members.get("inputs") if isinstance(draft.members, dict) else None
    found = chance.choice(inputs) if isinstance(inputs, list) and inputs else None
    return found if isinstance(found, dict) else {}


def odd_member(draft: Draft, chance: random.Random) -> None:
    """A member of a tensor has an odd value, or is missing."""
    tensor = _tensor(draft, chance)
    name = chance.choice(("name", "shape", "datatype", "data", "parameters", "more"))
    tensor[name] = chance.choice(_ODD_VALUES)
    if chance.random() < 0.3:
        del tensor[name]


def odd_shape(draft: Draft, chance: random.Random) -> None:
    """Dimensions that overflow, are negative, too many, or just wrong."""
    axes = chance.choice((0, 1, 2, 3, limits.AXES_MAX + 1, 65, 1_000))
    _tensor(draft, chance)["shape"] = [chance.choice(_ODD_NUMBERS) for _ in range(axes)]


def odd_datatype(draft: Draft, chance: random.Random) -> None:
    """Another datatype for the same bytes."""
    _tensor(draft, chance)["datatype"] = chance.choice((*Datatype, "BF16", "fp32", "STRING"))


def size_lie(draft: Draft, chance: random.Random) -> None:
    """`binary_data_size` is not what follows."""
    size = chance.choice((*_ODD_NUMBERS, 31, 33, "32"))
    _tensor(draft, chance)["parameters"] = {"binary_data_size": size}


def odd_elements(draft: Draft, chance: random.Random) -> None:
    """Elements of other kinds, and numbers that no datatype holds."""
    tensor = _tensor(draft, chance)
    data = tensor.get("data")
    data = list(data) if isinstance(data, list) else [1.0] * 8
    for _ in range(chance.randint(1, 3)):
        data.insert(chance.randint(0, len(data)), chance.choice(_ODD_VALUES))
    tensor["data"] = data


def odd_document(draft: Draft, chance: random.Random) -> None:
    """The document around the tensors is odd."""
    if not isinstance(draft.members, dict):
        draft.members = chance.choice(_ODD_VALUES)
        return
    name = chance.choice(("inputs", "outputs", "id", "parameters"))
    draft.members[name] = chance.choice(
        (*_ODD_VALUES, [{}], [{"name": "y"}], [{"name": "y"}] * 2, [{"name": 5}], [None],
         [{"name": "long" * 9_000}])
    )  # fmt: skip


def repeated_tensors(draft: Draft, chance: random.Random) -> None:
    """The same tensors again, possibly very often, possibly under other names."""
    if isinstance(draft.members, dict) and isinstance(draft.members.get("inputs"), list):
        times = chance.choice((2, 3, 64, 65, 300))
        tensors = (draft.members["inputs"] * times)[:TENSORS_DRAWN_MAX]
        if chance.random() < 0.5:
            tensors = [
                {**each, "name": f"{number}" * 40} if isinstance(each, dict) else each
                for number, each in enumerate(tensors)
            ]
        draft.members["inputs"] = tensors


def many_rows(draft: Draft, chance: random.Random) -> None:
    """More rows than a request may have, each of them sound."""
    rows = limits.REQUEST_ROWS_MAX + chance.choice((0, 1, 2))
    inputs = draft.members.get("inputs") if isinstance(draft.members, dict) else None
    for tensor in inputs if isinstance(inputs, list) else ():
        if isinstance(tensor, dict):
            _stretch(tensor, rows)


def _stretch(tensor: dict[str, Any], rows: int) -> None:
    """The first row of *tensor*, so many times."""
    shape, data = tensor.get("shape"), tensor.get("data")
    if isinstance(shape, list) and shape and isinstance(data, list):
        before = shape[0] if type(shape[0]) is int and shape[0] > 0 else 1
        row = data[: min(max(len(data) // before, 1), 32)]
        tensor["shape"], tensor["data"] = [rows, *shape[1:]], row * rows


def odd_header(draft: Draft, chance: random.Random) -> None:
    """A header is there once more, null, empty, not UTF-8, too long or out of range."""
    place = chance.randint(0, len(draft.headers))
    draft.headers.insert(place, (chance.choice(HEADER_NAMES), chance.choice(_ODD_BYTES)))


def lost_header(draft: Draft, chance: random.Random) -> None:
    """A header is missing."""
    if draft.headers:
        del draft.headers[chance.randrange(len(draft.headers))]


def many_headers(draft: Draft, chance: random.Random) -> None:
    """More headers than anybody needs, or one name again and again."""
    count = chance.choice((limits.HEADERS_MAX, limits.HEADERS_MAX + 1, 300))
    same = chance.random() < 0.5
    draft.headers += [("h" if same else f"h{i}", b"v") for i in range(count)]


def other_form(draft: Draft, chance: random.Random) -> None:
    """The headers tell of the other form of body, or of a head of another length."""
    draft.headers += chance.choice(FORMS)


def odd_key(draft: Draft, chance: random.Random) -> None:
    """A key that is long, or no text."""
    draft.key = chance.choice((b"\xff\0", b"k" * 70_000, None))


def raw(draft: Draft) -> bytes:
    """The body so far. From here on it is bytes."""
    if not draft.is_raw:
        try:
            head = orjson.dumps(draft.members)
        except orjson.JSONEncodeError:  # a whole number beyond 64 bits
            head = repr(draft.members).replace("'", '"').replace("None", "null").encode()
        if draft.head_length is not None:
            told = b"%d" % draft.head_length
            draft.headers = [
                (name, b"%d" % len(head) if (name, value) == (HEAD_LENGTH, told) else value)
                for name, value in draft.headers
            ]
        # No broker carries more than a record of full size.
        draft.value, draft.is_raw = (head + draft.tail)[: limits.RECORD_BYTES_MAX], True
    return draft.value or b""


def flipped_bits(draft: Draft, chance: random.Random) -> None:
    """Some bits are others."""
    value = bytearray(raw(draft))
    for _ in range(chance.randint(1, 8)):
        if value:
            value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
    draft.value = bytes(value)


def cut(draft: Draft, chance: random.Random) -> None:
    """The end, or the beginning, is missing."""
    value = raw(draft)
    at = chance.randint(0, len(value))
    draft.value = value[:at] if chance.random() < 0.8 else value[at:]


def inserted(draft: Draft, chance: random.Random) -> None:
    """Bytes that mean something to a parser, in the middle."""
    value = raw(draft)
    at = chance.randint(0, len(value))
    draft.value = value[:at] + chance.choice(_SYNTAX) + value[at:]


_SYNTAX = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-", b"\0", b"\xef\xbb\xbf", b"\xff", b'"',
    b"\\u0000", b"\\ud800", b"[" * 40, b'{"a":' * 40, b"[" * 40 + b"]" * 40, b"]", b"}", b",",
    b"/*", b"0" * 50, b"1" * 400, b"\x1f\x8b\x08\0", struct.pack("<I", 2**32 - 1),
    struct.pack(">I", 8), struct.pack("<f", float("nan")),
)  # fmt: skip


def repeated_members(draft: Draft, chance: random.Random) -> None:
    """The same JSON member twice, with different values."""
    name = chance.choice((b'"inputs":[],', b'"shape":[1],', b'"name":"z",', b'"id":3,'))
    draft.value = raw(draft).replace(b"{", b"{" + name, chance.randint(1, 2))


def swapped_bytes(draft: Draft, chance: random.Random) -> None:
    """The wrong byte order behind the head; a NaN, an infinity or a false length among it."""
    value = raw(draft)
    if tail := len(draft.tail):
        words = bytearray(value[-tail:])
        words.reverse()
        words[: min(4, tail)] = chance.choice(_WORDS)[: min(4, tail)]
        draft.value = value[:-tail] + bytes(words)


_WORDS = (
    *(struct.pack("<f", number) for number in (float("nan"), float("inf"), -0.0, 1e-45)),
    struct.pack("<I", 2**32 - 1), struct.pack("<I", 5), struct.pack(">I", 1), b"\x02\xff\x02\xff",
)  # fmt: skip


def nothing_left(draft: Draft, chance: random.Random) -> None:
    """A tombstone, or an empty body; or something that is no request at all."""
    raw(draft)
    draft.value = chance.choice((None, b"", b"null", b"[]", b"{}", chance.randbytes(64)))


def compressed(draft: Draft, chance: random.Random) -> None:
    """A good body, compressed; perhaps a header says so, too."""
    draft.value = bombs.compress(raw(draft), chance)
    if chance.random() < 0.5:
        draft.headers.append(("content-encoding", chance.choice((b"gzip", b"zstd", b"br"))))


def bomb(draft: Draft, chance: random.Random) -> None:
    """As large as a record may be, and made to cost as much as it can."""
    raw(draft)
    draft.value, more = bombs.draw(chance)
    draft.headers += more


CHANGES: Sequence[Change] = (
    odd_member, odd_shape, odd_datatype, size_lie, odd_elements, odd_document, repeated_tensors,
    many_rows, odd_header, odd_header, odd_header, lost_header, many_headers, other_form, odd_key,
    flipped_bits, cut, inserted, inserted, repeated_members, swapped_bytes, nothing_left,
    compressed,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One record, aimed at *target*; *changes* by name. Without changes, it is a good request."""

    number: int
    target: Target
    record: Record
    changes: tuple[str, ...]


def one(seed: int, number: int, target: Target | None = None) -> Sample:
    """Record *number* of *seed*: the same in every run."""
    chance = random.Random(f"{seed} {number}")
    target = target or TARGETS[number % len(TARGETS)]
    draft = _draft(good(target, number, chance))
    for change in _drawn(chance):
        change(draft, chance)
        draft.changes.append(change.__name__)
    return _sample(draft, number, target)


def good_one(seed: int, number: int, target: Target, name: bytes = b"good-%d") -> Sample:
    """A request that nobody changed, under a correlation ID that no other record has."""
    asked = good(target, number, random.Random(f"good {seed} {number}"))
    draft = _draft(asked)
    draft.headers[0] = (draft.headers[0][0], name % number)
    return _sample(draft, number, target)


def _draft(asked: Good) -> Draft:
    at = asked.body.head_length or len(asked.body.value)
    return Draft(
        orjson.loads(asked.body.value[:at]),
        asked.body.value[at:],
        list(asked.headers),
        asked.key,
        asked.body.head_length,
    )


def _sample(draft: Draft, number: int, target: Target) -> Sample:
    raw(draft)
    record = Record(REQUESTS, 0, number, draft.key, draft.value, tuple(draft.headers), 1_000)
    return Sample(number, target, record, tuple(draft.changes))


def _drawn(chance: random.Random) -> Sequence[Change]:
    drawn = chance.random()
    if drawn < BOMB_SHARE:
        return (bomb,)
    if drawn < BOMB_SHARE + UNCHANGED_SHARE:
        return ()
    return chance.choices(CHANGES, k=chance.choice((1, 1, 1, 1, 1, 2, 2, 2, 3, 4)))
