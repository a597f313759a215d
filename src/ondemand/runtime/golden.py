"""Golden pairs: requests whose replies are known. A release is measured by them first.

They are V2 bodies in ``NAME.request.json`` and ``NAME.reply.json``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ondemand.contract.codec import (
    InferRequest,
    InferResponse,
    decode_request,
    decode_response,
)
from ondemand.errors import ModelError, RequestError
from ondemand.runtime.base import Array, Arrays, Model
from ondemand.runtime.problems import PackageError, Problem
from ondemand.runtime.signature import disagreement, misfit

REQUEST_SUFFIX = ".request.json"
REPLY_SUFFIX = ".reply.json"


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """A request and the reply that it must get."""

    name: str
    request: InferRequest
    reply: InferResponse

    @property
    def inputs(self) -> dict[str, Array]:
        """The request's tensors by name."""
        return {tensor.name: tensor.data for tensor in self.request.inputs}


def read_golden(folder: Path) -> tuple[GoldenPair, ...]:
    """The pairs in *folder*, by name. Raises ``PackageError`` that lists what cannot be read."""
    names = sorted(
        {
            path.name.removesuffix(suffix)
            for suffix in (REQUEST_SUFFIX, REPLY_SUFFIX)
            for path in folder.glob(f"*{suffix}")
        }
    )
    if not names:
        what = f"holds no golden pair (NAME{REQUEST_SUFFIX} with NAME{REPLY_SUFFIX})"
        raise PackageError([Problem(str(folder), what)])
    pairs: list[GoldenPair] = []
    problems: list[Problem] = []
    for name in names:
        try:
            pairs.append(_read_pair(folder, name))
        except PackageError as error:
            problems += error.problems
    if problems:
        raise PackageError(problems)
    return tuple(pairs)


def _read_pair(folder: Path, name: str) -> GoldenPair:
    request, reply = folder / f"{name}{REQUEST_SUFFIX}", folder / f"{name}{REPLY_SUFFIX}"
    path = request
    try:
        decoded = decode_request(request.read_bytes(), None)
        path = reply
        return GoldenPair(name, decoded, decode_response(reply.read_bytes(), None))
    except FileNotFoundError as error:
        raise PackageError([Problem(str(path), "is missing, its other half is there")]) from error
    except OSError as error:
        raise PackageError([Problem(str(path), f"cannot be read: {error.strerror}")]) from error
    except RequestError as error:
        raise PackageError([Problem(str(path), error.message)]) from error


def golden_problems(
    model: Model, pairs: Sequence[GoldenPair], tolerance: float
) -> Iterator[tuple[str, str]]:
    """The name of a pair and what is wrong with it, for each that *model* does not answer so.

    Each is run by itself. Those of a batched model that agree are then run once more, all
    together: company must not change an answer.
    """
    good = []
    for pair in pairs:
        trouble = _input_trouble(model, pair) or _reply_trouble(model, pair, tolerance)
        if trouble:
            yield pair.name, trouble
        else:
            good.append(pair)
    if model.signature.batched and len(good) > 1:
        yield from _company_problems(model, good, tolerance)


def _input_trouble(model: Model, pair: GoldenPair) -> str | None:
    specs = {spec.name: spec for spec in model.signature.inputs}
    inputs = pair.inputs
    if set(inputs) != set(specs):
        return f"the request has the inputs {sorted(inputs)}, the model takes {sorted(specs)}"
    if model.signature.batched and len({array.shape[:1] for array in inputs.values()}) != 1:
        return "the request's inputs have different numbers of rows"
    return next(filter(None, (misfit(specs[name], inputs[name]) for name in inputs)), None)


def _reply_trouble(model: Model, pair: GoldenPair, tolerance: float) -> str | None:
    try:
        outputs = model.run(pair.inputs)
    except ModelError as error:
        return str(error)
    return _difference(pair, outputs, tolerance)


def _difference(pair: GoldenPair, outputs: Arrays, tolerance: float) -> str | None:
    """The first output that is not as the reply says. Outputs that it leaves out are free."""
    for tensor in pair.reply.outputs:
        found = outputs.get(tensor.name)
        if found is None:
            return f"the reply has an output {tensor.name!r} that the model does not give"
        trouble = disagreement(tensor.data, found, tolerance)
        if trouble:
            return f"output {tensor.name!r}: {trouble}"
    return None


def _company_problems(
    model: Model, pairs: Sequence[GoldenPair], tolerance: float
) -> Iterator[tuple[str, str]]:
    """Run the pairs as one batch, those whose rows have the first one's shape, and split again."""
    row_shapes = _row_shapes(pairs[0])
    alike = [pair for pair in pairs if _row_shapes(pair) == row_shapes]
    batch = {
        name: np.concatenate([pair.inputs[name] for pair in alike]) for name in pairs[0].inputs
    }
    advice = (
        "in company of other requests the answer changes, so the first axis does not count "
        "independent rows; mend the model or set model.batched = false"
    )
    try:
        outputs = model.run(batch)
    except ModelError as error:
        yield alike[0].name, f"{advice} ({error})"
        return
    start = 0
    for pair in alike:
        stop = start + len(next(iter(pair.inputs.values())))
        own = {name: array[start:stop] for name, array in outputs.items()}
        trouble = _difference(pair, own, tolerance)
        if trouble:
            yield pair.name, f"{advice} ({trouble})"
        start = stop


def _row_shapes(pair: GoldenPair) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in pair.inputs.items()}
