"""What became of a request: a value, and every request gets exactly one."""

from dataclasses import dataclass

from ondemand.contract.tensor import Tensor
from ondemand.errors import Status


@dataclass(frozen=True, slots=True)
class Completed:
    """The model ran; these are its outputs, in the order of the signature."""

    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The caller's matter: answered, and that is all."""

    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The model's or the worker's matter: answered, and kept as a dead letter."""

    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """Nobody can be told: a dead letter is all there is."""

    message: str


Outcome = Completed | Rejected | Failed
