"""What is asked in a run: kinds of requests, drawn from the seed, and what each must be answered.

Pure. A request says in its tensor which number and which kind it is, so that every answer can be
checked by its value; records that hold no readable tensor say it in headers, which workers ignore.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ondemand.contract.codec import Body, InferRequest, decode_request, encode_request
from ondemand.contract.headers import Dialect, HeaderFields, ReplyAddress, Terms, parse_head_length
from ondemand.contract.record import OutgoingRecord
from ondemand.contract.request import request_record
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import RequestError

INPUT = "x"
NUMBERS_MAX = 1_000_000
KEYS = 48
KIND_HEADER = "chaos-kind"


class Kind(StrEnum):
    """What is special about a request."""

    PLAIN = "plain"
    SLOW = "slow"  # the model takes long over it
    POISON = "poison"  # the model fails on it, and on every batch that it is in
    MALFORMED = "malformed"  # its body is no V2 request
    EXPIRED = "expired"  # its deadline has passed before it is sent
    UNANSWERABLE = "unanswerable"  # it does not say where to answer


STATUS = {
    Kind.PLAIN: "ok",
    Kind.SLOW: "ok",
    Kind.POISON: "model-error",
    Kind.MALFORMED: "invalid-request",
    Kind.EXPIRED: "deadline-exceeded",
}
"""What a reply must say; UNANSWERABLE gets none."""

LETTER = {Kind.POISON: "model-error", Kind.UNANSWERABLE: "unanswerable"}
"""For which reason a dead letter must be there, too."""

CODES = {Kind.PLAIN: 0.0, Kind.POISON: 1.0, Kind.SLOW: 2.0}
"""How the tensor says it; ``transform.py`` of the worker reads these."""

ODDS = (
    (Kind.SLOW, 0.005),
    (Kind.POISON, 0.005),
    (Kind.MALFORMED, 0.005),
    (Kind.EXPIRED, 0.003),
    (Kind.UNANSWERABLE, 0.002),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the raw producers."""

    number: int
    kind: Kind
    key: bytes


def draw(seed: int, count: int) -> Sequence[Ask]:
    """*count* requests; the same seed gives the same ones."""
    rng = random.Random(f"load {seed}")
    kinds = rng.choices(
        [Kind.PLAIN, *(kind for kind, _ in ODDS)],
        [1 - sum(odds for _, odds in ODDS), *(odds for _, odds in ODDS)],
        k=count,
    )
    return [Ask(number, kind, b"key-%d" % rng.randrange(KEYS)) for number, kind in enumerate(kinds)]


def row(number: int, kind: Kind) -> NDArray[np.float32]:
    """The tensor of one request: FP32[1, 4]."""
    high, low = divmod(number % NUMBERS_MAX, 1000)
    return np.array([[CODES.get(kind, 0.0), high / 1000, low / 1000, 1.0]], np.float32)


def number_and_kind(tensor: NDArray[np.float32]) -> tuple[int, Kind]:
    """What ``row`` was made of. Raises ``ValueError`` where it was not."""
    code, high, low, _ = tensor[0].tolist()
    kind = next((kind for kind, value in CODES.items() if value == code), None)
    if kind is None:
        raise ValueError(f"no kind of request has the code {code}")
    return round(high * 1000) * 1000 + round(low * 1000), kind


def record(
    ask: Ask, *, run: str, topic: str, reply: tuple[str, int], now_ms: int
) -> OutgoingRecord:
    """The record to publish for *ask*."""
    tensor = Tensor(INPUT, Datatype.FP32, row(ask.number, ask.kind))
    body = encode_request(InferRequest((tensor,)), binary=ask.number % 3 > 0)
    if ask.kind is Kind.MALFORMED:
        body = Body(b'{"inputs": [{"name": ', None)
    deadline_ms = now_ms - 1 if ask.kind is Kind.EXPIRED else None
    made = request_record(
        topic,
        key=ask.key,
        address=ReplyAddress(b"%s-%d" % (run.encode(), ask.number), *reply, Dialect.NATIVE),
        terms=Terms(body.head_length, deadline_ms, None, None, None),
        body=body,
    )
    headers = [(KIND_HEADER, f"{ask.kind} {ask.number}".encode()), *made.headers]
    if ask.kind is Kind.UNANSWERABLE:
        headers = [(name, value) for name, value in headers if name != "correlation-id"]
    return made._replace(headers=headers)


def read(fields: HeaderFields, value: bytes | None) -> tuple[int, Kind]:
    """The number and the kind of a request as it stands in its topic. Raises ``ValueError``."""
    if said := fields.get(KIND_HEADER):
        kind, number = said.decode().split()
        return int(number), Kind(kind)
    try:
        request = decode_request(value or b"", parse_head_length(fields))
    except RequestError as error:
        raise ValueError(f"a request that nobody here has sent: {error.message}") from error
    return number_and_kind(request.inputs[0].data)
