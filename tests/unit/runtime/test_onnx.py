"""ONNX Runtime behind the seam: signatures, texts, failures; and nothing from outside the file."""

import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper
from unit.runtime.onnx_files import INPUT, OUTPUT, model_bytes, negating, one_node

from ondemand.contract.tensor import DTYPES, Datatype
from ondemand.errors import ConfigurationError, ModelError
from ondemand.runtime.base import Identity, Signature, TensorSpec
from ondemand.runtime.onnx import DATATYPES, OnnxModel, OnnxSession

IDENTITY = Identity("negator", "1.2.3", finite_only=True)


def texts(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def open_model(content: bytes) -> OnnxModel:
    session = OnnxSession(content, threads=1)
    return OnnxModel(session, IDENTITY, session.signature)


def test_signature_is_read_from_the_model():
    """Named axes are free, numbers are fixed, rows are batched."""
    model = open_model(negating())
    assert model.signature == Signature(
        inputs=(TensorSpec("x", Datatype.FP32, (None, 2)),),
        outputs=(TensorSpec("y", Datatype.FP32, (None, 2)),),
        batched=True,
    )
    assert (model.name, model.version, model.finite_only) == ("negator", "1.2.3", True)


def test_runs_and_gives_every_output():
    """Arrays in, arrays out, by name."""
    model = open_model(negating())
    out = model.run({INPUT: np.array([[1, -2]], np.float32)})
    assert out[OUTPUT].tolist() == [[-1, 2]]
    assert out[OUTPUT].dtype == np.float32


@pytest.mark.parametrize("datatype", [d for d in Datatype if d is not Datatype.BYTES])
def test_every_datatype_goes_in_and_comes_out_as_it_is(datatype):
    """The contract's datatypes are the model's element types, one to one."""
    element = helper.np_dtype_to_tensor_dtype(DTYPES[datatype])
    model = open_model(one_node("Identity", element=element))
    assert model.signature.inputs[0].datatype is datatype
    array = np.array([[0, 1]], dtype=DTYPES[datatype])
    assert model.run({INPUT: array})[OUTPUT].tobytes() == array.tobytes()


def test_every_datatype_has_its_name():
    """None is missing from the table, none is there twice."""
    assert sorted(DATATYPES.values()) == sorted(Datatype)


def test_bytes_are_text_inside_and_bytes_outside():
    """ONNX Runtime alone would run on the text ``b'…'`` of a ``bytes`` object."""
    model = open_model(one_node("Identity", element=TensorProto.STRING, takes=["n"], gives=["n"]))
    sent = texts(b"a", "é€".encode(), b"")
    assert model.run({INPUT: sent})[OUTPUT].tolist() == sent.tolist()


def test_bytes_that_are_no_text_fail_by_themselves_and_say_where():
    """Nothing is guessed or replaced."""
    model = open_model(one_node("Identity", element=TensorProto.STRING, takes=["n"], gives=["n"]))
    with pytest.raises(ModelError, match="x: element 1 is not UTF-8"):
        model.run({INPUT: texts(b"a", b"\xff")})


def test_a_failing_run_is_a_model_error_with_its_cause():
    """The foreign exception is chained, its first words are in the message, on one line."""
    gather = model_bytes(
        [helper.make_node("Gather", ["table", INPUT], [OUTPUT])],
        takes={INPUT: (TensorProto.INT64, ["n"])},
        gives={OUTPUT: (TensorProto.FLOAT, ["n"])},
        initializers=[helper.make_tensor("table", TensorProto.FLOAT, [3], [1, 2, 3])],
    )
    with pytest.raises(ModelError, match=r"the model failed: .*indices") as caught:
        open_model(gather).run({INPUT: np.array([99])})
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)


def test_fewer_rows_than_went_in_are_a_broken_promise():
    """Otherwise replies would be split back to the wrong requests."""
    unique = one_node("Unique", takes=["n"], gives=["m"])
    with pytest.raises(ModelError, match="1 rows of y from 3 rows"):
        open_model(unique).run({INPUT: np.zeros(3, np.float32)})


def test_a_closed_model_says_so():
    """Its memory is gone; closing again is fine."""
    model = open_model(negating())
    model.close()
    model.close()
    with pytest.raises(ModelError, match="closed"):
        model.run({INPUT: np.zeros((1, 2), np.float32)})


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x09"])
def test_what_is_no_model_is_a_configuration_error(content):
    """The operator has to act, and gets one line."""
    with pytest.raises(ConfigurationError, match="model"):
        OnnxSession(content, threads=1)


def test_forbidden_content_is_never_loaded():
    """The scan comes before the load."""
    with pytest.raises(ConfigurationError, match="operators from a library"):
        OnnxSession(one_node("Neg", domain="org.example"), threads=1)


def test_outputs_that_are_no_tensors_are_refused_with_advice():
    """scikit-learn's exporter makes maps of probabilities unless told not to."""
    sequence = helper.make_tensor_sequence_value_info(OUTPUT, TensorProto.FLOAT, None)
    node = helper.make_node("SequenceConstruct", [INPUT], [OUTPUT])
    value = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [2])
    graph = helper.make_graph([node], "g", [value], [sequence])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(ConfigurationError, match="zipmap"):
        OnnxSession(model.SerializeToString(), threads=1)


def test_nothing_is_printed_and_the_runtime_is_imported_late():
    """Failures are raised; a second copy on stderr would be noise. Others never pay the import."""
    program = (
        "import sys, ondemand.runtime.onnx, ondemand.runtime.package\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "from ondemand.errors import OndemandError\n"
        "from ondemand.runtime.onnx import OnnxSession\n"
        "import numpy as np\n"
        "content = bytes.fromhex(sys.argv[1])\n"
        "session = OnnxSession(content, threads=2)\n"
        "session.run(['y'], {'x': np.zeros((1, 2), np.float32)})\n"
        "for work in (lambda: session.run(['y'], {'x': np.zeros((1, 3), np.float32)}),\n"
        "             lambda: OnnxSession(content[:-9], threads=1)):\n"
        "    try:\n"
        "        work()\n"
        "    except OndemandError:\n"
        "        pass\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, negating().hex()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
