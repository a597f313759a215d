"""Bodies that are refused: with which status, and what the message names."""

import pytest
from unit.contract.bodies import (
    BAD_INPUT,
    BAD_REQUEST,
    binary_entry,
    decoded,
    document,
    entry,
    octets,
    refused,
)

from ondemand.contract.codec import Body, decode_request
from ondemand.limits import AXES_MAX, JSON_DEPTH_MAX, TENSORS_MAX


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


def test_lengths_that_lie_are_told_by_element():
    """The message names the BYTES element whose length reaches too far, also where it lands in
    the bytes of the next tensor."""
    liar = binary_entry(8, datatype="BYTES", name="liar")
    body = octets(liar, binary_entry(8), tail=b"\0\0\0\0\4\0\0\0" + bytes(8))
    status, message = refused(body.value, body.head_length)
    assert status is BAD_REQUEST
    assert "'liar'" in message
    assert "element 1 reaches beyond" in message


def test_a_boolean_byte_is_zero_or_one():
    """A BOOL byte other than 0 and 1 is refused: nobody can say what it means."""
    good = octets(binary_entry(2, datatype="BOOL"), tail=b"\0\1")
    assert decode_request(*_parts(good)).inputs[0].data.tolist() == [False, True]
    bad = octets(binary_entry(2, datatype="BOOL"), tail=b"\0\2")
    assert refused(bad.value, bad.head_length)[0] is BAD_INPUT


def _parts(body):
    return body.value, body.head_length
