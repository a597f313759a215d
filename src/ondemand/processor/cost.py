"""What a run costs, fitted while the worker runs: seconds = per_call + per_row * rows.

Recursive least squares with forgetting: each run counts a little less than the next one, so the
model follows a computer that becomes slower or faster. Time is an argument, nothing here waits.
"""

FORGETTING = 0.98
"""The weight of a run against the next: the last fifty runs or so decide."""

_WEIGHT_MIN = 1e-12


class CostModel:
    """Seconds of a run by its rows. Knows nothing until the first run: then ``seconds`` is 0."""

    __slots__ = ("_fitted", "_rows", "_rows_seconds", "_rows_squared", "_seconds", "_weight")

    def __init__(self) -> None:
        self._weight = self._rows = self._rows_squared = self._seconds = self._rows_seconds = 0.0
        self._fitted: tuple[float, float] | None = None  # until the next run

    def __repr__(self) -> str:
        per_call, per_row = self.coefficients()
        return f"<CostModel [{per_call * 1e3:.3f} ms + {per_row * 1e6:.1f} µs a row]>"

    @property
    def known(self) -> bool:
        """Whether a run was seen."""
        return self._weight >= 1.0

    def learn(self, *, rows: int, seconds: float) -> None:
        """A run of *rows* took *seconds*."""
        self._weight = self._weight * FORGETTING + 1.0
        self._rows = self._rows * FORGETTING + rows
        self._rows_squared = self._rows_squared * FORGETTING + rows * rows
        self._seconds = self._seconds * FORGETTING + seconds
        self._rows_seconds = self._rows_seconds * FORGETTING + rows * seconds
        self._fitted = None

    def coefficients(self) -> tuple[float, float]:
        """Seconds per call and per row; neither is negative.

        Where all runs had the same rows, all of the cost is taken for the call's: a smaller batch
        is then never promised to be faster than what was seen.
        """
        fitted = self._fitted
        if fitted is None:
            fitted = self._fitted = self._fit()
        return fitted

    def _fit(self) -> tuple[float, float]:
        if not self.known:
            return 0.0, 0.0
        rows, seconds = self._rows / self._weight, self._seconds / self._weight
        spread = self._rows_squared / self._weight - rows * rows
        if spread <= _WEIGHT_MIN * max(rows * rows, 1.0):
            return seconds, 0.0
        slope = (self._rows_seconds / self._weight - rows * seconds) / spread
        per_row = min(max(slope, 0.0), seconds / rows)
        return seconds - per_row * rows, per_row

    def seconds(self, rows: int) -> float:
        """How long a run of *rows* will take."""
        per_call, per_row = self.coefficients()
        return per_call + per_row * rows
