"""A worker folder as a whole: loaded to be served, or checked before it is released."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ondemand.contract.tensor import DTYPES, Datatype
from ondemand.errors import ConfigurationError, ModelError
from ondemand.runtime.base import Array, Identity, Model, Signature, TensorSpec
from ondemand.runtime.cpu import usable_threads
from ondemand.runtime.files import read_checked
from ondemand.runtime.golden import GoldenPair, golden_problems, read_golden
from ondemand.runtime.manifest import MANIFEST, CheckedFile, Manifest, read_manifest
from ondemand.runtime.onnx import OnnxModel, OnnxSession
from ondemand.runtime.problems import PackageError, Problem
from ondemand.runtime.signature import differences
from ondemand.runtime.transform import TransformedModel, load_transform, offered_signature
from ondemand.settings import WorkerSettings

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Package:
    """A worker folder, loaded and warm. *settings*: what its manifest sets, by field name."""

    folder: Path
    manifest: Manifest
    model: Model
    settings: Mapping[str, Any]
    golden: tuple[GoldenPair, ...]


def load_package(
    folder: Path,
    *,
    threads: int | None = None,
    execution_providers: Sequence[str] | None = None,
) -> Package:
    """The folder's model, ready to run.

    *threads*: ONNX Runtime's; otherwise the manifest's ``model_threads``, or the container's quota.
    *execution_providers*: where it runs; otherwise as the manifest says.
    Raises ``PackageError`` (a ``ConfigurationError``) that says what has to be mended, and where.
    """
    manifest = read_manifest(folder)
    golden = read_golden(folder / manifest.golden.folder) if manifest.golden else ()
    settings = manifest.worker_settings.model_copy(
        update={
            name: value
            for name, value in (
                ("model_threads", threads),
                ("execution_providers", execution_providers),
            )
            if value is not None
        }
    )
    model = _open_model(folder, manifest, _contents(folder, manifest), settings)
    warm_up(model, manifest.worker_settings)
    return Package(folder, manifest, model, dict(manifest.settings), golden)


def check_package(folder: Path) -> tuple[Problem, ...]:
    """Everything wrong with *folder* that can be known before its release; empty if nothing is.

    The manifest, the digests, the signature against the model's own, the golden pairs run through
    the real model, and limits that cannot work together.
    """
    problems: list[Problem] = []

    def attempt(step: Callable[[], _T]) -> _T | None:
        try:
            return step()
        except PackageError as error:
            problems.extend(error.problems)
            return None

    manifest = attempt(lambda: read_manifest(folder))
    if manifest is None:
        return tuple(problems)
    promised = manifest.golden
    golden = attempt(lambda: read_golden(folder / promised.folder)) if promised else ()
    contents = attempt(lambda: _contents(folder, manifest))
    problems += _limit_problems(folder / MANIFEST, manifest)
    if contents is None:
        return tuple(problems)
    model = attempt(lambda: _open_model(folder, manifest, contents, manifest.worker_settings))
    if model is None:
        return tuple(problems)
    if promised and golden:
        place = folder / promised.folder
        problems += [
            Problem(str(place / name), message)
            for name, message in golden_problems(model, golden, promised.tolerance)
        ]
    model.close()
    return tuple(problems)


def warm_up(model: Model, settings: WorkerSettings) -> None:
    """Run on zeros, so that the first caller does not wait for memory to be taken.

    With one row and with as many as a batch may have. Skipped where an axis other than the first is
    free. A model may refuse zeros: that is no fault, golden pairs are the proof that it works.
    """
    signature = model.signature
    rows_max = 1
    if signature.batched:
        by_bytes = settings.batch_bytes_max // max(1, _row_bytes(signature.inputs))
        rows_max = max(1, min(settings.batch_rows_max, by_bytes))
    for rows in sorted({1, (rows_max + 1) // 2, rows_max}):
        inputs = zeros(signature, rows)
        if inputs is None:
            return
        try:
            model.run(inputs)
        except ModelError:
            return


def zeros(signature: Signature, rows: int) -> dict[str, Array] | None:
    """Inputs of zeros and empty texts, with *rows* rows where the signature is batched.

    None where the signature leaves a length open that nobody can guess.
    """
    inputs = {}
    for spec in signature.inputs:
        shape = (rows, *spec.shape[1:]) if signature.batched else spec.shape
        fixed = tuple(axis for axis in shape if axis is not None)
        if len(fixed) != len(shape):
            return None
        array = np.zeros(fixed, dtype=DTYPES[spec.datatype])
        if spec.datatype is Datatype.BYTES:
            array.fill(b"")
        inputs[spec.name] = array
    return inputs


def _contents(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Every file that the manifest lists, by name, each read once and checked."""
    listed: list[tuple[str, CheckedFile]] = [("model", manifest.model)]
    if manifest.transform:
        listed.append(("transform", manifest.transform))
    listed += [(f"files[{index}]", entry) for index, entry in enumerate(manifest.files)]
    contents: dict[str, bytes] = {}
    problems = []
    for key, entry in listed:
        try:
            contents[entry.file] = read_checked(folder, entry.file, entry.sha256)
        except ConfigurationError as error:
            problems.append(Problem(f"{folder / MANIFEST}: {key}", str(error)))
    if problems:
        raise PackageError(problems)
    return contents


