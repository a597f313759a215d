"""``ondemand worker run --processes``: what each process is started with."""

import sys
from itertools import pairwise

import pytest

from ondemand.cli import main
from ondemand.runtime import cpu
from ondemand.supervisor import lifecycle
from ondemand.telemetry import logging

PROCESSORS = 7


@pytest.fixture
def folder(tmp_path):
    """A worker folder, as far as settings are concerned."""
    (tmp_path / "worker.toml").write_text("[settings]\nbatch_rows_max = 8\n")
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch):
    """Runs the command with the given options; the settings, and the command of process 1."""
    seen = []

    def supervise(command, settings, *, hopeless):
        seen.append((settings, command(1)))
        assert set(hopeless) == {1, 2}
        return 0

    monkeypatch.setattr(lifecycle, "run_supervisor", supervise)
    monkeypatch.setattr(cpu, "usable_threads", lambda: PROCESSORS)
    monkeypatch.setattr(logging, "configure_logging", lambda *_, process: None)

    def run_with(*options):
        with pytest.raises(SystemExit) as leaving:
            main(["worker", "run", str(folder), *options])
        assert leaving.value.code == 0
        return seen.pop()

    return run_with


def values(command):
    """What ``--set`` gives, by name."""
    given = pairwise(command)
    return dict(value.split("=", 1) for name, value in given if name == "--set")


def test_each_process_runs_the_same_without_a_supervisor(run, folder):
    """The same folder and options, but a port of its own, known to the supervisor alone."""
    settings, command = run(
        *("--processes", "3", "--http", "0.0.0.0:9464"),
        *("--kafka", "k:9092", "--set", "group=mine"),
    )
    assert settings.processes == 3
    assert settings.batch_rows_max == 8
    assert command[:6] == [sys.executable, "-m", "ondemand", "worker", "run", str(folder)]
    assert command[-2:] == ["--member", "1"]
    assert values(command) == {
        "kafka": "k:9092",
        "group": "mine",
        "http": "127.0.0.1:0",
        "processes": "1",
        "model_threads": "2",
    }


@pytest.mark.parametrize(("processes", "threads"), [(2, 3), (3, 2), (7, 1), (8, 1)], ids=str)
def test_processors_are_shared_out_among_the_processes(run, processes, threads):
    """Together no more threads than processors, where there is one for each; one at least."""
    _, command = run("--processes", str(processes))
    assert values(command)["model_threads"] == str(threads)


def test_threads_that_are_set_are_kept(run, monkeypatch):
    """They are those of one process, wherever they are set."""
    _, command = run("--processes", "2", "--set", "model_threads=5")
    assert values(command)["model_threads"] == "5"
    monkeypatch.setenv("ONDEMAND_MODEL_THREADS", "4")
    _, command = run("--processes", "2")
    assert values(command)["model_threads"] == "4"


def test_the_environment_may_ask_for_processes(run, monkeypatch):
    """As every setting; and a process does not start others by what it inherits."""
    monkeypatch.setenv("ONDEMAND_PROCESSES", "2")
    settings, command = run("--http", "off")
    assert settings.processes == 2
    assert values(command)["processes"] == "1"
    assert values(command)["http"] == "off"
