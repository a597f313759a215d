"""An outcome becomes a reply, and a dead letter where there must be one."""

import numpy as np
import orjson
from unit.processor.builders import located, record, request

from ondemand.contract.reply import Served, ServerTiming
from ondemand.contract.rows import Rows
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import Status
from ondemand.processor.encode import Desk, bury, encode, refuse, replace
from ondemand.processor.outcome import Completed, Failed, Rejected, Unanswerable

DESK = Desk(Served("m", "1"), "m.dead-letters", reply_bytes_max=400)
TIMING = ServerTiming(1.25, 0.5, 32)


def completed(data=((1.0, 2.0),)):
    """An outcome with one output."""
    tensor = Tensor("y", Datatype.FP32, np.asarray(data, dtype=np.float32))
    return Completed(Rows((tensor,), batched=True), 0, len(data))


def answer_to(outcome, **fields):
    """The answer to a request without a deadline."""
    return encode(request(7, key=b"k", **fields), outcome, DESK, timing=TIMING, now_ms=5)


def test_outputs_go_to_the_address_under_the_correlation_id():
    """All headers of the contract, the request's key, and the outputs."""
    (reply,) = answer_to(completed()).outgoing
    headers = dict(reply.headers)

    assert (reply.topic, reply.partition, reply.key) == ("s.replies", 3, b"k")
    assert headers["correlation-id"] == b"c7"
    assert headers["status"] == b"ok"
    assert (headers["model-name"], headers["model-version"]) == (b"m", b"1")
    assert headers["server-timing"] == TIMING.header()
    assert orjson.loads(reply.value)["outputs"][0]["data"] == [1.0, 2.0]


def test_a_refusal_is_answered_and_that_is_all():
    """What the caller must mend is no operator's dead letter."""
    answer = answer_to(Rejected(Status.INVALID_INPUT, "no rows"))

    (reply,) = answer.outgoing
    assert orjson.loads(reply.value) == {"error": "no rows", "code": "invalid-input"}
    assert not answer.has_dead_letter


def test_a_failure_is_answered_and_kept():
    """The model's team finds the request as it came, with the reason beside it."""
    answer = answer_to(Failed(Status.MODEL_ERROR, "out of range"))
    reply, letter = answer.outgoing
    headers = dict(letter.headers)

    assert dict(reply.headers)["status"] == b"model-error"
    assert (letter.topic, letter.key, letter.value) == ("m.dead-letters", b"k", b"{}")
    assert headers["dead-letter-reason"] == b"model-error"
    assert headers["dead-letter-source"] == b"m.requests/0/7"
    assert answer.has_dead_letter


def test_what_json_cannot_carry_is_said_not_nulled():
    """NaN in a JSON reply would become null without a word."""
    answer = answer_to(completed([[np.nan, 1.0]]))

    assert answer.status == Status.MODEL_ERROR
    assert "nan, which JSON cannot hold" in answer.outcome.message


def test_a_reply_that_is_too_large_is_never_silence():
    """The caller learns it, the operator finds the request."""
    answer = answer_to(completed(np.ones((200, 2))))

    assert answer.status == Status.INTERNAL
    assert len(answer.outgoing) == 2
    assert "400" in answer.outcome.message


def test_nobody_to_answer_is_a_dead_letter():
    """Never to nowhere."""
    answer = bury(record(4), Unanswerable("no correlation ID"), DESK, now_ms=5)

    (letter,) = answer.outgoing
    assert answer.status == "unanswerable"
    assert dict(letter.headers)["dead-letter-message"] == b"no correlation ID"


def test_a_reply_that_the_broker_refuses_is_replaced_once():
    """Outputs become `internal`, a refusal becomes a dead letter, a failure has one already."""
    first = replace(answer_to(completed()), "too large", DESK, now_ms=5)

    assert first.status == Status.INTERNAL
    assert first.has_dead_letter
    assert replace(first, "topic gone", DESK, now_ms=5) is None

    refused = refuse(located(), Rejected(Status.TOO_LARGE, "rows"), DESK, now_ms=5)
    buried = replace(refused, "topic gone", DESK, now_ms=5)

    assert buried.status == "unanswerable"
    assert "s.replies" in buried.outcome.message
