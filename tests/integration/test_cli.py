"""The command line as a process: what it says, how it ends, what it imports. Needs no broker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ONDEMAND = (sys.executable, "-m", "ondemand")


def run(
    *arguments: str, folder: Path | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """The command, to its end. Its environment names no broker but that of *environment*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONDEMAND_")}
    return subprocess.run(
        [*ONDEMAND, *arguments],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_imports_no_command() -> None:
    """`ondemand --help` is fast because it loads nothing that it does not show."""
    heavy = {"numpy", "pydantic", "aiokafka", "confluent_kafka", "onnxruntime", "sklearn", "PIL"}
    program = (
        "import sys\n"
        "from ondemand.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as left:\n    print(left.code, *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    code, *modules = done.stdout.splitlines()[-1].split()
    assert code == "0"
    assert not heavy & set(modules)
    assert "Exit codes: 0 done" in done.stdout


def test_the_version_is_printed() -> None:
    """For bug reports."""
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ondemand ")


@pytest.mark.parametrize("arguments", [["predct"], ["predict"], ["settings", "show", "--nope"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    """As shells expect; the message is on standard error."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: ondemand" in done.stderr


def test_a_missing_library_names_its_extra(tmp_path: Path) -> None:
    """A service that installed only what it needs is told what else a command needs."""
    broken = tmp_path / "typer.py"
    broken.write_text("raise ModuleNotFoundError(name='typer')\n", encoding="utf-8")
    done = run("kafka", "status", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "error: `ondemand kafka` needs the extra 'cli': pip install 'ondemand[cli]'\n"
    )


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    """`| head -1` is no error of ours."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"{' '.join(ONDEMAND)} settings docs | head -1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("# Settings\n", "")


def test_output_has_no_colours_where_it_is_no_terminal(tmp_path: Path) -> None:
    """A file or a pipe gets plain text, whole lines of it."""
    done = run("settings", "show", folder=tmp_path, ONDEMAND_KAFKA="a:1,b:2,c:3")
    assert "\x1b" not in done.stdout
    row = next(line for line in done.stdout.splitlines() if " kafka " in line)
    assert row.split() == ["both", "kafka", "a:1,b:2,c:3", "environment:", "ONDEMAND_KAFKA"]


def test_an_unreachable_broker_is_told_within_its_time_limit(tmp_path: Path) -> None:
    """One line, not the log of a library."""
    Path(tmp_path, "x.json").write_text('{"x": [1]}', encoding="utf-8")
    for arguments in (["predict", "digits", "x.json"], ["topics", "plan", "--model", "digits"]):
        done = run(
            *arguments,
            *("--kafka", "127.0.0.1:1", "--set", "connect_timeout_seconds=0.5"),
            folder=tmp_path,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert "127.0.0.1:1" in done.stderr
        assert "0.5 s" in done.stderr


def test_files_that_cannot_be_read_need_no_broker(tmp_path: Path) -> None:
    """One line for each, and nobody is asked."""
    done = run("predict", "digits", "a.json", "b.png", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: a.json: there is no such file",
        "error: b.png: there is no such file",
    ]


def test_the_demo_says_where_it_must_be_run(tmp_path: Path) -> None:
    """Outside the repository there are no workers to start."""
    done = run("demo", folder=tmp_path)
    assert done.returncode == 1
    assert "run the demo in the folder of the ondemand repository" in done.stderr
