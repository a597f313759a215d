"""Where a model's dead letters are, who reads them, and the options that say which are meant."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from ondemand.cli.console import quiet_libraries
from ondemand.cli.deadletters_filter import Filter, LetterId, parse_id, parse_time
from ondemand.cli.options import named_values
from ondemand.contract.dead_letter import DeadLetter, read_dead_letter
from ondemand.contract.topics import check_name, dead_letter_topic, request_topic
from ondemand.errors import ConfigurationError
from ondemand.settings import WorkerSettings, load
from ondemand.transport.kafka_admin_records import Span, TopicReader

Model = Annotated[str, typer.Argument(help="The model's name.", metavar="MODEL")]
Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", help="Only those with this reason; may be repeated."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="From then on: 2h, 7d, or a time in ISO 8601.", metavar="TIME"),
]
Until = Annotated[
    str | None, typer.Option("--until", help="Before then: as --since.", metavar="TIME")
]
Versions = Annotated[
    list[str] | None,
    typer.Option("--version", help="Given up by this version of the model; may be repeated."),
]
Correlation = Annotated[
    str | None,
    typer.Option("--correlation-id", help="As it is shown: text, or hex.", metavar="ID"),
]
Seconds = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds that reading may take.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model's dead letters are and came from, and who reads them."""

    model: str
    letters: str  # the dead-letter topic
    requests: str  # the request topic
    settings: WorkerSettings
    reader: TopicReader
    spans: dict[int, Span]

    def read(self, wanted: Filter) -> Iterator[DeadLetter]:
        """All dead letters, in the order of partition and offset; those from well before
        *wanted* may be left out."""
        spans = self.spans
        if wanted.after is not None:
            spans = {index: _after(index, span, wanted.after) for index, span in spans.items()}
        return map(
            read_dead_letter, self.reader.read(self.letters, spans, since_ms=wanted.since_ms)
        )

    def at(self, place: LetterId) -> DeadLetter:
        """One dead letter. Raises ``ConfigurationError`` where there is none."""
        span = self.spans.get(place.partition)
        if span is None:
            held = f"its partitions are 0 to {len(self.spans) - 1}"
        elif span.low == span.end:
            held = f"partition {place.partition} is empty"
        else:
            held = f"partition {place.partition} holds {span.low} to {span.end - 1}"
        if span is not None and span.low <= place.offset < span.end:
            record = self.reader.read_at(self.letters, place.partition, place.offset)
            if record is not None:
                return read_dead_letter(record)
        raise ConfigurationError(f"there is no dead letter {place} in {self.letters}: {held}")


@contextmanager
def opened(
    model: str, kafka: str | None, values: list[str] | None, timeout_seconds: float
) -> Iterator[Place]:
    """The place of *model*'s dead letters, for as long as it is looked at."""
    settings = load(WorkerSettings, overrides={**named_values(values), "kafka": kafka}).settings
    try:
        letters = settings.dead_letter_topic or dead_letter_topic(model)
        requests = settings.request_topic or request_topic(model)
        check_name(letters, "topic name")
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    quiet_libraries()
    with closing(TopicReader(settings, timeout_seconds=timeout_seconds)) as reader:
        spans = reader.spans(letters)
        if not spans:
            raise ConfigurationError(
                f"there is no topic {letters!r} on {settings.kafka} that this login may see: is "
                "the model's name right? Where workers write elsewhere, say --set "
                "dead_letter_topic=TOPIC"
            )
        yield Place(model, letters, requests, settings, reader, spans)


def filter_of(
    *,
    reasons: list[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    versions: list[str] | None = None,
    correlation_id: str | None = None,
    after: str | None = None,
) -> Filter:
    """What the options mean, relative times counted from now."""
    now = now_ms()
    return Filter(
        tuple(reasons or ()),
        None if since is None else parse_time(since, now),
        None if until is None else parse_time(until, now),
        tuple(versions or ()),
        correlation_id,
        None if after is None else parse_id(after),
    )


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _after(index: int, span: Span, after: LetterId) -> Span:
    """What of a partition comes after that ID."""
    if index < after.partition:
        return Span(span.end, span.end)
    low = after.offset + 1 if index == after.partition else span.low
    return Span(max(low, span.low), span.end)
