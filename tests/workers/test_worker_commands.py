"""``ondemand worker check`` and ``new``, as a person at a terminal meets them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "workers" / "digits"


def ondemand(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ondemand", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_says_what_was_found_good():
    """Exit code 0, name, version and signature on standard output."""
    ran = ondemand("worker", "check", "workers/digits")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("digits 1.0.0 is ready. It takes image: FP32[any, 64]; gives ")


def test_check_has_one_line_per_problem_and_exit_code_1(tmp_path):
    """The model was changed after its digest was written down, and a golden reply is gone."""
    folder = shutil.copytree(DIGITS, tmp_path / "digits")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    (folder / "golden" / "blank.reply.json").unlink()
    ran = ondemand("worker", "check", str(folder))
    lines = ran.stderr.splitlines()
    assert (ran.returncode, ran.stdout, len(lines)) == (1, "", 3)
    assert "golden/blank.reply.json: is missing" in lines[0]
    assert "worker.toml: model: model.onnx has the SHA-256" in lines[1]
    assert lines[2].endswith("is not ready: 2 problems.")


def test_new_makes_a_folder_that_check_finds_good(tmp_path):
    """From a model file to a releasable folder with two commands; the next ones are printed."""
    model = str(DIGITS / "model.onnx")
    ran = ondemand("worker", "new", "prices", "--model", model, folder=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    printed = [line.strip() for line in ran.stdout.splitlines()]
    assert printed[0] == "workers/prices is written."
    assert printed[2:] == [
        "ondemand worker check workers/prices",
        "ondemand topics apply --model prices",
        "ondemand worker run workers/prices",
        "ondemand predict prices FILE",
    ]
    checked = ondemand(*printed[2].split()[1:], folder=tmp_path)
    assert checked.stdout.startswith("prices 1.0.0 is ready. ")


def test_new_refuses_in_one_line_without_a_traceback(tmp_path):
    """What is no model is said to be none, and nothing is written."""
    (tmp_path / "prices.onnx").write_bytes(b"no model")
    ran = ondemand("worker", "new", "prices", "--model", "prices.onnx", folder=tmp_path)
    assert ran.returncode != 0
    assert len(ran.stderr.splitlines()) == 1
    assert "the model cannot be loaded" in ran.stderr
    assert not (tmp_path / "workers").exists()


@pytest.mark.parametrize("command", ["check", "new"])
def test_help_has_an_example_and_loads_no_runtime(command):
    """``--help`` must be fast: nothing heavy is imported for it."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ondemand", "worker", command, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"Example: ondemand worker {command} " in ran.stdout
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert not imported & {"onnxruntime", "numpy", "confluent_kafka", "aiokafka"}
