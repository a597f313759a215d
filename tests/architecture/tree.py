"""The README's tree: how it is written, and whether it is true.

One entry a line, indented by the usual lines (four columns a level, the top level has one); a first
line without lines names the repository and is passed over. A folder ends in ``/``. Two spaces after
the name begin a description. Several names share a line with `` · `` between them. A folder whose
content is shown must show all of it, but names that begin with a dot, ``__init__.py`` and
``py.typed``; a folder that is not opened need only exist.
"""

import re
from collections.abc import Iterator

_ENTRY = re.compile(r"^(?P<lines>[│├└─ ]*)(?P<names>\S+(?: · \S+)*)(?:\s{2,}.*)?$")
_COLUMNS = 4
_UNSHOWN = {"__init__.py", "py.typed"}


def read_tree(text: str) -> set[str]:
    """The paths that a drawn tree shows; folders end in ``/``. Raises ``ValueError`` for a line
    that cannot be read.
    """
    shown: set[str] = set()
    parents: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip(" │"):
            continue
        entry = _ENTRY.match(line)
        if entry and number == 1 and not entry["lines"]:
            continue
        level, rest = divmod(len(entry["lines"]), _COLUMNS) if entry else (0, 0)
        if not entry or rest or not 1 <= level <= len(parents) + 1:
            raise ValueError(
                f"line {number} of the tree: {line!r}: indent by {_COLUMNS} columns a level, "
                "and put two spaces before a description"
            )
        names = entry["names"].split(" · ")
        folder = "".join(parents[: level - 1])
        shown.update(step for name in names for step in _with_folders(folder, name))
        parents[level - 1 :] = [names[-1]]
    return shown


def _with_folders(folder: str, name: str) -> Iterator[str]:
    """``src/ondemand/`` shows ``src/`` too."""
    parts = re.findall(r"[^/]+/?", name)
    for count in range(1, len(parts) + 1):
        yield folder + "".join(parts[:count])


def compare(shown: set[str], files: set[str]) -> list[str]:
    """What is wrong with a tree that shows *shown* where *files* are there; empty if it is true."""
    there = {step for name in files for step in _with_folders("", name)}
    told = [f"{name} is not there: take it out of the tree" for name in sorted(shown - there)]
    opened = {_parent(name) for name in shown}
    for name in sorted(there - shown):
        last = name.rstrip("/").rpartition("/")[2]
        hidden = last.startswith(".") or last in _UNSHOWN
        if _parent(name) in opened and not hidden:
            told.append(f"{name} is missing: show it, or delete it")
    return told


def _parent(name: str) -> str:
    """The folder that *name* lies in; empty at the top."""
    above, slash, _ = name.rstrip("/").rpartition("/")
    return above + slash
