"""What was found: kept by scenario in ``bench.json``, shown in ``bench.md`` and plots.

A scenario that is measured replaces what the folder had of it, from its first result on; the others
stay. All that is compared belongs to one scenario, and so to one invocation; the report says which.
"""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from environments import NotRunError, python_of
from plan import Step
from report import page

FOLDER = Path(__file__).parent / "results"
KINDS = ("models", "drain", "latency", "curve", "figures")
ABSENT = ("missing", "not_run")
PLOT_SECONDS = 120
Result = dict[str, Any]


class Results:
    """The document of one folder, and what *command* adds to it."""

    def __init__(self, folder: Path, command: str, asked: Sequence[str]) -> None:
        self._folder = folder
        self._command = command
        self._begun: set[str] = set()
        self._document = _read(folder / "bench.json")
        for kind in ABSENT:
            self._forget(kind, asked)

    def keep(self, step: Step, found: Sequence[Any], *, seconds: float) -> list[Result]:
        """Add what *step* gave."""
        if not found:
            return []
        if step.scenario not in self._begun:
            self._begin(step.scenario)
        run = self._document["runs"][step.scenario]
        run["minutes"] += seconds / 60
        run["repeats"] = max(run["repeats"], step.repeat)
        added = [{**asdict(each), "of": step.scenario} for each in found]
        self._document[step.kind] += added
        return added

    def miss(self, step: Step, why: str) -> None:
        """*step* gave nothing."""
        missing = {"of": step.scenario, "name": step.name, "repeat": step.repeat, "why": why}
        self._document["missing"].append(missing)

    def not_run(self, scenario: str, why: str) -> None:
        """A system is not in a scenario."""
        self._document["not_run"].append({"of": scenario, "why": why})
        print(f"Not run: {why}", flush=True)

    def write(self) -> None:
        """JSON, Markdown, and the plots if their library can be had."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "bench.json").write_text(json.dumps(self._document, indent=1) + "\n")
        (self._folder / "bench.md").write_text(page(self._document))
        program = str(Path(__file__).parent / "plots.py")
        try:
            command = [str(python_of("plots")), program, str(self._folder)]
            subprocess.run(command, check=True, timeout=PLOT_SECONDS)
        except (NotRunError, subprocess.SubprocessError) as error:
            print(f"No plots: {error}", flush=True)

    def _begin(self, scenario: str) -> None:
        """Forget what the folder had of it."""
        self._begun.add(scenario)
        for kind in KINDS:
            self._forget(kind, (scenario,))
        self._document["runs"][scenario] = {
            "command": self._command,
            "begun": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "on": _machine(),
            "minutes": 0.0,
            "repeats": 0,
        }

    def _forget(self, kind: str, scenarios: Sequence[str]) -> None:
        kept = [each for each in self._document[kind] if each["of"] not in scenarios]
        self._document[kind] = kept


def _read(file: Path) -> dict[str, Any]:
    """What *file* has, or nothing yet."""
    empty: dict[str, Any] = {"runs": {}, **{kind: [] for kind in (*KINDS, *ABSENT)}}
    if not file.exists():
        return empty
    found = json.loads(file.read_text())
    if set(found) != set(empty):
        raise SystemExit(f"{file} was written by another version of this program: move it away")
    return dict(found)


def _machine() -> str:
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {os.cpu_count()} processors, Python {platform.python_version()}"
