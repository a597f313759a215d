"""Heads that are written and read once say the same as those of each body by itself."""

import numpy as np
import pytest

from ondemand.client import bodies
from ondemand.client.bodies import request_body, response_arrays
from ondemand.contract.arrays import array_tensors
from ondemand.contract.codec import (
    Body,
    InferRequest,
    InferResponse,
    encode_request,
    encode_response,
)
from ondemand.contract.layout import Heads
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import RequestError

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_written", {})
    monkeypatch.setattr(bodies, "_layouts", Heads())


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("wanted", [(), ("y", "z")])
def test_a_request_is_written_as_ever(*, binary: bool, wanted: tuple[str, ...]) -> None:
    """The first, the next of its form, and those that differ in one thing only."""
    forms = [
        [("x", ROWS)],
        [("x", ROWS + 1)],
        [("x", ROWS.astype(np.float64))],
        [("x", ROWS.reshape(3, 2))],
        [("name", ROWS)],
        [("x", ROWS), ("text", ["a", "bcd"])],
        [("x", ROWS), ("text", ["abcdefg", ""])],
    ]
    for arrays in forms * 2:
        tensors = array_tensors(arrays)
        expected = encode_request(InferRequest(tensors, wanted), binary=binary)
        assert request_body(tensors, wanted, binary=binary) == expected


def test_a_tensor_of_the_wrong_dtype_is_refused_each_time() -> None:
    """Also where the form of the right one is known."""
    request_body((Tensor("x", Datatype.FP32, ROWS),), (), binary=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="FP32 needs float32"):
            request_body((Tensor("x", Datatype.FP32, ROWS.astype(np.int32)),), (), binary=True)


def test_a_bounded_number_of_forms_is_kept() -> None:
    """Shapes that are new each time do not fill the memory."""
    for length in range(2 * bodies.FORMS_KEPT):
        request_body((Tensor("x", Datatype.INT8, np.zeros(length, np.int8)),), (), binary=True)
        assert len(bodies._written) <= bodies.FORMS_KEPT


def test_a_response_is_read_as_ever() -> None:
    """The first of its head and the next, by name and in order; views, as before."""
    for number in range(3):
        outputs = array_tensors([("b", ROWS + number), ("a", np.array([number]))])
        body = encode_response(InferResponse("m", "1", outputs), binary=True)
        arrays = response_arrays(body)
        assert list(arrays) == ["b", "a"]
        assert arrays["b"].tolist() == (ROWS + number).tolist()
        assert arrays["a"].tolist() == [number]
        assert not arrays["b"].flags.writeable


def test_a_known_head_lets_nothing_pass() -> None:
    """A body that is too short for it, or a BOOL that is none, is refused as before."""
    flag = encode_response(
        InferResponse("m", "1", (Tensor("y", Datatype.BOOL, np.array([True])),)), binary=True
    )
    rows = encode_response(
        InferResponse("m", "1", (Tensor("y", Datatype.FP32, ROWS),)), binary=True
    )
    for body, broken in ((rows, rows.value[:-1]), (flag, flag.value[:-1] + b"\2")):
        response_arrays(body)
        with pytest.raises(RequestError):
            response_arrays(Body(broken, body.head_length))
