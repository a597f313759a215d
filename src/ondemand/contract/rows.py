"""The responses to the rows of one batch: encoded for all rows at once, and cut.

What ``encode_response`` writes row by row is the same but for the numbers. So all numbers of a
batch become bytes (or JSON) in one step, and a response is a head, which is written once for each
form, and its own stretch of them. Where that cannot be, each is written by itself.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import orjson

from ondemand.contract.codec import Body, InferResponse, encode_response, json_text
from ondemand.contract.tensor import DTYPES, REALS, Datatype, Tensor, all_finite

_HEADS_KEPT = 256
_NO_DATA = b'"data":[]'  # in no JSON text: quotes within one have a backslash before them

_Described = tuple[str, Datatype, tuple[int, ...], int]
"""Name, datatype, shape and bytes of one response's tensor."""


class _Head(NamedTuple):
    """A head in pieces: *before* and *after* the ID, *after* cut where data of a tensor go."""

    before: bytes
    after: tuple[bytes, ...]


class _Strip(NamedTuple):
    """One output of all rows, as bytes: row *n* begins at ``n * stride``."""

    content: bytes
    stride: int


class Rows:
    """The outputs of one run. Where it was *batched*, their first axis counts the rows of several
    requests; otherwise they are one request's, and nothing is cut.

    Not for several threads at once.
    """

    __slots__ = ("_batched", "_heads", "_strips", "_texts", "tensors")

    def __init__(self, tensors: Sequence[Tensor], *, batched: bool) -> None:
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self._batched = batched
        self._strips: dict[str, _Strip | None] = {}
        self._texts: dict[str, Sequence[bytes] | None] = {}
        self._heads: dict[tuple[bool, tuple[str, ...], int], _Head] = {}

    def of(self, start: int, stop: int, names: Sequence[str]) -> tuple[Tensor, ...]:
        """Views of the rows from *start* to *stop* of the outputs *names*; empty: of all."""
        wanted = [self.tensors[name] for name in names or self.tensors]
        if not self._batched:
            return tuple(wanted)
        return tuple([Tensor(each.name, each.datatype, each.data[start:stop]) for each in wanted])

    def body(
        self,
        start: int,
        stop: int,
        *,
        model_name: str,
        model_version: str,
        names: tuple[str, ...],
        id: str | None,  # noqa: A002 - the contract's word
        binary: bool,
    ) -> Body:
        """As ``encode_response`` for these rows, to the byte; *model_name* and *model_version* are
        the same in each call. Raises ``ValueError`` for what the form cannot hold."""
        cut = self._binary(start, stop, names) if binary else self._json(start, stop, names)
        if cut is None:
            response = InferResponse(model_name, model_version, self.of(start, stop, names), id)
            return encode_response(response, binary=binary)
        key = (binary, names, stop - start)
        head = self._heads.get(key)
        if head is None:
            described = tuple(self._described(start, stop, names, binary=binary))
            head = self._heads[key] = _head_of(model_name, model_version, described, binary=binary)
        before = head.before if id is None else b'%b,"id":%b' % (head.before, json_text(id))
        if binary:
            return Body(b"".join((before, *head.after, *cut)), len(before) + len(head.after[0]))
        parts = [before, head.after[0]]
        for text, after in zip(cut, head.after[1:], strict=True):
            parts += (text, after)
        return Body(b"".join(parts), None)

    def _binary(self, start: int, stop: int, names: tuple[str, ...]) -> list[bytes] | None:
        """Each output's bytes of these rows; None where one is not to be cut."""
        parts = []
        for name in names or self.tensors:
            strip = self._strips[name] if name in self._strips else self._strip(name)
            if strip is None:
                return None
            parts.append(strip.content[start * strip.stride : stop * strip.stride])
        return parts

    def _json(self, start: int, stop: int, names: tuple[str, ...]) -> list[bytes] | None:
        """Each output's numbers of these rows; None where one is not to be cut."""
        parts = []
        for name in names or self.tensors:
            texts = self._texts[name] if name in self._texts else self._text(name)
            if texts is None:
                return None
            parts.append(texts[start] if stop - start == 1 else b",".join(texts[start:stop]))
        return parts

    def _strip(self, name: str) -> _Strip | None:
        tensor = self.tensors[name]
        data = tensor.data
        strip = None
        if self._is_cut(tensor):
            strip = _Strip(data.tobytes(), data.nbytes // len(data))
        self._strips[name] = strip
        return strip

    def _text(self, name: str) -> Sequence[bytes] | None:
        """The numbers of each row, as ``encode_data`` writes them."""
        tensor = self.tensors[name]
        data = tensor.data
        texts = None
        if self._is_cut(tensor) and (tensor.datatype not in REALS or all_finite(data)):
            if tensor.datatype in REALS:
                data = data.astype(np.float64)
            rows = np.ascontiguousarray(data.reshape(len(data), -1))
            written = orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)
            texts = written[2:-2].split(b"],[")
        self._texts[name] = texts
        return texts

    def _is_cut(self, tensor: Tensor) -> bool:
        """Whether its rows lie side by side, each as long as the others."""
        data, datatype = tensor.data, tensor.datatype
        side_by_side = self._batched and data.size > 0 and datatype is not Datatype.BYTES
        return side_by_side and data.dtype == DTYPES[datatype]

    def _described(
        self, start: int, stop: int, names: tuple[str, ...], *, binary: bool
    ) -> Sequence[_Described]:
        described = []
        for name in names or self.tensors:
            tensor = self.tensors[name]
            data = tensor.data[start:stop]
            described.append((name, tensor.datatype, data.shape, data.nbytes if binary else 0))
        return described


@lru_cache(maxsize=_HEADS_KEPT)
def _head_of(
    model_name: str, model_version: str, described: tuple[_Described, ...], *, binary: bool
) -> _Head:
    outputs: list[dict[str, Any]] = []
    for name, datatype, shape, size in described:
        entry: dict[str, Any] = {"name": name, "shape": shape, "datatype": datatype}
        if binary:
            entry["parameters"] = {"binary_data_size": size}
        else:
            entry["data"] = []
        outputs.append(entry)
    before = json_text({"model_name": model_name, "model_version": model_version})[:-1]
    after = b',"outputs":%b}' % json_text(outputs)
    if binary:
        return _Head(before, (after,))
    first, *others = after.split(_NO_DATA)
    pieces = [first, *(b"]" + other for other in others)]
    return _Head(before, tuple([piece + b'"data":[' for piece in pieces[:-1]] + pieces[-1:]))
