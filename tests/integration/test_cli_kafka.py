"""``ondemand predict`` and ``ondemand topics`` on real Kafka, with a worker that really answers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient

from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import ffnn

pytestmark = pytest.mark.kafka

ONDEMAND = (sys.executable, "-m", "ondemand")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def run(kafka, folder: Path) -> Run:
    """Runs the command on the broker, to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONDEMAND_")}

    def command(*arguments: str, **more: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*ONDEMAND, *arguments],
            env={**kept, "ONDEMAND_KAFKA": kafka.address},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **{"cwd": folder, **more},
        )

    return command


@pytest.fixture(scope="module")
def names() -> tuple[str, str]:
    """A model and a service of this run alone."""
    return f"cli-model-{os.getpid()}", f"cli-service-{os.getpid()}"


@pytest.fixture(scope="module")
def topics(run: Run, names: tuple[str, str]) -> tuple[str, ...]:
    """The arguments that declare this run's topics, which are there."""
    declared = ("--model", names[0], "--service", names[1])
    done = run("topics", "apply", *declared, "--yes")
    assert done.returncode == 0, done.stderr
    return declared


@pytest.fixture(scope="module")
def worker(
    run: Run, names: tuple[str, str], topics: tuple[str, ...], folder: Path, kafka
) -> Iterator[str]:
    """A model of eight inputs and four outputs, served; its folder is where `predict` looks."""
    model, service = names
    (folder / "model.onnx").write_bytes(ffnn((8, 4)))
    made = new_package(folder / "workers" / model, name=model, model=folder / "model.onnx")
    command = [*ONDEMAND, "worker", "run", str(made.folder)]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--kafka", kafka.address, "--http", "off"], stdout=log, stderr=log
        )
    try:
        np.save(folder / "first.npy", np.zeros(8))
        for _ in range(30):
            done = run("predict", model, "first.npy", "--service", service, "--timeout", "2")
            if done.returncode == 0:
                break
            assert process.poll() is None, (folder / "worker.log").read_text()
        assert done.returncode == 0, done.stderr
        yield model
    finally:
        process.terminate()
        process.wait(30)


def test_a_plan_changes_nothing_and_apply_asks(
    run: Run, topics: tuple[str, ...], kafka_admin: AdminClient
) -> None:
    """The difference is shown first; where nobody can be asked, nothing is done without --yes."""
    model = f"cli-plan-{os.getpid()}"
    declared = ("--model", model, "--service", model)
    planned = run("topics", "plan", *declared, "--json")
    changes = json.loads(planned.stdout)["changes"]
    assert planned.returncode == 0
    assert [(change["kind"], change["topic"]) for change in changes] == [
        ("create", f"{model}.requests"),
        ("create", f"{model}.dead-letters"),
        ("create", f"{model}.replies"),
    ]
    asked = run("topics", "apply", *declared)
    assert (asked.returncode, asked.stdout.count("+ create ")) == (1, 3)
    assert asked.stderr == "error: nobody can be asked here: say --yes to make these 3 changes\n"
    assert not {name for name in kafka_admin.list_topics(timeout=10).topics if model in name}


def test_what_is_applied_is_no_longer_planned(
    run: Run, topics: tuple[str, ...], kafka_admin: AdminClient
) -> None:
    """Applying twice is applying once."""
    again = run("topics", "apply", *topics)
    assert (again.returncode, again.stdout) == (0, "4 of 4 topics are as declared.\n")
    assert {f"{topics[1]}.requests", f"{topics[3]}.replies"} <= set(
        kafka_admin.list_topics(timeout=10).topics
    )


def test_partitions_are_added_and_never_taken_away(
    run: Run, folder: Path, kafka_admin: AdminClient
) -> None:
    """More is done; fewer is refused, said, and the exit code says so too. Nothing is deleted."""
    model = f"cli-grow-{os.getpid()}"
    file = folder / "topics.toml"

    def apply(partitions: int) -> "subprocess.CompletedProcess[str]":
        file.write_text(f'models = ["{model}"]\n[requests]\npartitions = {partitions}\n')
        return run("topics", "apply", "--file", str(file), "--yes")

    def present() -> int:
        return len(kafka_admin.list_topics(timeout=10).topics[f"{model}.requests"].partitions)

    assert apply(2).returncode == 0
    assert apply(3).returncode == 0
    assert present() == 3
    refused = apply(1)
    assert refused.returncode == 1
    assert "Kafka cannot take partitions away" in refused.stdout
    assert present() == 3


def test_without_a_declaration_it_says_how_to_make_one(run: Run) -> None:
    """An installed package has no `broker/topics.toml`."""
    done = run("topics", "plan")
    assert done.returncode == 1
    assert "--model and --service" in done.stderr


