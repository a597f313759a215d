"""The digits worker: rebuilt from its source, ready for release, right on what it never saw."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ondemand.runtime.manifest import read_manifest
from ondemand.runtime.package import check_package, load_package

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "workers" / "digits"

HELD_OUT_EVERY = 5
ACCURACY_MIN = 0.97


@pytest.fixture(scope="module")
def predicted() -> dict[str, np.ndarray]:
    """The worker's answer for every sample."""
    model = load_package(FOLDER).model
    return model.run({"image": load_digits().data.astype(np.float32)})


def test_it_is_ready_for_release():
    """Manifest, digest, signature, golden pairs and limits: no problem is found."""
    assert check_package(FOLDER) == ()


@pytest.mark.parametrize("hash_seed", ["0", "30"])
def test_a_rebuild_gives_the_same_bytes(hash_seed):
    """The committed model is what ``build_model.py`` makes of scikit-learn's data.

    With the second seed, sets come in an order in which they rarely come.
    """
    ran = subprocess.run(
        [sys.executable, str(FOLDER / "build_model.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_it_is_right_on_samples_that_it_was_not_trained_on(predicted):
    """At least 97 % of the 360 samples whose index is a multiple of 5."""
    target = load_digits().target
    held_out = np.arange(len(target)) % HELD_OUT_EVERY == 0
    assert held_out.sum() == 360
    accuracy = (predicted["label"] == target)[held_out].mean()
    assert accuracy >= ACCURACY_MIN


def test_probabilities_are_probabilities_of_the_label(predicted):
    """Ten numbers that sum to 1, the greatest at the label."""
    probabilities = predicted["probabilities"]
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == predicted["label"]).all()


def test_company_does_not_change_an_answer(predicted):
    """The same sample alone, and among 1,797."""
    model = load_package(FOLDER).model
    alone = model.run({"image": load_digits().data[:1].astype(np.float32)})
    assert alone["label"] == predicted["label"][:1]
    assert np.allclose(alone["probabilities"], predicted["probabilities"][:1], atol=1e-6)


def test_the_picture_rule_is_the_data_sets():
    """8 by 8 grey pixels, 0 for paper and 16 for ink: the range of the data set."""
    image = read_manifest(FOLDER).inputs[0].image
    data = load_digits().data
    assert (image.width, image.height, image.mode, image.invert) == (8, 8, "L", True)
    assert (image.minimum, image.maximum) == (data.min(), data.max())


def test_the_changelog_knows_the_version():
    """A version without a line about it is not released."""
    version = tomllib.loads((FOLDER / "worker.toml").read_text(encoding="utf-8"))["version"]
    assert f"## {version}\n" in (FOLDER / "CHANGELOG.md").read_text(encoding="utf-8")
