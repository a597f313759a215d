"""One run of the model for all requests of a batch; a poisonous one is found and stands alone.

The batch is an optimisation: no caller may notice whose company it kept.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ondemand.contract.rows import Rows
from ondemand.contract.tensor import REALS, Tensor, all_finite
from ondemand.errors import ModelError, ModelStoppedError, Status
from ondemand.processor.outcome import Completed, Failed, Outcome, Rejected
from ondemand.processor.request import Request
from ondemand.runtime.base import Array, Arrays, Signature


class Runnable(Protocol):
    """What a batch is run on."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""

    @property
    def finite_only(self) -> bool:
        """Whether NaN and infinities are refused before it runs."""

    def run(self, inputs: Arrays) -> Mapping[str, Array]:
        """Every output of the signature."""


def infer(model: Runnable, batch: Sequence[Request]) -> list[Outcome]:
    """One outcome for each request, in the batch's order.

    Numbers that the model does not take are looked for in all rows at once; only where there are
    some is it asked whose they are. Where a run fails, the batch is bisected until the request that
    fails stands alone: at most ``2 * len(batch)`` runs.
    """
    if not model.signature.batched and len(batch) > 1:
        return [outcome for request in batch for outcome in infer(model, (request,))]
    inputs = _concatenate(batch)
    if model.finite_only and (strange := _not_finite(inputs, model.signature)):
        return _without_strange(model, batch, strange)
    try:
        outputs = model.run(inputs)
        return _split(outputs, batch, model.signature)
    except ModelStoppedError as error:
        failure = Failed(Status.MODEL_TIMEOUT, str(error))
    except ModelError as error:
        failure = Failed(Status.MODEL_ERROR, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a model's own code raises, its callers get an answer
        failure = Failed(Status.MODEL_ERROR, f"the model's code raised {type(error).__name__}")
    if len(batch) == 1:
        return [failure]
    middle = len(batch) // 2
    return infer(model, batch[:middle]) + infer(model, batch[middle:])


def _not_finite(inputs: Arrays, signature: Signature) -> str | None:
    """The first input that holds NaN or infinity, where one does."""
    for spec in signature.inputs:
        if spec.datatype in REALS and not all_finite(inputs[spec.name]):
            return spec.name
    return None


def _without_strange(model: Runnable, batch: Sequence[Request], strange: str) -> list[Outcome]:
    """As ``infer``, where a number in the input *strange* of some request is not finite."""
    if len(batch) == 1:
        message = f"{strange} holds NaN or infinity, which this model refuses"
        return [Rejected(Status.INVALID_INPUT, message)]
    found = [_not_finite(request.inputs, model.signature) for request in batch]
    sound = [request for request, name in zip(batch, found, strict=True) if name is None]
    of_sound = iter(infer(model, sound) if sound else ())
    return [
        next(of_sound) if name is None else _without_strange(model, (request,), name)[0]
        for request, name in zip(batch, found, strict=True)
    ]


def _concatenate(batch: Sequence[Request]) -> Mapping[str, Array]:
    """The inputs of all requests, row after row: the one copy between record and model."""
    if len(batch) == 1:
        # A view into the record's bytes may be unaligned, which runtimes need not take.
        return {name: np.require(a, requirements=("C", "A")) for name, a in batch[0].inputs.items()}
    return {
        name: np.concatenate([request.inputs[name] for request in batch])
        for name in batch[0].inputs
    }


def _split(
    outputs: Mapping[str, Array], batch: Sequence[Request], signature: Signature
) -> list[Outcome]:
    """Each request's own rows of every output."""
    tensors = [Tensor(spec.name, spec.datatype, outputs[spec.name]) for spec in signature.outputs]
    given = Rows(tensors, batched=signature.batched)
    if not signature.batched:
        return [Completed(given, 0, 1)]
    rows_total = sum([request.rows for request in batch])
    for tensor in tensors:
        rows = len(tensor.data)
        if rows != rows_total:
            raise ModelError(
                f"output {tensor.name!r} has {rows} rows for {rows_total} rows of input"
            )
    outcomes: list[Outcome] = []
    start = 0
    for request in batch:
        stop = start + request.rows
        outcomes.append(Completed(given, start, stop))
        start = stop
    return outcomes
