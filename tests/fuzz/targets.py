"""What hostile records are aimed at: models of several kinds, and a good request for each."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ondemand.contract.codec import Body, InferRequest, encode_request
from ondemand.contract.headers import (
    ROUTING,
    Dialect,
    ReplyAddress,
    Terms,
    encode_partition,
    form_headers,
)
from ondemand.contract.record import OutgoingRecord
from ondemand.contract.request import request_record
from ondemand.contract.tensor import DTYPES, Datatype, Tensor
from ondemand.processor.decode import Policy
from ondemand.runtime.base import Array, Signature, TensorSpec

REPLIES = "s.replies"
REQUESTS = "m.requests"
WIDTH = 8
_TEXTS = (b"", b"a", "é".encode(), b"long " * 9, b"\0", b"\xff\0")
_JSON_TEXTS = 5  # so many of them are UTF-8


@dataclass(frozen=True, slots=True)
class Target:
    """One model and what its worker takes."""

    name: str
    policy: Policy
    finite_only: bool


def _target(
    name: str,
    *inputs: tuple[Datatype, tuple[int | None, ...]],
    batched: bool = True,
    dialects: tuple[Dialect, ...] = (Dialect.NATIVE,),
    finite_only: bool = True,
) -> Target:
    """A model with an output for each input, of the same datatype and shape."""
    specs = [
        TensorSpec(f"x{number}" if number else "x", datatype, shape)
        for number, (datatype, shape) in enumerate(inputs)
    ]
    outputs = [TensorSpec(spec.name.replace("x", "y"), spec.datatype, spec.shape) for spec in specs]
    signature = Signature(tuple(specs), tuple(outputs), batched)
    return Target(name, Policy(signature, "1", dialects), finite_only)


TARGETS: Sequence[Target] = (
    _target("numbers", (Datatype.FP32, (None, WIDTH))),
    _target("texts", (Datatype.BYTES, (None,)), dialects=tuple(Dialect)),
    _target(
        "several",
        (Datatype.INT64, (None,)),
        (Datatype.BOOL, (None, 2)),
        (Datatype.FP64, (None, None)),
        (Datatype.UINT8, (None, 3)),
        dialects=(Dialect.SPRING, Dialect.SMALLRYE),
        finite_only=False,
    ),
    _target("unbatched", (Datatype.FP16, (2, None)), (Datatype.INT32, ()), batched=False),
)


@dataclass(frozen=True, slots=True)
class Good:
    """A request that *target*'s model answers."""

    body: Body
    headers: Sequence[tuple[str, bytes | None]]
    key: bytes | None


def good(target: Target, number: int, chance: random.Random) -> Good:
    """Request *number*, with a correlation ID of its own."""
    signature = target.policy.signature
    binary = chance.random() < 0.5
    rows = chance.randint(1, 3)
    tensors = [
        Tensor(spec.name, spec.datatype, _array(spec, rows, number, chance, binary=binary))
        for spec in signature.inputs
    ]
    names = [spec.name for spec in signature.outputs]
    wanted = tuple(chance.sample(names, chance.randint(0, len(names))))
    body = encode_request(InferRequest(tuple(tensors), wanted, f"id-{number}"), binary=binary)
    dialect = chance.choice(target.policy.dialects)
    address = ReplyAddress(b"fuzz-%d" % number, REPLIES, chance.randint(0, 1), dialect)
    record: OutgoingRecord = request_record(
        REQUESTS,
        key=chance.choice((None, b"", b"k")),
        address=address,
        terms=Terms(None, None, None, None, None),
        body=body,
    )
    return Good(body, record.headers, record.key)


def _array(
    spec: TensorSpec, rows: int, number: int, chance: random.Random, *, binary: bool
) -> Array:
    """An array that fits *spec*: the first open axis has *rows*, the others are drawn."""
    shape = [axis if axis is not None else rows for axis in spec.shape[:1]]
    shape += [axis if axis is not None else chance.randint(0, 3) for axis in spec.shape[1:]]
    count = int(np.prod(shape, dtype=np.int64))
    if spec.datatype is Datatype.BYTES:
        texts = _TEXTS if binary else _TEXTS[:_JSON_TEXTS]
        return np.array([chance.choice(texts) for _ in range(count)], dtype=object).reshape(shape)
    numbers = (np.arange(count) + number) % (2 if spec.datatype is Datatype.BOOL else 100)
    return numbers.astype(DTYPES[spec.datatype]).reshape(shape)


HEADER_NAMES = (
    "correlation-id",
    "reply-topic",
    "reply-partition",
    "content-type",
    "deadline",
    "model-version",
    "inference-header-content-length",
    "traceparent",
    "tracestate",
    "content-encoding",
    "dead-letter-source",
    "dead-letter-reason",
    "redrive-attempts",
    "status",
    "\xe9",
    "",
    *(name for each in ROUTING.values() for name in (each.correlation, each.topic, each.partition)),
)
PARTITIONS = tuple(encode_partition(1, each) for each in ROUTING.values())
FORMS = (form_headers(None), form_headers(3))
