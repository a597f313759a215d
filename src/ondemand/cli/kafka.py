"""``ondemand kafka``: a real Kafka on this computer, in the background or in a terminal."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ondemand.errors import ConfigurationError

if TYPE_CHECKING:
    from ondemand.local.daemon import Options, Running
    from ondemand.local.jars import OnProgress

app = typer.Typer(
    name="kafka",
    help="Run a real Kafka on this computer, for development: start, stop, status.",
    no_args_is_help=True,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]

_START_HELP = """Start a real Apache Kafka in the background, and return when it answers.

The first start fetches it (46 MB) into your cache folder; later ones need no network. Without
--folder its data is removed when it stops.
"""


@app.command(
    "start",
    help=_START_HELP,
    epilog="Examples: ondemand kafka start  ·  ondemand kafka start --folder ~/kafka --port 9192",
)
def start(
    port: Annotated[
        int,
        typer.Option(
            min=1, max=65533, help="The port to serve on; further brokers take those after it."
        ),
    ] = 9092,
    folder: Annotated[
        Path | None,
        typer.Option(help="Keep the data here, for the next start.", metavar="FOLDER"),
    ] = None,
    brokers: Annotated[
        Literal["1", "3"],
        typer.Option(help="One broker, or a cluster of three (2.2 GB of memory)."),
    ] = "1",
    *,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay in this terminal until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a local Kafka and say where it is and how to stop it."""
    from ondemand.local import daemon
    from ondemand.local.jars import fetch

    if running := daemon.running():
        raise ConfigurationError(
            f"a local Kafka runs already, on {running.address}: use it, or stop it with "
            "`ondemand kafka stop`"
        )
    kept = str(folder.expanduser().absolute()) if folder else None
    options = daemon.Options(brokers=int(brokers), port=port, folder=kept)
    with _progress() as on_progress:
        fetch(on_progress=on_progress)  # here, where it can be watched
    if foreground:
        _hold(options, as_json=as_json)
    else:
        _print_started(daemon.start(options), "stop it with `ondemand kafka stop`", as_json=as_json)


@app.command("stop", epilog="Example: ondemand kafka stop")
def stop() -> None:
    """Stop the local Kafka that `ondemand kafka start` started, and wait until it is gone."""
    from ondemand.local import daemon

    stopped = daemon.stop()
    typer.echo(f"Stopped Kafka on {stopped.address}." if stopped else "No local Kafka runs.")


@app.command(
    "status",
    epilog="Examples: ondemand kafka status  ·  ondemand kafka status --json | jq -r .address",
)
def status(*, as_json: Json = False) -> None:
    """Say whether a local Kafka runs, where, since when, and whether it answers.

    The exit code is 0 if it runs and answers, and 1 if not.
    """
    from ondemand.local import daemon

    running = daemon.running()
    facts = _facts(running) if running else {"running": False}
    if as_json:
        typer.echo(json.dumps(facts))
    elif running:
        _print_status(running, answers=bool(facts["answers"]))
    else:
        typer.echo("No local Kafka runs. Start one with `ondemand kafka start`.")
    if not facts.get("answers"):
        raise typer.Exit(1)


def _hold(options: "Options", *, as_json: bool) -> None:
    """Run until Ctrl-C."""
    from ondemand.local import LocalKafka, daemon

    kafka = LocalKafka(
        brokers=options.brokers,
        port=options.port,
        folder=Path(options.folder) if options.folder else None,
    )
    daemon.hold(
        kafka, lambda running: _print_started(running, "stop it with Ctrl-C", as_json=as_json)
    )


def _print_started(running: "Running", how_to_stop: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_facts(running)))
    else:
        typer.echo(f"Kafka answers on {running.address}; {how_to_stop}.")


def _facts(running: "Running") -> dict[str, object]:
    """What scripts get; seconds and bytes in the names."""
    return {
        "running": True,
        "answers": running.answers(),
        "address": running.address,
        "pid": running.pid,
        "broker_pids": running.broker_pids,
        "uptime_seconds": round(time.time() - running.started_at, 1),
        "memory_bytes": running.memory_bytes,
        "folder": running.folder,
    }


def _print_status(running: "Running", *, answers: bool) -> None:
    memory = running.memory_bytes
    rows = {
        "address": running.address,
        "answers": "yes" if answers else "no: see the logs in its folder",
        "process": f"{running.pid}, brokers {', '.join(map(str, running.broker_pids.values()))}",
        "running for": _duration(time.time() - running.started_at),
        "memory": f"{memory / 1e6:.0f} MB" if memory else "unknown",
        "data": running.folder,
    }
    table = Table(box=None, show_header=False)
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", value)
    Console().print(table)


def _duration(seconds: float) -> str:
    """1 h 02 min 03 s, without the parts that are zero in front."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min {rest:02} s"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


@contextmanager
def _progress() -> Iterator["OnProgress"]:
    """A bar on standard error that appears with the first byte."""
    columns = (TextColumn("Fetching Kafka"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None)

    def on_progress(done: int, total: int, _what: str) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield on_progress
    finally:
        bar.stop()
