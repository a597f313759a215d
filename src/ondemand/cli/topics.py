"""``ondemand topics``: what the broker has, what it should have, and the way there."""

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from ondemand.cli.commands import ExitCode
from ondemand.cli.console import errors, output, quiet_libraries
from ondemand.cli.options import Json, Kafka, Values, named_values
from ondemand.contract.topics import ChangeKind, TopicChange, TopicSpec, load_topics
from ondemand.contract.topics import plan as planned
from ondemand.errors import ConfigurationError
from ondemand.settings import ClientSettings, Settings, load
from ondemand.transport.kafka_admin import KafkaAdmin

Answer = TypeVar("Answer")

TOPICS_FILE: Final = Path("broker/topics.toml")

_MARKS: Final = {
    ChangeKind.CREATE: ("+", "green"),
    ChangeKind.ADD_PARTITIONS: ("~", "yellow"),
    ChangeKind.SET_CONFIG: ("~", "yellow"),
    ChangeKind.REFUSED: ("!", "red"),
}

app = typer.Typer(
    name="topics",
    help="Compare the broker's topics with what is declared, and create what is missing.",
    no_args_is_help=True,
)

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="What is declared; by default broker/topics.toml, if it is there.",
        metavar="FILE",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model's topics, beside the file's; may be repeated."),
]
Services = Annotated[
    list[str] | None,
    typer.Option("--service", help="A service's reply topic, beside the file's; may be repeated."),
]

_PLAN_HELP = """Show what would have to change on the broker. Changes nothing.

Exit code 1 where something is declared that is never done: fewer partitions, or another replication
factor, than there are.
"""
_APPLY_HELP = """Create topics, add partitions and set options, as declared.

Shows the difference first, and asks. Never deletes a topic, and never takes partitions away: what
would need that is said, and the exit code is 1.
"""


@app.command(
    "plan", help=_PLAN_HELP, epilog="Example: ondemand topics plan --kafka 127.0.0.1:9092 --json"
)
def plan(
    *,
    kafka: Kafka = None,
    file: File = None,
    model: Models = None,
    service: Services = None,
    as_json: Json = False,
    values: Values = None,
) -> None:
    """Print the difference."""
    wanted = declared_topics(file, model or (), service or ())
    changes = planned(wanted, out_of_reach(lambda: _admin(kafka, values).describe()))
    if as_json:
        typer.echo(json.dumps({"changes": [_as_data(change) for change in changes]}, indent=2))
    else:
        show(changes, wanted)
    raise typer.Exit(_exit_code(changes))


@app.command(
    "apply",
    help=_APPLY_HELP,
    epilog="Example: ondemand topics apply --model prices --service checkout --yes",
)
def apply(
    *,
    kafka: Kafka = None,
    file: File = None,
    model: Models = None,
    service: Services = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    values: Values = None,
) -> None:
    """Show the difference, ask, and make it go away."""
    wanted = declared_topics(file, model or (), service or ())
    admin = out_of_reach(lambda: _admin(kafka, values))
    changes = planned(wanted, out_of_reach(admin.describe))
    show(changes, wanted)
    todo = [change for change in changes if change.kind is not ChangeKind.REFUSED]
    if todo and not yes:
        _ask(len(todo))
    for change in todo:
        out_of_reach(partial(admin.apply, change))
        output().print(f"done: {change.text}", markup=False, soft_wrap=True)
    raise typer.Exit(_exit_code(changes))


def declared_topics(
    file: Path | None, models: Sequence[str], services: Sequence[str]
) -> tuple[TopicSpec, ...]:
    """What *file* declares, and the topics of *models* and *services*. Without a file, models come
    with the reply topic of the command line, so that they can be asked at once.

    Raises ``ConfigurationError`` where that is nothing, or the file is not right.
    """
    path = file or TOPICS_FILE
    text = ""
    if file is None and not path.exists():
        services = services or ((ClientSettings().service,) if models else ())
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigurationError(f"{path} cannot be read: {reason}") from error
    topics = load_topics(text, models=models, services=services)
    if not topics:
        raise ConfigurationError(
            f"no topics are declared: there is no {TOPICS_FILE} here with any; name a file with "
            "--file, or what to create topics for with --model and --service"
        )
    return topics


def show(changes: Sequence[TopicChange], wanted: Sequence[TopicSpec]) -> None:
    """One line for each change, and one that says how many topics are as they should be."""
    console = output()
    for change in changes:
        mark, colour = _MARKS[change.kind]
        console.print(f"{mark} {change.text}", style=colour, markup=False, soft_wrap=True)
    differing = {change.topic.name for change in changes}
    console.print(f"{len(wanted) - len(differing)} of {len(wanted)} topics are as declared.")


def out_of_reach(work: Callable[[], Answer]) -> Answer:
    """Do *work* where Ctrl-C does not reach: in a thread. The main one waits for it either way.

    Inside librdkafka's own code Ctrl-C comes out as whatever error that code makes of it (a
    ``TypeError`` from a constructor), and would be told as such.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _admin(kafka: str | None, values: list[str] | None) -> KafkaAdmin:
    settings = load(Settings, overrides={**named_values(values), "kafka": kafka}).settings
    quiet_libraries()
    return KafkaAdmin(
        kafka=settings.kafka,
        options=settings.kafka_options,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        security=settings,
    )


def _ask(count: int) -> None:
    """Go on only where a person says so."""
    what = "this change" if count == 1 else f"these {count} changes"
    if not sys.stdin.isatty():
        raise ConfigurationError(f"nobody can be asked here: say --yes to make {what}")
    if not typer.confirm(f"Make {what}?"):
        errors().print("Nothing was changed.")
        raise typer.Exit(ExitCode.FAILED)


def _exit_code(changes: Sequence[TopicChange]) -> ExitCode:
    refused = any(change.kind is ChangeKind.REFUSED for change in changes)
    return ExitCode.FAILED if refused else ExitCode.OK


def _as_data(change: TopicChange) -> dict[str, object]:
    topic = change.topic
    return {
        "kind": change.kind.value,
        "text": change.text,
        "topic": topic.name,
        "partitions": topic.partitions,
        "replication_factor": topic.replication_factor,
        "config": dict(topic.config),
    }
