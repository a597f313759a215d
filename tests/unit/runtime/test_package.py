"""A worker folder: loaded if all of it is as promised, and checked for everything that is not."""

import numpy as np
import pytest
from onnx import TensorProto
from unit.runtime.onnx_files import (
    MANIFEST,
    centring,
    negating,
    one_node,
    write_folder,
    write_pair,
)

from ondemand.errors import ConfigurationError, ModelError
from ondemand.runtime import package as package_module
from ondemand.runtime.base import Signature, TensorSpec
from ondemand.runtime.files import digest
from ondemand.runtime.package import check_package, load_package, warm_up
from ondemand.runtime.problems import PackageError
from ondemand.settings import WorkerSettings

GOLDEN = '[golden]\nfolder = "golden"\n'


def lines(folder) -> list[str]:
    return [str(problem) for problem in check_package(folder)]


def test_a_good_folder_loads_and_has_no_problems(tmp_path):
    """What is checked is what is served."""
    folder = write_folder(
        tmp_path / "w", negating(), more=GOLDEN + "[settings]\nmodel_threads = 1\n"
    )
    write_pair(folder, "one", [[1, 2]], [[-1, -2]])
    write_pair(folder, "two", [[0, 1], [3, 4]], [[0, -1], [-3, -4]])
    assert lines(folder) == []
    package = load_package(folder)
    assert package.settings == {"model_threads": 1}
    assert [pair.name for pair in package.golden] == ["one", "two"]
    assert (package.model.name, package.model.version) == ("negator", "1.2.3")
    out = package.model.run({"x": np.array([[5, 6]], np.float32)})
    assert out["y"].tolist() == [[-5, -6]]


def test_threads_come_from_the_call_then_the_manifest_then_the_quota(tmp_path, monkeypatch):
    """The operator has the last word."""
    seen = []
    session = package_module.OnnxSession

    def spy(content, *, threads, execution_providers):
        seen.append(threads)
        return session(content, threads=threads, execution_providers=execution_providers)

    monkeypatch.setattr(package_module, "OnnxSession", spy)
    monkeypatch.setattr(package_module, "usable_threads", lambda: 7)
    plain = write_folder(tmp_path / "a", negating())
    asking = write_folder(tmp_path / "b", negating(), more="[settings]\nmodel_threads = 3\n")
    load_package(plain)
    load_package(asking)
    load_package(asking, threads=2)
    assert seen == [7, 3, 2]


def test_execution_providers_come_from_the_call_then_the_manifest(tmp_path):
    """The operator has the last word; without one, what the folder asks for must be there."""
    more = '[settings]\nexecution_providers = ["cuda"]\n'
    folder = write_folder(tmp_path / "w", negating(), more=more)
    assert load_package(folder, execution_providers=("cpu",)).model.name == "negator"
    with pytest.raises(PackageError, match=r"model: execution_providers asks for cuda.*has cpu"):
        load_package(folder)
    with pytest.raises(PackageError, match="asks for cuda"):
        load_package(write_folder(tmp_path / "v", negating()), execution_providers=("cuda", "cpu"))


def test_a_check_says_that_an_execution_provider_is_not_there(tmp_path):
    """Not only the start, when it is late."""
    more = '[settings]\nexecution_providers = ["tensorrt", "cpu"]\n'
    (line,) = lines(write_folder(tmp_path / "w", negating(), more=more))
    assert "asks for tensorrt" in line
    assert "install onnxruntime-gpu" in line


def test_an_execution_provider_that_nobody_knows_is_named_with_those_that_there_are(tmp_path):
    """A typing error must not need a search."""
    more = '[settings]\nexecution_providers = ["gpu"]\n'
    (line,) = lines(write_folder(tmp_path / "w", negating(), more=more))
    assert "worker.toml: settings.execution_providers[0]" in line
    assert "'cuda'" in line
    assert "found 'gpu'" in line


