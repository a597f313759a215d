"""``ondemand demo``: a real broker, two workers, real requests, and figures at the end."""

import asyncio
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from rich.console import Console

from ondemand.cli.commands import ExitCode
from ondemand.cli.console import output, quiet_libraries
from ondemand.cli.demo_requests import SERVICE, Requests
from ondemand.cli.demo_view import DIGITS_DRAWN, count_bars, download_bars, drawn, result_table
from ondemand.cli.demo_work import (
    HELD_OUT_EVERY,
    Digits,
    Files,
    Measured,
    magika_label,
    verdicts,
)
from ondemand.cli.demo_workers import DemoWorkers
from ondemand.cli.options import Kafka
from ondemand.cli.topics import TOPICS_FILE, declared_topics, out_of_reach
from ondemand.contract.topics import (
    ChangeKind,
    dead_letter_topic,
    plan,
    reply_topic,
    request_topic,
)
from ondemand.errors import ConfigurationError
from ondemand.local import LocalKafka
from ondemand.settings import Settings, load
from ondemand.transport.kafka_admin import KafkaAdmin

IN_FLIGHT: Final = {"digits": 32, "filetype": 8}
"""Enough to keep each worker busy; more would only wait, and show as round trip."""

app = typer.Typer()

_HELP = """See it work: start a real Apache Kafka and two workers, and send them real requests.

All 1,797 of scikit-learn's handwritten digits go to the model `digits`; every file of this
repository and of Python's standard library goes to `filetype`. The answers are compared with what
is known: the digits' labels, and what the magika package itself says.

Run it in the repository's folder. The first time, Kafka is fetched (46 MB) into your cache folder.
Ctrl-C at any time leaves nothing running. The exit code is 0 only if every request was answered,
and rightly.
"""


@app.command(
    "demo", help=_HELP, epilog="Examples: ondemand demo  ·  ondemand demo --kafka 127.0.0.1:9092"
)
def demo(
    *,
    kafka: Kafka = None,
    kill_worker: Annotated[
        bool,
        typer.Option(
            "--kill-worker",
            help="Kill the worker `filetype` in the middle (SIGKILL) and start another: nothing "
            "may be lost.",
        ),
    ] = False,
) -> None:
    """Set up, ask, take down, compare, tell."""
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):  # ends as Ctrl-C does: in order
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    folders = _worker_folders(Path())
    console = output()
    quiet_libraries()
    digits, files = Digits.load(), Files.find(Path.cwd())
    measured = {
        "digits": Measured(len(digits.labels), IN_FLIGHT["digits"]),
        "filetype": Measured(len(files.paths), IN_FLIGHT["filetype"]),
    }
    with ExitStack() as stack:
        address = kafka or stack.enter_context(_local_kafka(console))
        console.print(f"Kafka answers on {address}. Starting the workers {' and '.join(folders)} …")
        out_of_reach(lambda: _create_topics(address, list(folders)))
        logs = Path(stack.enter_context(TemporaryDirectory(prefix="ondemand-demo-")))
        workers = stack.enter_context(DemoWorkers(address, folders, logs))
        requests = Requests(workers, console, kill_during="filetype" if kill_worker else None)
        inputs = {"digits": digits.inputs, "filetype": files.inputs}
        asyncio.run(requests.send(address, inputs, measured))
        first = min(each.first_taken for each in measured.values()) - began
        console.print(f"The first answer came {first:.1f} s after the start.")
        console.print("Stopping the workers and what else was started …")
    problems = _compared(console, digits, files, measured)
    for problem in problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(ExitCode.FAILED if problems else ExitCode.OK)


def _worker_folders(repository: Path) -> dict[str, Path]:
    """The two workers' folders, absolute. Raises ``ConfigurationError`` where they are not."""
    folders = {model: (repository / "workers" / model).resolve() for model in IN_FLIGHT}
    for folder in folders.values():
        if not (folder / "worker.toml").is_file():
            raise ConfigurationError(
                f"there is no {folder}: run the demo in the folder of the ondemand repository"
            )
    return folders


@contextmanager
def _local_kafka(console: Console) -> Iterator[str]:
    """The address of a broker of our own, with a bar for what has to be fetched for it."""
    console.print("Starting a real Apache Kafka on this computer …")
    with ExitStack() as stack:
        bars = download_bars(console)

        def show(done_bytes: int, total_bytes: int, _name: str) -> None:
            if not bars.tasks:  # nothing to fetch, nothing to show
                bars.add_task("Fetching Kafka")
                bars.start()
            bars.update(bars.task_ids[0], completed=done_bytes, total=total_bytes)

        kafka = LocalKafka(on_progress=show)
        stack.callback(kafka.stop)
        try:
            kafka.start()
        finally:
            if bars.tasks:
                bars.stop()
        yield kafka.address


def _create_topics(address: str, models: Iterable[str]) -> None:
    """Create what the demo needs and is not there; change nothing that is."""
    needed = {reply_topic(SERVICE)}
    needed |= {of(model) for model in models for of in (request_topic, dead_letter_topic)}
    declared = declared_topics(TOPICS_FILE, models=list(models), services=[SERVICE])
    settings = load(Settings, overrides={"kafka": address}).settings
    admin = KafkaAdmin(kafka=address, options=settings.kafka_options, security=settings)
    for change in plan([topic for topic in declared if topic.name in needed], admin.describe()):
        if change.kind is ChangeKind.CREATE:
            admin.apply(change)


def _compared(
    console: Console, digits: Digits, files: Files, measured: Mapping[str, Measured]
) -> list[str]:
    """Compare the answers with what is known, print the figures; what is not as it has to be."""
    answers = measured["digits"].answers
    shown = [index for index in answers if index % HELD_OUT_EVERY == 0][:DIGITS_DRAWN]
    if shown:
        labels = [int(answers[index]["label"][0]) for index in shown]
        console.print("\nSome digits that the model was not trained on, and what it calls them:\n")
        colours = console.color_system is not None and not console.no_color
        pictures = [digits.pixels[index] for index in shown]
        console.print(drawn(pictures, labels, colours=colours, columns=console.width))
        console.print()
    everything, held_out = digits.accuracy(measured["digits"])
    answered = len(measured["filetype"].answers)
    # Only now: magika's own model would have taken time from the worker that was measured.
    with count_bars(console) as bars:
        comparing = bars.add_task("magika says", total=answered)
        differing = files.agreement(
            measured["filetype"], magika_label(), lambda: bars.advance(comparing)
        )
    accuracy = {
        "digits": f"{everything:.1%} ({held_out:.1%} held out)",
        "filetype": f"{1 - len(differing) / max(answered, 1):.1%} as magika",
    }
    console.print(result_table(measured, accuracy))
    return [*verdicts(measured, held_out, differing), *differing]
