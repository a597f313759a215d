"""The filetype worker: the same answer as the ``magika`` package, for every content."""

import os
import random
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from magika import Magika

from ondemand.runtime.base import Model
from ondemand.runtime.manifest import read_manifest
from ondemand.runtime.package import check_package, load_package

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "workers" / "filetype"

SAMPLES = 300
EXCERPT_BYTES = 4_096
# In company of other rows, rounding is amplified: 0.017 was the worst of 7,957 files.
SCORE_TOLERANCE_IN_BATCHES = 0.05


@pytest.fixture(scope="module")
def model() -> Model:
    return load_package(FOLDER).model


@pytest.fixture(scope="module")
def magika() -> Magika:
    return Magika()


def contents(*values: bytes) -> dict[str, np.ndarray]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return {"content": array}


def excerpt(content: bytes) -> bytes:
    """What a client may send instead of a long file."""
    if len(content) <= 2 * EXCERPT_BYTES:
        return content
    return content[:EXCERPT_BYTES] + content[-EXCERPT_BYTES:]


def ours(model: Model, content: bytes) -> tuple[str, float, str]:
    out = model.run(contents(content))
    return out["label"][0].decode(), float(out["score"][0]), out["mime"][0].decode()


def theirs(magika: Magika, content: bytes) -> tuple[str, float, str]:
    result = magika.identify_bytes(content)
    return result.output.label, result.score, result.output.mime_type


def files() -> list[Path]:
    """Files of the standard library and of this repository: the same sample each time."""
    folders = [
        Path(sysconfig.get_paths()["stdlib"]),
        ROOT / "src",
        ROOT / "tests",
        ROOT / "workers",
    ]
    found = [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {"site-packages", "__pycache__"} & set(path.parts)
    ]
    return random.Random(0).sample(found, SAMPLES)  # noqa: S311 - a sample, not a secret


EDGES = {
    "empty": b"",
    "one byte": b"a",
    "one byte of no text": b"\xff",
    "seven bytes": b"1234567",
    "eight bytes": b"12345678",
    "eight bytes of no text": bytes(range(248, 256)),
    "white space only": b" \t\r\n\v\f" * 40,
    "white space and seven bytes": b"   \n" * 50 + b"1234567",
    "white space and seven bytes of no text": b"   \n" * 50 + b"\xff" * 7,
    "white space and eight bytes": b"   \n" * 50 + b"12345678",
    "text after a block of white space": b" " * 4_096 + b"import os\n" * 50,
    "text before a block of white space": b"import os\n" * 50 + b" " * 4_096,
    "half a letter where the block ends": b" " * 4_095 + "é".encode(),
    "zeros": bytes(5_000),
    "exactly one block": b"x = 1\n" * 682 + b"#abc",
    "between one block and two": b"x = 1\n" * 1_000,
    "exactly two blocks": b"x = 1\n" * 1_365 + b"#a",
    "long": b"<p>paragraph</p>\n" * 60_000,
    "long and different at both ends": b"%PDF-1.7\n" + os.urandom(100_000) + b"\n%%EOF\n",
    "tiny picture": b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01;",
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_get_the_packages_answer(model, magika, name):
    """Too little, only white space, just enough, too long: the rules before and after the model."""
    content = EDGES[name]
    assert ours(model, content) == theirs(magika, content)
    assert ours(model, excerpt(content)) == theirs(magika, content)


@settings(max_examples=60, deadline=None)
@given(content=st.one_of(st.binary(max_size=40), st.text(" \n\tab1é", max_size=40).map(str.encode)))
def test_small_contents_get_the_packages_answer(model, magika, content):
    """Where the model is not asked, the rules decide: they are the package's."""
    assert ours(model, content) == theirs(magika, content)


@pytest.mark.timeout(240)
def test_real_files_get_the_packages_answer(model, magika):
    """Label, score and media type, to the last bit, also from the excerpt."""
    different = []
    for path in files():
        content = path.read_bytes()
        mine, wanted = ours(model, excerpt(content)), theirs(magika, content)
        if mine != wanted:
            different.append((str(path), mine, wanted))
    assert different == []


def test_several_files_in_one_request_get_the_same_labels(model, magika):
    """Rows keep their order and labels; scores differ by rounding only."""
    sample = [path.read_bytes() for path in files()[:40]] + [b"", b"a"]
    out = model.run(contents(*sample))
    expected = [theirs(magika, content) for content in sample]
    assert [label.decode() for label in out["label"]] == [label for label, _, _ in expected]
    scores = np.array([score for _, score, _ in expected])
    assert np.abs(out["score"] - scores).max() <= SCORE_TOLERANCE_IN_BATCHES


def test_it_is_ready_for_release():
    """Manifest, digests, signature, golden pairs and limits: no problem is found."""
    assert check_package(FOLDER) == ()


def test_files_run_one_at_a_time():
    """That is what makes scores the package's own (workers/filetype/README.md, Exactness)."""
    manifest = read_manifest(FOLDER)
    assert manifest.worker_settings.batch_rows_max == 1
    assert manifest.inputs[0].excerpt_bytes == EXCERPT_BYTES


def test_model_and_tables_are_the_packages():
    """The committed files are what ``build_model.py`` takes out of the package."""
    ran = subprocess.run(
        [sys.executable, str(FOLDER / "build_model.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_worker_does_not_need_the_package():
    """Nor scikit-learn, nor the onnx package: none of them is in the image."""
    program = (
        "import sys\n"
        "for name in ('magika', 'onnx', 'sklearn', 'skl2onnx', 'aiokafka'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from ondemand.runtime.package import check_package\n"
        "sys.exit(len(check_package(Path(sys.argv[1]))))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(FOLDER)], timeout=60, check=False)
    assert ran.returncode == 0


def test_the_changelog_knows_the_version():
    """A version without a line about it is not released."""
    version = tomllib.loads((FOLDER / "worker.toml").read_text(encoding="utf-8"))["version"]
    assert f"## {version}\n" in (FOLDER / "CHANGELOG.md").read_text(encoding="utf-8")
