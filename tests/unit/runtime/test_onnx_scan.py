"""What hides in an ONNX file is found without loading it."""

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from unit.runtime.onnx_files import INPUT, OUTPUT, model_bytes, negating, one_node

from ondemand.runtime.onnx_scan import forbidden_content

FP32_ROWS = (TensorProto.FLOAT, ("rows", 2))


def external_tensor(location: str) -> TensorProto:
    """A tensor whose data lie in another file."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def with_tensor(tensor: TensorProto, *, hidden: bool = False) -> bytes:
    """A model that adds *tensor*: as an initializer, or *hidden* in a branch of an ``If``."""
    add = helper.make_node("Add", [INPUT, "weights"], [OUTPUT])
    if not hidden:
        return model_bytes(
            [add], takes={INPUT: FP32_ROWS}, gives={OUTPUT: FP32_ROWS}, initializers=[tensor]
        )
    constant = helper.make_node("Constant", [], ["weights"], value=tensor)
    branch = helper.make_graph(
        [constant, add], "branch", [], [helper.make_tensor_value_info(OUTPUT, *FP32_ROWS)]
    )
    choice = helper.make_node("If", ["c"], [OUTPUT], then_branch=branch, else_branch=branch)
    takes = {INPUT: FP32_ROWS, "c": (TensorProto.BOOL, [])}
    return model_bytes([choice], takes=takes, gives={OUTPUT: FP32_ROWS})


def test_a_plain_model_has_nothing_to_hide():
    """Weights inside the file are what they should be."""
    assert forbidden_content(negating()) == ()


@pytest.mark.parametrize("hidden", [False, True], ids=["initializer", "constant in a branch"])
@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd"])
def test_external_data_are_found_wherever_they_are(hidden, location):
    """The file's digest does not cover other files, wherever they lie."""
    (reason,) = forbidden_content(with_tensor(external_tensor(location), hidden=hidden))
    assert "other files (weights)" in reason


def test_a_location_without_the_flag_is_found_too():
    """One of the two marks is enough: readers differ in which one they obey."""
    tensor = external_tensor("weights.bin")
    tensor.data_location = TensorProto.DEFAULT
    assert forbidden_content(with_tensor(tensor))
    flag_only = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[2])
    flag_only.data_location = TensorProto.EXTERNAL
    assert forbidden_content(with_tensor(flag_only))


def test_addresses_in_memory_are_found():
    """ONNX Runtime's marker for tensors that lie in memory has no place in a file."""
    reasons = forbidden_content(with_tensor(external_tensor("*/_ORT_MEM_ADDR_/*")))
    assert any("addresses in memory" in reason for reason in reasons)


def test_compiled_code_and_operators_of_libraries_are_found():
    """Both run code that is not in the file."""
    assert "EPContext" in forbidden_content(one_node("EPContext", domain="com.microsoft"))[0]
    assert "a library (org.example)" in forbidden_content(one_node("Neg", domain="org.example"))[0]


def test_functions_that_the_file_defines_are_fine_and_looked_into():
    """Exporters write layers as functions of domains of their own."""
    body = [helper.make_node("Neg", ["a"], ["b"])]
    opset = [helper.make_opsetid("", 17)]
    model = onnx.load_from_string(one_node("Layer", domain="mine"))
    model.functions.append(helper.make_function("mine", "Layer", ["a"], ["b"], body, opset))
    assert forbidden_content(model.SerializeToString()) == ()
    body.append(helper.make_node("Constant", [], ["w"], value=external_tensor("w.bin")))
    del model.functions[:]
    model.functions.append(helper.make_function("mine", "Layer", ["a"], ["b"], body, opset))
    assert "other files" in forbidden_content(model.SerializeToString())[0]


@given(content=st.binary(max_size=200))
def test_any_bytes_give_reasons_or_value_error(content):
    """A file of noise is refused in words."""
    with contextlib.suppress(ValueError):
        assert isinstance(forbidden_content(content), tuple)


@given(cut=st.integers(min_value=1, max_value=60), at=st.integers(min_value=0, max_value=10_000))
def test_a_damaged_model_never_crashes_the_scan(cut, at):
    """Cut out a piece anywhere: still reasons or ``ValueError``."""
    content = with_tensor(external_tensor("weights.bin"), hidden=True)
    at %= len(content)
    damaged = content[:at] + content[at + cut :]
    with contextlib.suppress(ValueError):
        assert isinstance(forbidden_content(damaged), tuple)
