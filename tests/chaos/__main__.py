"""``make chaos``: kill, pause and restart everything while requests flow, then ask the topics.

Prints its seed, writes the reports, and exits with 1 if anything was found, anything was done less
often than it had to be, or a control passed.
"""

import argparse
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from chaos import plan, report
from chaos.check import judge
from chaos.cluster import PROPERTIES, RESTART_SECONDS, Surgeon
from chaos.controls import CONTROLS, rehearse
from chaos.drive import AT_LEAST_ONCE, EXACTLY_ONCE, Script, Stage, perform
from chaos.model import write_worker
from chaos.plan import BROKERS, Scale
from chaos.report import Result

from ondemand.local import LocalKafka

GUARANTEES = (AT_LEAST_ONCE, EXACTLY_ONCE)
SCALES: Mapping[str, Scale] = {"full": plan.FULL, "quick": plan.QUICK}


def main() -> int:
    """Run what the command line asks for; the exit code."""
    given = _arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers go away here
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _tell(f"seed {given.seed}: `{_command(given)}` repeats this plan")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    fate = "and stay there" if given.keep else "and are removed if all is good"
    _tell(f"logs and the brokers' data are in {folder}, {fate}")
    with (
        LocalKafka(
            brokers=BROKERS,
            folder=folder / "kafka",
            properties=PROPERTIES,
            start_timeout_seconds=RESTART_SECONDS,
        ) as kafka,
        Surgeon(kafka) as surgeon,
    ):
        stage = Stage(kafka, surgeon, write_worker(folder / "worker"), folder)
        results = [_run(stage, guarantee, given) for guarantee in given.guarantee]
    if not all(result.good for result in results):
        _tell("not good")
        return 1
    if not given.keep:
        shutil.rmtree(folder)
    return 0


def _run(stage: Stage, guarantee: str, given: argparse.Namespace) -> Result:
    """One guarantee: the run, its verdict, its controls, its report."""
    started = time.monotonic()

    def say(text: str) -> None:
        _tell(f"{time.monotonic() - started:6.0f} s  {guarantee}: {text}")

    drawn = plan.draw(given.seed, SCALES[given.scale])
    evidence = perform(stage, Script(f"chaos-{guarantee}-{given.seed}", drawn, guarantee), say)
    verdict = judge(evidence, guarantee)
    say(f"{len(verdict.findings)} findings")
    rehearsals = []
    for name, control in CONTROLS.items():
        if control.guarantee == guarantee:
            rehearsals.append(rehearse(stage, name, given.seed, lambda _: None))
            say(f"control {name}: {'caught' if rehearsals[-1].caught else 'NOT caught'}")
    result = Result(
        guarantee,
        _command(given),
        drawn,
        evidence,
        verdict,
        rehearsals,
        time.monotonic() - started,
    )
    for each in result.counts:
        say(f"{each.what}: {each.done}, required {each.required}")
    for finding in verdict.findings[: report.EXAMPLES_MAX]:
        say(f"{finding.rule}: {finding.text}")
    say(f"the report is {report.write(result, _reports(given))}")
    return result


def _reports(given: argparse.Namespace) -> Path:
    """Only a full run replaces the reports of the repository."""
    if given.reports is not None:
        return Path(given.reports)
    return report.REPORTS if given.scale == "full" else Path(tempfile.gettempdir())


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _command(given: argparse.Namespace) -> str:
    words = ["make chaos", f"SEED={given.seed}"]
    if len(given.guarantee) == 1:
        words.append(f"GUARANTEE={given.guarantee[0]}")
    if given.scale == "quick":
        words.append("QUICK=1")
    return " ".join(words)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--guarantee", choices=GUARANTEES, nargs="+", default=list(GUARANTEES))
    parser.add_argument("--reports", type=Path, help="where to write the reports")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
