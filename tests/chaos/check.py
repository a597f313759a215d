"""The verdict, from the topics themselves. Pure: evidence in, findings out.

A finding is a broken promise of docs/reliability.md. What each guarantee permits, and no more, is
no finding: at least once, an answer may be repeated, but not contradicted.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from chaos.evidence import Answered, Asked, Buried, Evidence
from chaos.load import LETTER, STATUS

CLOCK_SLACK_MS = 20
"""Processes read one clock, but not at one moment, and it may be set meanwhile."""

TOLERANCE = 1e-5
OK, LATE = "ok", "deadline-exceeded"
EXACTLY_ONCE = "exactly-once"

Place = tuple[int, int]  # partition and offset of a request


class Rule(StrEnum):
    """What may be found."""

    MISSING = "missing"  # a request without its reply, or without its dead letter
    DUPLICATE = "duplicate"  # answered more than once, where once was promised
    CONTRADICTION = "contradiction"  # two replies that say different things
    WRONG = "wrong"  # another status or another value than the request's own
    MISPLACED = "misplaced"  # not where the request asked for it, or with another key
    STRANGER = "stranger"  # a reply or a dead letter that belongs to no request
    DISORDER = "disorder"  # of one key, a later request's answer stands before an earlier one's
    EARLY_COMMIT = "early-commit"  # an offset was committed before its request was answered
    UNFINISHED = "unfinished"  # at the end, the group had not committed everything
    LOST_REQUEST = "lost-request"  # an acknowledged request is not in its topic
    CALLER = "caller"  # a client handed its caller something else than the right answer


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    rule: Rule
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """*repeats*: answers beyond the first; *overtaken*: neighbours of one key out of order. Where
    they are no findings, they are still told."""

    findings: tuple[Finding, ...]
    repeats: int
    overtaken: int

    def counts(self) -> Mapping[str, int]:
        """How many of each rule."""
        return Counter(str(finding.rule) for finding in self.findings)


def judge(evidence: Evidence, guarantee: str) -> Verdict:
    """All that is wrong with *evidence*, under *guarantee*."""
    case = _Case(evidence)
    repeats = list(case.repeats())
    overtaken = list(case.overtaken())
    findings = [
        *case.missing(),
        *case.wrong(),
        *case.contradictions(),
        *case.misplaced(),
        *case.strangers(),
        *case.early_commits(),
        *case.unfinished(),
        *case.callers(),
    ]
    if guarantee == EXACTLY_ONCE:
        findings += repeats
        findings += overtaken
    return Verdict(tuple(findings), len(repeats), len(overtaken))


class _Case:
    """The evidence, with requests and answers joined."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._asked: dict[bytes, list[Asked]] = defaultdict(list)
        for asked in evidence.asked:
            if asked.correlation_id is not None:
                self._asked[asked.correlation_id].append(asked)
        self._replies: dict[bytes | None, list[Answered]] = defaultdict(list)
        for answered in evidence.answered:
            self._replies[answered.correlation_id].append(answered)
        self._letters: dict[Place, list[Buried]] = defaultdict(list)
        for buried in evidence.buried:
            self._letters[(buried.partition, buried.offset)].append(buried)

    def missing(self) -> Iterator[Finding]:
        for asked in self._evidence.asked:
            for what in self._lacks(asked):
                yield Finding(Rule.MISSING, f"{_named(asked)}: no {what}")

    def _lacks(self, asked: Asked) -> Iterator[str]:
        if asked.kind in STATUS and not self._replies_to(asked):
            yield "reply"
        if asked.kind in LETTER and not self._is_late(asked) and not self._letters_of(asked):
            yield "dead letter"

    def _is_late(self, asked: Asked) -> bool:
        """Whether it was refused for its deadline alone: then the model never saw it."""
        replies = self._replies_to(asked)
        return bool(replies) and all(reply.status == LATE for reply in replies)

    def _replies_to(self, asked: Asked) -> Sequence[Answered]:
        return self._replies.get(asked.correlation_id, ()) if asked.correlation_id else ()

    def _letters_of(self, asked: Asked) -> Sequence[Buried]:
        return self._letters.get((asked.partition, asked.offset), ())

    def wrong(self) -> Iterator[Finding]:
        for asked in self._evidence.asked:
            for reply in self._replies_to(asked):
                if why := _why_wrong(asked, reply):
                    yield Finding(Rule.WRONG, f"{_named(asked)}: {why}")
            for letter in self._letters_of(asked):
                if letter.reason != LETTER.get(asked.kind):
                    yield Finding(
                        Rule.WRONG, f"{_named(asked)}: dead letter because of {letter.reason}"
                    )

    def contradictions(self) -> Iterator[Finding]:
        """Two replies of different status. Time passes between an answer and its repetition: that
        the deadline is over by then is no contradiction."""
        for replies in self._replies.values():
            if replies[0].correlation_id is None:
                continue
            said = sorted({reply.status for reply in replies} - {LATE})
            if len(said) > 1:
                name = _text(replies[0].correlation_id)
                yield Finding(Rule.CONTRADICTION, f"{name}: answered {' and '.join(said)}")

    def misplaced(self) -> Iterator[Finding]:
        for asked in self._evidence.asked:
            for reply in self._replies_to(asked):
                if asked.reply != (reply.topic, reply.partition):
                    place = f"{reply.topic}/{reply.partition}"
                    yield Finding(
                        Rule.MISPLACED, f"{_named(asked)}: answered to {place}, not {asked.reply}"
                    )
                elif asked.key != reply.key:
                    yield Finding(Rule.MISPLACED, f"{_named(asked)}: answered with another key")

    def strangers(self) -> Iterator[Finding]:
        for correlation_id, replies in self._replies.items():
            if correlation_id is None or correlation_id not in self._asked:
                for reply in replies:
                    place = f"{reply.topic}/{reply.partition}/{reply.offset}"
                    yield Finding(Rule.STRANGER, f"{place}: correlation ID {_text(correlation_id)}")
        places = {(asked.partition, asked.offset) for asked in self._evidence.asked}
        for place in self._letters.keys() - places:
            yield Finding(Rule.STRANGER, f"a dead letter of {place}, where no request is")

    def repeats(self) -> Iterator[Finding]:
        for correlation_id, asked in self._asked.items():
            for _ in self._replies.get(correlation_id, ())[len(asked) :]:
                yield Finding(Rule.DUPLICATE, f"{_named(asked[0])}: answered again")
        for place, letters in self._letters.items():
            for _ in letters[1:]:
                yield Finding(Rule.DUPLICATE, f"a second dead letter of {place}")

    def overtaken(self) -> Iterator[Finding]:
        """Of one key, from one partition to one other: first `ok` answers out of order."""
        lanes: dict[tuple[object, ...], list[tuple[int, Asked]]] = defaultdict(list)
        for asked in self._evidence.asked:
            first = next((each for each in self._replies_to(asked) if each.status == OK), None)
            if first is not None and asked.key is not None:
                lane = (first.topic, first.partition, asked.partition, asked.key)
                lanes[lane].append((first.offset, asked))
        for lane in lanes.values():
            lane.sort(key=lambda entry: entry[1].offset)
            for (earlier, _), (later, asked) in pairwise(lane):
                if later < earlier:
                    yield Finding(
                        Rule.DISORDER, f"{_named(asked)}: answered before one that was asked before"
                    )

    def early_commits(self) -> Iterator[Finding]:
        """For each sighting of a position: all before it were answered by then."""
        finished: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for asked in self._evidence.asked:
            finished[asked.partition].append((asked.offset, self._finished_ms(asked)))
        limits = {partition: _latest_before(ended) for partition, ended in finished.items()}
        for sighting in self._evidence.sightings:
            latest = limits.get(sighting.partition, _nothing)(sighting.position)
            if latest > sighting.time_ms + CLOCK_SLACK_MS:
                when = (
                    "never"
                    if latest == float("inf")
                    else f"{latest - sighting.time_ms:.0f} ms later"
                )
                yield Finding(
                    Rule.EARLY_COMMIT,
                    f"partition {sighting.partition}: position {sighting.position} was committed, "
                    f"and a request before it was answered {when}",
                )

    def _finished_ms(self, asked: Asked) -> float:
        """When everything that answers it was there; infinity for never."""
        latest = 0.0
        if asked.kind in STATUS:
            latest = min((each.time_ms for each in self._replies_to(asked)), default=float("inf"))
        if asked.kind in LETTER and not self._is_late(asked):
            letters = (each.time_ms for each in self._letters_of(asked))
            latest = max(latest, min(letters, default=float("inf")))
        return latest

    def unfinished(self) -> Iterator[Finding]:
        for partition, end in self._evidence.ends.items():
            position = self._evidence.positions.get(partition, 0)
            if position != end:
                text = f"partition {partition}: position {position} at last, the end is {end}"
                yield Finding(Rule.UNFINISHED, text)
        raw = sum(asked.raw for asked in self._evidence.asked)
        if raw < self._evidence.acknowledged:
            text = f"{self._evidence.acknowledged} were acknowledged, {raw} are there"
            yield Finding(Rule.LOST_REQUEST, text)

    def callers(self) -> Iterator[Finding]:
        for outcome, count in self._evidence.callers.items():
            if outcome.startswith("wrong"):
                yield Finding(Rule.CALLER, f"{count} times: {outcome}")


