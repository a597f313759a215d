"""What one request costs, by counts: calls, copies and objects do not depend on the computer.

The bounds are what was counted when they were set, and a tenth more. Whoever raises one says why in
docs/performance.md; whoever gets below lowers it.
"""

import numpy as np
import pytest
from unit.calls import calls_of

from ondemand.contract.arrays import array_tensors
from ondemand.contract.codec import InferRequest, encode_request
from ondemand.contract.headers import Dialect, ReplyAddress, Terms
from ondemand.contract.record import Record
from ondemand.contract.reply import Served, ServerTiming
from ondemand.contract.request import request_record
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.processor.decode import Policy, decode, locate
from ondemand.processor.encode import Desk, encode
from ondemand.processor.forms import Forms
from ondemand.processor.infer import _concatenate, infer
from ondemand.processor.outcome import Completed
from ondemand.processor.request import Located, Request
from ondemand.runtime.base import Signature, TensorSpec

REQUESTS = 64
WIDTH = 784
SIGNATURE = Signature(
    inputs=(TensorSpec("x", Datatype.FP32, (None, WIDTH)),),
    outputs=(TensorSpec("y", Datatype.FP32, (None, 10)),),
    batched=True,
)
POLICY = Policy(SIGNATURE, "1")
DESK = Desk(Served("m", "1"), "m.dead-letters")
TERMS = Terms(None, 2_000_000_000_000, None, None, None)


class Model:
    """Ten sums for each row."""

    signature = SIGNATURE
    finite_only = True

    def run(self, inputs):
        return {"y": np.repeat(inputs["x"].sum(axis=1, keepdims=True), 10, axis=1)}


def records(*, binary: bool) -> list[Record]:
    """Requests as a worker reads them, one row each."""
    rows = np.random.default_rng(0).random((REQUESTS, 1, WIDTH), dtype=np.float32)
    made = []
    for number, row in enumerate(rows):
        body = encode_request(InferRequest(array_tensors([("x", row)])), binary=binary)
        address = ReplyAddress(b"%d" % number, "s.replies", 0, Dialect.NATIVE)
        out = request_record("m.requests", key=b"k", address=address, terms=TERMS, body=body)
        value = bytes(out.value or b"")
        made.append(Record("m.requests", 0, number, b"k", value, list(out.headers), 0))
    return made


def decoded(record: Record, forms: Forms) -> Request:
    """As the loop does it."""
    request = forms.read(record, now=0.0, now_ms=0)
    if request is not None:
        return request
    located = locate(record, POLICY, now=0.0)
    assert isinstance(located, Located)
    found = decode(located, POLICY, now_ms=0)
    assert isinstance(found, Request)
    forms.keep(found)
    return found


def answer(all_records: list[Record], forms: Forms) -> int:
    """From records to replies, as the loop does it; how many."""
    requests = [decoded(record, forms) for record in all_records]
    outcomes = infer(Model(), requests)
    timing = ServerTiming(1.0, 1.0, REQUESTS)
    return sum(
        len(encode(request, outcome, DESK, timing=timing, now_ms=0).outgoing)
        for request, outcome in zip(requests, outcomes, strict=True)
    )


@pytest.mark.parametrize(("binary", "calls_max"), [(True, 53), (False, 80)])
def test_a_request_takes_no_more_calls_than_it_did(*, binary: bool, calls_max: int) -> None:
    """Calls of functions, Python's and libraries', from record to reply, per request."""
    all_records, forms = records(binary=binary), Forms(POLICY)
    assert answer(all_records, forms) == REQUESTS  # heads and headers are known from here on

    counted = calls_of(lambda: answer(all_records, forms))

    per_request = counted.total() / REQUESTS
    assert per_request <= calls_max, counted


def test_a_binary_tensor_is_copied_once() -> None:
    """What is decoded are views of the record; the one copy is the batch."""
    forms = Forms(POLICY)
    requests = [decoded(record, forms) for record in records(binary=True)]

    for request in requests:
        value = np.frombuffer(request.located.record.value or b"", dtype=np.uint8)
        assert np.shares_memory(request.inputs["x"].view(np.uint8), value)
    batch = _concatenate(requests)["x"]
    assert batch.shape == (REQUESTS, WIDTH)


def test_an_output_is_a_view_until_it_is_encoded() -> None:
    """Splitting a batch copies nothing."""
    forms = Forms(POLICY)
    requests = [decoded(record, forms) for record in records(binary=True)]
    outputs: list[Tensor] = []
    for outcome in infer(Model(), requests):
        assert isinstance(outcome, Completed)
        outputs += outcome.outputs
    assert len({id(tensor.data.base) for tensor in outputs}) == 1
