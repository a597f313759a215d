"""Tensors as bytes: row-major, little-endian; BYTES with a 4-byte length before each element."""

from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondemand.contract.document import malformed, quoted
from ondemand.contract.tensor import DTYPES, Datatype, Tensor
from ondemand.errors import RequestError, Status

_LENGTH = Struct("<I")
_ELEMENT_BYTES_MAX = 2**32 - 1
# Looking a member up in an enum costs more than NumPy needs to make a view.
_BOOL = Datatype.BOOL
_BYTES = Datatype.BYTES


def decode_bytes(
    value: bytes, start: int, size: int, *, datatype: Datatype, shape: list[int], count: int
) -> NDArray[Any]:
    """The array in the *size* bytes of *value* from *start*: a read-only view, not a copy, and
    possibly not aligned. BYTES are copied. The caller sees to it that *value* is long enough.

    Raises ``RequestError``: ``INVALID_REQUEST`` where the bytes do not fit *shape* (of *count*
    elements), ``INVALID_INPUT`` for a BOOL that is neither 0 nor 1.
    """
    if datatype is _BYTES:
        elements = _split_elements(value, start, start + size, count)
        return np.array(elements, dtype=object).reshape(shape)
    dtype = DTYPES[datatype]
    if size != count * dtype.itemsize:
        raise malformed(
            f"`binary_data_size` is {size}, but {datatype} of shape {shape} has "
            f"{count * dtype.itemsize} bytes"
        )
    result: NDArray[Any] = np.ndarray(shape, dtype, value, start)
    if datatype is _BOOL and count and result.view(np.uint8).max() > 1:
        message = "a byte of a BOOL tensor is neither 0 nor 1"
        raise RequestError(Status.INVALID_INPUT, message)
    return result


def _split_elements(value: bytes, position: int, stop: int, count: int) -> list[bytes]:
    """The *count* elements that must fill *value* from *position* to *stop* exactly."""
    elements = []
    for index in range(count):
        start = position + _LENGTH.size
        if start <= stop:
            position = start + _LENGTH.unpack_from(value, position)[0]
        if start > stop or position > stop:
            raise malformed(f"BYTES element {index} reaches beyond the end of its tensor")
        elements.append(value[start:position])
    if position != stop:
        raise malformed(f"{stop - position} bytes follow the last BYTES element of a tensor")
    return elements


def encode_bytes(tensor: Tensor) -> bytes:
    """The tensor's bytes. Raises ``ValueError`` for BYTES elements that are not ``bytes``."""
    if tensor.datatype is not _BYTES:
        return tensor.data.tobytes()
    parts = []
    for position, element in enumerate(tensor.data.reshape(-1).tolist()):
        if type(element) is not bytes or len(element) > _ELEMENT_BYTES_MAX:
            kind = type(element).__name__
            raise ValueError(
                f"tensor {quoted(tensor.name)}: element {position} is {kind}, expected bytes"
            )
        parts.append(_LENGTH.pack(len(element)))
        parts.append(element)
    return b"".join(parts)
