"""``ondemand deadletters redrive``: the plan is shown, asked about, kept to, and accounted for."""

import json
import shlex
import sys
from dataclasses import dataclass, replace
from typing import Annotated, Final

import typer

from ondemand.cli.commands import ExitCode
from ondemand.cli.console import errors, output
from ondemand.cli.deadletters_filter import Filter, LetterId, parse_ids
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
from ondemand.cli.deadletters_redrive import (
    PLAN_MAX,
    Effects,
    Interruption,
    Outcome,
    Pace,
    Plan,
    Planned,
    Terms,
    make_plan,
)
from ondemand.cli.deadletters_redrive import (
    redrive as redriven,
)
from ondemand.cli.deadletters_view import listed
from ondemand.cli.options import Json, Kafka, Values
from ondemand.contract.dead_letter import DeadLetter, read_dead_letter
from ondemand.errors import ConfigurationError
from ondemand.limits import REDRIVE_ATTEMPTS_MAX
from ondemand.transport.kafka_admin_records import Published, RecordPublisher

RATE_MAX: Final = 1_000.0
"""Records a second: one by one, each acknowledged, is not faster anyway."""
IDS_SHOWN_MAX: Final = 20

HELP: Final = """Publish dead letters to the request topic that they came from, as they were.

Correlation ID and reply address stay: the answer goes to whoever asked. Added is the header \
redrive-attempts. A deadline that has passed is taken off, because with it the request would be \
refused unrun; --keep-deadline leaves it on. The dead letters themselves stay where they are.

One after the other, each acknowledged before the next; in the order of partition and offset. A \
plan is shown first. Ctrl-C stops after the one that is under way, and tells how to continue.
"""
EPILOG: Final = (
    "Examples: ondemand deadletters redrive digits 0:42  ·  "
    "ondemand deadletters redrive digits --all --reason model-error --since 2h --dry-run"
)


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for: *ids*, or all that *wanted* takes. *given*: where the broker is."""

    model: str
    ids: tuple[LetterId, ...]
    wanted: Filter
    limit: int | None
    rate: float
    attempts_max: int
    unanswerable: bool
    keep_deadline: bool
    given: tuple[str, ...]

    def again(self, outcome: Outcome, started_ms: int) -> str:
        """The command line that does what is left. What became a dead letter meanwhile is not
        taken."""
        words = ["ondemand", "deadletters", "redrive", self.model]
        if self.ids:
            words += [str(each.id) for each in outcome.left]
        else:
            wanted = replace(self.wanted, after=outcome.last or self.wanted.after)
            if wanted.until_ms is None:
                wanted = replace(wanted, until_ms=started_ms)
            words += ["--all", *wanted.options()]
            words += [] if self.limit is None else ["--limit", str(len(outcome.left))]
        words += ["--rate", f"{self.rate:g}", "--attempts-max", str(self.attempts_max)]
        words += ["--unanswerable"] if self.unanswerable else []
        words += ["--keep-deadline"] if self.keep_deadline else []
        return shlex.join([*words, *self.given])


def redrive(
    model: Model,
    letters: Annotated[
        list[str] | None, typer.Argument(help="As `list` shows them.", metavar="ID…")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All that the filters take.")] = False,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    version: Versions = None,
    correlation_id: Correlation = None,
    after: Annotated[
        str | None,
        typer.Option(help="Only what comes later: to continue.", metavar="PARTITION:OFFSET"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The first so many that can be redriven.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.01, max=RATE_MAX, help="At most so many a second.")
    ] = 50.0,
    attempts_max: Annotated[
        int,
        typer.Option(
            min=1, max=REDRIVE_ATTEMPTS_MAX, help="Refuse what was redriven so often before."
        ),
    ] = 3,
    unanswerable: Annotated[
        bool,
        typer.Option(
            "--unanswerable", help="Also those without a usable reply address; see `list`."
        ),
    ] = False,
    keep_deadline: Annotated[
        bool, typer.Option("--keep-deadline", help="Leave a deadline on that has passed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    kafka: Kafka = None,
    timeout: Seconds = 60.0,
    as_json: Json = False,
    values: Values = None,
) -> None:
    """Plan, ask, publish, tell."""
    wanted = filter_of(
        reasons=reason,
        since=since,
        until=until,
        versions=version,
        correlation_id=correlation_id,
        after=after,
    )
    if everything == bool(letters) or (letters and wanted != Filter()):
        raise typer.BadParameter("name the IDs, or say --all, with filters if you like")
    order = Order(
        ids=parse_ids(letters or ()),
        wanted=wanted,
        limit=limit,
        rate=rate,
        attempts_max=attempts_max,
        unanswerable=unanswerable,
        keep_deadline=keep_deadline,
        model=model,
        given=_given(kafka, values),
    )
    with opened(model, kafka, values, timeout) as place:
        code = execute(place, order, dry_run=dry_run, yes=yes, as_json=as_json)
    raise typer.Exit(code)


def execute(place: Place, order: Order, *, dry_run: bool, yes: bool, as_json: bool) -> ExitCode:
    """Plan, show, ask, publish, and say exactly what was taken."""
    started_ms = now_ms()
    if place.reader.partition_count(place.requests) is None:
        raise ConfigurationError(
            f"there is no topic {place.requests!r} to redrive to that this login may see: create "
            f"it with `ondemand topics apply --model {place.model}`, or name another with --set "
            "request_topic=TOPIC"
        )
    terms = Terms(
        place.requests, order.attempts_max, order.unanswerable, order.keep_deadline, started_ms
    )
    plan = _plan(place, order, terms)
    _Telling(as_json=as_json).plan(plan, order, terms)
    if not plan.planned:
        raise ConfigurationError(_nothing(plan, place.letters))
    if dry_run:
        errors().print("Nothing was published: --dry-run.")
        return ExitCode.OK
    if not yes:
        _ask(len(plan.planned))
    publisher = RecordPublisher(place.settings)
    telling = _Telling(as_json=as_json)

    def read(letter: LetterId) -> DeadLetter | None:
        record = place.reader.read_at(place.letters, *letter)
        return None if record is None else read_dead_letter(record)

    with Interruption() as interruption:
        outcome = redriven(
            plan.planned,
            terms,
            Pace(order.rate),
            Effects(read, publisher.publish, telling.taken, lambda: interruption.asked, now_ms),
        )
    telling.end(outcome, order.again(outcome, started_ms))
    if outcome.ending == "interrupted":
        return ExitCode.INTERRUPTED
    return ExitCode.OK if outcome.ending == "done" else ExitCode.FAILED


def _plan(place: Place, order: Order, terms: Terms) -> Plan:
    if order.ids:
        return make_plan(map(place.at, order.ids), terms)
    letters = filter(order.wanted.takes, place.read(order.wanted))
    plan = make_plan(letters, terms, limit=min(order.limit or PLAN_MAX, PLAN_MAX))
    if plan.more and order.limit is None:
        raise ConfigurationError(
            f"more than {PLAN_MAX} dead letters match: take fewer with filters or --limit"
        )
    return plan


def _nothing(plan: Plan, topic: str) -> str:
    if not plan.read:
        return f"nothing to redrive: no dead letter in {topic} matches"
    return f"nothing to redrive: none of the {plan.read} dead letters that match can be"


def _ask(count: int) -> None:
    """Go on only where a person says so."""
    what = "this request" if count == 1 else f"these {count} requests"
    if not sys.stdin.isatty():
        raise ConfigurationError(f"nobody can be asked here: say --yes to publish {what}")
    if not typer.confirm(f"Publish {what}?"):
        errors().print("Nothing was published.")
        raise typer.Exit(ExitCode.FAILED)


class _Telling:
    """Says what is planned, what is done and how it ended: for people, or one JSON object a
    line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def plan(self, plan: Plan, order: Order, terms: Terms) -> None:
        """Before anything is published."""
        if self._as_json:
            refused = {why: each.count for why, each in plan.refused.items()}
            ids = [str(each.id) for each in plan.planned]
            _print_json({"plan": {"topic": terms.topic, "ids": ids, "refused": refused}})
            return
        if plan.planned:
            self._line(_planned(plan, order, terms))
        late = sum(each.loses_deadline for each in plan.planned)
        if late:
            self._line(
                f"{late} of them without their deadline, which has passed: with it they would be "
                "refused unrun (--keep-deadline leaves it on)."
            )
        if plan.more:
            self._line("More match than --limit takes.")
        for why, each in plan.refused.items():
            more = ", …" if each.count > len(each.examples) else ""
            self._line(f"Not redriven: {each.count} ({_ids(each.examples)}{more}): {why}.")

    def taken(self, planned: Planned, published: Published) -> None:
        """The broker has it."""
        if self._as_json:
            done = {"id": str(planned.id), "as": str(published), "attempt": planned.attempt}
            _print_json({"redriven": done})
        else:
            self._line(f"{planned.id} is now {published}, attempt {planned.attempt}")

    def end(self, outcome: Outcome, again: str) -> None:
        """How many were taken, which were not, and how to continue."""
        left = [each.id for each in outcome.left]
        if self._as_json:
            _print_json(
                {
                    "outcome": {
                        "ending": outcome.ending,
                        "taken": outcome.taken,
                        "gone": [str(each) for each in outcome.gone],
                        "left": [str(each) for each in left],
                        "error": outcome.error,
                        "continue": again if left else "",
                    }
                }
            )
            return
        self._line(f"{outcome.taken} redriven.")
        if outcome.gone:
            self._line(f"Gone from the topic since the plan: {_ids(outcome.gone)}.")
        if not left:
            return
        told = {
            "interrupted": f"Interrupted: {len(left)} were not redriven.",
            "not taken": f"Stopped at {left[0]}, which was not redriven: {outcome.error}.",
            "unknown": f"Stopped at {left[0]}: {outcome.error}. Whether the broker has it is not "
            "known; to continue may send it twice.",
        }
        for line in (told[outcome.ending], "To continue:", f"  {again}"):
            errors().print(line, markup=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        output().print(text, markup=False, soft_wrap=True)


def _planned(plan: Plan, order: Order, terms: Terms) -> str:
    seconds = (len(plan.planned) - 1) / order.rate
    return (
        f"{len(plan.planned)} to {terms.topic} ({listed(plan.reasons)}), at most {order.rate:g} a "
        f"second, so in {seconds:.0f} s or more: {_ids([each.id for each in plan.planned])}."
    )


def _ids(ids: list[LetterId]) -> str:
    shown = ", ".join(map(str, ids[:IDS_SHOWN_MAX]))
    return f"{shown}, …" if len(ids) > IDS_SHOWN_MAX else shown


def _print_json(document: dict[str, object]) -> None:
    # At once: whoever reads it may act on each line.
    typer.echo(json.dumps(document))
    sys.stdout.flush()


def _given(kafka: str | None, values: list[str] | None) -> tuple[str, ...]:
    """The options that say where the broker is, to be repeated. They hold no secrets: the settings
    refuse those on a command line."""
    words = [] if kafka is None else ["--kafka", kafka]
    return (*words, *(word for value in values or () for word in ("--set", value)))
