"""Models made on the spot, for tests and benchmarks. Needs the package `onnx`."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FFNN_AXES = (784, 32, 32, 10)
OPSET = 17
IR_VERSION = 8


def ffnn(axes: Sequence[int] = FFNN_AXES, *, seed: int = 0) -> bytes:
    """A feed-forward network as ONNX bytes: ReLU between the layers, softmax at the end.

    Input `x`, FP32[any, axes[0]]; output `y`, FP32[any, axes[-1]]. The default is the shape of the
    Crayfish benchmark (EDBT 2024). Weights come from *seed*: the same seed gives the same bytes.
    """
    random = np.random.default_rng(seed)
    nodes, weights, flowing = [], [], "x"
    layers = list(pairwise(axes))
    for i, (wide, narrow) in enumerate(layers):
        matrix = (random.standard_normal((wide, narrow)) / np.sqrt(wide)).astype(np.float32)
        bias = random.standard_normal(narrow).astype(np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"w{i}"),
            numpy_helper.from_array(bias, f"b{i}"),
        ]
        nodes.append(helper.make_node("Gemm", [flowing, f"w{i}", f"b{i}"], [f"h{i}"]))
        last = i == len(layers) - 1
        flowing = "y" if last else f"a{i}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"h{i}"], [flowing]))
    graph = helper.make_graph(
        nodes,
        "ffnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", axes[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", axes[-1]])],
        initializer=weights,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
