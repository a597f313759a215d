"""Answers on their way to the broker: published, and published again until they are settled.

Replies first, offsets second: a record is finished in the ledger only when the broker has
acknowledged all that answers it, so a crash in between repeats an answer and never loses one.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ondemand.contract.record import OutgoingRecord
from ondemand.processor.encode import Answer, Desk, replace
from ondemand.processor.ledger import Track
from ondemand.processor.report import Reporter
from ondemand.transport.base import PublishFailure, WorkerTransport

REPEAT_AFTER_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Consignment:
    """Answers that settle together, and the tracks of the assignment that their records came by."""

    answers: Sequence[Answer]
    tracks: Mapping[int, Track]


class Delivery:
    """Publishes answers and finishes their records. ``send`` is for any thread; acknowledgements,
    and all else here, belong to the intake thread."""

    def __init__(
        self,
        transport: WorkerTransport,
        desk: Desk,
        *,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
        reporter: Reporter,
    ) -> None:
        self._transport = transport
        self._desk = desk
        self._clock = clock
        self._now_ms = now_ms
        self._reporter = reporter
        self._repeats: deque[tuple[float, Consignment, tuple[OutgoingRecord, ...]]] = deque()
        self.sent = 0  # consignments handed over, by any thread that holds the loop's lock
        self.settled = 0

    def send(self, consignment: Consignment) -> None:
        """Publish everything that answers these records."""
        outgoing = [record for answer in consignment.answers for record in answer.outgoing]
        self._publish(consignment, outgoing)

    def repeat_due(self) -> None:
        """Publish again what the broker did not take some time ago."""
        while self._repeats and self._repeats[0][0] <= self._clock():
            _, consignment, outgoing = self._repeats.popleft()
            self._publish(consignment, outgoing)

    def _publish(self, consignment: Consignment, outgoing: Sequence[OutgoingRecord]) -> None:
        self._transport.publish(outgoing, partial(self._on_settled, consignment))

    def _on_settled(self, consignment: Consignment, failures: Sequence[PublishFailure]) -> None:
        remaining = [record for failure in failures for record in self._mend(consignment, failure)]
        if remaining:
            due = self._clock() + REPEAT_AFTER_SECONDS
            self._repeats.append((due, consignment, tuple(remaining)))
            return
        for answer in consignment.answers:
            record = answer.record
            consignment.tracks[record.partition].finish(record.offset)
        self.settled += 1

    def _mend(self, consignment: Consignment, failure: PublishFailure) -> Sequence[OutgoingRecord]:
        """What to publish instead of a record that the broker did not take."""
        record, error, permanent = failure
        dead_letter = record.topic == self._desk.dead_letter_topic
        # A dead letter that cannot be written holds back the commit, however long that takes.
        if dead_letter or not permanent:
            self._reporter.publish_repeated(record.topic, error)
            return (record,)
        self._reporter.publish_refused(record.topic, error)
        answers = list(consignment.answers)
        index = next(i for i, answer in enumerate(answers) if record in answer.outgoing)
        replacement = replace(answers[index], str(error), self._desk, now_ms=self._now_ms())
        if replacement is None:
            return ()
        answers[index] = replacement
        consignment.answers = answers
        return replacement.outgoing
