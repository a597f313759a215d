"""Workers that are broken on purpose, each in one place: the promises must notice.

What they are told to be is what a mistake in that place would make of them. ``BREAKS`` lists them.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

from simulation.network import ExactlyOnceNetwork

from ondemand.processor import at_least_once, encode, runner
from ondemand.processor.at_least_once import AtLeastOnce
from ondemand.processor.ledger import Track
from ondemand.processor.loop import Processor
from ondemand.processor.micro_batch import MicroBatcher
from ondemand.processor.outcome import Failed


@contextmanager
def commit_before_settle() -> Iterator[None]:
    """Records are finished when their answers are handed over, not when they are acknowledged."""
    send = AtLeastOnce.send

    def hasty(self, consignment):
        finish_all(consignment)
        return send(self, consignment)

    with patch.object(AtLeastOnce, "send", hasty), patch.object(Track, "finish", lenient_finish):
        yield


def finish_all(consignment) -> None:
    """Every record of *consignment* is finished."""
    for answer in consignment.answers:
        consignment.tracks[answer.record.partition].finish(answer.record.offset)


FINISH = Track.finish


def lenient_finish(self, offset, held=None):
    """``Track.finish`` that may be told twice."""
    try:
        return FINISH(self, offset, held)
    except ValueError:
        return []


@contextmanager
def no_gap_check() -> Iterator[None]:
    """A position is one past the last record that is finished, whatever is unfinished before."""

    def finish(self, offset, held=None):
        FINISH(self, offset, held)
        self.position = max(self.position or 0, offset + 1)
        return [] if held is None else [held]

    with patch.object(Track, "finish", finish):
        yield


@contextmanager
def wrong_address() -> Iterator[None]:
    """A reply goes to the next partition of the reply topic."""
    reply_record = encode.reply_record

    def astray(address, **rest):
        partition = ((address.partition or 0) + 1) % 3
        return reply_record(address._replace(partition=partition), **rest)

    with patch.object(encode, "reply_record", astray):
        yield


@contextmanager
def swapped_neighbours() -> Iterator[None]:
    """The outcomes of a batch are split back to the wrong requests."""
    infer = runner.infer

    def swapped(model, batch):
        outcomes = infer(model, batch)
        return outcomes[1:] + outcomes[:1]

    with patch.object(runner, "infer", swapped):
        yield


@contextmanager
def poison_for_all() -> Iterator[None]:
    """A request that breaks the model fails its whole batch."""
    infer = runner.infer

    def spoiled(model, batch):
        outcomes = infer(model, batch)
        failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
        return failed[:1] * len(outcomes) if failed else outcomes

    with patch.object(runner, "infer", spoiled):
        yield


@contextmanager
def forgotten_repeats() -> Iterator[None]:
    """What the broker did not take is not published again."""
    with patch.object(AtLeastOnce, "_repeat_due", lambda self: None):
        yield


@contextmanager
def forgotten_dead_letters() -> Iterator[None]:
    """A dead letter that cannot be written is given up."""
    mend = at_least_once.mend

    def careless(answers, failure, desk, **rest):
        if failure.record.topic == desk.dead_letter_topic:
            return answers, ()
        return mend(answers, failure, desk, **rest)

    with patch.object(at_least_once, "mend", careless):
        yield


@contextmanager
def deadline_twice() -> Iterator[None]:
    """A request that is refused for its deadline is run all the same."""
    take_expired = MicroBatcher.take_expired

    def twice(self, *, now_ms):
        expired = take_expired(self, now_ms=now_ms)
        for request in expired:
            self.offer(dataclasses.replace(request, deadline_ms=None))
        return expired

    with (
        patch.object(MicroBatcher, "take_expired", twice),
        patch.object(Track, "finish", lenient_finish),
    ):
        yield


@contextmanager
def endless_queue() -> Iterator[None]:
    """A queue that is full takes more."""
    with (
        patch.object(Processor, "_balance", lambda self: None),
        patch.object(Processor, "_records_wanted", lambda self: 100),
    ):
        yield


@contextmanager
def early_refusals() -> Iterator[None]:
    """Deadlines are taken to be a second earlier than they are."""
    take_expired = MicroBatcher.take_expired

    def early(self, *, now_ms):
        return take_expired(self, now_ms=now_ms + 1000)

    with patch.object(MicroBatcher, "take_expired", early):
        yield


@contextmanager
def no_membership() -> Iterator[None]:
    """A transaction does not say by which membership of the group its requests came."""
    with patch.object(ExactlyOnceNetwork, "_is_member", lambda *_: True):
        yield


@contextmanager
def late_membership() -> Iterator[None]:
    """A transaction asks for its membership when it begins: the requests came by an earlier one."""
    transact = ExactlyOnceNetwork.transact

    def late(self, records, positions, _):
        self._scheduler.sleep(self._weather.travel_seconds())
        transact(self, records, positions, self.membership)

    with patch.object(ExactlyOnceNetwork, "transact", late):
        yield


AT_LEAST_ONCE, EXACTLY_ONCE = "at-least-once", "exactly-once"

Break = tuple[Callable[[], AbstractContextManager[None]], str]
BREAKS: Sequence[Break] = (
    (commit_before_settle, AT_LEAST_ONCE),
    (no_gap_check, AT_LEAST_ONCE),
    (no_gap_check, EXACTLY_ONCE),
    (wrong_address, AT_LEAST_ONCE),
    (swapped_neighbours, AT_LEAST_ONCE),
    (poison_for_all, AT_LEAST_ONCE),
    (forgotten_repeats, AT_LEAST_ONCE),
    (forgotten_dead_letters, AT_LEAST_ONCE),
    (deadline_twice, AT_LEAST_ONCE),
    (endless_queue, AT_LEAST_ONCE),
    (early_refusals, AT_LEAST_ONCE),
    (no_membership, EXACTLY_ONCE),
    (late_membership, EXACTLY_ONCE),
)
"""All of them, with the guarantee that each is a threat to."""
