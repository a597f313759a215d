"""Small ONNX files and worker folders, made for one test each."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import onnx
from onnx import TensorProto, helper

INPUT, OUTPUT = "x", "y"

Axes = Sequence[int | str | None] | None


def model_bytes(
    nodes: Sequence[onnx.NodeProto],
    *,
    takes: Mapping[str, tuple[int, Axes]],
    gives: Mapping[str, tuple[int, Axes]],
    initializers: Sequence[onnx.TensorProto] = (),
    domains: Sequence[str] = ("",),
) -> bytes:
    """An ONNX file of *nodes*; tensors by name, as element type and shape."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, *what) for name, what in takes.items()],
        [helper.make_tensor_value_info(name, *what) for name, what in gives.items()],
        list(initializers),
    )
    imports = [helper.make_opsetid(domain, 17 if domain == "" else 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = 9
    return model.SerializeToString()


def one_node(
    operator: str,
    *,
    element: int = TensorProto.FLOAT,
    takes: Axes = ("rows", 2),
    gives: Axes = ("rows", 2),
    domain: str = "",
) -> bytes:
    """``y = operator(x)``."""
    return model_bytes(
        [helper.make_node(operator, [INPUT], [OUTPUT], domain=domain)],
        takes={INPUT: (element, takes)},
        gives={OUTPUT: (element, gives)},
        domains=("", domain) if domain else ("",),
    )


def negating() -> bytes:
    """``y = -x`` for FP32 rows of two."""
    return one_node("Neg")


def centring() -> bytes:
    """``y = x - mean over the rows of x``: a model whose rows depend on their company."""
    return model_bytes(
        [
            helper.make_node("ReduceMean", [INPUT], ["mean"], axes=[0]),
            helper.make_node("Sub", [INPUT, "mean"], [OUTPUT]),
        ],
        takes={INPUT: (TensorProto.FLOAT, ("rows", 2))},
        gives={OUTPUT: (TensorProto.FLOAT, ("rows", 2))},
    )


MANIFEST = """\
name = "negator"
version = "1.2.3"

[model]
file = "model.onnx"
sha256 = "{digest}"

[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 2]

[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, 2]
"""


def write_folder(folder: Path, content: bytes, *, manifest: str = MANIFEST, more: str = "") -> Path:
    """A worker folder for *content*; *more* is appended to the manifest."""
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    text = manifest.replace("{digest}", sha256(content).hexdigest()) + more
    (folder / "worker.toml").write_text(text, encoding="utf-8")
    return folder


def write_pair(folder: Path, name: str, x: list[list[float]], y: list[list[float]]) -> None:
    """A golden pair for a model from ``x`` to ``y``."""
    golden = folder / "golden"
    golden.mkdir(exist_ok=True)
    shape = [len(x), 2]
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": x}]}
    reply = {
        "model_name": "negator",
        "model_version": "1.2.3",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": shape, "data": y}],
    }
    (golden / f"{name}.request.json").write_text(json.dumps(request), encoding="utf-8")
    (golden / f"{name}.reply.json").write_text(json.dumps(reply), encoding="utf-8")
