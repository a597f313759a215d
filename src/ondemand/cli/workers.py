"""``ondemand workers``: who is alive."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table
from rich.text import Text

from ondemand.cli.announced import alive_workers
from ondemand.cli.console import output, quiet_libraries
from ondemand.cli.options import Json, Kafka, Values, named_values
from ondemand.client.directory import AliveWorker
from ondemand.contract.announcement import announcement_record
from ondemand.contract.topics import WORKERS
from ondemand.errors import ConfigurationError
from ondemand.settings import ClientSettings, load

app = typer.Typer()

_HELP = """Show which workers are alive, as they say themselves.

A worker announces itself every few seconds on the topic `ondemand.workers`, and counts as gone
after three times that silence. RATE is what it answered lately, in requests a second.
"""


@app.command(
    "workers", help=_HELP, epilog="Examples: ondemand workers  ·  ondemand workers --model digits"
)
def workers(
    *,
    kafka: Kafka = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    as_json: Json = False,
    values: Values = None,
) -> None:
    """Read once, and show."""
    overrides = {**named_values(values), "kafka": kafka}
    settings = load(ClientSettings, overrides=overrides).settings
    quiet_libraries()
    found = asyncio.run(alive_workers(settings))
    if found is None:
        raise ConfigurationError(
            f"nobody can announce itself on {settings.kafka}: topic {WORKERS!r} is not there, or "
            "not for this login; create it with `ondemand topics apply`"
        )
    shown = [each for each in found if model in {None, each.announcement.model}]
    if as_json:
        typer.echo(orjson.dumps({"workers": [_as_data(each) for each in shown]}).decode())
    elif shown:
        output().print(_table(shown, time.time()))
    else:
        output().print("nobody has announced itself" + (f" for {model}" if model else ""))


def _table(found: Sequence[AliveWorker], now_seconds: float) -> Table:
    """A row for each worker."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "version", "guarantee", "instance", "partitions"):
        table.add_column(name, overflow="fold")
    for name in ("rate", "up", "last heard"):
        table.add_column(name, justify="right")
    for each in found:
        told = each.announcement
        cells = (
            told.model,
            told.version,
            told.guarantee,
            told.instance,
            " ".join(map(str, told.partitions)) or "none",
            f"{told.rate_per_second:.0f}/s",
            _span(now_seconds - told.since_ms / 1_000),
            f"{each.heard_seconds_ago:.0f} s ago",
        )
        table.add_row(*map(Text, cells))
    return table


def _span(seconds: float) -> str:
    """A duration in its largest whole unit: `40 s`, `12 min`, `5 h`, `3 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _as_data(worker: AliveWorker) -> dict[str, Any]:
    value = announcement_record(worker.announcement).value or b"{}"
    heard = {"heard_seconds_ago": round(worker.heard_seconds_ago, 1)}
    return {**orjson.loads(value), **heard}
