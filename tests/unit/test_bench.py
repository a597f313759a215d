"""What the benchmark judges by: a figure counts only if the answers behind it are right."""

import importlib
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from ondemand.contract.arrays import array_tensors
from ondemand.contract.codec import InferResponse, encode_response
from ondemand.testing.models import ffnn

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The benchmark's modules, which are programs and no package."""
    monkeypatch.syspath_prepend(str(BENCH))
    names = (
        "drain",
        "environments",
        "plan",
        "progress",
        "report",
        "results",
        "scenarios",
        "systems",
        "targets",
        "workload",
    )
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in [name for name, module in sys.modules.items() if _is_bench(module)]:
        del sys.modules[name]


def _is_bench(module: object) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(str(BENCH))


class Message:
    """As librdkafka gives it."""

    def __init__(self, key: bytes, scores: object, *, binary: bool) -> None:
        tensors = array_tensors([("y", np.asarray(scores, dtype=np.float32))])
        body = encode_response(InferResponse("ffnn", "1", tensors), binary=binary)
        self._key, self._value, self._length = key, body.value, body.head_length

    def key(self) -> bytes:
        """The request's number."""
        return self._key

    def value(self) -> bytes:
        """The body."""
        return self._value

    def headers(self) -> list[tuple[str, bytes]]:
        """The form of the body."""
        if self._length is None:
            return []
        return [("inference-header-content-length", b"%d" % self._length)]


@pytest.mark.parametrize("form", ["binary", "json"])
def test_answers_are_compared_one_by_one(bench: Any, form: str) -> None:
    """Right, repeated, wrong in one number, somebody else's: each is told from the others."""
    found = bench.workload.Workload(bench.workload.Form(form), ffnn(), bench.workload.images(4))
    binary = form == "binary"

    def answer(number: int, scores: object) -> Message:
        return Message(b"%09d" % number, scores, binary=binary)

    right = [answer(number, [found.expected[number]]) for number in range(4)]
    nearly = np.array([found.expected[1]])
    nearly[0, 9] += 0.001
    replies = [
        *right,
        right[0],
        answer(5, nearly),
        answer(6, [found.expected[3]]),
        answer(7, [found.expected[3]]),
        answer(8, [found.expected[0][:9]]),
    ]

    verdict = found.judge(replies)

    assert (verdict.answered, verdict.repeated, verdict.wrong) == (8, 1, 3)


def test_a_rate_is_taken_from_the_middle(bench: Any) -> None:
    """A slow start and a straggler at the end do not count."""
    slow_start = list(np.linspace(0, 10_000, 250, endpoint=False))
    steady = [10_000 + n for n in range(700)]
    stragglers = list(np.linspace(20_000, 60_000, 50))

    rate, seconds = bench.drain.rate_of([*slow_start, *steady, *stragglers])

    assert rate == pytest.approx(1000.0)
    assert seconds == pytest.approx(0.699)
    assert bench.drain.rate_of([5.0, 5.0]) == (0.0, 0.0)


def test_processor_time_is_counted_between_the_same_bounds(bench: Any) -> None:
    """What the start cost is not spread over the requests."""
    sample = bench.drain.Sample
    samples = [sample(0, 9.0, 0), sample(300, 10.0, 0), sample(900, 10.6, 0), sample(1000, 20.0, 0)]

    assert bench.drain.cpu_us_per_record(samples) == pytest.approx(1000.0)


def run(system: str, rate: float, void: str | None = None) -> dict[str, Any]:
    """A drain's result, as far as targets look at it."""
    return {
        "system": system,
        "form": "binary",
        "guarantee": {"ours": "at-least-once", "echo": "none"}.get(system, "at_least_once"),
        "rate_per_second": rate,
        "void": void,
        "resident_mb": 100.0,
    }


def test_targets_use_medians_of_what_is_not_void(bench: Any) -> None:
    """A void run is no rival; the best variant of a peer is."""
    document = {
        "drain": [
            *(run("ours", rate) for rate in (60.0, 85.0, 999.0)),
            *(run("echo", rate) for rate in (90.0, 100.0, 400.0)),
            run("Kafka Streams, 1 thread", 20.0),
            run("Kafka Streams, 2 threads", 40.0),
            run("Kafka Streams, 2 threads", 4000.0, void="3 of 7 answers are wrong"),
        ],
        "latency": [],
        "figures": [],
    }

    rows = {row[0]: row[1:] for row in bench.targets.verdicts(document)}

    assert rows["drain, binary, by echo"] == ["≥ 0.85 times", "0.85 times", "yes"]
    assert rows["drain, binary, by Kafka Streams (the best of each)"] == [
        "≥ 2 times",
        "2.12 times",
        "yes",
    ]
    assert not [name for name in rows if "round trip" in name or "JSON" in name]


def test_a_void_figure_shows_why_and_no_number(bench: Any) -> None:
    """Whoever reads the report cannot take it for a result."""
    void = run("MLServer", 7777.0, void="3 of 7 answers are wrong")
    void |= {"cpu_us_per_record": 1.0, "request_bytes": 1.0, "reply_bytes": 1.0, "answered": 7}
    document = {
        "runs": {},
        "missing": [],
        "drain": [void],
        "models": [],
        "latency": [],
        "curve": [],
        "figures": [],
        "not_run": [{"of": "drain", "why": "no Java"}],
    }

    page = bench.report.page(document)

    assert "void: 3 of 7 answers are wrong" in page
    assert "7,777" not in page
    assert "| drain | no Java |" in page


