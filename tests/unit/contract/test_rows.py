"""Responses that are cut from a batch are what they would be if each were written by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondemand.contract.codec import InferResponse, encode_response
from ondemand.contract.rows import Rows
from ondemand.contract.tensor import DTYPES, Datatype, Tensor

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
INNER = st.lists(st.integers(0, 3), max_size=2).map(tuple)
TEXTS = st.one_of(st.text(max_size=3).map(str.encode), st.binary(max_size=3))


@st.composite
def outputs(draw, rows):
    """One to three tensors with so many rows."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    return [draw(output(name, rows)) for name in names]


@st.composite
def output(draw, name, rows):
    """A tensor with so many rows, of any datatype, with the odd values too."""
    datatype = draw(st.sampled_from(Datatype))
    shape = (rows, *draw(INNER))
    count = int(np.prod(shape))
    if datatype is Datatype.BYTES:
        texts = draw(st.lists(TEXTS, min_size=count, max_size=count))
        data = np.empty(count, dtype=object)
        data[:] = texts
        return Tensor(name, datatype, data.reshape(shape))
    dtype = DTYPES[datatype]
    content = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    if datatype is Datatype.BOOL:
        content = bytes(byte & 1 for byte in content)
    return Tensor(name, datatype, np.frombuffer(content, dtype).reshape(shape))


@st.composite
def batches(draw):
    """Rows of each request, and the outputs of the run."""
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    return counts, draw(outputs(sum(counts)))


def written(response: InferResponse, *, binary: bool) -> object:
    """The body, or what is wrong with it."""
    try:
        return encode_response(response, binary=binary)
    except ValueError as error:
        return str(error)


@settings(max_examples=300)
@given(batches(), st.booleans(), st.one_of(st.none(), st.text(max_size=4)), st.data())
def test_a_cut_response_is_the_same_to_the_byte(batch, binary, id_, data):
    """Any tensors, any rows, any selection of outputs, with an ID and without."""
    counts, tensors = batch
    by_name = {tensor.name: tensor for tensor in tensors}
    rows = Rows(tensors, batched=True)
    start = 0
    for count in counts:
        stop = start + count
        names = tuple(data.draw(st.lists(st.sampled_from(sorted(by_name)), unique=True)))
        own = tuple(
            Tensor(name, by_name[name].datatype, by_name[name].data[start:stop])
            for name in names or by_name
        )
        wanted = written(InferResponse('m"', "1,", own, id_), binary=binary)
        try:
            found: object = rows.body(
                start,
                stop,
                model_name='m"',
                model_version="1,",
                names=names,
                id=id_,
                binary=binary,
            )
        except ValueError as error:
            found = str(error)
        assert found == wanted
        start = stop


@pytest.mark.parametrize("binary", [True, False])
def test_without_a_batch_axis_a_response_is_whole(*, binary: bool) -> None:
    """A scalar has no rows to be cut from."""
    tensors = (
        Tensor("y", Datatype.FP32, np.array(1.5, dtype=np.float32)),
        Tensor("z", Datatype.INT64, np.arange(3)),
    )
    rows = Rows(tensors, batched=False)
    found = rows.body(0, 1, model_name="m", model_version="1", names=(), id=None, binary=binary)
    assert rows.of(0, 1, ()) == tensors
    assert found == encode_response(InferResponse("m", "1", tensors), binary=binary)


def test_one_that_json_cannot_hold_does_not_hurt_the_others() -> None:
    """NaN is said for the row that has it."""
    scores = np.array([[0.5], [np.nan], [0.25]], dtype=np.float32)
    rows = Rows([Tensor("y", Datatype.FP32, scores)], batched=True)
    asked = {"model_name": "m", "model_version": "1", "names": (), "id": None, "binary": False}

    assert b'"data":[0.5]' in rows.body(0, 1, **asked).value
    with pytest.raises(ValueError, match="element 0 is nan, which JSON cannot hold"):
        rows.body(1, 2, **asked)
    assert b'"data":[0.25]' in rows.body(2, 3, **asked).value
