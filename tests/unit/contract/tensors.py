"""Tensors for the contract's tests: awkward samples, any tensor by Hypothesis, exact comparison."""

import math

import numpy as np
from hypothesis import strategies as st

from ondemand.contract.tensor import DTYPES, Datatype, Tensor

REALS = (Datatype.FP16, Datatype.FP32, Datatype.FP64)


def tensor(name, datatype, data):
    """A tensor of *data* in the datatype's own dtype."""
    return Tensor(name, datatype, np.array(data, dtype=DTYPES[datatype]))


def samples():
    """One tensor of each datatype, with the values at the edges that both forms can hold."""
    found = []
    for datatype in Datatype:
        if datatype is Datatype.BOOL:
            data = [[True, False], [False, True]]
        elif datatype is Datatype.BYTES:
            data = [[b"", b"plain"], ["äöü €".encode(), b'quote " and \\']]
        elif datatype in REALS:
            limits = np.finfo(DTYPES[datatype])
            data = [[0.0, -0.0], [float(limits.max), float(limits.smallest_subnormal)]]
        else:
            limits = np.iinfo(DTYPES[datatype])
            data = [[limits.min, 0], [1, limits.max]]
        found.append(tensor(f"in_{datatype.value.lower()}", datatype, data))
    return tuple(found)


def same(one, other):
    """Whether two tensors are the same to the bit: NaN equals NaN, and -0.0 is not 0.0."""
    if (one.name, one.datatype, one.shape) != (other.name, other.datatype, other.shape):
        return False
    if one.data.dtype != other.data.dtype:
        return False
    if one.datatype is Datatype.BYTES:
        return one.data.reshape(-1).tolist() == other.data.reshape(-1).tolist()
    return one.data.tobytes() == other.data.tobytes()


def all_same(ones, others):
    """Whether two sequences of tensors are the same to the bit."""
    return len(ones) == len(others) and all(map(same, ones, others))


SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def any_tensor(draw, name, *, json):
    """Any tensor of any datatype; *json*: only what JSON can hold."""
    datatype = draw(st.sampled_from(Datatype))
    shape = draw(SHAPES)
    count = math.prod(shape)
    if datatype is Datatype.BYTES:
        element = st.text(max_size=5).map(str.encode) if json else st.binary(max_size=5)
        elements = draw(st.lists(element, min_size=count, max_size=count))
        return Tensor(name, datatype, np.array(elements, dtype=object).reshape(shape))
    dtype = DTYPES[datatype]
    size = count * dtype.itemsize
    data = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).copy()
    if datatype is Datatype.BOOL:
        data = (data.view(np.uint8) & 1).view(np.bool_)
    elif datatype in REALS and json:
        data[~np.isfinite(data)] = 0
    return Tensor(name, datatype, data.reshape(shape))


@st.composite
def any_tensors(draw, *, json):
    """A few tensors with different names."""
    names = draw(st.lists(st.text(max_size=8), max_size=3, unique=True))
    return tuple(draw(any_tensor(name, json=json)) for name in names)
