"""The root of the command line: its own options, and the one command that was named."""

import importlib
import os
from typing import Annotated, Final

import typer

from ondemand import __version__
from ondemand.cli.commands import COMMANDS, Command

COMPLETION_VARIABLE: Final = "_ONDEMAND_COMPLETE"
"""Set by a shell that completes a command line: then all commands are loaded."""

_HELP = """Models on demand over Kafka: publish a prediction request, await the reply.

Every setting can also be given in the environment (ONDEMAND_…) or in a file, ondemand.toml.
"""
_EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by a worker, 4 no reply in time, "
    "5 stuck, start it again, 130 interrupted."
)


def application(named: Command | None) -> typer.Typer:
    """The command line with *named* loaded; the others are there by name and help only."""
    root = typer.Typer(
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    root.callback()(_options)
    for command in COMMANDS:
        if command == named or COMPLETION_VARIABLE in os.environ:
            root.add_typer(importlib.import_module(command.module).app)
        else:
            root.command(command.name, help=command.help)(_not_loaded)
    return root


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if wanted:
        typer.echo(f"ondemand {__version__}")
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Print tracebacks and the libraries' log. Counts wherever it stands."
        ),
    ] = False,
) -> None:
    """What comes before the command. ``--debug`` is acted on, and taken out, by ``main``."""
    del version, debug


def _not_loaded() -> None:
    """Stands in the help for a command that was not named."""
