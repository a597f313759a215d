"""Whether what a process uses stays what it is: slopes by least squares, and what is allowed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from worker_process import Usage

WARM_UP_SHARE = 0.2
"""Of the samples, left out at the start: caches and buffers fill there, once."""
GROWTH_BYTES_MAX = 8_000_000
"""By the fitted line, over all that is judged: a few bytes for each request of ten minutes."""
COUNT_GROWTH_MAX = 2
"""Files or threads, last quarter over first: a connection may be under way when it is counted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process used so many seconds after the start."""

    seconds: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class Trend:
    """What the samples of one process say, without its warm-up."""

    name: str
    seconds: float
    resident_first_bytes: int
    resident_last_bytes: int
    resident_max_bytes: int
    slope_bytes_per_minute: float
    files_first: int
    files_last: int
    threads_first: int
    threads_last: int

    @property
    def problems(self) -> Sequence[str]:
        """What grows; empty if nothing does."""
        found = []
        grown = self.slope_bytes_per_minute * self.seconds / 60
        if grown > GROWTH_BYTES_MAX:
            found.append(
                f"{self.name}: resident memory grows by {self.slope_bytes_per_minute / 1000:.0f} "
                f"kB a minute, {grown / 1e6:.1f} MB in all; "
                f"{GROWTH_BYTES_MAX / 1e6:.0f} are allowed"
            )
        for what, first, last in (
            ("file descriptors", self.files_first, self.files_last),
            ("threads", self.threads_first, self.threads_last),
        ):
            if last > first + COUNT_GROWTH_MAX:
                found.append(f"{self.name}: {what} grew from {first} to {last}")
        return found


def trend(name: str, samples: Sequence[Sample]) -> Trend:
    """The trend of *samples*, at least ten of them. Raises ``ValueError`` for fewer."""
    if len(samples) < 10:
        raise ValueError(f"{name}: {len(samples)} samples say nothing; at least 10 are needed")
    judged = samples[int(len(samples) * WARM_UP_SHARE) :]
    quarter = max(len(judged) // 4, 1)
    seconds = [sample.seconds for sample in judged]
    resident = [sample.usage.resident_bytes for sample in judged]
    files = [sample.usage.files for sample in judged]
    threads = [sample.usage.threads for sample in judged]
    return Trend(
        name=name,
        seconds=seconds[-1] - seconds[0],
        resident_first_bytes=_middle(resident[:quarter]),
        resident_last_bytes=_middle(resident[-quarter:]),
        resident_max_bytes=max(resident),
        slope_bytes_per_minute=slope(seconds, resident) * 60,
        files_first=_middle(files[:quarter]),
        files_last=_middle(files[-quarter:]),
        threads_first=_middle(threads[:quarter]),
        threads_last=_middle(threads[-quarter:]),
    )


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line with the least squares through the points, in units of *y* for one of *x*."""
    x_off = np.asarray(x, dtype=np.float64) - np.mean(x)
    y_off = np.asarray(y, dtype=np.float64) - np.mean(y)
    return float((x_off @ y_off) / (x_off @ x_off))


def _middle(values: Sequence[int]) -> int:
    return int(np.median(values))
