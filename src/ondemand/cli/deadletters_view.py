"""Dead letters as people and scripts see them. What strangers wrote never reaches a terminal raw,
and payloads are shown only where somebody asks for them: they can be personal data."""

import base64
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich.table import Table
from rich.text import Text

from ondemand.cli.deadletters_filter import Filter, LetterId, id_of, shown_time
from ondemand.contract.dead_letter import DeadLetter
from ondemand.contract.headers import printable

MESSAGE_SHOWN_MAX: Final = 80
PAYLOAD_SHOWN_BYTES_MAX: Final = 4_096
REASONS_SHOWN_MAX: Final = 10


class Row(NamedTuple):
    """What a list keeps of a dead letter: no payload, so that many fit into memory."""

    time_ms: int
    id: LetterId
    reason: str
    message: str
    worker: str
    source: str
    correlation_id: str
    attempts: int
    value_bytes: int


class Listing(NamedTuple):
    """The newest rows that matched, oldest first; and how many there were, by reason."""

    rows: Sequence[Row]
    matched: int
    reasons: Mapping[str, int]  # of all that were read, matching or not

    @property
    def read(self) -> int:
        """How many dead letters were looked at."""
        return sum(self.reasons.values())


def row_of(letter: DeadLetter) -> Row:
    """What a list keeps of *letter*."""
    identity = letter.correlation_id
    return Row(
        letter.time_ms,
        id_of(letter),
        plain(letter.reason),
        plain(letter.message),
        plain(letter.worker),
        plain(letter.source),
        "" if identity is None else printable(identity),
        letter.attempts,
        len(letter.record.value or b""),
    )


def newest(letters: Iterable[DeadLetter], wanted: Filter, limit: int) -> Listing:
    """The *limit* newest of those that *wanted* takes. Holds no more rows than that."""
    heap: list[Row] = []
    reasons: Counter[str] = Counter()
    matched = 0
    for letter in letters:
        count_reason(reasons, letter)
        if not wanted.takes(letter):
            continue
        matched += 1
        if len(heap) < limit:
            heapq.heappush(heap, row_of(letter))
        elif letter.time_ms >= heap[0].time_ms:
            heapq.heappushpop(heap, row_of(letter))
    return Listing(sorted(heap), matched, reasons)


def count_reason(reasons: "Counter[str]", letter: DeadLetter) -> None:
    """Count *letter* under its reason; under ``other`` where there are ever more of them."""
    reason = plain(letter.reason) or "none"
    known = reason in reasons or len(reasons) < REASONS_SHOWN_MAX
    reasons[reason if known else "other"] += 1


def listed(reasons: Mapping[str, int]) -> str:
    """``12 model-error, 3 unanswerable``."""
    order = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {reason}" for reason, count in order)


def list_table(rows: Sequence[Row]) -> Table:
    """A line for each row."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True)
    table.add_column("time", no_wrap=True)
    for name in ("reason", "message", "worker", "source", "correlation ID"):
        table.add_column(name, overflow="fold")
    for row in rows:
        shown = (row.reason, _cut(row.message), row.worker, row.source, row.correlation_id)
        table.add_row(str(row.id), shown_time(row.time_ms), *map(Text, shown))
    return table


def row_data(row: Row) -> dict[str, Any]:
    """A row for scripts."""
    return {**row._asdict(), "id": str(row.id), "time": shown_time(row.time_ms)}


def letter_table(letter: DeadLetter, *, payload: bool) -> Table:
    """Everything about one dead letter; key and value only where *payload* says so."""
    row, record = row_of(letter), letter.record
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in (
        ("id", str(row.id)),
        ("time", shown_time(row.time_ms)),
        ("reason", row.reason),
        ("message", row.message),
        ("source", row.source),
        ("worker", row.worker),
        ("correlation ID", row.correlation_id),
        ("redrive attempts", str(row.attempts)),
        ("key", shown_payload(record.key, payload=payload)),
        ("value", shown_payload(record.value, payload=payload)),
        ("headers", f"{len(record.headers)}"),
    ):
        table.add_row(name, Text(text))
    for name, value in record.headers:
        table.add_row(Text(f"  {plain(name)}"), Text(shown_value(value)))
    return table


def letter_data(letter: DeadLetter, *, payload: bool) -> dict[str, Any]:
    """The same for scripts; key and value in Base64."""
    record = letter.record
    data = row_data(row_of(letter))
    data["key_bytes"] = None if record.key is None else len(record.key)
    data["headers"] = [_header_data(name, value) for name, value in record.headers]
    if payload:
        for name, content in (("key", record.key), ("value", record.value)):
            data[f"{name}_base64"] = None if content is None else base64.b64encode(content).decode()
    return data


def plain(text: str) -> str:
    """*text* without what could move a terminal's cursor or hide a line."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shown_value(value: bytes | None) -> str:
    """A header's value: as text where it is printable UTF-8, otherwise as hex."""
    if value is None:
        return "null"
    text = _readable(value)
    return f"hex {value.hex()}" if text is None else text


def shown_payload(content: bytes | None, *, payload: bool) -> str:
    """The size, and where *payload* says so what it is: text, or hex, and not more than fits a
    screen."""
    if content is None:
        return "null"
    size = f"{len(content)} bytes"
    if not payload:
        return f"{size}, not shown (--payload shows it)"
    head = content[:PAYLOAD_SHOWN_BYTES_MAX]
    text = _readable(head, and_also="\n\t")
    more = ", cut (--output FILE writes all of it)" if len(head) < len(content) else ""
    return f"{size}{more}: {f'hex {head.hex()}' if text is None else text}"


def _readable(value: bytes, *, and_also: str = "") -> str | None:
    """*value* as text where it is printable UTF-8; None where it is not."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char in and_also for char in text) else None


def _header_data(name: str, value: bytes | None) -> dict[str, str | None]:
    text = None if value is None else _readable(value)
    if value is None or text is not None:
        return {"name": name, "text": text}
    return {"name": name, "hex": value.hex()}


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_SHOWN_MAX else f"{text[:MESSAGE_SHOWN_MAX]}…"
