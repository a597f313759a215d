"""``ondemand worker``: from a model file to a worker that can be released."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ondemand.cli.commands import ExitCode

if TYPE_CHECKING:
    from ondemand.settings import WorkerSettings

app = typer.Typer(
    name="worker",
    help="Make, check and run workers: folders with a model and its `worker.toml`.",
    no_args_is_help=True,
)

_CHECK_HELP = """Find everything wrong with a worker folder before it is released.

Compares digests and the signature with the model's own, runs the golden pairs through \
the real model on the execution providers that the folder asks for, and looks for limits that \
cannot work. One line per problem; exit code 1 if there \
is one.
"""

_NEW_HELP = """Make a worker folder for an ONNX model.

Reads the signature and the digest from the model, writes `worker.toml`, copies the model and, \
where the model takes zeros, records a first golden pair.
"""


@app.command("check", help=_CHECK_HELP, epilog="Example: ondemand worker check workers/digits")
def check(
    folder: Annotated[Path, typer.Argument(help="The worker folder.", metavar="FOLDER")],
) -> None:
    """Print one line per problem, or one that says what was found good."""
    from ondemand.runtime.manifest import read_manifest
    from ondemand.runtime.package import check_package

    problems = check_package(folder)
    for problem in problems:
        typer.echo(str(problem), err=True)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        typer.echo(f"{folder} is not ready: {count}.", err=True)
        raise typer.Exit(1)
    manifest = read_manifest(folder)
    signature = manifest.signature
    takes = "; ".join(str(spec) for spec in signature.inputs)
    gives = "; ".join(str(spec) for spec in signature.outputs)
    typer.echo(f"{manifest.name} {manifest.version} is ready. It takes {takes}; gives {gives}.")
    if manifest.golden is None:
        typer.echo("It has no golden pairs: nothing shows that its answers are right.")


@app.command(
    "new", help=_NEW_HELP, epilog="Example: ondemand worker new prices --model prices.onnx"
)
def new(
    name: Annotated[
        str,
        typer.Argument(
            help="The model's name; its topics and its group are named after it.", metavar="NAME"
        ),
    ],
    model: Annotated[
        Path, typer.Option("--model", help="The ONNX file; it is copied.", metavar="FILE.onnx")
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where to write; by default workers/NAME.", metavar="FOLDER"),
    ] = None,
) -> None:
    """Write the folder and say what comes next."""
    from ondemand.runtime.scaffold import new_package

    made = new_package(folder or Path("workers") / name, name=name, model=model)
    typer.echo(f"{made.folder} is written.")
    if made.no_golden:
        typer.echo(f"No golden pair was recorded: {made.no_golden}.")
    typer.echo("Next:")
    for command in _next_commands(made.folder, name):
        typer.echo(f"  {command}")


_RUN_HELP = """Answer a model's requests until a signal comes.

The first SIGTERM or Ctrl-C drains: takes nothing more, settles what is running, commits, leaves \
the group. The second one leaves at once; what was running is then answered by the next worker.

With `--processes` several processes answer, each a member of the group. One that ends is started \
again, after 0.5 s at first and at most 30 s; `--http` serves the health and the metrics of all.
"""


@app.command(
    "run",
    help=_RUN_HELP,
    epilog="Example: ondemand worker run workers/digits --kafka 127.0.0.1:9092 --http 127.0.0.1:0",
)
def run(
    folder: Annotated[Path, typer.Argument(help="The worker folder.", metavar="FOLDER")],
    *,
    kafka: Annotated[
        str | None, typer.Option(help="The broker's addresses.", metavar="HOST:PORT[,…]")
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(help="Where health and metrics are served; `off` for nowhere."),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="`console`, `json`, or `auto`.", metavar="FORMAT")
    ] = None,
    processes: Annotated[
        str | None, typer.Option(help="How many processes answer; 1 by default.", metavar="N")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting; may be repeated.", metavar="NAME=VALUE"),
    ] = None,
    member: Annotated[
        int | None, typer.Option(hidden=True, help="Which of a supervisor's processes this is.")
    ] = None,
) -> None:
    """Load the folder and serve it, or have processes do so."""
    from ondemand.runtime.manifest import MANIFEST
    from ondemand.settings import WorkerSettings, load
    from ondemand.telemetry.logging import configure_logging

    options = {"kafka": kafka, "http": http, "log_format": log_format, "processes": processes}
    given = {name: value for name, value in options.items() if value is not None}
    given |= _named(values or [])
    settings = load(WorkerSettings, overrides=given, file=folder / MANIFEST).settings
    configure_logging(settings.log_format, settings.log_level, process=member)
    if member is None and settings.processes > 1:
        raise typer.Exit(_supervise(folder, settings, given))
    _serve(folder, settings, member=member)


def _serve(folder: Path, settings: "WorkerSettings", *, member: int | None) -> None:
    """Answer requests in this process, the only one, or one of a supervisor's."""
    from ondemand.supervisor.lifeline import Lifeline, leave_seconds

    # Before the model is loaded: a supervisor may die meanwhile.
    lifeline = None if member is None else Lifeline(leave_seconds=leave_seconds(settings))
    from ondemand.processor.lifecycle import run_worker
    from ondemand.runtime.package import load_package

    package = load_package(
        folder,
        threads=settings.model_threads,
        execution_providers=settings.execution_providers,
    )
    try:
        manifest = package.manifest
        inputs = tuple(entry.announced for entry in manifest.inputs)
        run_worker(
            package.model,
            settings,
            inputs=inputs,
            sha256=manifest.model.sha256,
            overseer=lifeline,
        )
    finally:
        package.model.close()


def _supervise(folder: Path, settings: "WorkerSettings", given: Mapping[str, str]) -> int:
    """Run several of what would be run with the same options without ``--processes``."""
    from ondemand.runtime.cpu import usable_threads
    from ondemand.supervisor.lifecycle import run_supervisor

    own = {
        "processes": "1",
        "http": "off" if settings.http == "off" else "127.0.0.1:0",
        "model_threads": str(
            settings.model_threads or max(1, usable_threads() // settings.processes)
        ),
    }
    start = [sys.executable, "-m", "ondemand", "worker", "run", str(folder)]
    for name, value in {**given, **own}.items():
        start += ["--set", f"{name}={value}"]
    return run_supervisor(
        lambda index: [*start, "--member", str(index)],
        settings,
        hopeless=(ExitCode.FAILED, ExitCode.USAGE),
    )


def _named(values: list[str]) -> dict[str, str]:
    """`NAME=VALUE` texts by name."""
    named = dict(text.partition("=")[::2] for text in values)
    if "" in named or any("=" not in text for text in values):
        raise typer.BadParameter(
            "write NAME=VALUE, for example batch_rows_max=64", param_hint="--set"
        )
    return named


def _next_commands(folder: Path, name: str) -> list[str]:
    """What leads from a folder to an answer."""
    return [
        f"ondemand worker check {folder}",
        f"ondemand topics apply --model {name}",
        f"ondemand worker run {folder}",
        f"ondemand predict {name} FILE",
    ]