def test_loading_refuses_with_all_that_is_wrong_in_one_step(tmp_path):
    """A ``ConfigurationError`` with one line per problem, each naming file and key."""
    folder = write_folder(tmp_path / "w", negating())
    (folder / "model.onnx").write_bytes(centring())
    with pytest.raises(ConfigurationError, match=r"worker\.toml: model: model\.onnx has the SHA"):
        load_package(folder)


def test_a_signature_that_is_not_the_models_is_found(tmp_path):
    """The manifest is what callers are told; the model is what runs."""
    folder = write_folder(
        tmp_path / "w", negating(), manifest=MANIFEST.replace("[-1, 2]", "[-1, 3]")
    )
    assert len(lines(folder)) == 2
    with pytest.raises(PackageError, match="'x' is promised as x: FP32"):
        load_package(folder)


def test_a_wrong_answer_is_found(tmp_path):
    """A golden pair is run through the real model, within its tolerance."""
    folder = write_folder(tmp_path / "w", negating(), more=GOLDEN)
    write_pair(folder, "right", [[1, 2]], [[-1, -2.000001]])
    write_pair(folder, "wrong", [[1, 2]], [[-1, 2]])
    (line,) = lines(folder)
    assert line.endswith(
        "golden/wrong: output 'y': 1 of 2 values differ: at [0, 1] expected 2.0, got -2.0"
    )


def test_rows_that_depend_on_their_company_are_found(tmp_path):
    """Each pair is right alone; together they change: this model must not be batched."""
    folder = write_folder(tmp_path / "w", centring(), more=GOLDEN)
    write_pair(folder, "one", [[1, 2]], [[0, 0]])
    write_pair(folder, "two", [[5, 5]], [[0, 0]])
    assert len(lines(folder)) == 2
    assert all("set model.batched = false" in line for line in lines(folder))
    alone = MANIFEST.replace("[[inputs]]", "batched = false\n[[inputs]]", 1)
    assert lines(write_folder(folder, centring(), manifest=alone, more=GOLDEN)) == []


def test_golden_pairs_that_cannot_be_read_are_each_named(tmp_path):
    """A half that is missing, a body that is no V2 request, an input the model does not take."""
    folder = write_folder(tmp_path / "w", negating(), more=GOLDEN)
    for name in ("half", "broken"):
        write_pair(folder, name, [[1, 2]], [[-1, -2]])
    (folder / "golden" / "half.reply.json").unlink()
    (folder / "golden" / "broken.request.json").write_text("{", encoding="utf-8")
    found = lines(folder)
    assert len(found) == 2
    assert "broken.request.json: " in found[0]
    assert found[1].endswith("half.reply.json: is missing, its other half is there")
    with pytest.raises(PackageError):
        load_package(folder)


def test_an_empty_golden_folder_is_found(tmp_path):
    """A promise of golden pairs without one proves nothing."""
    folder = write_folder(tmp_path / "w", negating(), more=GOLDEN)
    assert "holds no golden pair" in lines(folder)[0]


def test_independent_problems_come_together(tmp_path):
    """One check tells all that can be known: digest, golden folder, limits."""
    more = GOLDEN + "[settings]\nrequest_bytes_max = 100\nreply_bytes_max = 100\n"
    wide = MANIFEST.replace("[-1, 2]", "[-1, 200]")
    folder = write_folder(tmp_path / "w", negating(), manifest=wide, more=more)
    (folder / "model.onnx").write_bytes(b"")
    found = "\n".join(lines(folder))
    assert "golden: holds no golden pair" in found
    assert "model: model.onnx has the SHA-256" in found
    assert "request_bytes_max: is 100, but the smallest request has 800 bytes" in found
    assert "reply_bytes_max: is 100, but the smallest reply has 800 bytes" in found


def test_a_large_input_needs_a_store_that_takes_it(tmp_path):
    """Where the folder names one, its limit counts rather than the record's."""
    wide = MANIFEST.replace("[-1, 2]", "[-1, 300000]")
    more = '[settings]\nreply_bytes_max = 2000000\nclaim_store = "file:///srv/claims"\n'
    small = more + "claim_bytes_max = 1000000\n"
    for name, settings, found in (
        ("a", "[settings]\nreply_bytes_max = 2000000\n", "request_bytes_max: is 1000000"),
        ("b", small, "claim_bytes_max: is 1000000"),
        ("c", more, ""),
    ):
        content = one_node("Neg", takes=("rows", 300_000), gives=("rows", 300_000))
        folder = write_folder(tmp_path / name, content, manifest=wide, more=settings)
        assert found in "\n".join(lines(folder))
        assert bool(found) == bool(lines(folder))


