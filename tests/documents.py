"""Read the documentation: its links, its fenced blocks and the markers before them.

A block may be marked by an HTML comment on a line of its own, right before its fence:
``<!-- run -->`` (a Python snippet that is executed) or ``<!-- tree -->`` (the README's tree).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<language>[\w+-]*)[^`]*$")
_MARKER = re.compile(r"^<!-- (?P<name>[a-z]+) -->$")
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)[^)]*\)")
_CODE = re.compile(r"`(?P<code>[^`]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. *line* is the number of its first line of content, from 1."""

    path: Path
    line: int
    language: str
    marker: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """README, the other pages beside it, and everything under docs/."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def all_blocks() -> list[Block]:
    """Every fenced block of every document."""
    return [block for path in documents() for block in blocks(path, path.read_text("utf-8"))]


def blocks(path: Path, text: str) -> Iterator[Block]:
    """The fenced blocks of a document. Raises ``ValueError`` where a fence is never closed."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        opened = _FENCE.match(lines[number])
        if not opened:
            number += 1
            continue
        first = number + 1
        last = _closing(lines, first, opened["ticks"], path)
        marker = _MARKER.match(lines[number - 1].strip()) if number else None
        yield Block(
            path=path,
            line=first + 1,
            language=opened["language"],
            marker=marker["name"] if marker else None,
            text="\n".join(lines[first:last]) + "\n",
        )
        number = last + 1


def _closing(lines: list[str], first: int, ticks: str, path: Path) -> int:
    """Where the fence that opened before *first* is closed."""
    for number in range(first, len(lines)):
        if lines[number].strip() == ticks:
            return number
    raise ValueError(f"{path.name}:{first}: this fence is never closed")


def prose(text: str) -> str:
    """The document without its fenced blocks; line numbers stay as they are."""
    kept: list[str] = []
    ticks = ""
    for line in text.splitlines():
        opened = _FENCE.match(line)
        if ticks:
            ticks = "" if line.strip() == ticks else ticks
            kept.append("")
        elif opened:
            ticks = opened["ticks"]
            kept.append("")
        else:
            kept.append(line)
    return "\n".join(kept)


def links(text: str) -> Iterator[tuple[int, str]]:
    """The line and the target of each link and picture in *text*, fenced blocks left out."""
    for number, line in enumerate(prose(text).splitlines(), start=1):
        for found in _LINK.finditer(line):
            yield number, found["target"]


def inline_code(text: str) -> Iterator[tuple[int, str]]:
    """The line and the content of each `code` span in *text*, fenced blocks left out."""
    for number, line in enumerate(prose(text).splitlines(), start=1):
        for found in _CODE.finditer(line):
            yield number, found["code"]


def anchors(text: str) -> set[str]:
    """What a link may name after ``#``: the headings, as code hosts spell them."""
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*$", prose(text), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}
