"""``ondemand predict``: files in, answers out."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer

from ondemand.cli.announced import announced_inputs
from ondemand.cli.answers import answer_json, answers_table, caption, error_json
from ondemand.cli.commands import ExitCode
from ondemand.cli.console import errors, output, quiet_libraries
from ondemand.cli.input_files import STANDARD_INPUT, Inputs, read_inputs
from ondemand.cli.known_models import did_you_mean
from ondemand.cli.options import Json, Kafka, Values, named_values
from ondemand.cli.recipe import Form, InputFileError, Recipe, recipe
from ondemand.client import Prediction, PredictionClient
from ondemand.contract.topics import reply_topic, request_topic
from ondemand.errors import (
    ConfigurationError,
    NobodyServesError,
    NotSentError,
    OutcomeUnknownError,
    RefusedError,
)
from ondemand.settings import ClientSettings, load

IN_FLIGHT: Final = 64
"""Files that are under way at once; each is in memory until it is answered."""

app = typer.Typer()

_HELP = """Ask a model about files, one request for each.

A file is JSON (a V2 request body, or `{"NAME": [[…]]}`), a `.npy` or `.npz` file, a picture for a
model that takes pictures, or any file at all for a model that takes files. `-` is standard input.

What the model takes is read from `workers/MODEL/worker.toml`, if that is there, or from the folder
that `--worker` names; otherwise from what its workers announce. Where none of them says it, say
`--input NAME:DATATYPE` for files that do not name their input.

A bad file does not stop the others. The exit code is 3 where a worker refused, 4 where nobody
serves the model or no reply came in time, 1 for everything else that went wrong.
"""
_EXAMPLES = (
    "Examples: ondemand predict digits scan.png  ·  ondemand predict filetype *  ·  "
    "cat body.json | ondemand predict digits - --json"
)


@app.command("predict", help=_HELP, epilog=_EXAMPLES)
def predict(
    model: Annotated[str, typer.Argument(help="The model's name.", metavar="MODEL")],
    files: Annotated[list[str], typer.Argument(help="What to ask about.", metavar="FILE…")],
    *,
    kafka: Kafka = None,
    service: Annotated[
        str | None,
        typer.Option(help="Whose reply topic is used: SERVICE.replies.", show_default="cli"),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds to wait for each reply.", show_default="5")
    ] = None,
    model_version: Annotated[
        str | None, typer.Option(help="Be served by this version or be refused.")
    ] = None,
    named: Annotated[
        str | None,
        typer.Option("--input", help="The input that files are for.", metavar="NAME[:DATATYPE]"),
    ] = None,
    form: Annotated[
        Form | None, typer.Option("--as", help="How to read the files; told from them otherwise.")
    ] = None,
    worker: Annotated[
        Path | None, typer.Option(help="The folder with the model's worker.toml.", metavar="FOLDER")
    ] = None,
    as_json: Json = False,
    values: Values = None,
) -> None:
    """Read, ask, show; leave with the exit code of what went wrong, if anything did."""
    given = {"kafka": kafka, "service": service, "timeout_seconds": timeout}
    settings = load(ClientSettings, overrides=named_values(values) | _present(given)).settings
    try:
        request_topic(model)
        reply_topic(settings.service)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    quiet_libraries()
    how = recipe(model, worker=worker, named=named, form=form, folder=Path())
    if not how.inputs and any(file == STANDARD_INPUT or Path(file).is_file() for file in files):
        how = replace(how, inputs=asyncio.run(announced_inputs(model, settings)))
    queue = _Files(files, how)
    report = _Report(as_json=as_json)
    try:
        asyncio.run(_ask(queue, settings, model_version, report))
    finally:
        report.close()
    raise typer.Exit(report.exit_code)


def _present(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


class _Files:
    """Reads files as they are needed, and keeps their order: also of those that cannot be read."""

    def __init__(self, files: Sequence[str], how: Recipe) -> None:
        self.how = how
        self._files = files
        self._taken: deque[tuple[str, InputFileError | None]] = deque()

    def __iter__(self) -> Iterator[Inputs]:
        for file in self._files:
            try:
                inputs = read_inputs(file, self.how)
            except InputFileError as error:
                self._taken.append((file, error))
            else:
                self._taken.append((file, None))
                yield inputs

    def unreadable(self) -> Iterator[tuple[str, InputFileError]]:
        """Those that come before the next one that was read, or before the end."""
        while self._taken and (error := self._taken[0][1]) is not None:
            yield self._taken.popleft()[0], error

    def next(self) -> str:
        """The next one that was read."""
        return self._taken.popleft()[0]


class _Report:
    """Shows what comes, as it comes or at the end, and remembers how it went."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._answers: list[tuple[str, Prediction]] = []
        self._codes: set[ExitCode] = set()

    @property
    def exit_code(self) -> ExitCode:
        """That of the failures where all are of one kind."""
        if not self._codes:
            return ExitCode.OK
        return self._codes.copy().pop() if len(self._codes) == 1 else ExitCode.FAILED

    def answered(self, file: str, answer: Prediction) -> None:
        """One line of JSON now, or a part of the table at the end."""
        if self._as_json:
            typer.echo(answer_json(file, answer))
        else:
            self._answers.append((file, answer))

    def failed(self, file: str, error: Exception, hint: str = "") -> None:
        """One line on standard error, and as JSON too where that is asked for."""
        self._codes.add(_exit_code(error))
        about_the_file = isinstance(error, RefusedError | OutcomeUnknownError | ValueError)
        message = f"{file}: {error}" if about_the_file else f"{error}"
        errors().print(f"error: {message}{hint}", style="red", markup=False, soft_wrap=True)
        if self._as_json:
            typer.echo(error_json(file, error))

    def close(self) -> None:
        """Show the table, if there is anything in it."""
        if self._answers:
            output().print(answers_table(self._answers))
            errors().print(caption(self._answers), style="dim")
            self._answers.clear()


