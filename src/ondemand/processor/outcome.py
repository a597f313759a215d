"""What became of a request: a value, and every request gets exactly one."""

from dataclasses import dataclass

from ondemand.contract.rows import Rows
from ondemand.contract.tensor import Tensor
from ondemand.errors import Status


@dataclass(slots=True, eq=False)
class Completed:
    """The model ran; from *start* to *stop*, these rows of its outputs are the request's. Made once
    for each request, so not frozen; nothing changes it."""

    rows: Rows
    start: int
    stop: int

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Views of the request's own outputs, in the order of the signature."""
        return self.rows.of(self.start, self.stop, ())


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
