"""Tensors from what callers have: anything that NumPy makes an array of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondemand.contract.document import quoted
from ondemand.contract.tensor import DTYPES, Datatype, Tensor
from ondemand.limits import AXES_MAX

_NUMPY_DATATYPES = {
    (dtype.kind, dtype.itemsize): datatype
    for datatype, dtype in DTYPES.items()
    if datatype is not Datatype.BYTES
}


def array_tensors(arrays: Sequence[tuple[str, object]]) -> tuple[Tensor, ...]:
    """Tensors from anything NumPy makes an array of: dtype to datatype, byte order mended, text to
    BYTES as UTF-8. Raises ``ValueError`` for an array that V2 has no datatype for."""
    return tuple(array_tensor(name, value) for name, value in arrays)


def array_tensor(name: str, value: object) -> Tensor:
    """As ``array_tensors``, for one."""
    try:
        data: NDArray[Any] = np.asarray(value)
        # NumPy's own text and bytes lose trailing zeros: only objects keep what a caller gave.
        if data.dtype.kind in "SU" and not isinstance(value, np.ndarray):
            data = np.asarray(value, dtype=object)
    except (TypeError, ValueError) as error:
        raise ValueError(f"tensor {quoted(name)}: NumPy makes no array of it: {error}") from error
    if data.ndim > AXES_MAX:
        raise ValueError(
            f"tensor {quoted(name)} has {data.ndim} axes, at most {AXES_MAX} are taken"
        )
    if data.dtype.kind in "SUO":
        elements = [_element_bytes(name, element) for element in data.reshape(-1).tolist()]
        return Tensor(name, Datatype.BYTES, np.array(elements, dtype=object).reshape(data.shape))
    datatype = _NUMPY_DATATYPES.get((data.dtype.kind, data.dtype.itemsize))
    if datatype is None:
        expected = ", ".join(Datatype)
        raise ValueError(
            f"tensor {quoted(name)}: no datatype for NumPy's {data.dtype}; there are {expected}"
        )
    return Tensor(name, datatype, data.astype(DTYPES[datatype], copy=False))


def _element_bytes(name: str, element: object) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes):
        return element
    kind = type(element).__name__
    raise ValueError(f"tensor {quoted(name)}: an element is {kind}, expected text or bytes")
