"""The demo's figures, drawings and verdicts: what is claimed at the end is what happened."""

import math
from pathlib import Path

import numpy as np
import pytest

from ondemand.cli.demo_view import drawn
from ondemand.cli.demo_work import Digits, Files, Measured, verdicts
from ondemand.client import Outcome, Prediction
from ondemand.contract.reply import ServerTiming
from ondemand.errors import OutcomeUnknownError


def outcome(index: int, *, batch_rows: int = 1, ms: float = 1.0, **outputs: object) -> Outcome:
    """One answer."""
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    timing = ServerTiming(0.0, 0.0, batch_rows).header()
    return Outcome(index, Prediction(arrays, "m", "1", timing, ms, b"1"))


def texts(value: bytes) -> np.ndarray:
    """A BYTES output of one row."""
    array = np.empty(1, dtype=object)
    array[0] = value
    return array


def test_the_average_batch_counts_batches_not_requests() -> None:
    """Three requests in one batch and one alone are two batches of two on average."""
    measured = Measured(4, in_flight=1)
    for index, rows in enumerate([3, 3, 3, 1]):
        measured.take(outcome(index, batch_rows=rows))
    assert measured.batch_rows == pytest.approx(2.0)


def test_figures_of_nothing_are_no_figures() -> None:
    """Where nothing was answered, no time and no batch is claimed."""
    measured = Measured(1, in_flight=1)
    measured.take(Outcome(0, OutcomeUnknownError("no reply")))
    assert math.isnan(measured.round_trip_ms(50))
    assert math.isnan(measured.batch_rows)
    assert not measured.complete
    assert measured.taken == 1


def test_throughput_and_round_trips() -> None:
    """Requests per second over the time from first to last; percentiles of the round trips."""
    measured = Measured(100, in_flight=1, started=10.0, ended=12.0)
    for index in range(100):
        measured.take(outcome(index, ms=float(index)))
    assert measured.requests_per_second == pytest.approx(50.0)
    assert measured.round_trip_ms(50) == pytest.approx(49.5)
    assert measured.complete


def test_accuracy_is_told_apart_for_what_was_held_out() -> None:
    """Every fifth sample was not trained on; what was not answered is not right."""
    digits = Digits(np.zeros((10, 64), np.float32), np.arange(10))
    measured = Measured(10, in_flight=1)
    for index in range(9):
        measured.take(outcome(index, label=[index if index != 5 else 0]))
    everything, held_out = digits.accuracy(measured)
    assert everything == pytest.approx(0.8)
    assert held_out == pytest.approx(0.5)
    assert sum(1 for _ in digits.inputs()) == 10


def test_files_are_compared_with_what_was_asked_about(tmp_path: Path) -> None:
    """All of a file is shown to the other side; where it has changed or gone, what was sent."""
    long, changed, gone = (tmp_path / name for name in ("long", "changed", "gone"))
    for path, content in ((long, b"l" * 10_000), (changed, b"old"), (gone, b"gone")):
        path.write_bytes(content)
    files = Files.find(tmp_path)
    files = Files(files.paths[:3], files.excerpts[:3])
    assert files.paths == (changed, gone, long)
    sent = [inputs["content"][0] for inputs in files.inputs()]
    assert [len(content) for content in sent] == [3, 4, 8_192]
    changed.write_bytes(b"new")
    gone.unlink()
    measured = Measured(3, in_flight=1)
    for index, label in enumerate([b"old", b"gone", b"10000"]):
        measured.take(outcome(index, label=texts(label)))
    seen = []

    def label(content: bytes) -> str:
        seen.append(content)
        return content.decode() if len(content) < 100 else str(len(content))

    advanced: list[int] = []
    assert files.agreement(measured, label, lambda: advanced.append(1)) == []
    assert len(advanced) == len(seen) == 3
    assert files.agreement(measured, lambda _: "x", lambda: None) == [
        f"{changed}: old, magika says x",
        f"{gone}: gone, magika says x",
        f"{long}: 10000, magika says x",
    ]


def test_the_demo_asks_about_more_than_a_thousand_files() -> None:
    """Of this repository and of the standard library, without what others put there."""
    files = Files.find(Path(__file__).parents[3])
    assert len(files.paths) == len(set(files.paths)) >= 1_000
    assert Path(__file__) in files.paths
    assert not [path for path in files.paths if {"site-packages", ".git"} & set(path.parts)]


def test_verdicts_say_what_is_missing() -> None:
    """All answered, all right: nothing to say. Otherwise a line for each thing."""
    good, bad = Measured(1, in_flight=1), Measured(2, in_flight=1)
    good.take(outcome(0))
    assert verdicts({"digits": good}, 0.98, []) == []
    assert verdicts({"digits": bad}, 0.96, ["x"]) == [
        "digits: 0 of 2 requests were answered",
        "digits: 96.0% right on held-out samples, not 97%",
        "filetype: 1 files are called otherwise by magika",
    ]


@pytest.mark.parametrize(("colours", "lines"), [(True, 4), (False, 8)])
def test_digits_are_drawn_side_by_side(*, colours: bool, lines: int) -> None:
    """Two rows of pixels fit a line with colours; ink differs from paper either way."""
    ink = np.zeros((8, 8))
    ink[0, 0] = 16
    text = drawn([ink, np.zeros(64)], [7, 3], colours=colours, columns=80)
    rows = text.plain.splitlines()
    assert len(rows) == lines + 1
    assert rows[-1].split() == ["7", "3"]
    if colours:
        assert len({str(span.style) for span in text.spans}) > 1
    else:
        assert rows[0].startswith("@@ ")


def test_no_more_digits_than_fit_are_drawn():
    """A narrow terminal must not fold the pictures."""
    text = drawn([np.zeros(64)] * 8, list(range(8)), colours=False, columns=60)

    assert max(len(line) for line in text.plain.splitlines()) <= 60
    assert text.plain.splitlines()[-1].split() == ["0", "1", "2"]
