"""Heads of binary bodies that were found sound: callers send the same head again and again.

A head that was sound once, for a body as long, is sound again, and says the same: only BOOL and
BYTES have bytes of their own that must be looked at, and are not remembered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ondemand.contract.tensor import Datatype, Tensor

HEADS_KEPT: Final = 256
HEAD_BYTES_KEPT: Final = 1024
"""Together: what strangers make us remember stays below a megabyte."""

_LOOKED_AT = (Datatype.BOOL, Datatype.BYTES)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a head says of a body of *length* bytes. Each place: name, datatype, dtype, shape, and
    where the tensor starts."""

    length: int
    places: tuple[tuple[str, Datatype, np.dtype[Any], tuple[int, ...], int], ...]
    wanted: tuple[str, ...]
    id: str | None

    def tensors(self, value: bytes) -> tuple[Tensor, ...]:
        """Read-only views of *value*, as reading the head would make them."""
        return tuple(
            [
                Tensor(name, datatype, np.ndarray(shape, dtype, value, start))
                for name, datatype, dtype, shape, start in self.places
            ]
        )


class Layouts:
    """The layouts of the last heads, a bounded number."""

    __slots__ = ("_by_head",)

    def __init__(self) -> None:
        self._by_head: dict[bytes, Layout] = {}

    def __len__(self) -> int:
        return len(self._by_head)

    def get(self, head: bytes, length: int) -> Layout | None:
        """What *head* says of a body of *length* bytes, if it is known."""
        layout = self._by_head.get(head)
        return layout if layout is not None and layout.length == length else None

    def keep(
        self,
        head: bytes,
        length: int,
        tensors: Sequence[Tensor],
        *,
        wanted: tuple[str, ...],
        id: str | None,  # noqa: A002 - the contract's word
    ) -> None:
        """*head* was sound for a body of *length* bytes, and said this."""
        size = sum([tensor.data.nbytes for tensor in tensors])
        looked_at = any(tensor.datatype in _LOOKED_AT for tensor in tensors)
        # Where sizes do not add up, a tensor lies in the head itself, as JSON.
        if looked_at or len(head) > HEAD_BYTES_KEPT or len(head) + size != length:
            return
        places = []
        start = len(head)
        for tensor in tensors:
            data = tensor.data
            places.append((tensor.name, tensor.datatype, data.dtype, data.shape, start))
            start += data.nbytes
        if len(self._by_head) >= HEADS_KEPT:
            self._by_head.clear()  # heads that are new each time are not worth an order of use
        self._by_head[head] = Layout(length, tuple(places), wanted, id)
