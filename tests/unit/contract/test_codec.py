"""Bodies in both forms: what goes in comes out, and what a form cannot hold is not written."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.contract.bodies import binary_entry, decoded, document, entry, octets
from unit.contract.tensors import all_same, any_tensors, tensor

from ondemand.contract.arrays import array_tensors
from ondemand.contract.codec import (
    InferRequest,
    InferResponse,
    decode_error,
    decode_request,
    decode_response,
    encode_error,
    encode_request,
    encode_response,
)
from ondemand.contract.tensor import DTYPES, Datatype, Tensor
from ondemand.errors import RequestError, Status
from ondemand.limits import AXES_MAX, HEADER_VALUE_BYTES_MAX

NAMES = st.lists(st.text(max_size=8), max_size=3, unique=True).map(tuple)
IDS = st.none() | st.text(max_size=8)


@settings(max_examples=50, deadline=None)
@given(any_tensors(json=False), NAMES, IDS)
def test_any_binary_request_comes_back(inputs, outputs, id_):
    """A binary request holds any tensor of any datatype, to the bit."""
    body = encode_request(InferRequest(inputs, outputs, id_), binary=True)
    found = decode_request(body.value, body.head_length)
    assert all_same(found.inputs, inputs)
    assert (found.outputs, found.id) == (outputs, id_)


@settings(max_examples=50, deadline=None)
@given(any_tensors(json=True), NAMES, IDS)
def test_any_json_request_comes_back(inputs, outputs, id_):
    """A JSON request holds any tensor of finite numbers and text, to the bit."""
    body = encode_request(InferRequest(inputs, outputs, id_), binary=False)
    found = decode_request(body.value, body.head_length)
    assert all_same(found.inputs, inputs)
    assert (found.outputs, found.id) == (outputs, id_)


@settings(max_examples=40, deadline=None)
@given(any_tensors(json=True), st.booleans(), st.text(max_size=8), IDS)
def test_any_response_comes_back(outputs, binary, version, id_):
    """A response in either form comes back as it was."""
    body = encode_response(InferResponse("m", version, outputs, id_), binary=binary)
    found = decode_response(body.value, body.head_length)
    assert all_same(found.outputs, outputs)
    assert (found.model_name, found.model_version, found.id) == ("m", version, id_)


def test_a_float_survives_a_reader_that_parses_doubles():
    """FP32 is written so that it comes back through a double: its own shortest decimal does not."""
    awkward = np.nextafter(np.float32(7.038531e-26), np.float32(0))
    body = encode_request(InferRequest((tensor("x", Datatype.FP32, [awkward]),)), binary=False)
    assert np.float32(orjson.loads(body.value)["inputs"][0]["data"][0]) == awkward


def test_nested_and_flat_data_are_the_same():
    """V2 allows `data` nested as the shape or flat, row-major."""
    flat = entry(shape=[2, 3], data=[1, 2, 3, 4, 5, 6])
    nested = entry(shape=[2, 3], data=[[1, 2, 3], [4, 5, 6]])
    assert decoded(flat).tolist() == decoded(nested).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert decoded(entry(shape=[], data=[7])).shape == ()
    assert decoded(entry(shape=[2, 0], data=[[], []])).shape == (2, 0)
    assert decoded(entry(shape=[2, 0], data=[])).shape == (2, 0)


def test_one_body_may_mix_json_and_binary_tensors():
    """In a binary body, tensors with `data` stand beside those whose bytes follow the head."""
    first, second = np.array([1, 2], "<f4"), np.array([3], "<i8")
    body = octets(
        binary_entry(8, name="a"),
        entry(name="b", data=[5, 6]),
        binary_entry(8, name="c", shape=[1], datatype="INT64"),
        tail=first.tobytes() + second.tobytes(),
    )
    found = decode_request(body.value, body.head_length).inputs
    assert [t.data.tolist() for t in found] == [[1, 2], [5, 6], [3]]


def test_binary_tensors_are_views():
    """A binary tensor is not copied, and cannot be written to."""
    body = octets(binary_entry(8), tail=bytes(8))
    (found,) = decode_request(body.value, body.head_length).inputs
    assert not found.data.flags.owndata
    assert not found.data.flags.writeable


def test_what_is_not_known_is_ignored():
    """Unknown members and parameters are ignored; null optional members count as absent."""
    body = document(
        entry(parameters={"colour": [1, {"a": None}]}, more=1),
        id=None,
        outputs=None,
        parameters={"priority": 1},
        extra=[[]],
    )
    assert decode_request(body, None).id is None
    asked = document(
        entry(), outputs=[{"name": "b", "parameters": {"x": 1}}, {"name": "a"}], id="7"
    )
    assert decode_request(asked, None).outputs == ("b", "a")
    assert decode_request(asked, None).id == "7"


def test_the_last_of_a_repeated_member_counts():
    """JSON duplicate keys: the last counts, as for headers."""
    twice = document(entry()).replace(b'"data": [1, 2]', b'"data": [1, 2], "data": [3, 4]')
    assert decode_request(twice, None).inputs[0].data.tolist() == [3, 4]


@pytest.mark.parametrize("value", [b"", b"{}", b'{"outputs": [1]}', b'{"outputs": [], "id": 1}'])
def test_nonsense_of_a_worker_is_internal(value):
    """A response that cannot be decoded is the worker's fault, not the caller's."""
    with pytest.raises(RequestError) as caught:
        decode_response(value, None)
    assert caught.value.status is Status.INTERNAL


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.FP32, Datatype.FP64])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_json_never_turns_nan_into_null(datatype, number):
    """JSON holds no NaN and no infinity: said by name, never written as null. Binary holds them."""
    outputs = (tensor("scores", datatype, [0.5, number]),)
    with pytest.raises(ValueError, match=r"'scores'.*element 1.*binary form"):
        encode_response(InferResponse("m", "1", outputs), binary=False)
    body = encode_response(InferResponse("m", "1", outputs), binary=True)
    assert all_same(decode_response(body.value, body.head_length).outputs, outputs)


def test_json_holds_text_only():
    """BYTES that are not UTF-8 are refused in JSON with a sentence, and held in binary."""
    outputs = (tensor("raw", Datatype.BYTES, [b"fine", b"\xff"]),)
    with pytest.raises(ValueError, match=r"'raw'.*element 1 is not UTF-8"):
        encode_response(InferResponse("m", "1", outputs), binary=False)


@pytest.mark.parametrize("binary", [True, False])
def test_what_is_no_bytes_is_not_encoded(binary):
    """BYTES tensors hold ``bytes``: text in one is a mistake of the program's, told by name."""
    with pytest.raises(ValueError, match=r"'x'.*element 0"):
        encode_request(InferRequest((tensor("x", Datatype.BYTES, ["é"]),)), binary=binary)


