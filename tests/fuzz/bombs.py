"""Bodies made to cost as much as they can: deep, wide, escaped, or compressed."""

import bz2
import functools
import gzip
import lzma
import random
import zlib
from collections.abc import Callable, Sequence

import orjson

from ondemand import limits
from ondemand.contract.headers import form_headers

Bomb = tuple[bytes, Sequence[tuple[str, bytes | None]]]
SIZES_BYTES = (limits.REQUEST_BYTES_MAX, limits.REQUEST_BYTES_MAX - 20, 300_000)
INFLATED_BYTES = 50_000_000


def draw(chance: random.Random) -> Bomb:
    """A body and the headers that go with it."""
    return _made(chance.randrange(len(_BOMBS)), chance.choice(SIZES_BYTES))


def prepare() -> None:
    """Make them all, so that their making is not taken for what a record costs."""
    for kind in range(len(_BOMBS)):
        for size in SIZES_BYTES:
            _made(kind, size)


@functools.lru_cache(maxsize=64)
def _made(kind: int, size: int) -> Bomb:
    return _BOMBS[kind](size)


def compress(value: bytes, chance: random.Random) -> bytes:
    """*value* as one of the usual formats holds it."""
    return chance.choice(_COMPRESSORS)(value)


_COMPRESSORS: Sequence[Callable[[bytes], bytes]] = (
    functools.partial(gzip.compress, compresslevel=1, mtime=0),
    zlib.compress,
    bz2.compress,
    functools.partial(lzma.compress, preset=0),  # more would take 100 MB for itself
)


def _repeated(start: bytes, unit: bytes, end: bytes) -> Callable[[int], Bomb]:
    def make(size: int) -> Bomb:
        count = (size - len(start) - len(end)) // len(unit)
        return start + unit * count + end, ()

    return make


def _nested(size: int) -> Bomb:
    return b"[" * (size // 2) + b"]" * (size // 2), ()


def _nested_object(size: int) -> Bomb:
    depth = 1_000  # a parser that stops at 1024 takes it
    deep = b"[" * depth + b"]" * depth
    fill = b" " * (size - 2 * depth - 20)
    return b'{"inputs":[],"a":' + deep + fill + b"}", ()


def _numbers(size: int) -> Bomb:
    head = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[%d,8],"data":['
    count = (size - len(head) - 20) // 16
    return head % count + b"1," * (count * 8 - 1) + b"1]}]}", ()


def _oversized(_: int) -> Bomb:
    return b" " * (limits.REQUEST_BYTES_MAX + 1), ()


def _empty_texts(size: int) -> Bomb:
    count = (size - 200) // 4
    head = orjson.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "BYTES",
                    "shape": [count],
                    "parameters": {"binary_data_size": count * 4},
                }
            ]
        }
    )
    return head + bytes(count * 4), form_headers(len(head))


def _inflating(window_bits: int, encoding: bytes) -> Callable[[int], Bomb]:
    """What becomes ``INFLATED_BYTES`` of JSON where somebody inflates it."""

    def make(_: int) -> Bomb:
        press = zlib.compressobj(level=1, wbits=window_bits)
        parts = [press.compress(b'{"inputs":[')]
        parts += [press.compress(b" " * 1_000_000) for _ in range(INFLATED_BYTES // 1_000_000)]
        parts += [press.compress(b"]}"), press.flush()]
        return b"".join(parts), [("content-encoding", encoding)]

    return make


_BOMBS: Sequence[Callable[[int], Bomb]] = (
    _repeated(b"", b"[", b""),
    _nested,
    _nested_object,
    _repeated(b'{"inputs":[', b"[],", b"[]]}"),
    _repeated(b'{"inputs":[', b"{},", b"{}]}"),
    _repeated(
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,8],"data":[', b"[],", b"[]]}]}"
    ),
    _repeated(b'{"id":"', b"\\", b'"'),
    _repeated(b'{"inputs":[{"name":"', b"\\u0000", b'"}]}'),
    _repeated(b'{"inputs":[{"name":"x","datatype":"INT64","shape":[1],"data":[', b"9", b"]}]}"),
    _repeated(b"{", b'"a":0,', b'"b":0}'),
    _repeated(b'{"inputs":[],"a":"', b'\\"[', b'"}'),
    _numbers,
    _oversized,
    _empty_texts,
    _inflating(31, b"gzip"),
    _inflating(15, b"deflate"),
)
