"""The quick way through JSON says what the thorough way says, to the bit, or leaves it to it."""

import json
import threading

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ondemand.contract import codec, json_numbers
from ondemand.contract.codec import decode_request, decode_response
from ondemand.contract.json_numbers import BYTES_MIN, take_numbers
from ondemand.contract.tensor import DTYPES, Datatype
from ondemand.errors import RequestError

PADDING = " " * BYTES_MIN
"""Makes a body large enough to be worth the quick way."""

numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
lists = st.lists(numbers, max_size=20)
datatypes = st.sampled_from(sorted(Datatype))


def body_of(*entries: str) -> bytes:
    """A request with these inputs, as text, large enough for the quick way."""
    return f'{{"inputs":[{",".join(entries)}]{PADDING}}}'.encode()


def entry(data: str, *, count: int, datatype: str = "FP32", name: str = "x") -> str:
    """One input."""
    return f'{{"name":"{name}","datatype":"{datatype}","shape":[{count}],"data":{data}}}'


def told(body: bytes, *, quick: bool):
    """What reading *body* comes to: the tensors' bytes, or the refusal."""
    with pytest.MonkeyPatch.context() as patch:
        if not quick:
            patch.setattr(codec, "take_numbers", lambda _: None)
        try:
            request = decode_request(body, None)
        except RequestError as error:
            return error.status, error.message
    return [
        (each.name, each.datatype, each.shape, each.data.dtype, each.data.tobytes())
        for each in request.inputs
    ]


def agree(body: bytes) -> None:
    """Both ways say the same."""
    assert told(body, quick=True) == told(body, quick=False)


@given(st.lists(st.tuples(lists, datatypes), min_size=1, max_size=3), st.integers(-1, 1))
@example([([0.1, -0.0, 5e-324, 1e308], Datatype.FP32)], 0)
@example([([-0.0, 65504, 65520, 1e-8], Datatype.FP16)], 0)
@example([([2**53 + 1, 2**64 - 1, -(2**63)], Datatype.FP64)], 0)
def test_both_ways_read_the_same(tensors, more):
    """Any numbers, any datatype, the right count or not."""
    entries = [
        entry(json.dumps(values), count=max(len(values) + more, 0), datatype=kind, name=f"x{i}")
        for i, (values, kind) in enumerate(tensors)
    ]
    agree(body_of(*entries))


@pytest.mark.parametrize(
    "data",
    [
        "[-0]",
        "[01]",
        "[1.]",
        "[1e400]",
        "[-1e-400]",
        "[18446744073709551616]",
        "[1,]",
        "[,1]",
        "[1",
        "1]",
        "[[1]]",
        "[[1],[2]]",
        "[true]",
        "[null]",
        '["]"]',
        '["1"]',
        "[{}]",
        '[1],"data":[2]',
        '"data":[1]',
        '[1],"parameters":{"data":[2]}',
        '[1],"parameters":{"\\"data":[2]}',
        '[1],"parameters":{"x":"\\"data\\":[2]"}',
        "[\t1 ,\n2]",
        "[NaN]",
        "[Infinity]",
        "[0x10]",
        "[+1]",
        "[1]]",
        "[\x00]",
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_both_ways_judge_odd_lists_alike(data, count):
    """What is not a flat list of numbers, and what looks like one and is not."""
    agree(body_of(entry(data, count=count)))
    agree(body_of(entry("[7]", count=1, name="a"), entry(data, count=count)))


@given(st.data())
def test_both_ways_judge_damaged_bodies_alike(data):
    """One piece taken out, doubled or replaced, anywhere."""
    whole = body_of(entry("[1,2.5,-3e2]", count=3), entry("[4]", count=1, name="y"))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 8, len(whole))))
    piece = data.draw(st.sampled_from([b"", b'"', b"\\", b"[", b"]", b",", b'"data":[', b"\xff"]))
    agree(whole[:start] + piece + whole[end:])


def test_spaces_around_the_colon_are_taken():
    """As Python's ``json`` writes them."""
    taken = take_numbers(json.dumps({"inputs": [{"data": [1.5] * 500}]}).encode())
    assert taken is not None
    assert [list(each) for each in taken.numbers.values()] == [[1.5] * 500]


@pytest.mark.parametrize("text", ["~0", "\\u007e0"])
def test_nobody_can_write_what_stands_for_a_list(text):
    """A text that says the same as a placeholder is a text, and a list elsewhere no input's."""
    lying = (
        f'{{"name":"y","datatype":"FP32","shape":[1],"data":"{text}","parameters":{{"data":[1]}}}}'
    )
    agree(body_of(lying))
    agree(body_of(entry("[1]", count=1), lying))
    with pytest.raises(RequestError, match="must be a list, got '~0'"):
        decode_request(body_of(lying), None)


def test_without_simdjson_everything_is_read(monkeypatch):
    """There is not a wheel for every Python."""
    body = body_of(entry("[1,2]", count=2))
    expected = told(body, quick=True)
    monkeypatch.setattr(json_numbers, "_parser", None)
    assert take_numbers(body) is None
    assert told(body, quick=True) == expected


def test_threads_do_not_disturb_each_other():
    """The one that comes while the parser is in use goes the thorough way."""
    values = [np.random.default_rng(seed).random(2000) for seed in range(4)]
    wrong = []

    def read(mine):
        body = body_of(entry(json.dumps(mine.tolist()), count=2000, datatype="FP64"))
        read = (decode_request(body, None).inputs[0].data for _ in range(50))
        wrong.extend(each for each in read if not np.array_equal(each, mine))

    threads = [threading.Thread(target=read, args=(mine,)) for mine in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_responses_go_the_same_way(monkeypatch):
    """A reply's outputs, as its inputs; and a refusal keeps its status."""
    whole = body_of(entry("[1.5,2]", count=2)).replace(b'"inputs"', b'"outputs"')
    (output,) = decode_response(whole, None).outputs
    assert output.data.tolist() == [1.5, 2.0]
    assert output.data.dtype == DTYPES[Datatype.FP32]
    monkeypatch.setattr(json_numbers, "_parser", None)
    assert decode_response(whole, None).outputs[0].data.tobytes() == output.data.tobytes()
