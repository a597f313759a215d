"""Style as tests: what holds today may not regress, and each message says what to do instead.

Where a rule must wait, the place goes into ``RATCHET`` with its present measure: it may not get
worse, and once it is better the entry must follow. An empty table is the aim.
"""

from collections.abc import Mapping, Sequence

import pytest
from architecture.rules import (
    Complaint,
    Rule,
    Source,
    docstrings,
    few_positional,
    flat_functions,
    no_leftovers,
    no_positional_booleans,
    no_print,
    no_wall_clock,
    short_functions,
    short_lines,
    short_modules,
)
from architecture.sources import ROOT, modules, python_files, reachable

RATCHET: dict[tuple[str, str], int] = {}
"""(rule, place) and the measure that it has today."""

ENTRY_POINTS = {
    "ondemand",
    "ondemand.cli",
    "ondemand.local.guard",  # run as a process of its own, beside each broker
    "ondemand.transport.memory",  # a broker for tests, ours and other people's
}
"""Where a program starts. The test kit is one too: its users are other people's tests."""

CLOCK_EDGES = (
    "src/ondemand/cli/",
    "src/ondemand/local/",
    "src/ondemand/telemetry/",
    "src/ondemand/testing/",
    "tests/",
)
"""Folders whose modules may read the time of day."""

CLOCK_READERS = {
    "src/ondemand/client/client.py",  # a timeout becomes the deadline that the request names
    "src/ondemand/processor/lifecycle.py",  # hands a clock to the loop, which hands on times
    "src/ondemand/transport/kafka_security.py",  # tokens expire by the time of day
    "src/ondemand/transport/memory.py",  # stamps records, as a broker does
}
"""Modules that may read the time of day."""

PRINTERS = ("src/ondemand/cli/", "workers/", "bench/", "release/", "tests/")
"""Where people are talked to."""

EVERYWHERE: tuple[Rule, ...] = (
    short_functions,
    short_modules,
    short_lines,
    flat_functions,
    few_positional,
    no_positional_booleans,
    docstrings,
    no_leftovers,
)

BAD: dict[Rule, str] = {
    short_functions: "def f():\n" + "    x = 1\n" * 71,
    short_modules: "x = 1\n" * 401,
    short_lines: "x = " + "1" * 100 + "\n",
    flat_functions: ("def f():\n for a in b:\n  if c:\n   with d:\n    while e:\n     pass\n"),
    few_positional: "def f(a, b, c, d, e, g):\n pass\n",
    no_positional_booleans: "def f(a, b=True):\n pass\n",
    docstrings: "def f():\n pass\n",
    no_leftovers: "x = 1  # TO" + "DO: later\n",
    no_wall_clock: "import time\nx = time.time()\n",
    no_print: "print(1)\n",
}
"""For each rule, a source that breaks it."""

GOOD = '''"""A module."""

import time


def f(a, b, c, d, e, *, g=False):
    """Say so."""
    for _ in a:
        if b:
            x = 1
        elif c:
            x = 2
        elif d:
            x = 3
        elif e:
            x = 4
    return x, time.monotonic()
'''


def complain(rule: Rule, skip: tuple[str, ...] = ()) -> list[str]:
    """What *rule* says about every Python file but those under *skip*, after the ratchet."""
    complaints: list[Complaint] = []
    for path in python_files():
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(skip):
            complaints += rule(Source.of(name, path.read_text("utf-8")))
    known = {key: measure for (of, key), measure in RATCHET.items() if of == rule.__name__}
    return judge(complaints, known)


def judge(complaints: Sequence[Complaint], known: Mapping[str, int]) -> list[str]:
    """What to say of *complaints*, where the measures in *known* are put up with."""
    told = [str(found) for found in complaints if found.measure > known.get(found.key, 0)]
    for key, allowed in known.items():
        today = max((found.measure for found in complaints if found.key == key), default=0)
        if today < allowed:
            told.append(f"{key}: {today} now, {allowed} in RATCHET. Lower it there, or delete it.")
    return told


@pytest.mark.parametrize("rule", EVERYWHERE, ids=lambda rule: rule.__name__)
def test_rule_holds_everywhere(rule: Rule) -> None:
    """Every Python file of the repository keeps the rule, or its place in the ratchet."""
    assert not (told := complain(rule)), "\n".join(told)


@pytest.mark.parametrize("rule", BAD, ids=lambda rule: rule.__name__)
def test_rule_bites(rule: Rule) -> None:
    """Each rule finds what it is there for, and leaves good code alone."""
    assert list(rule(Source.of("src/ondemand/bad.py", BAD[rule])))
    assert not list(rule(Source.of("src/ondemand/good.py", GOOD)))


def test_the_ratchet_only_gets_better() -> None:
    """What is put up with may not get worse, and once it is better the table must follow."""
    found = [Complaint("a.py", 1, "too long", 80)]
    assert judge(found, {"a.py": 80}) == []
    assert judge(found, {"a.py": 79}) == ["a.py, line 1: too long"]
    assert judge(found, {"a.py": 81}) == [
        "a.py: 80 now, 81 in RATCHET. Lower it there, or delete it."
    ]
    assert len(judge([], {"a.py": 80})) == 1


def test_a_test_without_a_docstring_is_told() -> None:
    """A test that does not say what must hold is told to."""
    bad = Source.of("tests/test_bad.py", '"""Tests."""\n\ndef test_x():\n    assert 1\n')
    assert [complaint.key for complaint in docstrings(bad)] == ["tests/test_bad.py:test_x"]


def test_the_time_of_day_is_read_at_the_edges() -> None:
    """Time is an argument everywhere but at the edges that are named here."""
    told = complain(no_wall_clock, skip=(*CLOCK_EDGES, *CLOCK_READERS, "workers/", "bench/"))
    assert not told, "\n".join(told)


def test_the_list_of_clock_readers_is_true() -> None:
    """A module that no longer reads the time of day leaves the list of those that may."""
    idle = [
        name
        for name in CLOCK_READERS
        if not list(no_wall_clock(Source.of(name, (ROOT / name).read_text("utf-8"))))
    ]
    assert not idle, f"these read no clock, take them off CLOCK_READERS: {idle}"


def test_only_the_command_line_prints() -> None:
    """Libraries return and log; people are talked to by the command line."""
    assert not (told := complain(no_print, skip=PRINTERS)), "\n".join(told)


def test_every_module_is_reachable() -> None:
    """A module that no entry point leads to is dead: delete it, or use it."""
    entries = ENTRY_POINTS | {name for name in modules() if name.startswith("ondemand.testing")}
    missing = entries - set(modules())
    assert not missing, f"these entry points are not there: {sorted(missing)}"
    dead = set(modules()) - reachable(entries) - {"ondemand.__main__"}
    assert not dead, f"nothing leads to {sorted(dead)}: delete them, or use them."
