"""The four promises, checked on every step.

1. Every request gets one kind of answer: the one that follows from its content, or a refusal by
   circumstance that is true when it is stored (its deadline has passed, load is shed, the model was
   stopped or failed then, the broker refused the first reply). At least once, a request that is
   read again after a crash or a rebalance is answered again, possibly by another circumstance; but
   for each time that it was read there is one answer, not two. Exactly once, there is one in all.
2. No position is stored before all that answers the records below it is acknowledged.
3. A reply reaches the address of its own correlation ID only, with that request's own outputs.
4. Nothing that a worker holds exceeds its limit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from simulation.asked import DEAD_LETTERS, REPLIES, Asked
from simulation.plan import ROWS_MAX, Plan

from ondemand.contract.codec import decode_response
from ondemand.contract.dead_letter import UNANSWERABLE, read_dead_letter
from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.contract.reply import parse_reply
from ondemand.errors import Status
from ondemand.transport.base import Positions

WITH_DEAD_LETTER = {Status.MODEL_ERROR, Status.MODEL_TIMEOUT, Status.INTERNAL}


class BrokenPromiseError(AssertionError):
    """Something that must never happen has happened."""


@dataclass(slots=True)
class Story:
    """What has become of one request."""

    asked: Asked
    source: str  # topic/partition/offset
    read: int = 0  # times that it was handed to a worker
    published: set[bytes] = field(default_factory=set)  # different answers that workers made
    refused: int = 0  # of these, how often the broker said never
    statuses: list[str] = field(default_factory=list)  # of stored replies
    letters: list[str] = field(default_factory=list)  # reasons of stored dead letters
    acknowledged: set[str] = field(default_factory=set)  # statuses and reasons

    @property
    def is_settled(self) -> bool:
        """Whether all that answers it is acknowledged."""
        replies = {each for each in self.acknowledged if not each.startswith("letter ")}
        letters = self.acknowledged - replies
        if f"letter {UNANSWERABLE}" in letters or (letters and self.refused):
            return True
        return any(
            status not in WITH_DEAD_LETTER or f"letter {status}" in letters for status in replies
        )


class Promises:
    """Is told everything that happens; ``check`` raises what was found."""

    def __init__(self, plan: Plan, now_ms: Callable[[], int]) -> None:
        self._plan = plan
        self._now_ms = now_ms
        self._by_name: dict[str, Story] = {}
        self._by_source: dict[str, Story] = {}
        self._verified: dict[Partition, int] = {}
        self._order: dict[int, int] = {}
        self._broken: str | None = None

    @property
    def unanswered(self) -> list[str]:
        """Requests that no reply and no dead letter answers yet."""
        return [
            name
            for name, story in self._by_name.items()
            if not story.statuses and not story.letters
        ]

    @property
    def repeated(self) -> int:
        """Requests that were answered more than once."""
        return sum(len(story.statuses) > 1 for story in self._by_name.values())

    @property
    def statuses(self) -> set[str]:
        """Every status that a reply had."""
        return {status for story in self._by_name.values() for status in story.statuses}

    def check(self) -> None:
        """Raise ``BrokenPromiseError`` where a promise was broken since the last call."""
        if self._broken is not None:
            raise BrokenPromiseError(self._broken)

    def asked(self, asked: Asked, record: Record) -> None:
        """A request was accepted by the broker."""
        self._by_name[asked.name] = self._by_source[record.source] = Story(asked, record.source)

    def read(self, records: Sequence[Record]) -> None:
        """Records were handed to a worker."""
        for record in records:
            self._by_source[record.source].read += 1

    def published(self, records: Iterable[OutgoingRecord]) -> None:
        """A worker handed these to its producer."""
        for record in records:
            story = self._story_of(record)
            if record.topic != REPLIES or story is None:
                continue
            story.published.add(repr((record.value, record.headers)).encode())
            if len(story.published) > story.read + story.refused:
                self._break(
                    f"1: {story.asked.name} was read {story.read} times and got "
                    f"{len(story.published)} different answers"
                )

    def refused(self, record: OutgoingRecord) -> None:
        """A worker was told that the broker will never take *record*."""
        if (story := self._story_of(record)) is not None and record.topic == REPLIES:
            story.refused += 1

    def acknowledged(self, records: Iterable[OutgoingRecord]) -> None:
        """A worker was told that these are stored."""
        for record in records:
            if (story := self._story_of(record)) is not None:
                status = dict(record.headers).get("status") or b""
                story.acknowledged.add(_letter(record) or status.decode())

    def stored(self, record: Record) -> None:
        """The broker stored *record*."""
        if record.topic == DEAD_LETTERS:
            self._stored_letter(record)
        elif record.topic == REPLIES:
            self._stored_reply(record)

    def committed(self, positions: Positions) -> None:
        """The broker is about to store *positions*."""
        for partition, position in positions.items():
            start = self._verified.get(partition, 0)
            if position < start:
                self._break(f"2: the position of {partition} went back from {start} to {position}")
            for offset in range(start, position):
                story = self._by_source.get(f"{partition}/{offset}")
                if story is None or not story.is_settled:
                    self._break(f"2: {partition}/{offset} was committed before it was settled")
            self._verified[partition] = max(position, start)

    def ended(self, committed: Positions, ends: Positions) -> None:
        """All workers have left, in good order. *ends*: one past the last request."""
        if self.unanswered:
            self._break(f"1: never answered: {', '.join(self.unanswered)}")
        behind = {str(each): end for each, end in ends.items() if committed.get(each, 0) != end}
        if behind and any(behind.values()):
            self._break(f"2: answered and not committed at the end: {behind}, not {committed}")

    def exceeded(self, what: str) -> None:
        """A worker held more than it may."""
        self._break(f"4: {what}")

    def _stored_reply(self, record: Record) -> None:
        story = self._story_of(record)
        if story is None:
            self._break(f"3: a reply to nobody: {record.headers}")
            return
        asked, reply = story.asked, parse_reply(record)
        if record.partition != asked.reply_partition or record.key != asked.record.key:
            self._break(f"3: the reply to {asked.name} went to {record.source}, key {record.key!r}")
        if reply.status == Status.OK:
            output = decode_response(reply.body.value, reply.body.head_length).outputs[0].data
            if [tuple(row) for row in output.tolist()] != list(asked.output):
                self._break(f"3: {asked.name} got the outputs of another request: {output}")
        if reply.status != asked.answer and not self._is_true(reply.status, story):
            self._break(f"1: {asked.name} should be {asked.answer}, and was told {reply.status}")
        story.statuses.append(reply.status)
        if self._plan.guarantee == "exactly-once":
            self._check_once(story)

    def _check_once(self, story: Story) -> None:
        if len(story.statuses) > 1:
            self._break(f"1: {story.asked.name} was answered twice: {story.statuses}")
        _, partition, offset = story.source.rsplit("/", 2)
        if int(offset) < self._order.get(int(partition), 0):
            self._break(f"1: the answer to {story.source} came after later ones")
        self._order[int(partition)] = int(offset)

    def _stored_letter(self, record: Record) -> None:
        letter = read_dead_letter(record)
        story = self._by_source.get(letter.source)
        if story is None or record.value != story.asked.record.value:
            self._break(f"3: a dead letter of nobody, or changed: {letter}")
            return
        story.letters.append(letter.reason)
        expected = story.asked.answer == letter.reason or self._is_true(letter.reason, story)
        if not expected and not (letter.reason == UNANSWERABLE and story.refused):
            self._break(f"1: {story.asked.name} became a dead letter for {letter.reason}")

    def _is_true(self, status: str, story: Story) -> bool:
        """Whether *status* may replace what the content leads to, as things are now."""
        deadline_ms, plan = story.asked.deadline_ms, self._plan
        may = {
            Status.DEADLINE_EXCEEDED: deadline_ms is not None and deadline_ms <= self._now_ms(),
            Status.OVERLOADED: plan.settings.shedding != "none",
            Status.MODEL_TIMEOUT: plan.overrun > 0,
            Status.MODEL_ERROR: plan.wrong > 0,
            Status.INTERNAL: story.refused > 0,
        }
        if story.asked.answer not in {Status.OK, Status.MODEL_ERROR}:
            return status == Status.DEADLINE_EXCEEDED and may[Status.DEADLINE_EXCEEDED]
        return may.get(Status(status), False) if status in set(Status) else False

    def _story_of(self, record: Record | OutgoingRecord) -> Story | None:
        if record.topic == DEAD_LETTERS:
            source = dict(record.headers)["dead-letter-source"] or b""
            return self._by_source.get(source.decode())
        name = dict(record.headers).get("correlation-id") or b""
        return self._by_name.get(name.decode())

    def _break(self, what: str) -> None:
        self._broken = self._broken or what


def rows_held_max(plan: Plan) -> int:
    """What may wait in a worker: a queue that is not full takes as many more records as it has rows
    left, and each may have all the rows that one request may have."""
    return plan.settings.queue_rows_max * ROWS_MAX


def _letter(record: OutgoingRecord) -> str | None:
    """``letter REASON`` for a dead letter."""
    if record.topic != DEAD_LETTERS:
        return None
    return f"letter {(dict(record.headers)['dead-letter-reason'] or b'').decode()}"
