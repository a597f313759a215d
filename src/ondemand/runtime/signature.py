"""Signatures: what a manifest promises against what a model has, and what came out of a run."""

from collections.abc import Iterable, Sequence

import numpy as np

from ondemand.contract.tensor import DTYPES
from ondemand.errors import ModelError
from ondemand.runtime.base import Array, Arrays, Signature, TensorSpec

_SHOWN_MAX = 3


def can_be_batched(specs: Iterable[TensorSpec]) -> bool:
    """Whether the first axis of every tensor is free, so that it can count rows."""
    return all(spec.shape and spec.shape[0] is None for spec in specs)


def differences(promised: Signature, found: Signature) -> tuple[str, ...]:
    """How *promised* departs from *found*; empty if it keeps to it.

    A promise may be narrower: an axis that is free in the model may be promised with a fixed
    length, and outputs may be left out. It must name every input. A shape without axes in *found*
    is compared at run time only: ONNX Runtime reports it for an unknown shape too.
    """
    lines = [
        *_name_differences("input", promised.inputs, found.inputs),
        *_name_differences("output", promised.outputs, found.outputs),
    ]
    taken = {spec.name for spec in promised.inputs}
    lines += [
        f"input {spec.name!r} of the model is not listed; add it as {spec}"
        for spec in found.inputs
        if spec.name not in taken
    ]
    for kind, ours, theirs in (
        ("input", promised.inputs, found.inputs),
        ("output", promised.outputs, found.outputs),
    ):
        by_name = {spec.name: spec for spec in theirs}
        lines += [
            f"{kind} {spec.name!r} is promised as {spec}, the model has {by_name[spec.name]}"
            for spec in ours
            if spec.name in by_name and not _fits(spec, by_name[spec.name])
        ]
    return tuple(lines)


def _name_differences(
    kind: str, promised: Sequence[TensorSpec], found: Sequence[TensorSpec]
) -> list[str]:
    known = [spec.name for spec in found]
    return [
        f"{kind} {spec.name!r} is not one of the model's {kind}s: {', '.join(known) or 'none'}"
        for spec in promised
        if spec.name not in known
    ]


def _fits(promised: TensorSpec, found: TensorSpec) -> bool:
    if promised.datatype != found.datatype:
        return False
    if not found.shape:
        return True
    return len(promised.shape) == len(found.shape) and all(
        theirs is None or ours == theirs
        for ours, theirs in zip(promised.shape, found.shape, strict=True)
    )


def misfit(spec: TensorSpec, array: Array) -> str | None:
    """Why *array* is not what *spec* describes, or None if it is."""
    if array.dtype != DTYPES[spec.datatype]:
        return f"{spec.name} has the dtype {array.dtype}, expected {spec}"
    fits = len(array.shape) == len(spec.shape) and all(
        axis is None or axis == length for axis, length in zip(spec.shape, array.shape, strict=True)
    )
    return None if fits else f"{spec.name} has the shape {list(array.shape)}, expected {spec}"


def check_outputs(signature: Signature, outputs: Arrays, rows: int | None) -> None:
    """Raise ``ModelError`` unless *outputs* are what the signature promises.

    *rows*: how many rows went into a batched model; as many must come out, or replies would be
    split back to the wrong requests.
    """
    for spec in signature.outputs:
        array = outputs.get(spec.name)
        if array is None:
            raise ModelError(f"the model gave no output {spec.name!r}")
        trouble = misfit(spec, array)
        if trouble:
            raise ModelError(f"the model's output is not as promised: {trouble}")
        if rows is not None and array.shape[0] != rows:
            raise ModelError(
                f"the model made {array.shape[0]} rows of {spec.name} from {rows} rows of input"
            )


def disagreement(expected: Array, found: Array, tolerance: float) -> str | None:
    """Where two arrays differ, or None if they agree.

    Numbers with a fraction agree where they differ by no more than *tolerance*, absolutely or
    relative to what was expected; everything else agrees only when equal.
    """
    if expected.dtype != found.dtype or expected.shape != found.shape:
        return (
            f"expected {expected.dtype}{list(expected.shape)}, got {found.dtype}{list(found.shape)}"
        )
    if expected.dtype.kind == "f":
        same = np.isclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        same = np.asarray(expected == found, dtype=bool)
    if same.all():
        return None
    places = np.argwhere(~same)[:_SHOWN_MAX]
    shown = "; ".join(
        f"at {place.tolist()} expected {expected[tuple(place)]}, got {found[tuple(place)]}"
        for place in places
    )
    return f"{np.count_nonzero(~same)} of {same.size} values differ: {shown}"
