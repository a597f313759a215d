"""What the benchmark judges by: a figure counts only if the answers behind it are right."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ondemand.contract.arrays import array_tensors
from ondemand.contract.codec import InferResponse, encode_response
from ondemand.testing.models import ffnn

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The benchmark's modules, which are programs and no package."""
    monkeypatch.syspath_prepend(str(BENCH))
    names = ("drain", "report", "targets", "workload")
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
    assert rows["drain, binary, by Kafka Streams (its best)"] == ["≥ 2 times", "2.12 times", "yes"]
    assert not [name for name in rows if "round trip" in name or "JSON" in name]


def test_a_void_figure_shows_why_and_no_number(bench: Any) -> None:
    """Whoever reads the report cannot take it for a result."""
    void = run("MLServer", 7777.0, void="3 of 7 answers are wrong")
    void |= {"cpu_us_per_record": 1.0, "reply_bytes": 1.0, "answered": 7}
    document = {
        "machine": {"system": "Linux", "processors": 2, "python": "3"},
        "repeats": 1,
        "drain": [void],
        "models": [],
        "latency": [],
        "curve": [],
        "figures": [],
        "not_run": [{"scenario": "drain", "why": "no Java"}],
    }

    page = bench.report.page(document)

    assert "void: 3 of 7 answers are wrong" in page
    assert "7,777" not in page
    assert "| drain | no Java |" in page