def _open_model(
    folder: Path, manifest: Manifest, contents: Mapping[str, bytes], settings: WorkerSettings
) -> Model:
    """The model as callers see it: behind its transform, if it has one."""
    where = str(folder / MANIFEST)
    identity = Identity(manifest.name, manifest.version, manifest.model.finite_only)
    promised = manifest.signature
    key = "model"
    try:
        session = OnnxSession(
            contents[manifest.model.file],
            threads=settings.model_threads or usable_threads(),
            execution_providers=settings.execution_providers,
        )
        if manifest.transform is None:
            model: Model = OnnxModel(session, identity, promised)
            found = session.signature
        else:
            key = "transform"
            entry = manifest.transform
            files = {listed.file: contents[listed.file] for listed in manifest.files}
            shown = str(folder / entry.file)
            transform = load_transform(contents[entry.file], file=shown, files=files)
            found = offered_signature(transform, session.signature)
            inner = OnnxModel(session, identity, session.signature)
            model = TransformedModel(inner, transform, identity, promised)
    except ConfigurationError as error:
        raise PackageError([Problem(f"{where}: {key}", str(error))]) from error
    broken = differences(promised, found)
    if broken:
        raise PackageError([Problem(where, line) for line in broken])
    return model


def _limit_problems(path: Path, manifest: Manifest) -> list[Problem]:
    """Limits that no request could ever keep, or that have no effect."""
    settings, signature = manifest.worker_settings, manifest.signature
    problems = []
    by_claim = settings.claim_store is not None
    request_key = "claim_bytes_max" if by_claim else "request_bytes_max"
    for key, limit, what, specs in (
        (request_key, getattr(settings, request_key), "request", signature.inputs),
        ("reply_bytes_max", settings.reply_bytes_max, "reply", signature.outputs),
    ):
        least = _row_bytes(specs)
        if least > limit:
            message = f"is {limit}, but the smallest {what} has {least} bytes of tensors"
            problems.append(Problem(f"{path}: settings.{key}", message))
    if not signature.batched and "batch_rows_max" in manifest.settings:
        message = (
            "has no effect: the model takes one request at a time, as its first axis is not free "
            "in every input and output"
        )
        problems.append(Problem(f"{path}: settings.batch_rows_max", message))
    return problems


def _row_bytes(specs: tuple[TensorSpec, ...]) -> int:
    """The fewest bytes that one row of these tensors has, in binary form.

    An element of BYTES has a length of 4 bytes before it.
    """
    return sum(
        (4 if spec.datatype is Datatype.BYTES else DTYPES[spec.datatype].itemsize)
        * math.prod(axis or 1 for axis in spec.shape)
        for spec in specs
    )
