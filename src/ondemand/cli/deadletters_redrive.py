"""Dead letters back to where they came from: a plan that decides, and a run that keeps to it."""

import hashlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Final, Literal, Self

from ondemand.cli.deadletters_filter import LetterId, id_of
from ondemand.cli.deadletters_view import count_reason
from ondemand.contract.dead_letter import (
    UNANSWERABLE,
    DeadLetter,
    deadline_passed,
    redriven_record,
)
from ondemand.contract.headers import DEADLINE, index_headers
from ondemand.contract.record import OutgoingRecord
from ondemand.errors import ConfigurationError, TransportError
from ondemand.limits import HEADERS_MAX
from ondemand.transport.base import NotTakenError
from ondemand.transport.kafka_admin_records import Published

PLAN_MAX: Final = 100_000
EXAMPLES_MAX: Final = 5
TICK_SECONDS: Final = 0.1
"""How late a Ctrl-C is noticed while the rate makes us wait."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms dead letters are taken back. *now_ms*: since the epoch."""

    topic: str
    attempts_max: int
    unanswerable: bool
    keep_deadline: bool
    now_ms: int


@dataclass(frozen=True, slots=True)
class Planned:
    """A dead letter that is going to be redriven."""

    id: LetterId
    attempt: int  # the number that it will carry
    loses_deadline: bool


@dataclass(slots=True)
class Refusal:
    """Why some are not redriven: how many, and the first of them."""

    count: int = 0
    examples: list[LetterId] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What is going to happen. *reasons*: of those planned. *more*: others match, too, beyond the
    limit."""

    planned: list[Planned] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    refused: dict[str, Refusal] = field(default_factory=dict)
    read: int = 0
    more: bool = False

    def refuse(self, letter: LetterId, why: str) -> None:
        """Take note of one that is not redriven."""
        refusal = self.refused.setdefault(why, Refusal())
        refusal.count += 1
        if len(refusal.examples) < EXAMPLES_MAX:
            refusal.examples.append(letter)


def make_plan(letters: Iterable[DeadLetter], terms: Terms, *, limit: int = PLAN_MAX) -> Plan:
    """The first *limit* of *letters* that can be redriven, and why others cannot.

    A request that lies there more than once (a worker that was killed repeats its last dead
    letters) is taken once.
    """
    plan = Plan()
    seen: set[bytes] = set()
    for letter in letters:
        plan.read += 1
        why = refusal(letter, terms)
        identity = _identity(letter, terms)
        if why is None and identity in seen:
            why = "the same request is planned already: it lies here more than once"
        if why is not None:
            plan.refuse(id_of(letter), why)
        elif len(plan.planned) == limit:
            plan.more = True
            break
        else:
            seen.add(identity)
            count_reason(plan.reasons, letter)
            plan.planned.append(
                Planned(
                    id_of(letter),
                    letter.attempts + 1,
                    _loses_deadline(letter, terms),
                )
            )
    return plan


def refusal(letter: DeadLetter, terms: Terms) -> str | None:
    """Why *letter* is not redriven on these terms; None where it is."""
    if not letter.reason or not letter.source_topic:
        return "it does not say why it is here or where it came from: no worker wrote it"
    if letter.source_topic != terms.topic:
        return (
            f"it did not come from {terms.topic}: name the topic that it came from with "
            "--set request_topic=TOPIC"
        )
    if letter.reason == UNANSWERABLE and not terms.unanswerable:
        return (
            "it is unanswerable and would come straight back: once its reply topic is there or "
            "allowed, say --unanswerable"
        )
    if letter.attempts >= terms.attempts_max:
        return (
            f"it has been redriven {terms.attempts_max} times or more: find out what is wrong with "
            "it, or raise --attempts-max"
        )
    if len(index_headers(request_of(letter, terms).headers)) > HEADERS_MAX:
        return f"with redrive-attempts it would have more than {HEADERS_MAX} headers"
    return None


def request_of(letter: DeadLetter, terms: Terms) -> OutgoingRecord:
    """The record to publish."""
    without = frozenset({DEADLINE}) if _loses_deadline(letter, terms) else frozenset()
    return redriven_record(letter, terms.topic, without=without)


def _loses_deadline(letter: DeadLetter, terms: Terms) -> bool:
    """With a deadline that has passed, the request would be refused unrun."""
    return not terms.keep_deadline and deadline_passed(letter.record.headers, terms.now_ms)


def _identity(letter: DeadLetter, terms: Terms) -> bytes:
    """The same for dead letters of one and the same request. Not its source alone: in a topic that
    was made anew, another request may have had that offset."""
    _, _, key, value, headers = redriven_record(letter, terms.topic)
    told = repr((letter.source, key, value, list(headers)))
    return hashlib.sha256(told.encode("utf-8", "backslashreplace")).digest()


class Pace:
    """Keeps to a rate: never two in less than the time between them, and no hurry after a stall."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next_at = float("-inf")

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Return when the next one may go, or when *stopped*."""
        while not stopped() and (left := self._next_at - self._clock()) > 0:
            self._sleep(min(left, TICK_SECONDS))
        self._next_at = max(self._clock(), self._next_at) + self._interval


class Interruption:
    """While it is entered, the first SIGINT or SIGTERM only asks to stop, so that it is known of
    each record whether it was taken; the second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what it gave us before

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


Ending = Literal["done", "interrupted", "not taken", "unknown"]


@dataclass(slots=True)
class Outcome:
    """What has happened. *left*: those that were not published, in order; with the ending
    ``unknown``, nobody can say whether the broker has the first of them."""

    ending: Ending = "done"
    taken: int = 0
    gone: list[LetterId] = field(default_factory=list)
    last: LetterId | None = None  # the last one that was finished
    left: Sequence[Planned] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Effects:
    """What a run does to the world. *read* gives None for a dead letter that is gone by now."""

    read: Callable[[LetterId], DeadLetter | None]
    publish: Callable[[OutgoingRecord], Published]
    told: Callable[[Planned, Published], None]
    stopped: Callable[[], bool]
    now_ms: Callable[[], int]


def redrive(planned: Sequence[Planned], terms: Terms, pace: Pace, effects: Effects) -> Outcome:
    """Publish one after the other, each acknowledged before the next, at the pace given.

    Stops at the first that the broker does not take, and where it is asked to stop: what is told
    is always exact.
    """
    outcome = Outcome()
    for index, each in enumerate(planned):
        pace.wait(effects.stopped)
        if effects.stopped():
            outcome.ending = "interrupted"
        else:
            _take(each, terms, effects, outcome)
        if outcome.ending != "done":
            outcome.left = planned[index:]
            break
        outcome.last = each.id
    return outcome


def _take(each: Planned, terms: Terms, effects: Effects, outcome: Outcome) -> None:
    """Read *each* again, so that a plan holds no payloads, and publish it."""
    publishing = False
    try:
        letter = effects.read(each.id)
        if letter is None:
            outcome.gone.append(each.id)
            return
        record = request_of(letter, replace(terms, now_ms=effects.now_ms()))
        publishing = True
        published = effects.publish(record)
    except NotTakenError as error:
        outcome.ending, outcome.error = "not taken", str(error)
    except (TransportError, ConfigurationError) as error:
        outcome.ending, outcome.error = "unknown" if publishing else "not taken", str(error)
    except KeyboardInterrupt:
        outcome.ending = "unknown" if publishing else "interrupted"
        outcome.error = "interrupted before the broker had answered" if publishing else ""
    else:
        outcome.taken += 1
        effects.told(each, published)