@pytest.mark.parametrize("binary", [True, False])
def test_an_array_of_another_dtype_is_not_encoded(binary):
    """A tensor whose array is not of its datatype would be read as garbage: refused."""
    wrong = Tensor("x", Datatype.FP32, np.array([1], ">f4"))
    with pytest.raises(ValueError, match=r"'x'.*FP32"):
        encode_request(InferRequest((wrong,)), binary=binary)


def test_names_that_utf8_cannot_hold_are_not_encoded():
    """A lone surrogate in a name or an ID is refused as a ``ValueError``."""
    with pytest.raises(ValueError, match="JSON cannot hold"):
        encode_request(InferRequest((), (), "\ud800"), binary=True)


@pytest.mark.parametrize("binary", [True, False])
def test_layout_in_memory_does_not_matter(binary):
    """Transposed and strided arrays are written row-major."""
    data = np.arange(12, dtype="<i4").reshape(3, 4).T[::2]
    body = encode_request(InferRequest((Tensor("x", Datatype.INT32, data),)), binary=binary)
    assert np.array_equal(decode_request(body.value, body.head_length).inputs[0].data, data)


@settings(max_examples=40, deadline=None)
@given(st.text(), st.sampled_from(Status))
def test_an_error_body_comes_back(message, status):
    """An error is ``{"error": …, "code": …}``; its message is read back, bounded."""
    value = encode_error(status, message)
    assert json.loads(value) == {"error": message, "code": status.value}
    if message:
        assert decode_error(value) == message[:HEADER_VALUE_BYTES_MAX]


def test_an_error_body_can_always_be_written():
    """A message with what UTF-8 cannot hold is written with a replacement."""
    assert decode_error(encode_error("internal", "file \udcff")) == "file ?"


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'{"error": 3}', b'{"error": ""}'])
def test_an_unreadable_error_body_gets_a_sentence(value):
    """What is no error body reads as one generic sentence."""
    assert "no readable reason" in decode_error(value)


@pytest.mark.parametrize(
    ("value", "datatype", "elements"),
    [
        ([1, 2], Datatype.INT64, [1, 2]),
        ([1.5], Datatype.FP64, [1.5]),
        (np.array([1, 2], ">i2"), Datatype.INT16, [1, 2]),
        (np.array([0.5], ">f2"), Datatype.FP16, [0.5]),
        (True, Datatype.BOOL, [True]),
        ("é", Datatype.BYTES, ["é".encode()]),
        (b"ends in zeros\0\0", Datatype.BYTES, [b"ends in zeros\0\0"]),
        ([b"a\0", b"b"], Datatype.BYTES, [b"a\0", b"b"]),
        (np.array(["a", "é"]), Datatype.BYTES, [b"a", "é".encode()]),
        (np.array(["a", b"b"], dtype=object), Datatype.BYTES, [b"a", b"b"]),
        ([], Datatype.FP64, []),
    ],
)
def test_arrays_become_tensors(value, datatype, elements):
    """Anything NumPy makes an array of becomes a tensor, byte order mended and no byte lost."""
    (found,) = array_tensors([("x", value)])
    assert found.datatype is datatype
    assert found.data.dtype == DTYPES[datatype]
    assert found.data.reshape(-1).tolist() == elements


@pytest.mark.parametrize(
    "value",
    [
        1j,
        np.datetime64("2020-01-01"),
        np.zeros(1, np.longdouble),
        {"a": 1},
        [[1], [1, 2]],
        [1, "a"],
        [None],
        2**70,
        np.zeros([1] * (AXES_MAX + 1)),
        np.zeros(1, [("a", "i4")]),
    ],
)
def test_arrays_that_v2_has_no_datatype_for_are_refused(value):
    """What V2 cannot name is refused with the tensor's name."""
    with pytest.raises(ValueError, match="'x'"):
        array_tensors([("x", value)])
