"""One run for all; a poisonous request stands alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.processor.builders import SIGNATURE, DoublingModel, request

from ondemand.contract.tensor import Datatype
from ondemand.errors import Status
from ondemand.processor.infer import infer
from ondemand.processor.outcome import Completed, Failed, Rejected
from ondemand.runtime.base import Signature, TensorSpec


def test_one_run_answers_all_with_their_own_rows():
    """Rows are concatenated and split again: each request gets its own, in its own order."""
    model = DoublingModel()
    outcomes = infer(model, [request(0, rows=2, fill=1.0), request(1, rows=3, fill=5.0)])

    assert model.runs == [5]
    assert [o.outputs[0].data.tolist() for o in outcomes] == [[[2.0] * 2] * 2, [[10.0] * 2] * 3]


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=24))
def test_only_the_poisonous_requests_fail(shapes):
    """The batch is an optimisation: no caller may notice whose company it kept."""
    model = DoublingModel(poison=99.0)
    batch = [
        request(i, rows=rows, fill=99.0 if poisonous else float(i))
        for i, (rows, poisonous) in enumerate(shapes)
    ]
    outcomes = infer(model, batch)

    assert len(outcomes) == len(batch)
    assert len(model.runs) <= 2 * len(batch)
    for sent, outcome in zip(batch, outcomes, strict=True):
        if (sent.inputs["x"] == 99.0).all():
            assert outcome == Failed(Status.MODEL_ERROR, "the model cannot take 99.0")
        else:
            np.testing.assert_array_equal(outcome.outputs[0].data, sent.inputs["x"] * 2)


def test_numbers_that_the_manifest_forbids_are_refused_alone():
    """NaN is refused where the model promises nothing for it, and taken where it does; whoever is
    in the same batch does not notice."""
    batch = [request(i, fill=fill) for i, fill in enumerate([1.0, np.nan, 2.0, -np.inf])]
    refusal = Rejected(Status.INVALID_INPUT, "x holds NaN or infinity, which this model refuses")

    first, second, third, fourth = infer(DoublingModel(), batch)

    assert (second, fourth) == (refusal, refusal)
    assert [o.outputs[0].data.tolist() for o in (first, third)] == [[[2.0] * 2], [[4.0] * 2]]
    assert infer(DoublingModel(), batch[1:2]) == [refusal]
    taken = infer(DoublingModel(finite_only=False), batch)
    assert all(isinstance(outcome, Completed) for outcome in taken)


@pytest.mark.parametrize(
    ("datatype", "dtype", "largest"),
    [
        (Datatype.FP16, np.float16, 6e4),
        (Datatype.FP32, np.float32, 3e38),
        (Datatype.FP64, np.float64, 1e308),
    ],
)
def test_no_number_is_too_large_to_be_finite(datatype, dtype, largest):
    """Squares of large numbers overflow, the numbers do not: they are taken; infinities are not."""
    signature = Signature((TensorSpec("x", datatype, (None, 2)),), (), batched=True)
    model = DoublingModel(signature=signature)
    model.run = lambda inputs: {}

    def outcome_of(numbers):
        sent = request()
        sent.inputs = {"x": np.array([numbers], dtype=dtype)}
        return type(infer(model, [sent, request()])[0])

    for good in ([largest, -largest], [0.0, 1.0]):
        assert outcome_of(good) is Completed
    for bad in ([np.inf, 1.0], [-np.inf, largest], [np.nan, largest], [np.inf, -np.inf]):
        assert outcome_of(bad) is Rejected


def test_an_unforeseen_exception_fails_only_its_request():
    """A transform that raises anything at all is the model's failure, and tells no secrets."""
    model = DoublingModel()

    def run(inputs):
        if (inputs["x"] == 7.0).any():
            raise ZeroDivisionError("secret")
        return {"y": inputs["x"]}

    model.run = run
    outcomes = infer(model, [request(0, fill=7.0), request(1)])

    assert outcomes[0] == Failed(Status.MODEL_ERROR, "the model's code raised ZeroDivisionError")
    assert isinstance(outcomes[1], Completed)


def test_a_wrong_row_count_is_never_split_to_the_wrong_caller():
    """Replies split back to the wrong requests are worse than none."""
    model = DoublingModel()
    model.run = lambda inputs: {"y": inputs["x"][:1]}
    outcomes = infer(model, [request(0, rows=2), request(1, rows=2)])

    assert {type(o) for o in outcomes} == {Failed}
    assert outcomes[0].message == "output 'y' has 1 rows for 2 rows of input"


@pytest.mark.parametrize("count", [1, 3])
def test_without_a_batch_axis_each_request_is_run_by_itself(count):
    """Nothing is concatenated, and a failure is its own."""
    signature = Signature(
        (TensorSpec("x", Datatype.FP32, (1, 2)),),
        (TensorSpec("y", Datatype.FP32, (1, 2)),),
        batched=False,
    )
    model = DoublingModel(signature=signature, poison=1.0)
    outcomes = infer(model, [request(i, fill=float(i)) for i in range(count)])

    assert model.runs == [1] * count
    assert [type(o) for o in outcomes] == [Completed, Failed, Completed][:count]
    assert SIGNATURE.batched
