"""Workers that break one promise each: a checker that passes them is broken.

A program of its own, ``python broken.py CONTROL worker run …``: the product's own worker, with one
mistake built in before it starts. Each mistake is one that has been made elsewhere.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from confluent_kafka import TopicPartition

from ondemand.contract.headers import CORRELATION_ID
from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.contract.reply import reply_record
from ondemand.processor import encode, ledger
from ondemand.processor.at_least_once import AtLeastOnce
from ondemand.processor.delivery import Consignment
from ondemand.processor.ledger import Track
from ondemand.transport.base import Membership
from ondemand.transport.kafka_worker_exactly_once import KafkaExactlyOnceTransport

OFTEN = ("--set", "commit_interval_seconds=0.05")
"""Commits that come soon show sooner that they come too soon."""

LINGERING = ("--set", "kafka_options=linger.ms=200")
"""Replies that wait in the send buffer, as they do while a leader moves."""

DECISION_SECONDS = 1.0
"""How long a transaction takes to begin: so long that nearly every pause falls into it."""


def commit_before_settle() -> Sequence[str]:
    """A record counts as finished when its reply is handed over, not when it is acknowledged."""

    def publish(
        self: AtLeastOnce, consignment: Consignment, outgoing: Sequence[OutgoingRecord]
    ) -> None:
        self._transport.publish(outgoing, lambda _: None)
        self._on_settled(consignment, ())

    AtLeastOnce._publish = publish  # type: ignore[method-assign] # this is the mistake
    return *OFTEN, *LINGERING


def no_gap_check() -> Sequence[str]:
    """The highest finished record is committed, whatever lies before it."""
    finish = Track.finish

    def finish_at_once(self: "Track[Any]", offset: int, held: Any = None) -> "list[Any]":
        passed = finish(self, offset, held)
        self.position = max(self.position or 0, offset + 1)
        return passed

    ledger.Track.finish = finish_at_once  # type: ignore[method-assign] # this is the mistake
    return OFTEN


def no_correlation_id() -> Sequence[str]:
    """Replies do not say to which request they belong."""

    def reply(*args: Any, **kwargs: Any) -> OutgoingRecord:
        made = reply_record(*args, **kwargs)
        return made._replace(headers=[each for each in made.headers if each[0] != CORRELATION_ID])

    encode.reply_record = reply  # type: ignore[attr-defined] # this is the mistake
    return ()


def no_group_metadata() -> Sequence[str]:
    """Positions are stored in the name of nobody, so that the broker lets everybody: also a worker
    that slept between the decision to write and the writing, and whose work is another's by now."""

    def transact(
        self: KafkaExactlyOnceTransport,
        records: Sequence[OutgoingRecord],
        positions: Mapping[Partition, int],
        _: Membership,
    ) -> None:
        time.sleep(DECISION_SECONDS)
        offsets = [TopicPartition(each.topic, each.index, at) for each, at in positions.items()]
        self._producer.transact(records, offsets, self._unjoined)

    KafkaExactlyOnceTransport.transact = transact  # type: ignore[method-assign] # the mistake
    return ()


CONTROLS: Mapping[str, Callable[[], Sequence[str]]] = MappingProxyType(
    {
        "commit-before-settle": commit_before_settle,
        "no-gap-check": no_gap_check,
        "no-correlation-id": no_correlation_id,
        "no-group-metadata": no_group_metadata,
    }
)
"""Each builds its mistake in, and says with which options it shows."""


def main(arguments: Sequence[str]) -> None:
    """Break what the first argument names; then be the command line."""
    control, *line = arguments
    more = CONTROLS[control]()
    from ondemand.cli import main as run  # noqa: PLC0415 - after the mistake is built in

    sys.argv = ["ondemand", *line, *more]
    run()


if __name__ == "__main__":
    main(sys.argv[1:])