def steps_of(bench: Any, scenario: str, *measured: object) -> list[Any]:
    """A step for each value that is to be measured, or for each error that is to be raised."""

    def measure(repeat: int, value: object) -> list[Any]:
        if isinstance(value, BaseException):
            raise value
        return [bench.scenarios.Figure(scenario, "ours", repeat, value, "s")]

    return [
        bench.plan.Step(scenario, "ours", n, 1.0, "figures", partial(measure, n, value))
        for n, value in enumerate(measured, 1)
    ]


@pytest.fixture
def measured(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Carries out steps as one invocation; gives the folder's document, and its page."""

    def no_plots(name: str) -> Path:
        raise bench.environments.NotRunError(name)

    monkeypatch.setattr(bench.results, "python_of", no_plots)

    def carry_out(command: str, *steps: Any) -> tuple[dict[str, Any], str]:
        asked = {step.scenario for step in steps}
        results = bench.results.Results(tmp_path, command, tuple(asked))
        bench.progress.carry_out(steps, results)
        results.write()
        return json.loads((tmp_path / "bench.json").read_text()), (
            tmp_path / "bench.md"
        ).read_text()

    return carry_out


def values_of(document: dict[str, Any], scenario: str) -> list[float]:
    """What the document has of a scenario."""
    return [each["value"] for each in document["figures"] if each["of"] == scenario]


def test_a_step_that_fails_costs_no_other_figure(bench: Any, measured: Any) -> None:
    """The report has the others, and says which is missing, and why."""
    broken = RuntimeError("no partitions")

    document, page = measured("make bench", *steps_of(bench, "cold", 1.0, broken, 3.0))

    assert values_of(document, "cold") == [1.0, 3.0]
    assert "| cold | ours | 2 | RuntimeError: no partitions |" in page


def test_an_interrupted_run_reports_what_it_has(bench: Any, measured: Any) -> None:
    """What was left out is listed, of the scenario it was in and of those after it."""
    steps = [
        *steps_of(bench, "cold", 1.0, KeyboardInterrupt(), 3.0),
        *steps_of(bench, "client", 4.0),
    ]

    document, page = measured("make bench", *steps)

    assert values_of(document, "cold") == [1.0]
    assert values_of(document, "client") == []
    assert "| cold | ours | 2, 3 | interrupted |" in page
    assert "| client | ours | 1 | interrupted |" in page


def test_a_run_replaces_the_scenarios_that_it_measured_and_no_other(
    bench: Any, measured: Any
) -> None:
    """Others keep their figures, and each says by which command they were measured; one that was
    asked for but gave nothing keeps the older ones, and is listed as missing."""
    measured("first", *(steps_of(bench, n, 1.0, 2.0)[0] for n in ("cold", "client", "pause")))
    again = [*steps_of(bench, "cold", 7.0), *steps_of(bench, "pause", KeyboardInterrupt())]

    document, page = measured("second", *again)

    assert values_of(document, "cold") == [7.0]
    assert values_of(document, "client") == [1.0]
    assert values_of(document, "pause") == [1.0]
    commands = {scenario: run["command"] for scenario, run in document["runs"].items()}
    assert commands == {"cold": "second", "client": "first", "pause": "first"}
    assert "| pause | ours | 1 | interrupted |" in page


def test_results_of_another_version_are_not_overwritten(bench: Any, tmp_path: Path) -> None:
    """Whoever has an older file is told to move it, before anything is measured."""
    (tmp_path / "bench.json").write_text('{"drain": []}')

    with pytest.raises(SystemExit, match="move it away"):
        bench.results.Results(tmp_path, "make bench", ("cold",))


def test_the_time_that_is_left_is_learned_from_what_was_done(bench: Any) -> None:
    """The same step takes as long again; guesses for others are corrected by how wrong those were
    that can be compared."""
    cold, client = steps_of(bench, "cold", 0.0), steps_of(bench, "client", 0.0)
    pace = bench.progress.Pace()
    assert pace.left_seconds([*cold, *client]) == 2.0

    pace.took(cold[0], 5.0)

    assert pace.left_seconds([*cold, *cold, *client]) == 5.0 + 5.0 + 5.0


_PARENT = """
import subprocess, sys, time
child = "held = bytearray(80_000_000); import time; time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child])
time.sleep(600)
"""


def test_a_system_costs_what_its_children_cost(bench: Any, tmp_path: Path) -> None:
    """A supervisor's workers are counted, and none of them outlives it."""
    command = [sys.executable, "-c", _PARENT]
    system = bench.systems.System("ours", bench.workload.Form.BINARY, "none", lambda _: command)
    place = bench.systems.Place("", "", "", tmp_path, tmp_path, tmp_path)
    deadline = time.monotonic() + 60.0

    with bench.systems.Running(system, place) as running:
        while running.usage()[1] < 80_000_000:
            assert time.monotonic() < deadline, "its child's memory is not counted"
            time.sleep(0.05)
        (child,) = psutil.Process(running.process_id).children()

    child.wait(60.0)
    assert not child.is_running()
