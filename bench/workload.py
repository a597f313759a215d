"""What is asked, and what the right answer is.

The FFNN of the Crayfish benchmark (784-32-32-10, weights from a fixed seed), one row a request, in
both forms of V2. A request's key is its number; every peer returns the key with its answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson

from ondemand.contract.arrays import array_tensors
from ondemand.contract.codec import InferRequest, encode_request
from ondemand.contract.headers import (
    CORRELATION_ID,
    REPLY_PARTITION,
    Dialect,
    ReplyAddress,
    Terms,
)
from ondemand.contract.record import Headers, OutgoingRecord
from ondemand.contract.request import request_record

MODEL = "ffnn"
REPLIES = "bench.replies"
PARTITIONS = 4
DISTINCT = 64  # different inputs; request n carries input n % DISTINCT
TOLERANCE = 1e-5
TERMS = Terms(None, None, None, None, None)
# MLServer finds the model by this header; the others do not look at it.
MLSERVER_MODEL = ("mlserver-model", MODEL.encode())


class Form(StrEnum):
    """How tensors travel."""

    BINARY = "binary"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a run's requests."""

    answered: int
    repeated: int
    wrong: int


class Workload:
    """Requests in one form for a model, and their answers by a run of ONNX Runtime alone."""

    def __init__(self, form: Form, model: bytes, inputs: Sequence[Any]) -> None:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.form = form
        expected = [session.run(["y"], {"x": each})[0].ravel() for each in inputs]
        self.expected = np.stack(expected)
        requests = [InferRequest(array_tensors([("x", each)])) for each in inputs]
        self._bodies = [encode_request(each, binary=form is Form.BINARY) for each in requests]
        self._records = [self.record(number) for number in range(len(self._bodies))]

    @property
    def request_bytes(self) -> float:
        """Bytes of key, headers and value of a request, on average."""
        sizes = [bytes_of(key, value, headers) for _, _, key, value, headers in self._records]
        return sum(sizes) / len(sizes)

    def record(self, number: int) -> OutgoingRecord:
        """Request *number*, for any request topic."""
        key = b"%09d" % number
        place = number % PARTITIONS
        record = request_record(
            "",
            key=key,
            address=ReplyAddress(key, REPLIES, place, Dialect.NATIVE),
            terms=TERMS,
            body=self._bodies[number % len(self._bodies)],
        )
        return record._replace(partition=place, headers=[*record.headers, MLSERVER_MODEL])

    def parts(
        self, number: int, key: bytes, place: int
    ) -> tuple[bytes, list[tuple[str, bytes | None]]]:
        """Value and headers of request *number* for senders in a hurry."""
        record = self._records[number % len(self._bodies)]
        own = {CORRELATION_ID: key, REPLY_PARTITION: b"%d" % place}
        return record.value or b"", [(name, own.get(name, held)) for name, held in record.headers]

    def judge(self, replies: Iterable[Any]) -> Verdict:
        """Compare every reply with the right answer; *replies* are librdkafka's messages."""
        seen: set[bytes] = set()
        numbers: list[int] = []
        scores: list[bytes] = []
        repeated = wrong = 0
        for message in replies:
            key = message.key()
            if key in seen:
                repeated += 1
                continue
            seen.add(key)
            found = scores_of(message)
            if len(found) == self.expected[0].nbytes:
                numbers.append(int(key) % len(self.expected))
                scores.append(found)
            else:
                wrong += 1
        wanted = self.expected[np.array(numbers, dtype=np.intp)]
        rows = np.frombuffer(b"".join(scores), dtype="<f4").reshape(wanted.shape)
        close = np.abs(rows - wanted) < TOLERANCE
        return Verdict(len(seen), repeated, wrong + int((~close.all(axis=1)).sum()))

    def is_right(self, message: Any) -> bool:
        """Whether *message* answers the request that its key names with the right scores."""
        return not self.judge((message,)).wrong


@dataclass(frozen=True, slots=True)
class Backlog:
    """Requests that lie, or will lie, on *topic*, and the model that answers them."""

    topic: str
    records: int
    workload: Workload
    model: Path
    package: Path
    partitions: int = PARTITIONS


def scores_of(message: Any) -> bytes:
    """The first output of a reply in either form, as FP32; empty where it has none."""
    try:
        length = dict(message.headers() or ()).get("inference-header-content-length")
        if length is not None:
            return bytes(message.value()[int(length) :])
        outputs = orjson.loads(message.value())["outputs"]
        return np.array(outputs[0]["data"], dtype="<f4").tobytes()
    except (ValueError, KeyError, IndexError, TypeError):
        return b""


def images(count: int = DISTINCT) -> list[Any]:
    """Inputs for the FFNN, one row each."""
    return list(np.random.default_rng(1).random((count, 1, 784), dtype=np.float32))


def message_bytes(message: Any) -> int:
    """Bytes of key, headers and value of librdkafka's *message*."""
    return bytes_of(message.key(), message.value(), message.headers() or ())


def bytes_of(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Bytes that a record's content has on the broker, without framing."""
    named = sum(len(name) + len(value or b"") for name, value in headers)
    return len(key or b"") + named + len(value or b"")
