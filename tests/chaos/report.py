"""What was done and what was found, for people (Markdown) and programs (JSON)."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chaos.check import Rule, Verdict
from chaos.controls import Rehearsal
from chaos.counts import Count, counts
from chaos.evidence import Evidence
from chaos.plan import Act, Plan
from chaos.recovery import Distribution, delays, downtime_seconds, recoveries

EXAMPLES_MAX = 10
REPORTS = Path(__file__).parent / "reports"

_ACTS = {
    Act.KILL: "workers killed (SIGKILL)",
    Act.PAUSE: "workers paused (SIGSTOP, SIGCONT)",
    Act.JOIN: "workers joined",
    Act.LEAVE: "workers left (SIGTERM)",
    Act.BROKER_KILL: "brokers killed and restarted",
    Act.BROKER_ROLL: "rolling restarts of all brokers",
    Act.VISIT: "clients that came and went",
}


@dataclass(frozen=True, slots=True)
class Result:
    """One guarantee's run, judged. *command* replays it."""

    guarantee: str
    command: str
    plan: Plan
    evidence: Evidence
    verdict: Verdict
    controls: Sequence[Rehearsal] = ()
    seconds: float = 0.0

    @property
    def counts(self) -> Sequence[Count]:
        """What had to be done, and how often it was."""
        return counts(self.plan, self.evidence)

    @property
    def lacking(self) -> Sequence[Count]:
        """What was not done often enough."""
        return [each for each in self.counts if not each.enough]

    @property
    def good(self) -> bool:
        """All was done, nothing was found, and every control was caught."""
        caught = all(each.caught for each in self.controls)
        return caught and not self.lacking and not self.verdict.findings


def document(result: Result) -> dict[str, object]:
    """Everything in the report, as JSON holds it."""
    evidence, verdict = result.evidence, result.verdict
    return {
        "guarantee": result.guarantee,
        "command": result.command,
        "good": result.good,
        "seconds": round(result.seconds, 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        **result.plan.document(),
        "counts": [{**asdict(each), "enough": each.enough} for each in result.counts],
        "done": {act.value: sum(each.act is act for each in evidence.done) for act in Act},
        "broker_downtime_seconds": round(downtime_seconds(evidence.done), 1),
        "requests": dict(_counts([str(asked.kind) for asked in evidence.asked])),
        "replies": dict(_counts([reply.status for reply in evidence.answered])),
        "dead_letters": dict(_counts([letter.reason for letter in evidence.buried])),
        "positions_checked": len(evidence.sightings),
        "callers": dict(sorted(evidence.callers.items())),
        "exits": dict(sorted(evidence.exits.items())),
        "repeats": verdict.repeats,
        "overtaken": verdict.overtaken,
        "findings": dict(verdict.counts()),
        "examples": [f"{each.rule}: {each.text}" for each in verdict.findings[:EXAMPLES_MAX]],
        "delay_ms": _figures(delays(evidence)),
        "recovery_ms": {act.value: _figures(found) for act, found in recoveries(evidence).items()},
        "controls": [
            {
                "control": each.control,
                "must_find": each.rule,
                "caught": each.caught,
                "findings": dict(each.findings),
            }
            for each in result.controls
        ],
    }


def markdown(result: Result) -> str:
    """The report for people."""
    told = document(result)
    evidence, verdict = result.evidence, result.verdict
    parts = [
        f"# Chaos, {result.guarantee}: {_verdict(result)}",
        (
            f"Printed by `{result.command}`: seed {result.plan.seed}, {told['system']}, three "
            f"brokers, all on one computer, {result.seconds:.0f} s in all."
        ),
        "## What was done",
        _table(
            ("what", "required", "done", "enough"),
            [
                (each.what, each.required, each.done, "yes" if each.enough else "**no**")
                for each in result.counts
            ],
        ),
        (
            f"{sum(each.act is Act.VISIT for each in evidence.done)} clients came and went. "
            f"Brokers were away for {told['broker_downtime_seconds']} s."
        ),
        _table(("requests", "number"), list(_counts([a.kind for a in evidence.asked]))),
        "## What was found",
        _table(("rule", "findings"), [(rule, verdict.counts().get(rule, 0)) for rule in Rule]),
        *[f"- {each.rule}: {each.text}" for each in verdict.findings[:EXAMPLES_MAX]],
        (
            f"{len(evidence.answered)} replies, {verdict.repeats} of them repeated ones; "
            f"{verdict.overtaken} neighbours of one key out of order; {len(evidence.buried)} dead "
            f"letters; {len(evidence.sightings)} committed positions compared with the replies."
        ),
        "## How long it took",
        _times({"request to reply": delays(evidence)}),
        (
            "From each blow until every partition has answered a request that came after it; blows "
            "overlap:"
        ),
        _times({_ACTS[act]: found for act, found in recoveries(evidence).items()}),
        "## How it ended",
        _table(("what callers of the clients got", "number"), sorted(evidence.callers.items())),
        _table(("how worker processes ended", "number"), sorted(evidence.exits.items())),
    ]
    if result.controls:
        rows = [
            (
                each.control,
                each.rule,
                "yes" if each.caught else "**no**",
                _listed(each.findings),
            )
            for each in result.controls
        ]
        parts += [
            "## Negative controls",
            (
                "Workers with one mistake built in (`tests/chaos/broken.py`): a checker that "
                "passes them is broken."
            ),
            _table(("mistake", "must be found as", "caught", "findings"), rows),
        ]
    return "\n\n".join(parts) + "\n"


def _verdict(result: Result) -> str:
    """The report's headline."""
    faults = [f"{len(result.verdict.findings)} findings"] if result.verdict.findings else []
    faults += [f"too few: {each.what}" for each in result.lacking]
    faults += [f"{each.control} was not caught" for each in result.controls if not each.caught]
    return f"**{', '.join(faults)}**" if faults else "nothing was found"


def write(result: Result, folder: Path = REPORTS) -> Path:
    """Both reports into *folder*; returns the one for people."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"chaos-{result.guarantee}.md"
    page.write_text(markdown(result), encoding="utf-8")
    text = json.dumps(document(result), indent=2) + "\n"
    page.with_suffix(".json").write_text(text, encoding="utf-8")
    return page


def _counts(names: Sequence[str]) -> Sequence[tuple[str, int]]:
    counts: dict[str, int] = {}
    for name in names:
        counts[str(name)] = counts.get(str(name), 0) + 1
    return sorted(counts.items())


def _figures(found: Distribution | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {name: round(value, 1) for name, value in asdict(found).items()}


def _times(named: Mapping[str, Distribution | None]) -> str:
    rows = [
        (name, each.count, *(f"{value:.0f}" for value in (each.p50, each.p90, each.p99, each.max)))
        for name, each in named.items()
        if each is not None
    ]
    return _table(("milliseconds", "count", "p50", "p90", "p99", "max"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [_line(head), "|---|" + "---:|" * (len(head) - 1), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _listed(findings: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {rule}" for rule, count in sorted(findings.items())) or "none"
