"""Tensors as JSON: the ``data`` member, flat or nested as the shape, row-major.

The type of every element is checked: ``true`` is not a number and ``1`` is not a boolean. The quick
way through is ``array.array``, which is strict about types and ranges where NumPy is lenient (None
becomes NaN, text is parsed); only where it refuses are elements looked at one by one.
"""

from array import array
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondemand.contract.document import malformed, quoted
from ondemand.contract.tensor import DTYPES, Datatype, Tensor, all_finite
from ondemand.errors import RequestError, Status

_WHOLE = {
    Datatype.UINT8: "B",
    Datatype.UINT16: "H",
    Datatype.UINT32: "I",
    Datatype.UINT64: "Q",
    Datatype.INT8: "b",
    Datatype.INT16: "h",
    Datatype.INT32: "i",
    Datatype.INT64: "q",
}
_REAL = {Datatype.FP16: "d", Datatype.FP32: "f", Datatype.FP64: "d"}
_EXACT_IN_DOUBLE = 2**53


def decode_data(
    data: Any, datatype: Datatype, shape: list[int], *, count: int, booleans: bool
) -> NDArray[Any]:
    """The array that *data* lists. *booleans*: whether the document may hold ``true`` or ``false``.

    Raises ``RequestError``: ``INVALID_REQUEST`` where the elements do not fit *shape* (of *count*
    elements), ``INVALID_INPUT`` where *datatype* cannot hold one.
    """
    elements = _flatten(data, shape, count)
    if datatype is Datatype.BYTES:
        result = _texts(elements)
    elif datatype is Datatype.BOOL:
        result = _booleans(elements)
    else:
        if booleans and bool in set(map(type, elements)):
            raise _misfit(elements, datatype)
        result = _reals(elements, datatype) if datatype in _REAL else _wholes(elements, datatype)
    return result.reshape(shape)


def _flatten(data: Any, shape: list[int], count: int) -> list[Any]:
    """The elements in row-major order."""
    if type(data) is not list:
        raise malformed(f"`data` must be a list, got {quoted(data)}")
    elements = data
    if data and type(data[0]) is list:
        level = [data]
        for length in shape:
            if any(type(item) is not list or len(item) != length for item in level):
                raise malformed(f"`data` is nested otherwise than its shape {shape}")
            level = list(chain.from_iterable(level))
        elements = level
    if len(elements) != count:
        expected = f"shape {shape} has {count}"
        raise malformed(f"`data` has {len(elements)} elements, {expected}")
    return elements


def _texts(elements: list[Any]) -> NDArray[Any]:
    try:
        encoded = [element.encode() for element in elements]
    except AttributeError:
        raise _misfit(elements, Datatype.BYTES) from None
    return np.array(encoded, dtype=object)


def _booleans(elements: list[Any]) -> NDArray[Any]:
    if not set(map(type, elements)) <= {bool}:
        raise _misfit(elements, Datatype.BOOL)
    return np.array(elements, dtype=np.bool_)


def _wholes(elements: list[Any], datatype: Datatype) -> NDArray[Any]:
    try:
        packed = array(_WHOLE[datatype], elements)
    except (TypeError, OverflowError):
        # Either something that does not fit, or whole numbers written as 1.0 or 1e3.
        if any(not _holds(datatype, element) for element in elements):
            raise _misfit(elements, datatype) from None
        packed = array(_WHOLE[datatype], map(int, elements))
    return np.frombuffer(packed, DTYPES[datatype])


def _reals(elements: list[Any], datatype: Datatype) -> NDArray[Any]:
    try:
        packed = array(_REAL[datatype], elements)
    except TypeError:
        raise _misfit(elements, datatype) from None
    result = np.frombuffer(packed, packed.typecode)
    if datatype is Datatype.FP16:
        with np.errstate(over="ignore"):
            result = result.astype(DTYPES[datatype])
    # JSON has no infinity: one that is here now was a number too large for the datatype.
    if not all_finite(result):
        raise _misfit(elements, datatype)
    return result


def _holds(datatype: Datatype, element: Any) -> bool:
    """Whether *datatype* holds the JSON value *element*."""
    kind = type(element)
    if datatype is Datatype.BYTES:
        return kind is str
    if datatype is Datatype.BOOL:
        return kind is bool
    if kind is not int and kind is not float:
        return False
    if datatype in _REAL:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float64(element).astype(DTYPES[datatype])))
    # Above 2^53 the parser may have rounded: what was written as a fraction is not known any more.
    if kind is float and not (element.is_integer() and abs(element) < _EXACT_IN_DOUBLE):
        return False
    limits = np.iinfo(DTYPES[datatype])
    least, most = int(limits.min), int(limits.max)
    return least <= int(element) <= most


def _misfit(elements: list[Any], datatype: Datatype) -> RequestError:
    """The error that names the first of *elements* that *datatype* cannot hold."""
    position, element = next(
        (position, element)
        for position, element in enumerate(elements)
        if not _holds(datatype, element)
    )
    if type(element) is list:
        return malformed("`data` is nested deeper than its shape")
    message = f"`data`: element {position} is {quoted(element)}, which {datatype} cannot hold"
    return RequestError(Status.INVALID_INPUT, message)


def encode_data(tensor: Tensor) -> Any:
    """What ``orjson`` writes as the tensor's ``data``: flat, every number exact.

    Raises ``ValueError`` for what JSON cannot hold: NaN, infinity, bytes that are not UTF-8.
    """
    if tensor.datatype is Datatype.BYTES:
        return _as_texts(tensor)
    if tensor.datatype not in _REAL:
        return tensor.data.astype(tensor.data.dtype, order="C").reshape(-1)
    # As doubles: the shortest decimal of a float is not always the same float again once a reader
    # has parsed it as a double.
    numbers = tensor.data.astype(np.float64, order="C").reshape(-1)
    finite = np.isfinite(numbers)
    if not finite.all():
        position = int(finite.argmin())
        raise ValueError(
            f"tensor {quoted(tensor.name)}: element {position} is {numbers[position]}, which JSON "
            "cannot hold; use the binary form (content-type application/octet-stream)"
        )
    return numbers


def _as_texts(tensor: Tensor) -> list[str]:
    texts = []
    for position, element in enumerate(tensor.data.reshape(-1).tolist()):
        try:
            texts.append(str(element, "utf-8"))
        except (UnicodeDecodeError, TypeError) as error:
            raise ValueError(
                f"tensor {quoted(tensor.name)}: element {position} is not UTF-8 bytes, which JSON "
                "cannot hold; use the binary form (content-type application/octet-stream)"
            ) from error
    return texts
