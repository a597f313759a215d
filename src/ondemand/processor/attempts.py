"""Which request do processes die of? What is stored beside a position, and what follows from it.

A process that begins with a partition stores a *marker* beside the partition's position; any later
commit moves the position and drops the marker. Whoever finds one knows that the process before made
no progress: it died of what it began with, or was killed. So the next one begins with smaller
groups, the last one with single requests, each group marked before it is begun, until the culprit
is known.
"""

import math
import re
from dataclasses import dataclass, replace

SUSPECTS_MAX = 25_000
"""More records than one process ever holds of a partition, and so the most that it can die of."""

SPARED_MAX = 10
"""How often it counts for nothing that a rebalance interrupted a run, before it counts as a death:
a run that ends its process only after a rebalance must not do so for ever."""

_TEXT = re.compile(
    r"ondemand attempt=(\d{1,6})(?: last=(\d{1,18}))?(?: spared=(\d{1,6}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Marker:
    """A process began, from the position on that this stands beside, for the *attempt*-th time.

    *last* is the last offset of the group that it began with; None: what was there. *spared*: so
    often a run from here was interrupted, and its process lived on.
    """

    attempt: int
    last: int | None = None
    spared: int = 0

    def __str__(self) -> str:
        """As it is stored."""
        group = "" if self.last is None else f" last={self.last}"
        spared = f" spared={self.spared}" if self.spared else ""
        return f"ondemand attempt={self.attempt}{group}{spared}"

    @classmethod
    def parse(cls, text: str) -> "Marker | None":
        """The marker that is stored as *text*; None where that is something else, or nothing."""
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        attempt, last, spared = found.groups()
        return cls(int(attempt), None if last is None else int(last), int(spared or 0))


def at_rest(suspects: "Suspects | None", spared: int, position: int) -> Marker | None:
    """What belongs beside *position* while nothing from there on is being run."""
    if suspects is not None:
        return suspects.marker if position <= suspects.last else None
    return Marker(0, spared=spared) if spared else None


def interrupted(rest: Marker | None) -> Marker | None:
    """What takes the place of a marker whose run was interrupted; None: it stays, and counts."""
    rest = rest or Marker(0)
    return replace(rest, spared=rest.spared + 1) if rest.spared < SPARED_MAX else None


@dataclass(frozen=True, slots=True)
class Suspects:
    """The records of a partition, *first* to *last*, of one of which *attempt* processes died."""

    attempt: int
    first: int
    last: int
    spared: int = 0

    @classmethod
    def of(cls, marker: Marker | None, *, first: int, end: int) -> "Suspects | None":
        """Whom *marker* leaves under suspicion; None for nobody.

        *first* is the first offset that is read now, *end* one past the last that is there.
        """
        if marker is None or marker.attempt < 1:
            return None
        last = min(end, first + SUSPECTS_MAX) - 1 if marker.last is None else marker.last
        return cls(marker.attempt, first, last, marker.spared) if first <= last else None

    @property
    def marker(self) -> Marker:
        """What is stored while none of them is being run."""
        return Marker(self.attempt, self.last, self.spared)

    def begun(self, last: int) -> Marker:
        """What is stored before those up to *last* are run."""
        return Marker(self.attempt + 1, last, self.spared)

    def group_size(self, attempts_max: int) -> int:
        """How many to begin with at once, so that the last attempt has to do with one.

        Where k attempts come after this one: their number to the power of k / (k + 1). So all
        attempts take about as many groups as each other, and none of them takes long.
        """
        later = max(attempts_max - self.attempt - 1, 0)
        count = self.last - self.first + 1
        share: float = count ** (later / (later + 1))
        return max(math.ceil(share - 1e-9), 1)  # what is a root of a whole number stays one

    def are_one(self, attempts_max: int) -> bool:
        """Whether the culprit is known: *attempts_max* processes died, the last of this one."""
        return self.attempt >= attempts_max and self.first == self.last

    def behind(self, offset: int) -> "Suspects | None":
        """Those behind *offset*, once it was passed; None where there are none."""
        if offset >= self.last:
            return None
        return Suspects(self.attempt, offset + 1, self.last)
