"""Which dead letters are meant: IDs, times and filters as people write them. Decides only."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from ondemand.contract.dead_letter import DeadLetter
from ondemand.contract.headers import printable
from ondemand.errors import ConfigurationError

_AGO: Final = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_ID: Final = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class LetterId(NamedTuple):
    """A dead letter's place in its topic; written ``partition:offset``."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a dead letter must be to be meant; a part that is None or empty asks for nothing.

    Times in milliseconds since the epoch: from *since_ms* on, before *until_ms*. *after*: only what
    comes later, in the order of partition and offset.
    """

    reasons: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    versions: tuple[str, ...] = ()
    correlation_id: str | None = None
    after: LetterId | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether *letter* is meant."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since_ms is None or letter.time_ms >= self.since_ms)
            and (self.until_ms is None or letter.time_ms < self.until_ms)
            and (not self.versions or bool({letter.version, letter.worker} & {*self.versions}))
            and (self.correlation_id is None or self._is_correlation(letter.correlation_id))
            and (self.after is None or id_of(letter) > self.after)
        )

    def options(self) -> list[str]:
        """The command-line options that mean the same, relative times made absolute."""
        words = [word for reason in self.reasons for word in ("--reason", reason)]
        if self.since_ms is not None:
            words += ["--since", shown_time(self.since_ms)]
        if self.until_ms is not None:
            words += ["--until", shown_time(self.until_ms)]
        words += [word for version in self.versions for word in ("--version", version)]
        if self.correlation_id is not None:
            words += ["--correlation-id", self.correlation_id]
        return words + (["--after", str(self.after)] if self.after is not None else [])

    def _is_correlation(self, found: bytes | None) -> bool:
        wanted = self.correlation_id or ""
        return found is not None and (printable(found) == wanted or found == wanted.encode())


def id_of(letter: DeadLetter) -> LetterId:
    """Where *letter* lies."""
    return LetterId(letter.record.partition, letter.record.offset)


def parse_id(text: str) -> LetterId:
    """``partition:offset``. Raises ``ConfigurationError`` for anything else."""
    found = _ID.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(
            f"{text!r} is no ID of a dead letter: write PARTITION:OFFSET as `ondemand deadletters "
            "list` shows it, for example 0:42"
        )
    return LetterId(int(found[1]), int(found[2]))


def parse_ids(texts: Sequence[str]) -> tuple[LetterId, ...]:
    """Each ID once, in the order of partition and offset."""
    return tuple(sorted({parse_id(text) for text in texts}))


def parse_time(text: str, now_ms: int) -> int:
    """``2h``, ``30m``, ``90s``, ``7d``, ``1w`` before *now_ms*, or a date or time in ISO 8601, in
    UTC where it names no zone; milliseconds since the epoch.

    Raises ``ConfigurationError`` for anything else.
    """
    ago = _AGO.fullmatch(text)
    if ago:
        return now_ms - int(ago[1]) * _SECONDS[ago[2]] * 1000
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        # Whole milliseconds, without the rounding of a float.
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"{text!r} is no time: write how long ago (90s, 30m, 2h, 7d, 1w), or a date or time as "
            "2026-01-31 or 2026-01-31T14:05:00Z"
        ) from error


def shown_time(time_ms: int) -> str:
    """UTC in ISO 8601, to the millisecond; ``parse_time`` reads it. A number that is no date of
    the calendar is shown as it is."""
    try:
        moment = _EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError:
        return str(time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
