"""What each step of the worker costs by itself: `python bench/steps.py`.

No broker: requests that were read already, batches of 256, one thread; the least of many repeats,
so that a busy computer disturbs little. Microseconds per request.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from workload import Form, Workload, images

from ondemand.contract.record import Partition, Record
from ondemand.contract.reply import Served, ServerTiming
from ondemand.processor.decode import Policy, check_route, decode, locate
from ondemand.processor.encode import Desk, encode
from ondemand.processor.forms import Forms
from ondemand.processor.infer import infer
from ondemand.processor.ledger import Ledger
from ondemand.processor.micro_batch import BatchLimits, MicroBatcher
from ondemand.runtime.base import Identity
from ondemand.runtime.onnx import OnnxModel, OnnxSession
from ondemand.testing.models import ffnn

BATCH, REPEATS = 256, 40
KNOWN = "decode by form"
STEPS_OF_A_NEW = ("locate", "check_route", "decode")


class Steps:
    """One batch on its way, step by step."""

    def __init__(self, form: Form) -> None:
        model = ffnn()
        session = OnnxSession(model, threads=1)
        identity = Identity("ffnn", "1.0.0", finite_only=True)
        self._model = OnnxModel(session, identity, session.signature)
        self._policy = Policy(session.signature, "1.0.0")
        self._desk = Desk(Served("ffnn", "1.0.0"), "ffnn.dead-letters")
        workload = Workload(form, model, images())
        self._records = [self._read(workload, number) for number in range(BATCH)]

    def _read(self, workload: Workload, number: int) -> Record:
        made = workload.record(number)
        return Record(
            "ffnn.requests", number % 4, number, made.key, made.value, list(made.headers), 0
        )

    def costs(self) -> dict[str, float]:
        """Microseconds per request, by step."""
        costs: dict[str, float] = {}
        policy, desk = self._policy, self._desk

        def step(name: str, work: Callable[[], Any]) -> Any:
            result = work()
            costs[name] = min(_seconds(work) for _ in range(REPEATS)) / BATCH * 1e6
            return result

        located: Any = step("locate", lambda: [locate(r, policy, now=0.0) for r in self._records])
        step("check_route", lambda: [check_route(each.address, 4) for each in located])
        requests: Any = step("decode", lambda: [decode(each, policy, now_ms=0) for each in located])
        forms = Forms(policy)
        for request in requests:  # a form is known from the second time on
            forms.keep(request)
        requests = step(KNOWN, lambda: [forms.read(r, now=0.0, now_ms=0) for r in self._records])
        step("micro_batch", lambda: _batched(requests))
        outcomes = step("infer", lambda: infer(self._model, requests))
        timing = ServerTiming(1.0, 1.0, BATCH)
        step(
            "encode",
            lambda: [
                encode(request, outcome, desk, timing=timing, now_ms=0)
                for request, outcome in zip(requests, outcomes, strict=True)
            ],
        )
        step("ledger", self._through_the_ledger)
        return costs

    def _through_the_ledger(self) -> None:
        ledger: Ledger[None] = Ledger("ffnn.requests")
        ledger.assign([Partition("ffnn.requests", place) for place in range(4)])
        tracks = ledger.tracks()
        for each in self._records:
            ledger.take(each.partition, each.offset)
        for each in self._records:
            tracks[each.partition].finish(each.offset)


def _batched(requests: list[Any]) -> object:
    batcher = MicroBatcher(BatchLimits())
    for request in requests:
        batcher.offer(request)
    return batcher.take(now=1.0)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print both forms side by side."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    by_form = {form: Steps(form).costs() for form in Form}
    print("| step | binary, µs | JSON, µs |\n|---|---:|---:|")
    for step, cost in by_form[Form.BINARY].items():
        print(f"| {step} | {cost:.2f} | {by_form[Form.JSON][step]:.2f} |")
    for name, left_out in (("of a form that is known", STEPS_OF_A_NEW), ("of a new one", (KNOWN,))):
        sums = [
            sum(cost for step, cost in costs.items() if step not in left_out)
            for costs in by_form.values()
        ]
        print(f"| in all, {name} | {sums[0]:.2f} | {sums[1]:.2f} |")


if __name__ == "__main__":
    main()
