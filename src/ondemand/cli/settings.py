"""``ondemand settings``: what is set, and where each value comes from."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.table import Table

from ondemand.cli.console import output
from ondemand.cli.settings_page import settings_page
from ondemand.settings import (
    HIDDEN,
    ClientSettings,
    Loaded,
    Settings,
    WorkerSettings,
    load,
    shown_options,
)

MANIFEST = "worker.toml"

app = typer.Typer(
    name="settings",
    help="Show where each setting comes from: command line, environment, file or default.",
    no_args_is_help=True,
)

_SHOW_HELP = """Print every setting with its value and its source.

The environment (ONDEMAND_…) goes before the file, which is `ondemand.toml` in the current folder,
or with --worker the table `[settings]` in that folder's `worker.toml`. Secrets are not shown.
"""


@app.command(
    "show", help=_SHOW_HELP, epilog="Example: ondemand settings show --worker workers/digits"
)
def show(
    *,
    worker: Annotated[
        Path | None,
        typer.Option(help="Show what this worker folder would run with.", metavar="FOLDER"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False,
) -> None:
    """Both sides' settings, or one worker's."""
    groups: dict[str, Loaded[Any]] = {}
    groups["worker"] = load(WorkerSettings, file=worker / MANIFEST if worker else None)
    if worker is None:
        groups["client"] = load(ClientSettings)
    if as_json:
        typer.echo(
            json.dumps({side: _as_data(loaded) for side, loaded in groups.items()}, indent=2)
        )
        return
    output().print(_table(groups))


@app.command("docs", help="Print docs/settings.md.", epilog="Example: ondemand settings docs")
def docs() -> None:
    """The page that documents every setting, from their definitions."""
    typer.echo(settings_page(), nl=False)


def _as_data(loaded: Loaded[Any]) -> dict[str, dict[str, Any]]:
    """Value and source by field."""
    return {
        name: {"value": _shown(loaded.settings, name), "source": origin._asdict()}
        for name, origin in loaded.sources.items()
    }


def _shown(settings: Settings, name: str) -> Any:
    """A value that may be shown."""
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, Path):
        return str(value)
    return shown_options(value) if name == "kafka_options" else value


def _table(groups: dict[str, Loaded[Any]]) -> Table:
    """One row per field; what both sides share stands first, once."""
    table = Table("for", "setting", "value", "source", box=None, pad_edge=False)
    for side, loaded in groups.items():
        for name, origin in loaded.sources.items():
            shared = name in Settings.model_fields
            if shared and side != next(iter(groups)):
                continue
            value = _shown(loaded.settings, name)
            style = "dim" if origin.kind == "default" else "bold"
            table.add_row("both" if shared else side, name, _text(value), str(origin), style=style)
    return table


def _text(value: Any) -> str:
    """A value as it would be written in the environment."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ",".join(f"{name}={text}" for name, text in value.items()) or "-"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)
