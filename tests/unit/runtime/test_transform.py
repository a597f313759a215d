"""A model team's code around its model: loaded from checked bytes, and never trusted to behave."""

import numpy as np
import pytest

from ondemand.contract.tensor import Datatype
from ondemand.errors import ConfigurationError, ModelError
from ondemand.runtime.base import Identity, Signature, TensorSpec
from ondemand.runtime.transform import TransformedModel, load_transform, offered_signature

SIGNATURE = Signature(
    inputs=(TensorSpec("x", Datatype.FP32, (None,)),),
    outputs=(TensorSpec("y", Datatype.FP32, (None,)),),
    batched=True,
)

GOOD = """
from dataclasses import dataclass

@dataclass(frozen=True, slots=True)
class Scale:
    factor: float

class Transform:
    def __init__(self, files):
        self.scale = Scale(float(files["factor.txt"]))
    def signature(self, model):
        return model
    def prepare(self, inputs):
        return {"x": inputs["x"] * self.scale.factor}
    def present(self, inputs, outputs):
        return {"y": (outputs["y"] + inputs["x"]).astype("float32")}
"""


class Doubling:
    """A model that doubles."""

    name, version, finite_only, signature = "doubling", "1", True, SIGNATURE
    closed = False

    def run(self, inputs):
        return {"y": inputs["x"] * 2}

    def close(self):
        self.closed = True


def load(source: str = GOOD):
    return load_transform(source.encode(), file="transform.py", files={"factor.txt": b"3"})


def transformed(source: str = GOOD) -> TransformedModel:
    return TransformedModel(
        Doubling(), load(source), Identity("m", "1", finite_only=False), SIGNATURE
    )


def test_the_callers_arrays_go_through_prepare_model_and_present():
    """x·3 goes to the model, which doubles it; x is added again."""
    out = transformed().run({"x": np.array([1, 10], np.float32)})
    assert out["y"].tolist() == [7, 70]


def test_closing_closes_the_model():
    """The transform stands before the model, and passes on what it is told."""
    inner = Doubling()
    TransformedModel(inner, load(), Identity("m", "1", finite_only=False), SIGNATURE).close()
    assert inner.closed


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1", "defines no class Transform"),
        ("class Transform:\n  pass\nTransform = 1/0", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def (", "SyntaxError"),
        (GOOD.replace("factor.txt", "other.txt"), "KeyError: 'other.txt'"),
        (GOOD.replace("def present", "def show"), "has no method present"),
    ],
)
def test_code_that_does_not_start_is_a_configuration_error(source, says):
    """The operator learns it at the start, in one line, not from the first request."""
    with pytest.raises(ConfigurationError, match=says):
        load(source)


def test_a_transform_for_another_model_says_so():
    """Its ``signature`` looks at the model's and may refuse it."""
    source = GOOD.replace("return model", "raise ValueError('needs 3 outputs')")
    with pytest.raises(ConfigurationError, match=r"does not fit the model.*needs 3 outputs"):
        offered_signature(load(source), SIGNATURE)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('inputs["x"] * self', 'inputs["z"] * self', "could not prepare: KeyError: 'z'"),
        ("outputs['y'] + inputs", "1 / 0 + inputs", "could not present: ZeroDivisionError"),
        ('.astype("float32")', '.astype("float64")', "not as promised: y has the dtype float64"),
        ('+ inputs["x"])', '+ inputs["x"])[:1]', "1 rows of y from 2 rows"),
        ('{"y": (', '{"w": (', "gave no output 'y'"),
    ],
)
def test_whatever_its_code_does_is_a_model_error(old, new, says):
    """The batch is then split until the request at fault stands alone."""
    source = GOOD.replace('outputs["y"] +', "outputs['y'] +").replace(old, new)
    with pytest.raises(ModelError, match=says):
        transformed(source).run({"x": np.array([1, 2], np.float32)})


def test_a_model_error_of_its_own_is_passed_on_as_it_is():
    """What the team wrote for the caller is what the caller reads."""
    source = GOOD.replace(
        '        return {"x"',
        "        from ondemand.errors import ModelError\n"
        "        raise ModelError('row 3 has no face')\n        return {\"x\"",
    )
    with pytest.raises(ModelError, match=r"^row 3 has no face$"):
        transformed(source).run({"x": np.array([1], np.float32)})
