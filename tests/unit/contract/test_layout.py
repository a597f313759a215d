"""Heads that were read before: the second reading must not differ from the first."""

import numpy as np
import pytest

from ondemand.contract import codec
from ondemand.contract.arrays import array_tensors
from ondemand.contract.codec import (
    InferRequest,
    InferResponse,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from ondemand.contract.layout import HEAD_BYTES_KEPT, HEADS_KEPT, Layouts
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import RequestError, Status


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with no head read."""
    monkeypatch.setattr(codec, "_known_requests", Layouts())


def body_of(*arrays: np.ndarray, request_id: str | None = None) -> tuple[bytes, int]:
    """A binary request with these arrays as a, b, …"""
    tensors = array_tensors(list(zip("abc", arrays, strict=False)))
    body = encode_request(InferRequest(tensors, (), request_id), binary=True)
    assert body.head_length is not None
    return body.value, body.head_length


def known() -> int:
    """How many heads are remembered."""
    return len(codec._known_requests)


def test_each_body_gives_its_own_numbers() -> None:
    """One head, two bodies: the second gives what it holds, not what the first held."""
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), dtype=np.float32)
    for wanted in (first, second, first):
        request = decode_request(*body_of(wanted, np.arange(3)))
        np.testing.assert_array_equal(request.inputs[0].data, wanted)
        np.testing.assert_array_equal(request.inputs[1].data, np.arange(3))
        assert request.inputs[0].datatype is Datatype.FP32
        assert not request.inputs[0].data.flags.writeable
    assert known() == 1


def test_outputs_and_id_are_remembered_with_the_head() -> None:
    """All that a head says is said again."""
    tensors = array_tensors([("a", np.zeros((1, 2), dtype=np.int8))])
    body = encode_request(InferRequest(tensors, ("y", "z"), "n7"), binary=True)
    for _ in range(2):
        request = decode_request(body.value, body.head_length)
        assert (request.outputs, request.id) == (("y", "z"), "n7")


@pytest.mark.parametrize("change", [b"", b"\0", b"\0" * 8])
def test_a_known_head_with_a_body_of_another_length_is_refused(change: bytes) -> None:
    """Too short or too long: refused as if the head were new."""
    value, head_length = body_of(np.ones((2, 3), dtype=np.float32))
    decode_request(value, head_length)
    broken = value[:-1] if not change else value + change
    with pytest.raises(RequestError) as refused:
        decode_request(broken, head_length)
    assert refused.value.status is Status.INVALID_REQUEST


def test_booleans_are_looked_at_each_time() -> None:
    """A sound BOOL tensor does not vouch for the next one."""
    value, head_length = body_of(np.array([True, False]))
    decode_request(value, head_length)
    with pytest.raises(RequestError) as refused:
        decode_request(value[:-1] + b"\2", head_length)
    assert refused.value.status is Status.INVALID_INPUT


def test_texts_are_split_each_time() -> None:
    """BYTES of the same total length may be split otherwise."""
    for wanted in ([b"ab", b"c"], [b"a", b"bc"]):
        request = decode_request(*body_of(np.array(wanted, dtype=object)))
        assert request.inputs[0].data.tolist() == wanted


def test_a_head_that_holds_a_tensor_itself_is_not_remembered() -> None:
    """JSON data in a binary body's head belongs to that body."""
    head = b'{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]}]}'
    for _ in range(2):
        request = decode_request(head, len(head))
        np.testing.assert_array_equal(request.inputs[0].data, [[1, 2]])
    assert known() == 0


def test_what_is_remembered_is_bounded() -> None:
    """Heads that differ each time, and long ones, do not pile up."""
    array = np.zeros((1, 1), dtype=np.float32)
    for n in range(HEADS_KEPT * 2 + 1):
        decode_request(*body_of(array, request_id=str(n)))
        assert known() <= HEADS_KEPT
    remembered = known()
    decode_request(*body_of(array, request_id="n" * HEAD_BYTES_KEPT))
    assert known() == remembered


@pytest.mark.parametrize("request_id", [None, "n7"])
def test_responses_are_the_same_with_and_without_an_id(request_id: str | None) -> None:
    """A head that is written once for many responses reads like one that is written each time."""
    scores = np.array([[0.25, 0.75]], dtype=np.float32)
    names = np.array([[b"cat", b"dog"]], dtype=object)
    outputs = (Tensor("y", Datatype.FP32, scores), Tensor("names", Datatype.BYTES, names))
    for version in ("1.0.0", "1.0.1"):
        body = encode_response(InferResponse("m", version, outputs, request_id), binary=True)
        found = decode_response(body.value, body.head_length)
        assert (found.model_name, found.model_version, found.id) == ("m", version, request_id)
        np.testing.assert_array_equal(found.outputs[0].data, scores)
        assert found.outputs[1].data.tolist() == names.tolist()
