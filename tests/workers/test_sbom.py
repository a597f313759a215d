"""What is said to be in a worker's image is what is in it."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[2]
WORKERS = sorted(path.parent for path in (ROOT / "workers").glob("*/worker.toml"))


def components(worker: Path) -> dict[str, dict[str, object]]:
    """What the SBOM lists, by name."""
    listed = json.loads((worker / "sbom.cdx.json").read_text(encoding="utf-8"))["components"]
    return {each["name"]: each for each in listed}


def test_the_files_are_what_the_sources_say() -> None:
    """`make sbom` gives the same bytes each time; the ones in the repository are the newest."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "release" / "sbom.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("worker", WORKERS, ids=lambda path: path.name)
def test_it_is_valid_cyclonedx(worker: Path) -> None:
    """As strictly as the schema of its version allows."""
    text = (worker / "sbom.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str("{}") is not None


@pytest.mark.parametrize("worker", WORKERS, ids=lambda path: path.name)
def test_the_model_is_listed_by_its_digest(worker: Path) -> None:
    """A model is a dependency like any other."""
    digest = hashlib.sha256((worker / "model.onnx").read_bytes()).hexdigest()
    model = components(worker)["model.onnx"]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": digest}]


@pytest.mark.parametrize("worker", WORKERS, ids=lambda path: path.name)
def test_every_pinned_wheel_is_listed_once(worker: Path) -> None:
    """Those of the image: no Windows package, and one numpy, the one for its Python."""
    lock = (ROOT / "workers" / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([\w.-]+)==([\w.]+)(?: ; (.+?))? \\$", lock, re.MULTILINE)
    listed = components(worker)
    assert {name for name, _, marker in pinned if not marker} < set(listed)
    assert "colorama" not in listed
    image_numpy = [version for name, version, m in pinned if name == "numpy" and "< '3.12'" in m]
    assert [listed["numpy"]["version"]] == image_numpy
