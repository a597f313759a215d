"""``ondemand deadletters``: look at what could not be answered, send it again, plan a purge."""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ondemand.cli.console import errors, output
from ondemand.cli.deadletters_filter import Filter, parse_id, parse_ids
from ondemand.cli.deadletters_place import (
    Correlation,
    Model,
    Place,
    Reasons,
    Seconds,
    Since,
    Until,
    Versions,
    filter_of,
    now_ms,
    opened,
)
from ondemand.cli.deadletters_purge import command, delete_records, lines, plan_cuts
from ondemand.cli.deadletters_resend import EPILOG, HELP, redrive
from ondemand.cli.deadletters_view import (
    letter_data,
    letter_table,
    list_table,
    listed,
    newest,
    row_data,
)
from ondemand.cli.options import Json, Kafka, Values
from ondemand.contract.dead_letter import read_dead_letter
from ondemand.errors import ConfigurationError
from ondemand.transport.kafka_admin import KafkaAdmin

ROWS_MAX: Final = 10_000

app = typer.Typer(
    name="deadletters",
    help="Look at a model's dead letters, send them again, plan what to delete.",
    no_args_is_help=True,
)

_LIST_HELP = """Show dead letters: the newest that match, oldest first.

Reads the topic to its end as it is now. Joins no consumer group and changes nothing.
"""


@app.command(
    "list", help=_LIST_HELP, epilog="Example: ondemand deadletters list digits --since 2h --json"
)
def list_letters(
    model: Model,
    *,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    version: Versions = None,
    correlation_id: Correlation = None,
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX, help="At most so many.")] = 100,
    kafka: Kafka = None,
    timeout: Seconds = 60.0,
    as_json: Json = False,
    values: Values = None,
) -> None:
    """Print a table, or one JSON object."""
    wanted = filter_of(
        reasons=reason, since=since, until=until, versions=version, correlation_id=correlation_id
    )
    with opened(model, kafka, values, timeout) as place:
        found = newest(place.read(wanted), wanted, limit)
        topic = place.letters
    if as_json:
        rows = [row_data(row) for row in found.rows]
        _print_json({"topic": topic, "matched": found.matched, "dead_letters": rows})
        return
    if found.rows:
        output().print(list_table(found.rows))
    if not found.read:
        told = f"There are no dead letters in {topic}."
    else:
        told = f"{found.matched} of {found.read} read in {topic} match ({listed(found.reasons)})"
        left_out = found.matched - len(found.rows)
        told += f"; the newest {limit} are shown: see --limit." if left_out else "."
    errors().print(told, markup=False, soft_wrap=True)


_SHOW_HELP = """Show one dead letter: all its headers, and how large it is.

Key and value can be personal data: they are shown only with --payload, and cut to a screen; \
--output writes the value as it is.
"""


@app.command(
    "show",
    help=_SHOW_HELP,
    epilog="Examples: ondemand deadletters show digits 0:42  ·  "
    "ondemand deadletters show digits 0:42 --output request.bin",
)
def show(
    model: Model,
    letter: Annotated[str, typer.Argument(help="As `list` shows it.", metavar="PARTITION:OFFSET")],
    *,
    payload: Annotated[bool, typer.Option("--payload", help="Show key and value.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--output", help="Write the value there; a new file.", metavar="FILE"),
    ] = None,
    kafka: Kafka = None,
    timeout: Seconds = 60.0,
    as_json: Json = False,
    values: Values = None,
) -> None:
    """Print it, and write the value where asked."""
    place_id = parse_id(letter)
    with opened(model, kafka, values, timeout) as place:
        found = place.at(place_id)
    if file is not None:
        _write(file, found.record.value or b"")
    if as_json:
        _print_json(letter_data(found, payload=payload))
    else:
        output().print(letter_table(found, payload=payload))


app.command("redrive", help=HELP, epilog=EPILOG)(redrive)

_PURGE_HELP = """Print what could be deleted, and the command that would do it. Deletes nothing.

Kafka deletes from a partition's start up to an offset, nothing in between. In each partition the \
plan goes up to the first dead letter that does not match, or up to --before. Without any of \
these, it goes by the topic's own retention.ms.
"""


@app.command(
    "purge-plan",
    help=_PURGE_HELP,
    epilog="Examples: ondemand deadletters purge-plan digits --until 30d  ·  "
    "ondemand deadletters purge-plan digits --before 0:1200 --output purge.json",
)
def purge_plan(
    model: Model,
    *,
    reason: Reasons = None,
    until: Until = None,
    version: Versions = None,
    before: Annotated[
        list[str] | None,
        typer.Option(
            help="In this partition everything before this offset; may be repeated.",
            metavar="PARTITION:OFFSET",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--output", help="Write the JSON there; a new file.", metavar="FILE"),
    ] = None,
    kafka: Kafka = None,
    timeout: Seconds = 60.0,
    as_json: Json = False,
    values: Values = None,
) -> None:
    """Print offsets, what would be lost, JSON and command line."""
    wanted = filter_of(reasons=reason, until=until, versions=version)
    bounds = parse_ids(before or ())
    with opened(model, kafka, values, timeout) as place:
        if wanted == Filter() and not bounds:
            wanted = Filter(until_ms=now_ms() - _retention_ms(place))
        letters = {
            index: map(read_dead_letter, place.reader.read(place.letters, {index: span}))
            for index, span in place.spans.items()
        }
        cuts = plan_cuts(place.spans, letters, wanted, bounds)
    document = delete_records(place.letters, cuts)
    if file is not None:
        _write(file, json.dumps(document, indent=2).encode())
    named = str(file or f"purge-{model}.json")
    if as_json:
        lost = {str(each.partition): dict(each.lost) for each in cuts}
        told = {"delete_records": document, "command": command(place.settings, named)}
        _print_json({**told, "lost": lost, "deleted": 0})
        return
    for line in lines(place.letters, cuts, place.settings, named):
        output().print(line, markup=False, soft_wrap=True)


def _retention_ms(place: Place) -> int:
    """How long the topic keeps its records, where it was made to."""
    settings = place.settings
    admin = KafkaAdmin(
        kafka=settings.kafka,
        options=settings.kafka_options,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        security=settings,
    )
    text = admin.describe()[place.letters].config.get("retention.ms", "-1")
    if int(text) < 0:
        raise ConfigurationError(
            f"{place.letters} has no retention.ms of its own: say what may go, with --until, "
            "--before, --reason or --version"
        )
    return int(text)


def _write(file: Path, content: bytes) -> None:
    """A new file, which only its owner may read."""
    try:
        with file.open("xb") as target:
            file.chmod(0o600)
            target.write(content)
    except FileExistsError as error:
        raise ConfigurationError(f"{file} is there already: name another file") from error
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error
    errors().print(f"{file}: {len(content)} bytes written.", markup=False, soft_wrap=True)


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2))
