"""What could be deleted from a dead-letter topic, and how. Nothing here deletes.

Kafka deletes from the start of a partition up to an offset, nothing in between: in each partition
the plan ends before the first dead letter that is not meant.
"""

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ondemand.cli.deadletters_filter import Filter, LetterId
from ondemand.cli.deadletters_view import count_reason, listed
from ondemand.contract.dead_letter import DeadLetter
from ondemand.errors import ConfigurationError
from ondemand.settings import Settings
from ondemand.transport.kafka_admin_records import Span


@dataclass(frozen=True, slots=True)
class Cut:
    """What of one partition could be deleted: offsets from *low* to before *before*."""

    partition: int
    low: int
    before: int
    end: int  # of the partition, when it was looked at
    lost: Mapping[str, int]  # by reason


def cut(
    partition: int, span: Span, letters: Iterable[DeadLetter], wanted: Filter, *, before: int | None
) -> Cut:
    """From the start of *letters*, all that *wanted* takes, without a gap; at most up to
    *before*."""
    bound = span.end if before is None else max(span.low, min(before, span.end))
    lost: Counter[str] = Counter()
    for letter in letters:
        offset = letter.record.offset
        if offset >= bound or not wanted.takes(letter):
            bound = min(offset, bound)
            break
        count_reason(lost, letter)
    return Cut(partition, span.low, bound, span.end, lost)


def plan_cuts(
    spans: Mapping[int, Span],
    letters: Mapping[int, Iterable[DeadLetter]],
    wanted: Filter,
    before: Sequence[LetterId],
) -> tuple[Cut, ...]:
    """A cut for each partition; where *before* names some, for these alone.

    Raises ``ConfigurationError`` for a partition that is not there.
    """
    bounds = dict(before)
    for partition in sorted(set(bounds) - set(spans)):
        known = f"its partitions are 0 to {len(spans) - 1}"
        raise ConfigurationError(f"--before: there is no partition {partition}: {known}")
    return tuple(
        cut(partition, span, letters[partition], wanted, before=bounds.get(partition))
        for partition, span in sorted(spans.items())
        if not bounds or partition in bounds
    )


def deletable(cuts: Sequence[Cut]) -> list[Cut]:
    """Those that would delete anything."""
    return [each for each in cuts if each.before > each.low]


def delete_records(topic: str, cuts: Sequence[Cut]) -> dict[str, Any]:
    """What ``kafka-delete-records`` reads: the offset to delete before, for each partition."""
    return {
        "partitions": [
            {"topic": topic, "partition": each.partition, "offset": each.before}
            for each in deletable(cuts)
        ],
        "version": 1,
    }


def command(settings: Settings, file: str) -> str:
    """The command line that would delete."""
    words = ["kafka-delete-records.sh", "--bootstrap-server", settings.kafka]
    words += ["--offset-json-file", file]
    if settings.protocol(settings.kafka) != "plaintext":
        words += ["--command-config", "client.properties"]
    return shlex.join(words)


def lines(topic: str, cuts: Sequence[Cut], settings: Settings, file: str) -> list[str]:
    """The plan for people; *file*: where its JSON is, or is to be put. Ends with what was done:
    nothing."""
    told = []
    for each in cuts:
        here = f"{topic}/{each.partition}"
        if each.before > each.low:
            lost = listed(each.lost) or "no dead letter"
            kept = f"; from {each.before} on all stay" if each.before < each.end else ""
            told.append(f"{here}: offsets {each.low} to {each.before - 1}: {lost}{kept}")
        else:
            told.append(f"{here}: nothing")
    total: Counter[str] = Counter()
    for each in cuts:
        total.update(each.lost)
    if deletable(cuts):
        told += [f"Lost for good would be {total.total()} dead letters: {listed(total) or 'none'}."]
        told += ["", f"{file}:", json.dumps(delete_records(topic, cuts), indent=2), ""]
        told += ["The command that would delete them:", f"  {command(settings, file)}"]
    return [*told, "Nothing was deleted."]
