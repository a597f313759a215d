"""Bodies in both forms: what goes in comes out, what is wrong is refused as the contract says."""

import json
import warnings

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.contract.tensors import all_same, any_tensors, samples, tensor

from ondemand.contract.codec import (
    Body,
    InferRequest,
    InferResponse,
    array_tensors,
    decode_error,
    decode_request,
    decode_response,
    encode_error,
    encode_request,
    encode_response,
)
from ondemand.contract.tensor import DTYPES, Datatype, Tensor
from ondemand.errors import RequestError, Status
from ondemand.limits import AXES_MAX, HEADER_VALUE_BYTES_MAX, JSON_DEPTH_MAX, TENSORS_MAX

BAD_REQUEST, BAD_INPUT = Status.INVALID_REQUEST, Status.INVALID_INPUT
NAMES = st.lists(st.text(max_size=8), max_size=3, unique=True).map(tuple)
IDS = st.none() | st.text(max_size=8)


def entry(**changes):
    """An input of two FP32 elements, with members changed, or left out where None."""
    members = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]} | changes
    return {member: value for member, value in members.items() if value is not None}


def document(*inputs, **members):
    """A JSON body with these inputs."""
    return json.dumps({"inputs": list(inputs), **members}).encode()


def octets(*inputs, tail=b"", **members):
    """A binary body: the JSON head, then *tail*."""
    head = document(*inputs, **members)
    return Body(head + tail, len(head))


def binary_entry(size, **changes):
    """An input whose data is *size* bytes after the head."""
    return entry(data=None, parameters={"binary_data_size": size}, **changes)


def refused(value, head_length=None):
    """Status and message of the refusal of *value*."""
    with pytest.raises(RequestError) as caught:
        decode_request(value, head_length)
    assert len(caught.value.message) < 1_000, "a message must not grow with what was sent"
    return caught.value.status, caught.value.message


def decoded(*inputs):
    """The only tensor's array in a JSON body of *inputs*."""
    (found,) = decode_request(document(*inputs), None).inputs
    return found.data


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


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"3",
        b"{}",
        b'{"inputs": null}',
        b'{"inputs": {}}',
        b'{"inputs": [1]}',
        b'{"inputs": [], "outputs": 3}',
        b'{"inputs": [], "outputs": ["x"]}',
        b'{"inputs": [], "outputs": [{}]}',
        b'{"inputs": [], "id": 3}',
        b"\xff\xfe{}",
        b'\xef\xbb\xbf{"inputs": []}',
        document(entry()).replace(b"1, 2", b"NaN, 2"),
        document(entry()).replace(b"1, 2", b"Infinity, 2"),
        document(entry()).replace(b"1, 2", b"1e999, 2"),
        document(entry(name=3)),
        document(entry(name=None)),
        document(entry(datatype=None)),
        document(entry(datatype=3)),
        document(entry(shape=None)),
        document(entry(shape=2)),
        document(entry(shape=[2.0])),
        document(entry(shape=[True, 2])),
        document(entry(shape=["2"])),
        document(entry(shape=[-2])),
        document(entry(shape=[-1, -2])),
        document(entry(shape=[3])),
        document(entry(shape=[1] * AXES_MAX + [2])),
        document(entry(shape=[2**62, 4], data=[])),
        document(entry(shape=[0, 2**62, 2**62], data=[])),
        document(entry(shape=[2**64], data=[])),
        document(entry(shape=[10**400], data=[])),
        document(entry(data=None)),
        document(entry(data={})),
        document(entry(data="12")),
        document(entry(data=1)),
        document(entry(data=[[1, 2]])),
        document(entry(data=[1, [2]])),
        document(entry(shape=[1, 2], data=[[1], [2]])),
        document(entry(shape=[2, 2], data=[[1, 2], 3])),
        document(entry(shape=[1, 1], data=[[[1]]])),
        document(entry(datatype="BYTES", data=[["a"], ["b"]])),
        document(entry(parameters=3)),
        document(binary_entry(8)),
    ],
)
def test_what_cannot_be_decoded_is_an_invalid_request(body):
    """Malformed JSON, members, shapes and sizes are refused as `invalid-request`."""
    assert refused(body)[0] is BAD_REQUEST


@pytest.mark.parametrize(
    ("datatype", "element"),
    [
        ("INT8", 300),
        ("INT8", -129),
        ("UINT8", 256),
        ("UINT8", -1),
        ("UINT16", 2**16),
        ("UINT32", 2**32),
        ("INT16", 2**15),
        ("INT32", 2**31),
        ("INT64", 2**63),
        ("INT64", -(2**63) - 1),
        ("UINT64", 2**64),
        ("UINT64", -1),
        ("INT64", 1.5),
        ("INT64", 2.0**53),
        ("INT32", 1e20),
        ("FP16", 65520),
        ("FP16", 1e300),
        ("FP32", 1e39),
        ("FP32", -3.5e38),
        ("FP32", True),
        ("FP64", False),
        ("INT8", True),
        ("FP32", None),
        ("FP64", "1"),
        ("INT8", "1"),
        ("FP32", {}),
        ("BOOL", 1),
        ("BOOL", "true"),
        ("BOOL", None),
        ("BYTES", 1),
        ("BYTES", None),
        ("BYTES", True),
    ],
)
def test_an_element_that_the_datatype_cannot_hold_is_an_invalid_input(datatype, element):
    """Numbers out of range, `true` for a number and the like are refused by name of the element."""
    fitting = {"BOOL": True, "BYTES": "a"}.get(datatype, 1)
    status, message = refused(document(entry(datatype=datatype, data=[fitting, element])))
    assert status is BAD_INPUT
    assert "'x'" in message
    assert "element 1" in message


