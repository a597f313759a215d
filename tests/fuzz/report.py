"""What came of a campaign, for people and for programs."""

import json
import platform
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fuzz.campaign import Tally


def page(tally: Tally, seed: int) -> str:
    """The page `decoder.md`."""
    return (
        "# Hostile records through the decoder\n\n"
        f"Printed by `make fuzz RECORDS={tally.records} SEED={seed}` on {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}. Each record was a good request "
        "until it was changed; each got exactly one answer. Times and memory vary from computer to "
        "computer, counts do not.\n\n"
        f"- {tally.records:,} records, {tally.size_bytes:,} bytes\n"
        f"- {tally.seconds / max(tally.records, 1) * 1e6:.0f} µs of processor time a record, "
        "checks included; "
        f"the slowest, record {tally.slowest}, took {tally.slowest_seconds * 1e3:.0f} ms\n"
        f"- the most that one record held was {tally.held_bytes:,} bytes, by record "
        f"{tally.held_by}; {tally.measured:,} were measured\n"
        f"- resident memory grew by {tally.rss_growth_bytes / 1e6:.0f} MB at its peak\n\n"
        "## Answers\n\n"
        f"{_table('answer', {(name, ''): count for name, count in tally.outcomes.items()})}\n"
        "## By model\n\n"
        f"{_table('model', tally.by_target)}\n"
        "## By change\n\n"
        "A record with several changes counts under each.\n\n"
        f"{_table('change', tally.by_change)}"
    )


def _table(first: str, counts: Mapping[tuple[str, str], int]) -> str:
    rows = sorted({row for row, _ in counts})
    columns = sorted({column for _, column in counts})
    head = [first, *(column or "records" for column in columns)]
    lines = [_line(head), "|---|" + "---:|" * len(columns)]
    lines += [_line([row, *(f"{counts.get((row, c), 0):,}" for c in columns)]) for row in rows]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(tally: Tally, seed: int, folder: Path) -> None:
    """`decoder.md` and `decoder.json` in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decoder.md").write_text(page(tally, seed), encoding="utf-8")
    found = {
        "seed": seed,
        "records": tally.records,
        "size_bytes": tally.size_bytes,
        "seconds": round(tally.seconds, 3),
        "slowest_seconds": round(tally.slowest_seconds, 4),
        "slowest": tally.slowest,
        "held_bytes": tally.held_bytes,
        "held_by": tally.held_by,
        "measured": tally.measured,
        "rss_growth_bytes": tally.rss_growth_bytes,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "by_model": _nested(tally.by_target),
        "by_change": _nested(tally.by_change),
    }
    (folder / "decoder.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (row, column), count in sorted(counts.items()):
        nested.setdefault(row, {})[column] = count
    return nested
