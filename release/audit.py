"""Is anything that is pinned known to be vulnerable? Asks the public databases, and says honestly
where they could not be asked.

    python release/audit.py requirements.lock workers/requirements.lock

Exit code 0: everything was looked up, and nothing is known. 1: something is known. 2: not known,
because the databases were not reached or do not have everything.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
TIMEOUT_SECONDS = 600
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of one lock file. *unknown*: names that were not looked up, or why none was."""

    looked_up: int
    vulnerable: tuple[str, ...]
    unknown: tuple[str, ...]


def findings(report: Mapping[str, Any]) -> Findings:
    """What pip-audit's JSON report says. A package without an answer is not a clean one."""
    packages: Sequence[Mapping[str, Any]] = report["dependencies"]
    asked = [each for each in packages if "skip_reason" not in each]
    return Findings(
        looked_up=len(asked),
        vulnerable=tuple(
            f"{each['name']} {each['version']}: {problem['id']}, mended in "
            f"{', '.join(problem['fix_versions']) or 'no release yet'}"
            for each in asked
            for problem in each["vulns"]
        ),
        unknown=tuple(each["name"] for each in packages if "skip_reason" in each),
    )


def audited(lock: Path, service: str) -> Findings:
    """Ask *service* about everything in *lock*."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--format", "json"]
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    done = subprocess.run(
        [*command, *options, "--vulnerability-service", service],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    try:
        return findings(json.loads(done.stdout))
    except (json.JSONDecodeError, KeyError):
        said = done.stderr.strip().splitlines() or ["nothing"]
        reason = said[-1].partition(":")[0].rpartition(".")[2]  # the kind of error, no address
        return Findings(0, (), (f"everything ({reason})",))


def verdict(lock: str, found: Mapping[str, Findings]) -> tuple[str, int]:
    """What to say of *lock*, and the exit code; *found* by service."""
    problems = sorted({line for each in found.values() for line in each.vulnerable})
    if problems:
        return "\n".join(
            [f"{lock}: known to be vulnerable:", *(f"  {p}" for p in problems)]
        ), VULNERABLE
    complete = [name for name, each in found.items() if each.looked_up and not each.unknown]
    if complete:
        count = found[complete[0]].looked_up
        return f"{lock}: {count} packages looked up in {complete[0]}, nothing is known", CLEAN
    told = [
        f"  {name}: {each.looked_up} looked up, not looked up: {_shortened(each.unknown)}"
        for name, each in found.items()
    ]
    advice = "  This says nothing about vulnerabilities. Repeat it where the databases are reached."
    return "\n".join([f"{lock}: NOT AUDITED", *told, advice]), UNKNOWN


def _shortened(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) or "everything") + more


def main(locks: Sequence[str]) -> int:
    """Audit each file; the worst outcome is the exit code, and a vulnerability is the worst."""
    codes = []
    for lock in locks:
        found: dict[str, Findings] = {}
        for service in SERVICES:
            found[service] = audited(Path(lock), service)
            if found[service].looked_up and not found[service].unknown:
                break
        text, code = verdict(lock, found)
        print(text)
        codes.append(code)
    return VULNERABLE if VULNERABLE in codes else max(codes, default=UNKNOWN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
