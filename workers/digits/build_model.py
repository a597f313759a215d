"""Train the digits model and write ``model.onnx``: the same bytes each time.

    python workers/digits/build_model.py            writes the model and prints its digest
    python workers/digits/build_model.py --check    writes nothing; exit code 1 if it differs

Needs the development requirements, at the versions of ``requirements.lock``. Processors round
differently, and training carries that on: by about 1e-13 in the weights at its end (measured with
three families of OpenBLAS kernels). So weights are rounded to five decimals, on one thread.
"""

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

# The environment comes first: numerical libraries read it when they are loaded.
import argparse
import hashlib
import sys
import tomllib
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

FOLDER = Path(__file__).parent

PIXEL_MAX = 16.0
HELD_OUT_EVERY = 5
"""Samples whose index is a multiple of this are not trained on: accuracy is measured by them."""

ACCURACY_MIN = 0.97
WEIGHT_DECIMALS = 5
OPSET = {"": 18, "ai.onnx.ml": 3}


def build() -> tuple[bytes, float]:
    """The ONNX file, and the accuracy on the samples that it was not trained on."""
    digits = load_digits()
    held_out = np.arange(len(digits.target)) % HELD_OUT_EVERY == 0
    pixels = digits.data / PIXEL_MAX
    classifier = MLPClassifier(
        hidden_layer_sizes=(128, 64),
        alpha=1e-2,
        learning_rate_init=2e-3,
        max_iter=300,
        random_state=0,
    )
    classifier.fit(pixels[~held_out], digits.target[~held_out])
    classifier.coefs_ = [weights.round(WEIGHT_DECIMALS) for weights in classifier.coefs_]
    classifier.intercepts_ = [bias.round(WEIGHT_DECIMALS) for bias in classifier.intercepts_]
    # The scale goes into the first layer: callers send pixels as they are, 0 to 16.
    classifier.coefs_[0] /= PIXEL_MAX
    accuracy = float(classifier.score(digits.data[held_out], digits.target[held_out]))
    model = to_onnx(
        classifier,
        initial_types=[("image", FloatTensorType([None, digits.data.shape[1]]))],
        options={"zipmap": False},
        target_opset=OPSET,
        name="digits",
    )
    # skl2onnx keeps them in a set, whose order is another in every 60th process or so.
    model.opset_import.sort(key=lambda used: used.domain)
    return model.SerializeToString(deterministic=True), accuracy


def main() -> int:
    """Build, compare with what ``worker.toml`` promises, and write unless only asked to check."""
    parser = argparse.ArgumentParser(description="Train the digits model.")
    parser.add_argument("--check", action="store_true", help="write nothing, compare the digest")
    check = parser.parse_args().check
    content, accuracy = build()
    found = hashlib.sha256(content).hexdigest()
    manifest = tomllib.loads((FOLDER / "worker.toml").read_text(encoding="utf-8"))
    promised = manifest["model"]["sha256"]
    sys.stdout.write(f"accuracy on samples not trained on: {accuracy:.4f}\n")
    sys.stdout.write(f"sha256 built:    {found}\n")
    sys.stdout.write(f"sha256 promised: {promised}\n")
    if accuracy < ACCURACY_MIN:
        sys.stdout.write(f"below {ACCURACY_MIN}: not written\n")
        return 1
    if not check:
        (FOLDER / manifest["model"]["file"]).write_bytes(content)
    return 0 if found == promised else 1


if __name__ == "__main__":
    sys.exit(main())
