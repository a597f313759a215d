"""Requests and models for the processor's unit tests, built in one line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ondemand.contract.headers import Dialect, ReplyAddress, Terms
from ondemand.contract.record import Record
from ondemand.contract.tensor import Datatype
from ondemand.errors import ModelError
from ondemand.processor.request import Located, Request
from ondemand.runtime.base import Array, Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("x", Datatype.FP32, (None, 2)),),
    outputs=(TensorSpec("y", Datatype.FP32, (None, 2)),),
    batched=True,
)
TERMS = Terms(
    head_length=None, deadline_ms=None, model_version=None, traceparent=None, tracestate=None
)


def record(
    offset: int = 0,
    *,
    partition: int = 0,
    key: bytes | None = None,
    value: bytes | None = b"{}",
    headers: Sequence[tuple[str, bytes | None]] = (),
    timestamp_ms: int = 1_000_000,
) -> Record:
    """A record of ``m.requests``."""
    return Record("m.requests", partition, offset, key, value, headers, timestamp_ms)


def located(
    of: Record | None = None, *, taken_at: float = 0.0, topic: str = "s.replies"
) -> Located:
    """A record with a usable reply address."""
    of = of or record()
    address = ReplyAddress(b"c%d" % of.offset, topic, 3, Dialect.NATIVE)
    return Located(of, address, (None, None), taken_at)


def request(
    offset: int = 0,
    *,
    rows: int = 1,
    kind: str = "a",
    key: bytes | None = None,
    partition: int = 0,
    taken_at: float = 0.0,
    deadline_ms: int | None = None,
    size_bytes: int = 10,
    fill: float = 0.0,
    outputs: tuple[str, ...] = (),
) -> Request:
    """A decoded request for ``SIGNATURE`` whose input is filled with one value."""
    return Request(
        located=located(record(offset, partition=partition, key=key), taken_at=taken_at),
        inputs={"x": np.full((rows, 2), fill, dtype=np.float32)},
        outputs=outputs,
        id=None,
        rows=rows,
        size_bytes=size_bytes,
        kind=kind,
        deadline_ms=deadline_ms,
        binary=False,
    )


@dataclass
class DoublingModel:
    """Gives ``y = 2 * x``; fails on any batch that holds *poison*."""

    poison: float | None = None
    signature: Signature = SIGNATURE
    name: str = "m"
    version: str = "1"
    finite_only: bool = True
    runs: list[int] = field(default_factory=list)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = inputs["x"]
        self.runs.append(len(x))
        if self.poison is not None and (x == self.poison).any():
            raise ModelError(f"the model cannot take {self.poison}")
        return {"y": x * 2}

    def stop(self) -> None:
        """Does not listen."""

    def close(self) -> None:
        """Nothing is held."""