def _why_wrong(asked: Asked, reply: Answered) -> str | None:
    if reply.status == LATE and asked.deadline_ms is not None:
        early_ms = asked.deadline_ms - CLOCK_SLACK_MS - reply.time_ms
        return f"refused {early_ms} ms before its deadline" if early_ms > 0 else None
    expected = STATUS.get(asked.kind, "no reply")
    if reply.status != expected:
        return f"answered {reply.status}, not {expected}"
    if reply.status != OK:
        return None
    if reply.number != asked.number:
        return f"answered with the number {reply.number}, not {asked.number}"
    near = len(reply.scores) == len(asked.scores) and all(
        abs(found - wanted) <= TOLERANCE
        for found, wanted in zip(reply.scores, asked.scores, strict=True)
    )
    return None if near else f"answered {reply.scores}, not {asked.scores}"


def _latest_before(ended: list[tuple[int, float]]) -> Callable[[int], float]:
    """By position: the latest time at which anything before that position was finished."""
    ended.sort()
    offsets = [offset for offset, _ in ended]
    latest: list[float] = []
    for _, time_ms in ended:
        latest.append(max(time_ms, latest[-1] if latest else 0.0))

    def before(position: int) -> float:
        count = bisect_left(offsets, position)
        return latest[count - 1] if count else 0.0

    return before


def _nothing(_: int) -> float:
    return 0.0


def _named(asked: Asked) -> str:
    return f"{asked.kind} request {asked.partition}/{asked.offset}"


def _text(correlation_id: bytes | None) -> str:
    return "none" if correlation_id is None else correlation_id.decode("latin-1")
