"""Every run of the model, timed: what it cost, and whether it has gone on for too long.

The model thread runs through a ``Guard``; the intake thread asks it now and then, and stops a run
that is overdue. A runtime that does not obey makes the process leave: only that ends such a run.
"""

import threading
from collections.abc import Callable

from ondemand.errors import ModelStoppedError, StuckError
from ondemand.processor.cost import CostModel
from ondemand.runtime.base import Array, Arrays, Model, Signature

OBEY_FACTOR = 2.0
"""A run that still goes on after this many times its limit does not obey."""


class Guard:
    """Runs *model* for one thread, watched by another one."""

    def __init__(
        self,
        model: Model,
        *,
        timeout_seconds: float,
        cost: CostModel,
        clock: Callable[[], float],
    ) -> None:
        self._model = model
        self._timeout_seconds = timeout_seconds
        self._cost = cost
        self._clock = clock
        self._lock = threading.Lock()
        self._started_at: float | None = None
        self._stopped = False
        self.stuck = False
        """Whether a run did not obey, so that the process must leave."""

    @property
    def signature(self) -> Signature:
        """The model's."""
        return self._model.signature

    @property
    def finite_only(self) -> bool:
        """The model's."""
        return self._model.finite_only

    @property
    def running(self) -> bool:
        """Whether a run goes on now."""
        with self._lock:
            return self._started_at is not None

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The model's outputs. Raises ``ModelStoppedError`` where it took too long."""
        with self._lock:
            started = self._started_at = self._clock()
            self._stopped = False
        try:
            outputs = self._model.run(inputs)
        except Exception as error:
            if self._stopped:
                raise ModelStoppedError(
                    f"the run was stopped after {self._timeout_seconds:g} s"
                ) from error
            raise
        finally:
            with self._lock:
                self._started_at = None
        if self.signature.batched:
            rows = len(next(iter(inputs.values())))
            self._cost.learn(rows=rows, seconds=self._clock() - started)
        return outputs

    def check(self) -> None:
        """Stop a run that is overdue. Raises ``StuckError`` where it does not obey."""
        with self._lock:
            if self._started_at is None:
                return
            seconds = self._clock() - self._started_at
            if seconds > self._timeout_seconds and not self._stopped:
                self._stopped = True
                self._model.stop()
        if seconds > self._timeout_seconds * OBEY_FACTOR:
            self.stuck = True
            raise StuckError(
                f"a run of the model has gone on for {seconds:.1f} s and does not stop: leaving, "
                "so that another worker finds its requests"
            )
