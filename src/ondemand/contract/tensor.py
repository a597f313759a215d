"""Tensors as the Open Inference Protocol V2 names and lays them out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Datatype(StrEnum):
    """The datatypes of V2. (Triton's BF16 is an extension that NumPy cannot hold: not taken.)"""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


REALS = (Datatype.FP16, Datatype.FP32, Datatype.FP64)
"""Those that hold fractions, and so NaN and infinities."""

DTYPES: Mapping[Datatype, np.dtype[Any]] = MappingProxyType(
    {
        Datatype.BOOL: np.dtype(np.bool_),
        Datatype.UINT8: np.dtype("<u1"),
        Datatype.UINT16: np.dtype("<u2"),
        Datatype.UINT32: np.dtype("<u4"),
        Datatype.UINT64: np.dtype("<u8"),
        Datatype.INT8: np.dtype("<i1"),
        Datatype.INT16: np.dtype("<i2"),
        Datatype.INT32: np.dtype("<i4"),
        Datatype.INT64: np.dtype("<i8"),
        Datatype.FP16: np.dtype("<f2"),
        Datatype.FP32: np.dtype("<f4"),
        Datatype.FP64: np.dtype("<f8"),
        Datatype.BYTES: np.dtype(object),
    }
)
"""Always little-endian: ONNX Runtime ignores NumPy's byte order and would read garbage."""


_HALF_BYTES = 2  # of FP16, whose squares overflow from 256 on


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array. Its dtype is the datatype's; BYTES are an object array of ``bytes``."""

    name: str
    datatype: Datatype
    data: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.data.shape


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no element of an array of floats is NaN or infinite.

    Its product with itself tells, unless that overflows: several times as fast as looking at each
    element, above all in a view that is not aligned.
    """
    if array.dtype.itemsize > _HALF_BYTES and math.isfinite(np.vdot(array, array)):
        return True
    return bool(np.isfinite(array).all())
