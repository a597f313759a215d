"""Where people are talked to: colours and widths as the terminal has them."""

import logging
import os
from typing import Final

from rich.console import Console

PIPE_WIDTH: Final = 200
"""Columns where the output is no terminal: a file or a pipe should not be wrapped at 80."""


def output() -> Console:
    """Standard output: what was asked for. Honours ``NO_COLOR``; plain where it is no terminal."""
    return _sized(Console(highlight=False))


def errors() -> Console:
    """Standard error: progress, and what went wrong."""
    return _sized(Console(stderr=True, highlight=False))


def _sized(console: Console) -> Console:
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def quiet_libraries() -> None:
    """Keep the log of libraries off the terminal: what matters of it reaches people as an error.

    With ``--debug`` it stays.
    """
    if not os.environ.get("ONDEMAND_DEBUG"):
        logging.disable(logging.CRITICAL)
