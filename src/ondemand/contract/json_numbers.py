"""The quick way through JSON: flat lists of numbers are read into one buffer, without an object for
each number. It takes three fifths of the time (docs/performance.md).

It is a way for bodies that are as they should be: whatever it does not take is read, and judged, by
``document`` and ``json_data``. What it takes it reads to the same bits (tests/unit/contract).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ondemand.contract.tensor import DTYPES, REALS, Datatype, Tensor, all_finite

try:
    from simdjson import Parser
except ImportError:  # there is no wheel of it for this Python: everything is read the other way
    Parser: Any = None  # type: ignore[no-redef]

BYTES_MIN: Final = 1024
"""Below this the other way is as quick."""

Numbers: TypeAlias = Mapping[str, NDArray[np.float64]]

_LIST = re.compile(rb'"data"\s*:\s*(?=\[)')
# Another thread that comes while it is in use is refused (RuntimeError), and goes the other way.
_parser = None if Parser is None else Parser()


class Taken(NamedTuple):
    """A body without its lists. In *rest* each has its key in *numbers* in its place: a text that
    is nowhere else in it."""

    rest: bytes
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class ListLayout:
    """What *head* says: a body without its lists. Each place: name, datatype, shape, and how many
    numbers its list has."""

    head: bytes
    places: tuple[tuple[str, Datatype, tuple[int, ...], int], ...]
    wanted: tuple[str, ...]
    id: str | None

    @classmethod
    def of(
        cls,
        head: bytes,
        tensors: Sequence[Tensor],
        *,
        wanted: tuple[str, ...],
        id: str | None,  # noqa: A002 - the contract's word
    ) -> "ListLayout":
        """That of *head*, which was sound. The lists are those of *tensors*, in this order."""
        places = [(each.name, each.datatype, each.shape, each.data.size) for each in tensors]
        return cls(head, tuple(places), wanted, id)

    def arrays(self, numbers: Numbers) -> dict[str, NDArray[Any]] | None:
        """The arrays by name, one for each list; None where a list does not fit its place."""
        arrays = {}
        for (name, datatype, shape, count), each in zip(self.places, numbers.values(), strict=True):
            data = reals(each, datatype, shape, count=count)
            if data is None:
                return None
            arrays[name] = data
        return arrays


def take_numbers(body: bytes) -> Taken | None:
    """Take the flat lists of numbers under ``data`` out of *body*; None if there is no such list,
    or one that simdjson does not read."""
    if len(body) < BYTES_MIN or _parser is None:
        return None
    parts: list[bytes] = []
    numbers: dict[str, NDArray[np.float64]] = {}
    end = 0
    while (found := _LIST.search(body, end)) is not None:
        start = found.end()
        parts.append(body[end:start])
        end = body.find(b"]", start) + 1
        read = _read(body[start:end])
        if read is None:
            return None
        parts.append(b'"~%d"' % len(numbers))
        numbers[f"~{len(numbers)}"] = read
    parts.append(body[end:])
    rest = b"".join(parts)
    # With a tilde or a backslash of its own it could say what stands for a list.
    if not numbers or rest.count(b"~") != len(numbers) or b"\\" in rest:
        return None
    return Taken(rest, numbers)


def reals(
    numbers: NDArray[np.float64], datatype: Datatype, shape: Sequence[int], *, count: int
) -> NDArray[Any] | None:
    """*numbers* as an array of *shape*, which has *count* elements; None where they do not fit."""
    if datatype not in REALS or numbers.size != count:
        return None
    if datatype is Datatype.FP64:
        return numbers.reshape(shape) if all_finite(numbers) else None
    try:
        with np.errstate(over="raise"):
            return numbers.astype(DTYPES[datatype]).reshape(shape)
    except FloatingPointError:
        return None


def _read(text: bytes) -> NDArray[np.float64] | None:
    """The numbers of a JSON list; None if it holds anything else."""
    try:
        return np.frombuffer(_parser.parse(text).as_buffer(of_type="d"), np.float64)  # type: ignore[union-attr]
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return None
