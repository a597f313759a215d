"""Requests whose right answer is known beforehand: it follows from what is asked."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from simulation.plan import ROWS_MAX, Plan

from ondemand.contract.codec import InferRequest, encode_request
from ondemand.contract.dead_letter import UNANSWERABLE
from ondemand.contract.headers import form_headers
from ondemand.contract.record import OutgoingRecord
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import Status

REQUESTS, DEAD_LETTERS, REPLIES = "m.requests", "m.dead-letters", "s.replies"
REPLY_PARTITIONS = 3
POISON = -1.0
GONE_MS = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. *answer* is the status that its content leads to, or ``unanswerable``; what time
    and load may turn it into is checked where it happens. *output*: rows of the right answer."""

    name: str
    answer: str
    output: tuple[tuple[float, float], ...]
    reply_partition: int
    deadline_ms: int | None
    record: OutgoingRecord


def ask(number: int, plan: Plan, chance: random.Random, now_ms: int) -> Asked:
    """Request *number*: most are good, one in four is not."""
    answer = chance.choice(_ANSWERS)
    rows = ROWS_MAX + 1 if answer == Status.TOO_LARGE else chance.randint(1, ROWS_MAX)
    # Every row is of one request alone: an answer that went astray is recognised.
    x = np.array([[number, row] for row in range(rows)], dtype=np.float32)
    if answer == Status.MODEL_ERROR:
        x[-1, 1] = POISON
    width = 3 if answer == Status.INVALID_INPUT else 2
    tensor = Tensor("x", Datatype.FP32, np.resize(x, (rows, width)))
    body = encode_request(InferRequest((tensor,)), binary=chance.random() < 0.5)
    deadline_ms = None
    if chance.random() < plan.deadlines:
        deadline_ms = now_ms + chance.choice((-5, 20, 100, 400, 60_000))
    reply_partition = chance.randrange(REPLY_PARTITIONS)
    headers: dict[str, bytes | None] = {
        "correlation-id": b"r%d" % number,
        "reply-topic": REPLIES.encode(),
        "reply-partition": b"%d" % reply_partition,
        **dict(form_headers(body.head_length)),
    }
    if deadline_ms is not None:
        headers["deadline"] = b"%d" % deadline_ms
    headers |= _FAULTS.get(answer, {})
    if answer == UNANSWERABLE:
        headers |= chance.choice(_NOWHERE)
    return Asked(
        name=f"r{number}",
        answer=answer,
        output=tuple((2.0 * a, 2.0 * b) for a, b in x.tolist()),
        reply_partition=reply_partition,
        deadline_ms=deadline_ms,
        record=OutgoingRecord(
            REQUESTS,
            chance.randrange(plan.partitions),
            chance.choice((None, b"a", b"b")),
            body.value,
            tuple(headers.items()),
        ),
    )


_ANSWERS = (
    *(Status.OK,) * 15,
    Status.MODEL_ERROR,
    Status.INVALID_INPUT,
    Status.INVALID_REQUEST,
    Status.UNSUPPORTED_VERSION,
    Status.TOO_LARGE,
    UNANSWERABLE,
)
_FAULTS: Mapping[str, Mapping[str, bytes | None]] = {
    Status.INVALID_REQUEST: {"traceparent": b""},
    Status.UNSUPPORTED_VERSION: {"model-version": b"7"},
}
_NOWHERE: tuple[Mapping[str, bytes | None], ...] = (
    {"correlation-id": None},
    {"reply-topic": b"missing.replies"},
    {"reply-topic": REQUESTS.encode()},
    {"reply-partition": b"%d" % REPLY_PARTITIONS},
)
