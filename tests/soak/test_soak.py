"""Whether a soak would notice what grows; and one of a few seconds, on the real broker."""

import numpy as np
import pytest
from soak import report
from soak.run import soak
from soak.trend import Sample, slope, trend
from worker_process import Usage

SECONDS = 4.0


def samples(resident, files=lambda _: 20, threads=lambda _: 9):
    """One sample a second for ten minutes."""
    return [Sample(t, Usage(int(resident(t)), files(t), threads(t))) for t in range(600)]


def test_the_slope_is_that_of_the_line():
    """Least squares, as NumPy fits them."""
    random = np.random.default_rng(1)
    x = np.sort(random.random(50))
    y = 3 * x + random.normal(0, 0.1, 50)

    assert slope(list(x), list(y)) == pytest.approx(np.polyfit(x, y, 1)[0])


def test_what_is_flat_is_no_problem():
    """Memory that fills caches at the start and swings afterwards does not grow."""
    found = trend("worker", samples(lambda t: 1e8 + 2e7 * min(t, 60) / 60 + 3e6 * np.sin(t)))

    assert found.problems == []
    assert abs(found.slope_bytes_per_minute) < 50_000


@pytest.mark.parametrize(
    ("grows", "named"),
    [
        (
            {"resident": lambda t: 1e8 + 20_000 * t},
            "resident memory grows by 1200 kB a minute",
        ),
        ({"files": lambda t: 20 + t // 60}, "file descriptors grew from"),
        ({"threads": lambda t: 9 + t // 60}, "threads grew from"),
    ],
    ids=["memory", "files", "threads"],
)
def test_what_grows_is_a_problem(grows, named):
    """A leak of each kind is told, and named."""
    (problem,) = trend("worker", samples(**{"resident": lambda _: 1e8, **grows})).problems

    assert named in problem


def test_few_samples_say_nothing():
    """A run that is too short is no proof."""
    with pytest.raises(ValueError, match="at least 10"):
        trend("worker", samples(lambda _: 1e8)[:9])


@pytest.mark.kafka
def test_a_short_soak(kafka, topic_name, tmp_path):
    """Every request is answered, and both processes are in the report. (Whether something grows is
    not to be seen in seconds.)"""
    stem = topic_name("x").removesuffix(".x")
    found = soak(kafka.address, tmp_path, seconds=SECONDS, capacity_seconds=1.0, stem=stem)
    report.write(found, tmp_path)

    assert found.load.answered == found.load.asked > 0
    assert (found.load.wrong, found.load.errors.total()) == (0, 0)
    assert len(found.load.batch_rows) > 1
    assert [each.name for each in found.trends] == ["worker", "client"]
    assert "| worker |" in (tmp_path / "soak.md").read_text()