def test_a_batch_size_for_a_model_without_rows_is_found(tmp_path):
    """It would have no effect, and somebody thinks that it has."""
    fixed = one_node("Neg", takes=[1, 2], gives=[1, 2])
    manifest = MANIFEST.replace("[-1, 2]", "[1, 2]")
    more = "[settings]\nbatch_rows_max = 8\n"
    folder = write_folder(tmp_path / "w", fixed, manifest=manifest, more=more)
    (line,) = lines(folder)
    assert "settings.batch_rows_max: has no effect" in line


def test_the_transforms_digest_and_files_are_checked(tmp_path):
    """Code and tables are part of the release, like the model."""
    source = (
        "class Transform:\n"
        "    def __init__(self, files): self.table = files['table.txt']\n"
        "    def signature(self, model): return model\n"
        "    def prepare(self, inputs): return inputs\n"
        "    def present(self, inputs, outputs): return outputs\n"
    )
    more = (
        f'[transform]\nfile = "transform.py"\nsha256 = "{digest(source.encode())}"\n'
        f'[[files]]\nfile = "table.txt"\nsha256 = "{digest(b"1")}"\n'
    )
    folder = write_folder(tmp_path / "w", negating(), more=more)
    (folder / "transform.py").write_text(source, encoding="utf-8")
    (folder / "table.txt").write_bytes(b"1")
    assert lines(folder) == []
    assert load_package(folder).model.signature.batched
    (folder / "transform.py").write_text(source + "import os\n", encoding="utf-8")
    (folder / "table.txt").unlink()
    found = lines(folder)
    assert ": transform: transform.py has the SHA-256" in found[0]
    assert ": files[0]: table.txt cannot be read" in found[1]


class Counting:
    """A model that notes the rows of its runs, and can refuse them."""

    def __init__(self, shape, *, refuses=False):
        spec = TensorSpec("x", package_module.Datatype.FP32, shape)
        self.signature = Signature((spec,), (spec,), batched=shape[0] is None)
        self.refuses = refuses
        self.rows = []

    def run(self, inputs):
        self.rows.append(len(inputs["x"]))
        if self.refuses:
            raise ModelError("zeros have no logarithm")
        return dict(inputs)


def test_warm_up_runs_small_and_full_batches():
    """The first caller must not wait for memory to be taken; bytes bound a batch like rows do."""
    model = Counting((None, 250))
    warm_up(model, WorkerSettings(batch_rows_max=8))
    assert model.rows == [1, 4, 8]
    model.rows.clear()
    warm_up(model, WorkerSettings(batch_bytes_max=3_000, request_bytes_max=2_000))
    assert model.rows == [1, 2, 3]


def test_warm_up_leaves_out_what_it_cannot_know():
    """A length that is open is not guessed; a model without rows is run once."""
    open_length = Counting((None, None))
    warm_up(open_length, WorkerSettings())
    assert open_length.rows == []
    fixed = Counting((1, 3))
    warm_up(fixed, WorkerSettings())
    assert fixed.rows == [1]


def test_a_model_that_refuses_zeros_starts_all_the_same():
    """Zeros need not be what it takes."""
    model = Counting((None, 2), refuses=True)
    warm_up(model, WorkerSettings())
    assert model.rows == [1]


def test_texts_are_warmed_up_too(tmp_path):
    """BYTES have empty texts for zeros."""
    content = one_node("Identity", element=TensorProto.STRING, takes=["n"], gives=["n"])
    manifest = MANIFEST.replace("FP32", "BYTES").replace("[-1, 2]", "[-1]")
    folder = write_folder(tmp_path / "w", content, manifest=manifest)
    assert load_package(folder).model.signature.batched
