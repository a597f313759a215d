"""The worker folder that is served in a run, and an oracle for its answers.

The model is a small network behind a ``transform.py`` that fails on poison, takes its time over
slow requests, and says of each row which number it was: a mixed-up answer shows.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ondemand.contract.tensor import Datatype
from ondemand.runtime.base import Identity, Signature, TensorSpec
from ondemand.runtime.files import digest
from ondemand.runtime.manifest import MANIFEST
from ondemand.runtime.onnx import OnnxSession
from ondemand.runtime.scaffold import manifest_text
from ondemand.testing.models import ffnn

NAME = "chaos"
NUMBER, SCORES = "number", "y"
AXES = (4, 16, 4)
SLOW_SECONDS = 0.3
TOLERANCE = 1e-5

TRANSFORM = f'''"""Fails on poison, takes its time over slow rows, tells the number of each row."""

import time
from dataclasses import replace

import numpy as np

from ondemand.contract.tensor import Datatype
from ondemand.errors import ModelError
from ondemand.runtime.base import TensorSpec


class Transform:
    """Rows pass through to the model as they are."""

    def __init__(self, files):
        """Needs no files."""

    def signature(self, model):
        """The model's, and the number of each row."""
        number = TensorSpec("{NUMBER}", Datatype.INT64, (None,))
        return replace(model, outputs=(*model.outputs, number))

    def prepare(self, inputs):
        """The rows, unless one is poison."""
        codes = inputs["x"][:, 0]
        if (codes == 1.0).any():
            raise ModelError("this batch holds poison")
        time.sleep({SLOW_SECONDS} * int((codes == 2.0).sum()))
        return inputs

    def present(self, inputs, outputs):
        """The scores, and the number of each row."""
        high, low = np.rint(inputs["x"][:, 1:3] * 1000).astype(np.int64).T
        return {{**outputs, "{NUMBER}": high * 1000 + low}}
'''


def write_worker(folder: Path) -> Path:
    """Write the worker folder into *folder*; returns it."""
    folder.mkdir(parents=True)
    content = ffnn(AXES)
    found = OnnxSession(content, threads=1).signature
    number = TensorSpec(NUMBER, Datatype.INT64, (None,))
    signature = Signature(found.inputs, (*found.outputs, number), batched=True)
    identity = Identity(NAME, "1.0.0", finite_only=True)
    manifest = manifest_text(identity, signature, sha256=digest(content), golden=False)
    transform = f'\n[transform]\nfile = "transform.py"\nsha256 = "{digest(TRANSFORM.encode())}"\n'
    (folder / "model.onnx").write_bytes(content)
    (folder / "transform.py").write_text(TRANSFORM, encoding="utf-8")
    (folder / MANIFEST).write_text(manifest + transform, encoding="utf-8")
    return folder


def scores(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """What the model must say of *rows*, computed here from its weights: FP64[rows, 4]."""
    graph = onnx.load_from_string(ffnn(AXES)).graph
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    flowing = np.concatenate(rows).astype(np.float64)
    layers = len(AXES) - 1
    for layer in range(layers):
        flowing = flowing @ weights[f"w{layer}"] + weights[f"b{layer}"]
        if layer < layers - 1:
            flowing = np.maximum(flowing, 0)
    exponents = np.exp(flowing - flowing.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)