def _exit_code(error: Exception) -> ExitCode:
    if isinstance(error, RefusedError):
        return ExitCode.REFUSED
    no_reply = isinstance(error, OutcomeUnknownError | NobodyServesError)
    return ExitCode.NO_REPLY if no_reply else ExitCode.FAILED


async def _ask(
    queue: _Files, settings: ClientSettings, model_version: str | None, report: _Report
) -> None:
    """Ask about every file, in order, until one fails in a way in which all others would."""
    async with aclosing(_results(queue, settings, model_version)) as results:
        async for file, result in results:
            if isinstance(result, Prediction):
                report.answered(file, result)
                continue
            hint = ""
            if isinstance(result, NotSentError):
                hint = await asyncio.to_thread(did_you_mean, queue.how.model, settings)
            report.failed(file, result, hint)


async def _results(
    queue: _Files, settings: ClientSettings, model_version: str | None
) -> AsyncGenerator[tuple[str, Prediction | Exception], None]:
    """Each file with its answer, or with the reason why there is none; in the files' order."""
    source = iter(queue)
    first = next(source, None)
    if first is None:  # nothing to connect for
        for failure in queue.unreadable():
            yield failure
        return
    async with (
        PredictionClient(settings=settings) as client,
        aclosing(
            client.predict_many(
                queue.how.model,
                chain([first], source),
                in_flight=IN_FLIGHT,
                model_version=model_version,
            )
        ) as outcomes,
    ):
        async for outcome in outcomes:
            for failure in queue.unreadable():
                yield failure
            yield queue.next(), outcome.result
            if _concerns_all(outcome.result, client):
                return
    for failure in queue.unreadable():
        yield failure


def _concerns_all(result: Prediction | Exception, client: PredictionClient) -> bool:
    """Whether there is no use in going on: no such topic, or nobody has answered anything."""
    if isinstance(result, OutcomeUnknownError):
        return client.stats.answered == 0
    return isinstance(result, NotSentError)
