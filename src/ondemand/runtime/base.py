"""What the processor asks of a model, whatever runs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ondemand.contract.tensor import Datatype

Array = NDArray[Any]
Arrays = Mapping[str, Array]
"""Tensors by name. BYTES are object arrays of ``bytes``; everything else has its own dtype."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or gives. None in *shape* stands for an axis of any length."""

    name: str
    datatype: Datatype
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        axes = ", ".join("any" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name}: {self.datatype}[{axes}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives.

    Where *batched*, the first axis of every input and output counts rows: requests are concatenated
    along it, run together and split again. Otherwise each request is run by itself.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """What a model is called, which version it is, and whether it takes finite numbers only."""

    name: str
    version: str
    finite_only: bool


class Model(Protocol):
    """A loaded model. ``run`` may be called from any one thread at a time."""

    @property
    def name(self) -> str:
        """What its topics and its group are named after."""

    @property
    def version(self) -> str:
        """As its team released it."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""

    @property
    def finite_only(self) -> bool:
        """Whether NaN and infinities in inputs are refused before the model runs."""

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Every output of the signature, for inputs that fit it (batched: with the same row count).

        Raises ``ModelError`` where the model fails; the message may be shown to the caller.
        """

    def stop(self) -> None:
        """Let the run that goes on now end soon, by an exception; for any thread. A model that
        cannot do that does nothing."""

    def close(self) -> None:
        """Free what it holds. Idempotent."""


class IdentifiedModel:
    """What every model here says of itself, from its manifest's identity."""

    def __init__(self, identity: Identity, signature: Signature) -> None:
        self.identity = identity
        self.signature = signature

    @property
    def name(self) -> str:
        """The model's name: its topics and its group are named after it."""
        return self.identity.name

    @property
    def version(self) -> str:
        """The version that replies state."""
        return self.identity.version

    @property
    def finite_only(self) -> bool:
        """Whether NaN and infinities in inputs are refused before the model runs."""
        return self.identity.finite_only


def rows_of(arrays: Arrays) -> int:
    """The row count of a batched model's tensors: the length of their first axis."""
    return int(np.shape(next(iter(arrays.values())))[0])
