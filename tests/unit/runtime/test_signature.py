"""Promises against facts, and what came out of a run against what was promised."""

import numpy as np
import pytest

from ondemand.contract.tensor import Datatype
from ondemand.errors import ModelError
from ondemand.runtime.base import Signature, TensorSpec
from ondemand.runtime.signature import check_outputs, differences, disagreement

FOUND = Signature(
    inputs=(TensorSpec("x", Datatype.FP32, (None, 2)),),
    outputs=(
        TensorSpec("y", Datatype.FP32, (None, None)),
        TensorSpec("z", Datatype.INT64, (None,)),
    ),
    batched=True,
)


def promise(*, x=(None, 2), datatype=Datatype.FP32, outputs=(("y", (None, None)),)):
    return Signature(
        inputs=(TensorSpec("x", datatype, x),),
        outputs=tuple(TensorSpec(name, Datatype.FP32, shape) for name, shape in outputs),
        batched=True,
    )


def test_outputs_may_be_left_out():
    """What is not promised is not sent."""
    assert differences(promise(), FOUND) == ()


def test_a_free_axis_may_be_promised_with_a_length():
    """A promise may be narrower than the model."""
    assert differences(promise(outputs=[("y", (None, 5))]), FOUND) == ()


@pytest.mark.parametrize(
    ("promised", "says"),
    [
        (promise(x=(None, 3)), "input 'x' is promised as x: FP32[any, 3], the model has x: FP32"),
        (promise(x=(None, None)), "input 'x' is promised"),
        (promise(x=(None,)), "input 'x' is promised"),
        (promise(datatype=Datatype.FP64), "input 'x' is promised as x: FP64"),
        (promise(outputs=[("w", (None,))]), "output 'w' is not one of the model's outputs: y, z"),
        (promise(outputs=[("z", (None,))]), "output 'z' is promised as z: FP32"),
    ],
)
def test_each_departure_is_one_line_that_names_both_sides(promised, says):
    """Names, datatypes, ranks and lengths are compared."""
    lines = differences(promised, FOUND)
    assert len(lines) == 1
    assert says in lines[0]


def test_an_input_left_out_is_a_difference():
    """The model cannot run without it."""
    wider = Signature((*FOUND.inputs, TensorSpec("mask", Datatype.BOOL, (None,))), (), batched=True)
    assert differences(Signature(FOUND.inputs, (), batched=True), wider) == (
        "input 'mask' of the model is not listed; add it as mask: BOOL[any]",
    )


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ({}, "no output 'y'"),
        ({"y": np.zeros((3, 1), np.float64)}, "float64"),
        ({"y": np.zeros(3, np.float32)}, r"shape \[3\]"),
        ({"y": np.zeros((2, 1), np.float32)}, "2 rows of y from 3 rows"),
    ],
)
def test_outputs_that_break_the_promise_are_the_models_fault(outputs, says):
    """Replies would otherwise be split back to the wrong requests."""
    with pytest.raises(ModelError, match=says):
        check_outputs(promise(), outputs, 3)


def test_numbers_agree_within_the_tolerance_absolute_or_relative():
    """1e-3 off at 1,000 is as close as 1e-6 off at 1."""
    expected = np.array([0.0, 1.0, 1_000.0])
    assert disagreement(expected, expected + np.array([1e-6, 1e-6, 1e-3]), 1e-5) is None
    assert "1 of 3 values differ: at [1]" in disagreement(
        expected, expected + np.array([0, 1e-3, 0]), 1e-5
    )


def test_integers_texts_and_shapes_agree_only_when_equal():
    """A tolerance is for what is computed with fractions."""
    assert disagreement(np.array([1]), np.array([2]), 0.9) is not None
    texts = np.array([b"a", b"b"], dtype=object)
    assert disagreement(texts, texts.copy(), 0.0) is None
    assert "got b'c'" in disagreement(texts, np.array([b"a", b"c"], dtype=object), 0.9)
    assert "expected float64[1], got float64[2]" in disagreement(np.zeros(1), np.zeros(2), 1.0)