def test_whole_numbers_may_be_written_as_fractions():
    """1.0 and 1e3 are whole numbers: an integer datatype takes them."""
    body = document(entry(datatype="INT16")).replace(b"1, 2", b"1.0, 1e3")
    assert decode_request(body, None).inputs[0].data.tolist() == [1, 1000]


def test_integers_are_exact_to_the_last_bit():
    """64-bit integers do not pass through a double."""
    assert decoded(entry(datatype="INT64", data=[2**53 + 1, -(2**63)])).tolist() == [
        2**53 + 1,
        -(2**63),
    ]
    assert decoded(entry(datatype="UINT64", data=[2**64 - 1, 0])).tolist() == [2**64 - 1, 0]


def test_an_unknown_datatype_is_an_invalid_input():
    """A datatype outside V2 is answered as one that the model does not take."""
    assert refused(document(entry(datatype="BF16")))[0] is BAD_INPUT


def test_repeated_names_are_an_invalid_input():
    """A tensor named twice is refused, and so is an output asked for twice."""
    assert refused(document(entry(), entry()))[0] is BAD_INPUT
    assert refused(document(entry(), outputs=[{"name": "y"}, {"name": "y"}]))[0] is BAD_INPUT


def nested(depth):
    """A request that nests *depth* levels, with brackets in a string, too, that do not count."""
    levels = depth - 1
    return b'{"inputs": [], "text": "[[\\"[[{{", "more": ' + b"[" * levels + b"]" * levels + b"}"


def test_depth_is_bounded():
    """The deepest document that is allowed is taken; one level more is refused, however deep."""
    assert decode_request(nested(JSON_DEPTH_MAX), None).inputs == ()
    for depth in (JSON_DEPTH_MAX + 1, 1_000, 100_000):
        assert refused(nested(depth))[0] is BAD_REQUEST


def test_many_brackets_side_by_side_are_not_deep():
    """Only nesting counts, not the number of brackets."""
    rows = entry(shape=[100, 1], data=[[number] for number in range(100)])
    assert decoded(rows).shape == (100, 1)


def test_counts_are_bounded():
    """As many tensors and axes as allowed are taken, one more is refused."""
    names = [entry(name=str(number)) for number in range(TENSORS_MAX + 1)]
    assert len(decode_request(document(*names[:-1]), None).inputs) == TENSORS_MAX
    assert refused(document(*names))[0] is BAD_REQUEST
    assert refused(document(outputs=[{"name": n["name"]} for n in names]))[0] is BAD_REQUEST
    assert decoded(entry(shape=[1] * (AXES_MAX - 1) + [2])).ndim == AXES_MAX


@pytest.mark.parametrize(
    "body",
    [
        Body(b"{}", 3),
        Body(b"{}", 0),
        Body(b"{}", 2**63),
        octets(binary_entry(8), tail=bytes(7)),
        octets(binary_entry(8), tail=bytes(9)),
        octets(binary_entry(7), tail=bytes(7)),
        octets(binary_entry(-1), tail=bytes(7)),
        octets(binary_entry(2**70), tail=bytes(8)),
        octets(binary_entry(8.0), tail=bytes(8)),
        octets(binary_entry("8"), tail=bytes(8)),
        octets(binary_entry(size=True), tail=bytes(1)),
        octets(binary_entry(8, shape=[3]), tail=bytes(8)),
        octets(entry(parameters={"binary_data_size": 8}), tail=bytes(8)),
        octets(entry(data=None), tail=bytes(8)),
        octets(entry(), tail=b"x"),
        octets(binary_entry(0, datatype="BYTES")),
        octets(binary_entry(7, datatype="BYTES"), tail=bytes(7)),
        octets(binary_entry(9, datatype="BYTES"), tail=bytes(9)),
        octets(binary_entry(8, datatype="BYTES"), tail=b"\1\0\0\0\0\0\0\0"),
        octets(binary_entry(8, datatype="BYTES"), tail=b"\xff\xff\xff\xff\0\0\0\0"),
        octets(binary_entry(11, datatype="BYTES"), tail=b"\0\0\0\0\2\0\0\0abc"),
        octets(binary_entry(8, datatype="BYTES", shape=[2**40]), tail=bytes(8)),
    ],
)
def test_bytes_that_do_not_fit_are_an_invalid_request(body):
    """Lengths that lie, in the head or before a BYTES element, are refused."""
    assert refused(body.value, body.head_length)[0] is BAD_REQUEST


def test_a_boolean_byte_is_zero_or_one():
    """A BOOL byte other than 0 and 1 is refused: nobody can say what it means."""
    good = octets(binary_entry(2, datatype="BOOL"), tail=b"\0\1")
    assert decode_request(*_parts(good)).inputs[0].data.tolist() == [False, True]
    bad = octets(binary_entry(2, datatype="BOOL"), tail=b"\0\2")
    assert refused(bad.value, bad.head_length)[0] is BAD_INPUT


def _parts(body):
    return body.value, body.head_length


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