def test_files_are_answered_in_order_and_a_bad_one_stops_nothing(
    run: Run, worker: str, names: tuple[str, str], folder: Path
) -> None:
    """One JSON object for each file, one line for the bad one, and an exit code that says so."""
    np.save(folder / "a.npy", np.ones((2, 8)))
    (folder / "c.json").write_text(json.dumps({"x": [[0.5] * 8]}))
    done = run("predict", worker, "a.npy", "b.npy", "c.json", "--service", names[1], "--json")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert done.stderr == "error: b.npy: there is no such file\n"
    assert (first["file"], second["file"], third["file"]) == ("a.npy", "b.npy", "c.json")
    assert np.shape(first["outputs"]["y"]) == (2, 4)
    assert np.allclose(np.sum(first["outputs"]["y"], axis=1), 1, atol=1e-5)
    assert second["error"] == "b.npy: there is no such file"
    assert third["model_version"] == first["model_version"] != ""
    assert third["timing"]["round_trip_ms"] > 0


def test_people_get_a_table(run: Run, worker: str, names: tuple[str, str]) -> None:
    """The answer on standard output, who gave it on standard error."""
    done = run("predict", worker, "first.npy", "--service", names[1])
    assert done.returncode == 0
    header, row = done.stdout.splitlines()
    assert header.split() == ["file", "y", "ms"]
    assert row.startswith("first.npy  0.")
    assert done.stderr.startswith(f"{worker} 1.0.0, 1 answered, ")


def test_a_refusal_is_the_workers_own_words(
    run: Run, worker: str, names: tuple[str, str], folder: Path
) -> None:
    """A V2 body is sent as it is, and the worker says what it takes instead: exit code 3."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
    (folder / "wrong.json").write_text(json.dumps(body))
    done = run("predict", worker, "wrong.json", "--service", names[1], "--json")
    assert done.returncode == 3
    assert done.stderr.startswith("error: wrong.json: ")
    assert json.loads(done.stdout)["status"] == "invalid-input"


def test_another_version_is_refused(run: Run, worker: str, names: tuple[str, str]) -> None:
    """`--model-version` is a condition."""
    done = run(
        *("predict", worker, "first.npy", "--service", names[1]), *("--model-version", "9.9.9")
    )
    assert done.returncode == 3
    assert "9.9.9" in done.stderr


def test_a_model_without_workers_is_told_at_once_or_after_the_timeout(
    run: Run, names: tuple[str, str], folder: Path
) -> None:
    """Exit code 4, once for all files; who wants to wait is told the same after the timeout."""
    np.save(folder / "idle.npy", np.zeros(8))
    idle = f"cli-idle-{os.getpid()}"
    assert run("topics", "apply", "--model", idle, "--yes").returncode == 0
    ask = ("predict", idle, "idle.npy", "idle.npy", "--input", "x:FP32", "--service", names[1])
    done = run(*ask)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert f"nobody serves {idle!r} now" in done.stderr
    done = run(*ask, "--timeout", "0.5", "--set", "unserved=wait")
    assert done.returncode == 4
    assert "no reply" in done.stderr
    assert "nobody serves it now: no worker has announced itself" in done.stderr


def test_workers_are_listed(run: Run, worker: str, folder: Path) -> None:
    """Who is alive, for people and for scripts; and that somebody is not."""
    header, *rows = run("workers").stdout.splitlines()
    assert header.split()[:5] == ["model", "version", "guarantee", "instance", "partitions"]
    (row,) = (row.split() for row in rows if worker in row)
    assert row[:3] == [worker, "1.0.0", "at-least-once"]
    done = run("workers", "--model", worker, "--json")
    (listed,) = json.loads(done.stdout)["workers"]
    assert (listed["topic"], listed["partitions"]) == (f"{worker}.requests", [0, 1, 2, 3])
    assert listed["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]
    assert 0 <= listed["heard_seconds_ago"] < 15
    nobody = run("workers", "--model", "nobody-has-this")
    assert (nobody.returncode, nobody.stdout) == (
        0,
        "nobody has announced itself for nobody-has-this\n",
    )


def test_what_the_model_takes_is_known_without_its_folder(
    run: Run, worker: str, names: tuple[str, str], tmp_path: Path
) -> None:
    """From what its workers announce: a .npy file needs no --input."""
    np.save(tmp_path / "one.npy", np.zeros(8))
    done = run("predict", worker, "one.npy", "--service", names[1], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_unknown_model_brings_the_nearest(
    run: Run, worker: str, names: tuple[str, str], topics: tuple[str, ...]
) -> None:
    """A typing error is told as such, once, however many files there are."""
    typo = worker.replace("model", "modle")
    done = run(
        *("predict", typo, "first.npy", "first.npy", "--input", "x:FP32", "--service", names[1])
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"no model {typo!r}" in done.stderr
    assert f"did you mean {worker!r}?" in done.stderr


def test_a_missing_reply_topic_names_the_command(run: Run, worker: str) -> None:
    """The client creates nothing, and says who does."""
    done = run("predict", worker, "first.npy", "--service", "nobody-has-this")
    assert done.returncode == 1
    assert "'nobody-has-this.replies' is not there" in done.stderr
    assert "ondemand topics apply --service nobody-has-this" in done.stderr
