"""``worker.toml``: what it may say, and what a person reads who got it wrong."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.contract.tensor import Datatype
from ondemand.runtime.base import Signature, TensorSpec
from ondemand.runtime.manifest import parse_manifest, read_manifest
from ondemand.runtime.problems import PackageError

DIGEST = "a" * 64
GOOD = f"""
name = "digits"
version = "1.0.0"
[model]
file = "model.onnx"
sha256 = "{DIGEST}"
[[inputs]]
name = "image"
datatype = "FP32"
shape = [-1, 64]
[inputs.image]
width = 8
height = 8
[[outputs]]
name = "label"
datatype = "INT64"
shape = [-1]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(PackageError) as caught:
        parse_manifest(text, "worker.toml")
    return [str(problem) for problem in caught.value.problems]


def test_the_signature_is_what_is_promised():
    """-1 is a free axis; free first axes everywhere mean that rows are batched."""
    assert parse_manifest(GOOD, "worker.toml").signature == Signature(
        inputs=(TensorSpec("image", Datatype.FP32, (None, 64)),),
        outputs=(TensorSpec("label", Datatype.INT64, (None,)),),
        batched=True,
    )


def test_batched_can_be_switched_off_and_not_conjured_up():
    """A first axis may be free without counting rows; a fixed one cannot count them."""
    off = GOOD.replace("[[inputs]]", "batched = false\n[[inputs]]", 1)
    assert parse_manifest(off, "worker.toml").signature.batched is False
    on = off.replace("batched = false", "batched = true").replace("shape = [-1]", "shape = [1]")
    assert "must be -1" in problems(on)[0]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('version = "1.0.0"', "", "worker.toml: version: is missing"),
        ("[model]", "colour = 1\n[model]", "worker.toml: colour: is not a key here; known are: de"),
        ('file = "m', 'path = 1\nfile = "m', "model.path: is not a key here; known are: batched, "),
        ("width = 8", "width = 8\nsize = 9", "inputs[0].image.size: is not a key here; known are"),
        ('"FP32"', '"FLOAT"', "worker.toml: inputs[0].datatype: Input should be 'BOOL'"),
        ('"FP32"', '"FLOAT"', "; found 'FLOAT'"),
        ("[-1, 64]", "[-2, 64]", "worker.toml: inputs[0].shape[0]: Input should be greater than"),
        ("[-1, 64]", "[-1, 63]", "a picture of 8x8 in mode L has 64 values, the shape [-1, 63]"),
        (DIGEST, DIGEST.upper(), "worker.toml: model.sha256: String should match pattern"),
        ('"digits"', '"Digits"', "worker.toml: name: "),
        ('"digits"', '"' + "d" * 95 + '"', "worker.toml: name: "),
        ("[inputs.", "excerpt_bytes = 9\n[inputs.", "is for BYTES inputs, this one is FP32"),
        ("width = 8", 'width = "8"', "inputs[0].image.width: Input should be a valid integer; fou"),
        (
            "shape = [-1]\n",
            "shape = [-1]\n[settings]\nrows = 3",
            "settings.rows: is not a key here",
        ),
        (
            "shape = [-1]\n",
            "shape = [-1]\n[settings]\nbatch_rows_max = 5000",
            "settings: batch_rows_max (5000) must not exceed queue_rows_max (1024)",
        ),
        ('name = "label"', 'name = "label"\n"', "worker.toml: is not TOML: "),
    ],
)
def test_each_mistake_is_named_by_file_key_and_what_was_found(old, new, says):
    """The person who wrote it must not need the documentation to mend it."""
    assert any(says in problem for problem in problems(GOOD.replace(old, new, 1)))


def test_all_mistakes_come_at_once():
    """Nobody mends one to be told of the next."""
    text = GOOD.replace("1.0.0", "").replace("FP32", "F")
    found = problems(text + "[settings]\nbatch_rows_max = 0\n")
    assert len(found) == 3


def test_names_are_unique():
    """Two inputs of one name could not be told apart."""
    text = GOOD + '[[outputs]]\nname = "label"\ndatatype = "INT64"\nshape = [-1]\n'
    assert problems(text) == ["worker.toml: outputs: listed more than once: label"]


def test_files_belong_to_a_transform():
    """Without its code, nobody reads them."""
    text = GOOD + f'[[files]]\nfile = "labels.json"\nsha256 = "{DIGEST}"\n'
    assert "there is no [transform]" in problems(text)[0]


@given(text=st.text(max_size=200))
def test_no_text_raises_anything_else(text):
    """Whatever stands in the file, the answer is a list of problems."""
    with contextlib.suppress(PackageError):
        parse_manifest(GOOD + text, "worker.toml")


def test_no_folder_and_no_manifest_say_how_to_get_one(tmp_path):
    """The two differ: a wrong path, and a folder that is no worker."""
    for folder, what in ((tmp_path / "none", "no such folder"), (tmp_path, "no such file")):
        with pytest.raises(PackageError, match=rf"{what}; .*ondemand worker new"):
            read_manifest(folder)
