"""A new worker folder for a model that somebody has: manifest, model, and a first golden pair."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ondemand.contract.codec import (
    InferRequest,
    InferResponse,
    encode_request,
    encode_response,
)
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import ConfigurationError, ModelError
from ondemand.runtime.base import Identity, Signature, TensorSpec
from ondemand.runtime.cpu import usable_threads
from ondemand.runtime.files import digest
from ondemand.runtime.golden import REPLY_SUFFIX, REQUEST_SUFFIX
from ondemand.runtime.manifest import MANIFEST, parse_manifest
from ondemand.runtime.onnx import OnnxModel, OnnxSession
from ondemand.runtime.package import zeros

FIRST_VERSION = "1.0.0"

_MODEL = "model.onnx"
_GOLDEN = "golden"
_PAIR = "zeros"


@dataclass(frozen=True, slots=True)
class Scaffold:
    """What was written. *no_golden*: why there is no golden pair, or None if there is one."""

    folder: Path
    signature: Signature
    no_golden: str | None


def new_package(folder: Path, *, name: str, model: Path) -> Scaffold:
    """Write a worker folder for the ONNX file *model*. Nothing is written unless all can be.

    Raises ``ConfigurationError`` where *folder* is in use or *model* cannot be served.
    """
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise ConfigurationError(
            f"{folder} is there already; choose another --folder, or remove it first"
        )
    try:
        content = model.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{model} cannot be read: {error.strerror}") from error
    session = OnnxSession(content, threads=usable_threads())
    signature = session.signature
    identity = Identity(name, FIRST_VERSION, finite_only=True)
    golden = _golden(OnnxModel(session, identity, signature))
    text = manifest_text(identity, signature, sha256=digest(content), golden=golden is not None)
    parse_manifest(text, str(folder / MANIFEST))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MODEL).write_bytes(content)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    if golden is None:
        return Scaffold(folder, signature, "the model takes no zeros, or leaves lengths open")
    (folder / _GOLDEN).mkdir()
    for suffix, body in zip((REQUEST_SUFFIX, REPLY_SUFFIX), golden, strict=True):
        (folder / _GOLDEN / f"{_PAIR}{suffix}").write_bytes(body)
    return Scaffold(folder, signature, None)


def manifest_text(identity: Identity, signature: Signature, *, sha256: str, golden: bool) -> str:
    """The text of a ``worker.toml`` for a model as it is."""
    lines = [
        f"name = {_quoted(identity.name)}",
        f"version = {_quoted(identity.version)}",
        'description = ""',
        "",
        "[model]",
        f"file = {_quoted(_MODEL)}",
        f"sha256 = {_quoted(sha256)}",
        "finite_only = true  # NaN and infinities in inputs are refused",
    ]
    for kind, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        for spec in specs:
            lines += ["", f"[[{kind}]]", *_entry(spec)]
    if golden:
        lines += ["", "[golden]", f"folder = {_quoted(_GOLDEN)}", "tolerance = 1e-5"]
    return "\n".join(lines) + "\n"


def _entry(spec: TensorSpec) -> list[str]:
    shape = ", ".join("-1" if axis is None else str(axis) for axis in spec.shape)
    return [
        f"name = {_quoted(spec.name)}",
        f"datatype = {_quoted(spec.datatype)}",
        f"shape = [{shape}]",
    ]


def _quoted(text: str) -> str:
    """A TOML string. JSON's escapes are TOML's, but for DEL, which TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _golden(model: OnnxModel) -> tuple[bytes, bytes] | None:
    """The bodies of a request and its reply; None where the model does not take the request.

    A row of zeros and a row of ones, or one request of zeros where the model is not batched.
    """
    inputs = zeros(model.signature, 2)
    if inputs is None:
        return None
    if model.signature.batched:
        for spec in model.signature.inputs:
            inputs[spec.name][1] = b"1" if spec.datatype is Datatype.BYTES else 1
    sent = tuple(
        Tensor(spec.name, spec.datatype, inputs[spec.name]) for spec in model.signature.inputs
    )
    try:
        outputs = model.run(inputs)
        got = tuple(
            Tensor(spec.name, spec.datatype, np.ascontiguousarray(outputs[spec.name]))
            for spec in model.signature.outputs
        )
        request = encode_request(InferRequest(sent), binary=False)
        reply = encode_response(InferResponse(model.name, model.version, got), binary=False)
    except (ModelError, ValueError):
        return None
    return request.value, reply.value
