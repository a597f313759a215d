"""From a model file to a worker folder that passes its own check."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from unit.runtime.onnx_files import INPUT, OUTPUT, model_bytes, negating, one_node

from ondemand.contract.tensor import Datatype
from ondemand.errors import ConfigurationError
from ondemand.runtime.base import Identity, Signature, TensorSpec
from ondemand.runtime.golden import read_golden
from ondemand.runtime.manifest import parse_manifest, read_manifest
from ondemand.runtime.package import check_package
from ondemand.runtime.scaffold import manifest_text, new_package


@pytest.fixture
def model_file(tmp_path):
    def write(content: bytes):
        path = tmp_path / "given.onnx"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        negating(),
        one_node("Identity", element=TensorProto.STRING, takes=["n"], gives=["n"]),
        one_node("Neg", takes=[1, 2], gives=[1, 2]),
    ],
    ids=["rows of numbers", "rows of text", "no rows"],
)
def test_the_new_folder_passes_its_check(tmp_path, model_file, content):
    """With signature and digest of the model, and a golden pair from a real run."""
    made = new_package(tmp_path / "new", name="prices", model=model_file(content))
    assert made.no_golden is None
    assert check_package(made.folder) == ()
    manifest = read_manifest(made.folder)
    assert (manifest.name, manifest.signature) == ("prices", made.signature)
    (pair,) = read_golden(made.folder / "golden")
    assert pair.reply.outputs


@pytest.mark.parametrize(
    "content",
    [
        one_node("Neg", takes=["n", "length"], gives=["n", "length"]),
        one_node("Reciprocal"),
        model_bytes(
            [helper.make_node("Reshape", [INPUT, "shape"], [OUTPUT])],
            takes={INPUT: (TensorProto.FLOAT, ["n", 2])},
            gives={OUTPUT: (TensorProto.FLOAT, ["n", 2])},
            initializers=[helper.make_tensor("shape", TensorProto.INT64, [2], [3, 3])],
        ),
    ],
    ids=["open length", "infinite on zeros", "fails on zeros"],
)
def test_without_a_golden_pair_the_folder_is_still_good_and_says_why(tmp_path, model_file, content):
    """Nobody can guess an open length, and some models have no answer for zeros."""
    made = new_package(tmp_path / "new", name="prices", model=model_file(content))
    assert "takes no zeros, or leaves lengths open" in made.no_golden
    assert check_package(made.folder) == ()
    assert not (made.folder / "golden").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("Bad Name", negating(), "name"),
        ("prices", b"no model", "cannot be loaded"),
        ("prices", one_node("Neg", domain="org.example"), "operators from a library"),
    ],
)
def test_what_cannot_be_served_writes_nothing(tmp_path, model_file, name, content, says):
    """Half a folder would be mistaken for a whole one."""
    with pytest.raises(ConfigurationError, match=says):
        new_package(tmp_path / "new", name=name, model=model_file(content))
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_left_alone(tmp_path, model_file):
    """Somebody's work is never overwritten."""
    new_package(tmp_path / "new", name="prices", model=model_file(negating()))
    with pytest.raises(ConfigurationError, match="is there already; choose another --folder"):
        new_package(tmp_path / "new", name="prices", model=model_file(negating()))


def test_a_missing_model_is_named(tmp_path):
    """The path as it was given, and the system's reason."""
    with pytest.raises(ConfigurationError, match=r"none\.onnx cannot be read: No such file"):
        new_package(tmp_path / "new", name="prices", model=tmp_path / "none.onnx")


@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_every_tensor_name_survives_the_file(name):
    """Exporters name tensors as they like; the manifest says exactly that name."""
    spec = TensorSpec(name, Datatype.FP32, (None, 3))
    signature = Signature((spec,), (spec,), batched=True)
    identity = Identity("prices", "1.0.0", finite_only=True)
    text = manifest_text(identity, signature, sha256="a" * 64, golden=False)
    assert parse_manifest(text, "worker.toml").signature == signature
