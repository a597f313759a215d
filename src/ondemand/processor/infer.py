"""One run of the model for all requests of a batch; a poisonous one is found and stands alone.

The batch is an optimisation: no caller may notice whose company it kept.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ondemand.contract.tensor import Tensor
from ondemand.errors import ModelError, ModelStoppedError, Status
from ondemand.processor.outcome import Completed, Failed, Outcome
from ondemand.processor.request import Request
from ondemand.runtime.base import Array, Arrays, Signature


class Runnable(Protocol):
    """What a batch is run on."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""

    def run(self, inputs: Arrays) -> Mapping[str, Array]:
        """Every output of the signature."""


def infer(model: Runnable, batch: Sequence[Request]) -> list[Outcome]:
    """One outcome for each request, in the batch's order.

    Where a run fails, the batch is bisected until the request that fails stands alone: at most
    ``2 * len(batch)`` runs.
    """
    if not model.signature.batched and len(batch) > 1:
        return [outcome for request in batch for outcome in infer(model, (request,))]
    try:
        outputs = model.run(_concatenate(batch))
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
    """Each request's rows of every output, as views."""
    if not signature.batched:
        tensors = tuple(Tensor(s.name, s.datatype, outputs[s.name]) for s in signature.outputs)
        return [Completed(tensors)]
    rows_total = sum(request.rows for request in batch)
    for spec in signature.outputs:
        rows = len(outputs[spec.name])
        if rows != rows_total:
            raise ModelError(f"output {spec.name!r} has {rows} rows for {rows_total} rows of input")
    outcomes: list[Outcome] = []
    start = 0
    for request in batch:
        end = start + request.rows
        outcomes.append(
            Completed(
                tuple(
                    Tensor(spec.name, spec.datatype, outputs[spec.name][start:end])
                    for spec in signature.outputs
                )
            )
        )
        start = end
    return outcomes
