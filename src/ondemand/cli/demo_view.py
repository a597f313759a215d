"""What the demo shows: progress, a few digits drawn, and the table at the end."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ondemand.cli.demo_work import Measured

DIGITS_DRAWN: Final = 8
PIXEL_MAX: Final = 16
_SIDE: Final = 8
_GAP: Final = "   "
_SHADES: Final = " .:-=+*#%@"


def download_bars(console: Console) -> Progress:
    """For bytes."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def count_bars(console: Console) -> Progress:
    """For requests."""
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def drawn(
    pictures: Sequence[NDArray[Any]], labels: Sequence[int], *, colours: bool, columns: int
) -> Text:
    """Pictures of 8 x 8 pixels side by side, dark paper and light ink, each above its label: as
    many as fit into *columns*."""
    squares = [np.asarray(picture).reshape(_SIDE, _SIDE) / PIXEL_MAX for picture in pictures]
    draw = _half_blocks if colours else _shades
    step = 2 if colours else 1
    text = Text()
    width = len(draw(squares[0], 0))
    fitting = max(1, (columns + len(_GAP)) // (width + len(_GAP)))
    squares, labels = squares[:fitting], labels[:fitting]
    for row in range(0, _SIDE, step):
        text.append_text(Text(_GAP).join(draw(square, row) for square in squares))
        text.append("\n")
    text.append(_GAP.join(str(label).center(width) for label in labels), style="bold")
    return text


def _half_blocks(square: NDArray[Any], row: int) -> Text:
    """Two rows of pixels in one line: a character is twice as high as it is wide."""
    line = Text()
    for upper, lower in zip(square[row], square[row + 1], strict=True):
        line.append("▀", style=f"{_grey(upper)} on {_grey(lower)}")
    return line


def _grey(ink: float) -> str:
    level = round(30 + 225 * float(ink))
    return f"rgb({level},{level},{level})"


def _shades(square: NDArray[Any], row: int) -> Text:
    """One row of pixels, each two characters wide; for terminals without colours."""
    return Text("".join(_SHADES[round(float(ink) * (len(_SHADES) - 1))] * 2 for ink in square[row]))


def result_table(measured: Mapping[str, Measured], accuracy: Mapping[str, str]) -> Table:
    """One column for each model. *accuracy*: a line for each, in words."""
    table = Table(title="What came back", title_justify="left")
    table.add_column("")
    for model in measured:
        table.add_column(model, justify="right")
    each = list(measured.values())
    rows: list[tuple[str, list[str]]] = [
        ("requests", [f"{one.requests:,}" for one in each]),
        ("under way at once", [f"{one.in_flight}" for one in each]),
        ("answered", [f"{len(one.answers):,}" for one in each]),
        ("right", [accuracy[model] for model in measured]),
        ("round trip p50", [f"{one.round_trip_ms(50):.1f} ms" for one in each]),
        ("round trip p99", [f"{one.round_trip_ms(99):.1f} ms" for one in each]),
        ("requests per second", [f"{one.requests_per_second:,.0f}" for one in each]),
        ("average batch", [f"{one.batch_rows:.1f}" for one in each]),
    ]
    for name, cells in rows:
        table.add_row(name, *cells)
    return table
