"""What a model answered, for people as a table and for scripts as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from ondemand.client import Prediction
from ondemand.errors import RefusedError

ROWS_SHOWN_MAX: Final = 20
VALUES_SHOWN_MAX: Final = 4
TEXT_SHOWN_MAX: Final = 60


def answers_table(answers: Sequence[tuple[str, Prediction]]) -> Table:
    """A row for each row that was answered; one column for each output."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    names = list(dict.fromkeys(name for _, answer in answers for name in answer.outputs))
    for name in names:
        table.add_column(name)
    table.add_column("ms", justify="right")
    for file, answer in answers:
        time = f"{answer.round_trip_ms:.1f}"
        for label, cells in _rows(file, answer, names):
            table.add_row(Text(label), *map(Text, cells), time, style=None)
            time = ""
    return table


def caption(answers: Sequence[tuple[str, Prediction]]) -> str:
    """Who answered, and how fast."""
    _, last = answers[-1]
    times = np.array([answer.round_trip_ms for _, answer in answers])
    middle = f"{np.median(times):.1f} ms" + (" at the median" if len(answers) > 1 else "")
    return f"{last.model_name} {last.model_version}, {len(answers)} answered, {middle}"


def _rows(
    file: str, answer: Prediction, names: Sequence[str]
) -> Iterator[tuple[str, Sequence[str]]]:
    """The cells of each row of one answer, and what the row is called."""
    arrays = [answer.outputs.get(name, np.empty(0)) for name in names]
    lengths = {array.shape[0] if array.ndim else -1 for array in arrays}
    rows = lengths.pop() if len(lengths) == 1 else -1
    if rows < 0:  # no common rows: each output as a whole
        yield file, [_cell(array) for array in arrays]
        return
    for row in range(min(rows, ROWS_SHOWN_MAX)):
        yield file if rows == 1 else f"{file} [{row}]", [_cell(array[row]) for array in arrays]
    if rows > ROWS_SHOWN_MAX:
        yield f"… {rows - ROWS_SHOWN_MAX} more rows (--json has all)", []


def _cell(value: Any) -> str:
    """A value, or what of many values says most."""
    array: NDArray[Any] = np.asarray(value)
    if array.size == 1:
        return _scalar(array.reshape(-1)[0])
    if array.ndim == 1 and 0 < array.size <= VALUES_SHOWN_MAX:
        return ", ".join(map(_scalar, array))
    if array.ndim == 1 and array.size and array.dtype.kind in "fiu":
        best = int(array.argmax())
        return f"highest {_scalar(array[best])} at [{best}]"
    return f"array of {'x'.join(map(str, array.shape))}"


def _scalar(value: Any) -> str:
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return text if len(text) <= TEXT_SHOWN_MAX else text[:TEXT_SHOWN_MAX] + "…"
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    return str(value)


def answer_json(file: str, answer: Prediction) -> str:
    """One line: the file, the model, all outputs as nested lists, the timings in milliseconds.

    BYTES are text where they are UTF-8, otherwise a list of numbers; NaN and infinities are null.
    """
    document = {
        "file": file,
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "outputs": {name: _plain(array.tolist()) for name, array in answer.outputs.items()},
        "timing": {
            "round_trip_ms": round(answer.round_trip_ms, 3),
            "queue_ms": answer.timing.queue_ms,
            "model_ms": answer.timing.model_ms,
            "batch_rows": answer.timing.batch_rows,
        },
    }
    return orjson.dumps(document).decode()


def error_json(file: str, error: Exception) -> str:
    """One line: the file and why it has no answer; ``status`` where a worker refused it."""
    document = {"file": file, "error": str(error)}
    if isinstance(error, RefusedError):
        document["status"] = error.status.value
    return orjson.dumps(document).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return list(value)
    return value
