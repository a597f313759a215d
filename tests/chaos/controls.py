"""The negative controls: what is broken on purpose, and by which rule it must be found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from chaos.check import Rule, judge
from chaos.drive import AT_LEAST_ONCE, EXACTLY_ONCE, Script, Stage, perform
from chaos.plan import CONTROL, CONTROL_ZOMBIES, Scale, draw

ATTEMPTS = 8
DRAIN_SECONDS = 8.0
"""Broken workers may never finish: that is not waited for."""


@dataclass(frozen=True, slots=True)
class Control:
    """One mistake of ``broken.py``. *rule*: what must be found."""

    guarantee: str
    rule: Rule
    scale: Scale = CONTROL


CONTROLS: Mapping[str, Control] = MappingProxyType(
    {
        "commit-before-settle": Control(AT_LEAST_ONCE, Rule.EARLY_COMMIT),
        "no-gap-check": Control(AT_LEAST_ONCE, Rule.EARLY_COMMIT),
        "no-correlation-id": Control(AT_LEAST_ONCE, Rule.STRANGER),
        "no-group-metadata": Control(EXACTLY_ONCE, Rule.DUPLICATE, CONTROL_ZOMBIES),
    }
)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What the checker said of a control. *rule*: what it had to say."""

    control: str
    rule: Rule
    findings: Mapping[str, int]

    @property
    def caught(self) -> bool:
        """Whether it said so."""
        return self.findings.get(self.rule, 0) > 0


def rehearse(stage: Stage, name: str, seed: int, say: Callable[[str], None]) -> Rehearsal:
    """Run a control through the same driver and the same checker.

    Whether a mistake shows is a matter of moments, and on a busy computer of luck: it has
    ``ATTEMPTS`` of them, each with a plan of its own. A checker that is blind to it stays so.
    """
    control = CONTROLS[name]
    for attempt in range(ATTEMPTS):
        script = Script(
            run=f"chaos-{name}-{seed}-{attempt}",
            plan=draw(seed + attempt, control.scale),
            guarantee=control.guarantee,
            control=name,
            drain_seconds=DRAIN_SECONDS,
        )
        evidence = perform(stage, script, say)
        found = Rehearsal(name, control.rule, judge(evidence, control.guarantee).counts())
        if found.caught:
            break
    return found
