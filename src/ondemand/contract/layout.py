"""Heads of binary bodies that were found sound: callers send the same head again and again.

A head that was sound once, for a body as long, is sound again, and says the same: only BOOL and
BYTES have bytes of their own that must be looked at, and have no layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ondemand.contract.tensor import Datatype, Tensor

HEADS_KEPT: Final = 256
HEAD_BYTES_KEPT: Final = 1024
"""Together: what strangers make us remember stays below a megabyte."""

_Said = TypeVar("_Said")

_LOOKED_AT = (Datatype.BOOL, Datatype.BYTES)


class Heads(Generic[_Said]):
    """What the last heads were found to say, a bounded number of them."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: dict[bytes, _Said] = {}

    def __len__(self) -> int:
        return len(self._said)

    def get(self, head: bytes) -> _Said | None:
        """What *head* says, if it is known."""
        return self._said.get(head)

    def keep(self, head: bytes, said: _Said) -> None:
        """*head* says this. One that is too long is forgotten at once."""
        if len(head) > HEAD_BYTES_KEPT:
            return
        if len(self._said) >= HEADS_KEPT:
            self._said.clear()  # heads that are new each time are not worth an order of use
        self._said[head] = said


@dataclass(frozen=True, slots=True)
class Layout:
    """What *head* says of a body of *length* bytes. Each place: name, datatype, dtype, shape, and
    where the tensor starts."""

    head: bytes
    length: int
    places: tuple[tuple[str, Datatype, np.dtype[Any], tuple[int, ...], int], ...]
    wanted: tuple[str, ...]
    id: str | None

    @classmethod
    def of(
        cls,
        head: bytes,
        length: int,
        tensors: Sequence[Tensor],
        *,
        wanted: tuple[str, ...],
        id: str | None,  # noqa: A002 - the contract's word
    ) -> "Layout | None":
        """That of *head*, which was sound for a body of *length* bytes and said this; None where it
        does not hold for the next body."""
        size = sum([tensor.data.nbytes for tensor in tensors])
        looked_at = any(tensor.datatype in _LOOKED_AT for tensor in tensors)
        # Where sizes do not add up, a tensor lies in the head itself, as JSON.
        if looked_at or len(head) + size != length:
            return None
        places = []
        start = len(head)
        for tensor in tensors:
            data = tensor.data
            places.append((tensor.name, tensor.datatype, data.dtype, data.shape, start))
            start += data.nbytes
        return cls(head, length, tuple(places), wanted, id)

    def arrays(self, value: bytes) -> dict[str, NDArray[Any]]:
        """Read-only views of *value* by name, possibly not aligned."""
        return {
            name: np.ndarray(shape, dtype, value, start)
            for name, _, dtype, shape, start in self.places
        }
