"""Answers on their way to the broker, and the offsets behind them: what the two guarantees share.

``at_least_once`` and ``exactly_once`` are the two ways; the loop knows only what stands here.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.processor.encode import Answer, Desk, replace
from ondemand.processor.ledger import Track
from ondemand.processor.progress import Marks
from ondemand.processor.report import Reporter
from ondemand.transport.base import PublishFailure

Tracks = Mapping[int, Track[Answer]]


@dataclass(slots=True, eq=False)
class Consignment:
    """Answers that go out together, and the tracks of the assignment that their records came by."""

    answers: Sequence[Answer]
    tracks: Tracks


class Delivery(Protocol):
    """Publishes answers, and moves offsets so that none is lost.

    ``open`` and ``send`` are for any thread, all else for the intake thread.
    """

    def take(self, records: Sequence[Record]) -> Sequence[Record]:
        """Take note of what was read; returns those whose partitions are still assigned here."""

    def open(self) -> Tracks:
        """A consignment begins: the tracks that its records belong to."""

    def send(self, consignment: Consignment) -> None:
        """Publish everything that answers these records."""

    def turn(self) -> None:
        """What is due now: acknowledgements, repeats, commits. Raises what cannot heal."""

    def assign(self, partitions: Collection[Partition]) -> None:
        """These partitions are read here from now on."""

    def settle(self, deadline: float) -> int:
        """Wait until what was opened is settled and its offsets stored, at most until *deadline* on
        the loop's clock. How many consignments are still open."""

    def release(self, partitions: Collection[Partition]) -> None:
        """These partitions are gone: nothing of them is committed any more."""

    def close(self) -> None:
        """Stop; called after the transport has closed."""

    @property
    def partitions(self) -> Collection[Partition]:
        """What is assigned now."""

    @property
    def unsettled(self) -> int:
        """Records that were taken and whose answers are not settled."""

    @property
    def held(self) -> int:
        """Records that no position has passed yet."""

    def marks(self) -> Mapping[int, Marks]:
        """By partition, what changes with any progress."""

    def waiting(self) -> Mapping[int, int]:
        """By partition, records taken that no position has passed yet."""


def mend(
    answers: Sequence[Answer],
    failure: PublishFailure,
    desk: Desk,
    *,
    now_ms: Callable[[], int],
    reporter: Reporter,
) -> tuple[Sequence[Answer], Sequence[OutgoingRecord]]:
    """What to publish instead of a record that the broker did not take, and the answers by then.

    A dead letter that cannot be written holds back the commit, however long that takes.
    """
    record, error, permanent = failure
    if record.topic == desk.dead_letter_topic or not permanent:
        reporter.publish_repeated(record.topic, error)
        return answers, (record,)
    reporter.publish_refused(record.topic, error)
    mended = list(answers)
    index = next(i for i, answer in enumerate(mended) if record in answer.outgoing)
    replacement = replace(mended[index], str(error), desk, now_ms=now_ms())
    if replacement is None:
        left = tuple(each for each in mended[index].outgoing if each != record)
        mended[index] = dataclasses.replace(mended[index], outgoing=left)
        return mended, ()
    mended[index] = replacement
    return mended, replacement.outgoing
