"""``make chaos`` in short: every kind of blow, fewer of each, on three real brokers.

Both guarantees run at the same time on one cluster, so that its brokers are hurt under both; then
the negative controls do. The seed is fixed, so that the same plan runs each time.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from chaos import report
from chaos.check import judge
from chaos.cluster import PROPERTIES, RESTART_SECONDS, Surgeon
from chaos.controls import CONTROLS, rehearse
from chaos.drive import AT_LEAST_ONCE, EXACTLY_ONCE, Script, Stage, perform
from chaos.model import write_worker
from chaos.plan import BROKERS, SHORT_KILL, SHORT_ROLL, Act, draw
from chaos.report import Result

from ondemand.local import LocalKafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(420)]

SEED = 20
SCALES = {AT_LEAST_ONCE: SHORT_ROLL, EXACTLY_ONCE: SHORT_KILL}


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    """Three brokers of this module's own, and the worker folder."""
    folder = tmp_path_factory.mktemp("chaos")
    with (
        LocalKafka(
            brokers=BROKERS, properties=PROPERTIES, start_timeout_seconds=RESTART_SECONDS
        ) as kafka,
        Surgeon(kafka) as surgeon,
    ):
        yield Stage(kafka, surgeon, write_worker(folder / "worker"), folder)


@pytest.fixture(scope="module")
def results(stage) -> dict[str, Result]:
    """Both guarantees' runs, judged."""

    def run(guarantee: str) -> Result:
        plan = draw(SEED, SCALES[guarantee])
        script = Script(f"chaos-{guarantee}", plan, guarantee, drain_seconds=60.0)
        evidence = perform(stage, script, _heard(guarantee))
        return Result(guarantee, "pytest tests/chaos", plan, evidence, judge(evidence, guarantee))

    with ThreadPoolExecutor() as pool:
        return dict(zip(SCALES, pool.map(run, SCALES), strict=True))


@pytest.mark.parametrize("guarantee", SCALES)
def test_nothing_is_lost_whatever_is_killed(results, guarantee):
    """Every promise of docs/reliability.md, read from the topics after every kind of blow."""
    result = results[guarantee]
    assert result.verdict.findings == (), report.markdown(result)


def test_every_kind_of_blow_was_struck(results):
    """A run in which nothing happened would prove nothing."""
    done = chain.from_iterable(result.evidence.done for result in results.values())
    assert {each.act for each in done} == set(Act)
    for result in results.values():
        assert result.lacking == []
        assert result.evidence.callers["answered"] > 0
        assert len(result.evidence.sightings) > len(result.evidence.ends)


def test_broken_workers_are_caught(stage):
    """A checker that passes a worker which commits too early, or answers nobody, is broken."""
    with ThreadPoolExecutor() as pool:
        rehearsals = list(
            pool.map(lambda name: rehearse(stage, name, SEED, _heard(name)), CONTROLS)
        )
    assert [each.control for each in rehearsals if not each.caught] == []


def _heard(run: str) -> Callable[[str], None]:
    """For whoever reads about a failure: what happened, and when."""
    started = time.monotonic()
    return lambda text: print(f"{time.monotonic() - started:6.1f} s  {run}: {text}")
