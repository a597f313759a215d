"""Whatever arrives, decoding gives a request or a ``RequestError``, and nothing else."""

import json
import warnings

from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.contract.bodies import BAD_INPUT, BAD_REQUEST
from unit.contract.tensors import all_same, samples

from ondemand.contract.codec import InferRequest, decode_request, encode_error, encode_request
from ondemand.contract.tensor import DTYPES, Datatype
from ondemand.errors import RequestError

GOOD = [
    encode_request(InferRequest(samples(), ("a",), "id"), binary=binary) for binary in (True, False)
]


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200), st.none() | st.integers(-1, 300))
@example(b"", 0)
def test_arbitrary_bytes_raise_nothing_but_request_error(value, head_length):
    """Whatever is sent, decoding gives a request or a ``RequestError``, and nothing else."""
    _decode_or_refuse(value, head_length)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_mutated_bodies_raise_nothing_but_request_error(data):
    """A good body with some bytes replaced, and another head length, does not break decoding."""
    body = data.draw(st.sampled_from(GOOD))
    start = data.draw(st.integers(0, len(body.value)))
    stop = data.draw(st.integers(start, min(start + 6, len(body.value))))
    value = body.value[:start] + data.draw(st.binary(max_size=6)) + body.value[stop:]
    shift = data.draw(st.sampled_from([0, 0, 1, -1, len(value) - (stop - start)]))
    head_length = None if body.head_length is None else body.head_length + shift
    _decode_or_refuse(value, head_length)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=8,
)  # fmt: skip
SHAPE_JUNK = st.lists(st.integers(-1, 3) | st.sampled_from([2**62, 2**63, 2**64]), max_size=18)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([*(d.value for d in Datatype), "X"]),
    SHAPE_JUNK | JUNK,
    st.lists(st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=3) | JUNK,
    st.none() | st.dictionaries(st.just("binary_data_size"), st.integers(-1, 20) | JUNK),
    st.binary(max_size=20),
)
def test_plausible_tensors_raise_nothing_but_request_error(datatype, shape, data, parameters, tail):
    """A head with the right members and wrong values does not break decoding."""
    members = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    if parameters:
        members = members | {"parameters": parameters}
        members.pop("data")
    head = json.dumps({"inputs": [members]}).encode()
    _decode_or_refuse(head + tail, len(head))
    _decode_or_refuse(head, None)


def _decode_or_refuse(value, head_length):
    """Decode, and where it succeeds, see that the result is whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = decode_request(value, head_length)
        except RequestError as error:
            found, refusal = InferRequest(()), error
        else:
            refusal = RequestError(BAD_REQUEST, "")
    assert refusal.status in {BAD_REQUEST, BAD_INPUT}
    assert encode_error(refusal.status, refusal.message)
    for item in found.inputs:
        assert item.data.dtype == DTYPES[item.datatype]
    again = encode_request(found, binary=True)
    assert all_same(decode_request(again.value, again.head_length).inputs, found.inputs)
