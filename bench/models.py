"""The models of the scenarios, as ONNX bytes, and the worker folders around them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ondemand.runtime.files import digest
from ondemand.runtime.manifest import MANIFEST
from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import IR_VERSION, OPSET

HEAVY_WIDTH, HEAVY_LAYERS = 1024, 64
SLEEP_SECONDS = 0.1

_SLEEPER = '''\
"""A model that takes its time and no processor: {seconds} s a run, whatever the rows."""

import time


class Transform:
    """Sleeps before the model."""

    def __init__(self, files):
        """Needs none."""

    def signature(self, model):
        """The model's own."""
        return model

    def prepare(self, inputs):
        """Sleep, once for all rows."""
        time.sleep({seconds})
        return inputs

    def present(self, inputs, outputs):
        """The model's own."""
        return outputs
'''


def heavy(width: int = HEAVY_WIDTH, layers: int = HEAVY_LAYERS) -> bytes:
    """784 inputs, *layers* times one matrix of *width* squared, 10 outputs: much work, few bytes.

    32 rows are 0.6 thousand million multiplications, and more than 50 ms of one processor.
    """
    random = np.random.default_rng(0)
    weights = [
        _weight(random, "first", 784, width),
        _weight(random, "middle", width, width),
        _weight(random, "last", width, 10),
    ]
    nodes = [helper.make_node("MatMul", ["x", "first"], ["h0"])]
    for i in range(layers):
        nodes.append(helper.make_node("MatMul", [f"h{i}", "middle"], [f"m{i}"]))
        nodes.append(helper.make_node("Tanh", [f"m{i}"], [f"h{i + 1}"]))
    nodes.append(helper.make_node("MatMul", [f"h{layers}", "last"], ["y"]))
    return _model(nodes, weights, ["rows", 784], ["rows", 10])


def any_length() -> bytes:
    """Rows of any length in, their mean and ten copies of its tangent out: FP32[any, any]."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["mean", "wide"], ["copies"]),
        helper.make_node("Tanh", ["copies"], ["y"]),
    ]
    return _model(nodes, [_weight(random, "wide", 1, 10)], ["rows", "length"], ["rows", 10])


def package(folder: Path, name: str, model: bytes) -> Path:
    """A worker folder below *folder*; the ONNX file lies beside it."""
    file = folder / f"{name}.onnx"
    file.write_bytes(model)
    return new_package(folder / name, name=name, model=file).folder


def sleeping_package(folder: Path, name: str, model: bytes) -> Path:
    """The same with a transform that sleeps."""
    made = package(folder, name, model)
    code = _SLEEPER.format(seconds=SLEEP_SECONDS)
    (made / "transform.py").write_text(code)
    manifest = (made / MANIFEST).read_text()
    entry = f'\n[transform]\nfile = "transform.py"\nsha256 = "{digest(code.encode())}"\n'
    (made / MANIFEST).write_text(manifest + entry)
    return made


def _weight(random: np.random.Generator, name: str, rows: int, columns: int) -> onnx.TensorProto:
    values = random.standard_normal((rows, columns)) / np.sqrt(rows)
    return numpy_helper.from_array(values.astype(np.float32), name)


def _model(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    takes: list[str | int],
    gives: list[str | int],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, takes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, gives)],
        initializer=weights,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
