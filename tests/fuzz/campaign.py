"""Many records, one after the other: what came of them, how long each took and what it held."""

import gc
import resource
import sys
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from fuzz import bombs
from fuzz.judge import judge
from fuzz.records import Sample, one

SECONDS_A_RECORD_MAX = 5.0
"""Of processor time. The worst one takes a thirtieth of it; what is quadratic, hours."""
HELD_BYTES_MAX = 500_000
HELD_BYTES_A_BYTE_MAX = 64
"""For one byte of JSON: 57 at worst, for texts of one letter; 41 for empty lists."""
RSS_GROWTH_BYTES_MAX = 200_000_000
MEASURED_EVERY = 50  # records whose memory is measured, beside each large body
LARGE_BYTES = 100_000
WARM_UP = 1_000
CHUNK = 20_000


@dataclass
class Tally:
    """What came of some records."""

    records: int = 0
    size_bytes: int = 0
    seconds: float = 0.0  # of the processor
    slowest_seconds: float = 0.0
    slowest: str = ""
    held_bytes: int = 0  # the most by one record
    held_by: str = ""
    measured: int = 0
    rss_growth_bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    by_change: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_target: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Count *other* in."""
        self.records += other.records
        self.size_bytes += other.size_bytes
        self.seconds += other.seconds
        self.measured += other.measured
        self.outcomes += other.outcomes
        self.by_change += other.by_change
        self.by_target += other.by_target
        self.rss_growth_bytes = max(self.rss_growth_bytes, other.rss_growth_bytes)
        if other.slowest_seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = other.slowest_seconds, other.slowest
        if other.held_bytes > self.held_bytes:
            self.held_bytes, self.held_by = other.held_bytes, other.held_by


def run(seed: int, records: int, *, processes: int = 1) -> Tally:
    """Judge so many records of *seed*. Raises what broke, with the number of the record."""
    chunks = [range(start, min(start + CHUNK, records)) for start in range(0, records, CHUNK)]
    tally = Tally()
    if processes == 1:
        for chunk in chunks:
            tally.add(run_chunk(seed, chunk))
        return tally
    with ProcessPoolExecutor(processes) as pool:
        for part in pool.map(run_chunk, [seed] * len(chunks), chunks):
            tally.add(part)
    return tally


def run_chunk(seed: int, numbers: Iterable[int]) -> Tally:
    """Judge the records of these *numbers*."""
    tally = Tally()
    bombs.prepare()
    for number in range(WARM_UP):  # caches, imports, free lists: not a record's fault
        one(seed, number)
    started_bytes = peak_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in numbers:
            sample = one(seed, number)
            try:
                _judge_within_bounds(sample, tally)
            except BaseException as error:
                error.add_note(f"Replay: make fuzz SEED={seed} RECORD={number}")
                error.add_note(shown(sample))
                raise
    tally.rss_growth_bytes = peak_bytes() - started_bytes
    assert tally.rss_growth_bytes < RSS_GROWTH_BYTES_MAX, f"{tally.rss_growth_bytes} bytes more"
    return tally


def _judge_within_bounds(sample: Sample, tally: Tally) -> None:
    started = time.thread_time()
    outcome = judge(sample)
    seconds = time.thread_time() - started
    assert seconds <= SECONDS_A_RECORD_MAX, f"{seconds:.3f} s of processor time"
    size = len(sample.record.value or b"")
    if size > LARGE_BYTES or sample.number % MEASURED_EVERY == 0:
        _measure_once(sample, size, tally)
    tally.records += 1
    tally.size_bytes += size
    tally.seconds += seconds
    tally.outcomes[outcome] += 1
    tally.by_target[sample.target.name, outcome] += 1
    tally.by_change.update((change, outcome) for change in sample.changes or ("unchanged",))
    if seconds > tally.slowest_seconds:
        tally.slowest_seconds = seconds
        tally.slowest = f"{sample.number} ({size} bytes)"


def _measure_once(sample: Sample, size: int, tally: Tally) -> None:
    """Measuring takes long for large bodies, and there are only so many of them."""
    which = sample.target.name, hash(sample.record.value)
    if which not in _measured:
        _measure_memory(sample, size, tally)
        if size > LARGE_BYTES:
            _measured.add(which)


_measured: set[tuple[str, int]] = set()


def _measure_memory(sample: Sample, size: int, tally: Tally) -> None:
    """Judge once more, and look at the most that is held meanwhile."""
    gc.collect(0)
    tracemalloc.start()
    try:
        judge(sample)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    allowed = HELD_BYTES_MAX + size * HELD_BYTES_A_BYTE_MAX
    assert held <= allowed, f"{held} bytes held for {size}; {allowed} are allowed"
    tally.measured += 1
    if held > tally.held_bytes:
        tally.held_bytes, tally.held_by = held, f"{sample.number} ({size} bytes)"


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def shown(sample: Sample) -> str:
    """A record for people, cut where it is long."""
    record = sample.record
    return (
        f"record {sample.number} for {sample.target.name}, changed by "
        f"{', '.join(sample.changes) or 'nothing'}: {(record.value or b'')[:300]!r}, "
        f"headers {str(record.headers)[:600]}"
    )
