"""Bodies made and read by Triton's own client library, in both directions.

Only this module imports ``tritonclient``: with it come gevent and an HTTP client.
"""

import orjson
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from unit.contract.tensors import all_same, same, samples, tensor

from ondemand.contract.codec import (
    InferRequest,
    InferResponse,
    decode_request,
    encode_request,
    encode_response,
)
from ondemand.contract.tensor import Datatype, Tensor

RAW_BYTES = tensor("raw", Datatype.BYTES, [b"\xff\0", b""])
MORE = [*samples(), tensor("empty", Datatype.FP32, []), tensor("one", Datatype.INT8, 5)]
"""Each datatype, an empty tensor, and one without axes."""

BY_NAME = [pytest.param(item, id=item.name) for item in MORE]


def triton_input(item, *, binary):
    """*item* as Triton's client takes it."""
    made = InferInput(item.name, list(item.shape), item.datatype.value)
    return made.set_data_from_numpy(item.data, binary_data=binary)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("item", BY_NAME)
def test_triton_requests_are_decoded(item, binary):
    """A request made by Triton's client gives the tensor that went in."""
    made = [triton_input(item, binary=binary)]
    value, head_length = InferenceServerClient.generate_request_body(made, request_id="7")
    found = decode_request(value, head_length)
    assert all_same(found.inputs, (item,))
    assert (found.id, found.outputs) == ("7", ())


@pytest.mark.parametrize("every", [1, 2, 3])
def test_triton_requests_with_all_datatypes_are_decoded(every):
    """All datatypes in one body, JSON and binary mixed, with named outputs."""
    wanted = [*MORE, RAW_BYTES]
    made = [
        triton_input(item, binary=item is RAW_BYTES or number % every == 0)
        for number, item in enumerate(wanted)
    ]
    outputs = [InferRequestedOutput("b"), InferRequestedOutput("a", binary_data=False)]
    value, head_length = InferenceServerClient.generate_request_body(
        made, outputs, sequence_id=3, priority=1, timeout=5, parameters={"colour": "red"}
    )
    found = decode_request(value, head_length)
    assert all_same(found.inputs, wanted)
    assert found.outputs == ("b", "a")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("item", BY_NAME)
def test_our_responses_are_read_by_triton(item, binary):
    """A response of ours gives Triton's client the tensor that went in."""
    body = encode_response(InferResponse("m", "1", (item,), "7"), binary=binary)
    result = InferenceServerClient.parse_response_body(body.value, header_length=body.head_length)
    assert result.get_response()["id"] == "7"
    assert same(as_read(result, item), item)


def test_our_responses_with_all_datatypes_are_read_by_triton():
    """All datatypes in one binary body, bytes that are no text among them."""
    wanted = [*MORE, RAW_BYTES]
    body = encode_response(InferResponse("m", "1", tuple(wanted)), binary=True)
    result = InferenceServerClient.parse_response_body(body.value, header_length=body.head_length)
    assert all_same([as_read(result, item) for item in wanted], wanted)


def as_read(result, item):
    """The tensor named like *item* in Triton's *result*. JSON text stays text there."""
    data = result.as_numpy(item.name)
    if item.datatype is Datatype.BYTES:
        elements = [e.encode() if isinstance(e, str) else e for e in data.reshape(-1)]
        data = tensor("", item.datatype, elements).data.reshape(data.shape)
    return Tensor(item.name, item.datatype, data)


@pytest.mark.parametrize("item", BY_NAME)
def test_our_binary_requests_are_tritons_to_the_byte(item):
    """What follows the head is the same bytes, and the head says the same, whoever made it."""
    theirs, length = InferenceServerClient.generate_request_body([triton_input(item, binary=True)])
    ours = encode_request(InferRequest((item,)), binary=True)
    assert ours.value[ours.head_length :] == theirs[length:]
    assert inputs_of(ours.value[: ours.head_length]) == inputs_of(theirs[:length])


@pytest.mark.parametrize("item", BY_NAME)
def test_our_json_requests_say_what_tritons_say(item):
    """A JSON body holds the same values, whoever made it, FP16 among them."""
    theirs, _ = InferenceServerClient.generate_request_body([triton_input(item, binary=False)])
    ours = encode_request(InferRequest((item,)), binary=False)
    assert inputs_of(ours.value) == inputs_of(theirs)


def inputs_of(head):
    """The inputs that a JSON head lists."""
    return orjson.loads(head)["inputs"]
