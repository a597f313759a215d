"""The metrics of several processes as one page in the Prometheus text format.

Every sample keeps its value and gets the label ``process``: nothing is summed, so that a counter
that begins anew with a process is one that Prometheus understands. Its text format, version 0.0.4,
allows each family once, with its HELP and TYPE before its samples.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PROCESS: Final = "process"

_NAME: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_ABOUT: Final = re.compile(r"# (HELP|TYPE) ([A-Za-z_:][A-Za-z0-9_:]*) ")


@dataclass(slots=True)
class _Family:
    """One metric: what is said of it, by kind of line, and its samples."""

    about: dict[str, str] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)


def merged(pages: Mapping[int, str], own: str) -> str:
    """*pages* by process, and before them *own*, the parent's, whose samples stay as they are."""
    families: dict[str, _Family] = {}
    _add(families, own, None)
    for process, page in sorted(pages.items()):
        _add(families, page, process)
    lines = [
        line for family in families.values() for line in (*family.about.values(), *family.samples)
    ]
    return "".join(f"{line}\n" for line in lines)


def labelled(sample: str, process: int) -> str:
    """A sample's line with one label more, the first."""
    name = _NAME.match(sample)
    if name is None:
        return sample
    rest = sample[name.end() :]
    if not rest.startswith("{"):
        return f'{name[0]}{{{PROCESS}="{process}"}}{rest}'
    others = rest[1:].lstrip()
    comma = "" if others.startswith("}") else ","
    return f'{name[0]}{{{PROCESS}="{process}"{comma}{others}'


def _add(families: dict[str, _Family], page: str, process: int | None) -> None:
    family = _Family()
    for line in page.splitlines():
        if about := _ABOUT.match(line):
            family = families.setdefault(about[2], _Family())
            family.about.setdefault(about[1], line)
        elif _NAME.match(line):
            family.samples.append(line if process is None else labelled(line, process))
