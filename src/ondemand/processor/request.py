"""A record on its way through the worker: located (we know whom to answer), then decoded."""

from collections.abc import Hashable
from dataclasses import dataclass

from ondemand.contract.claim import Claim
from ondemand.contract.headers import ReplyAddress, Terms
from ondemand.contract.json_numbers import ListLayout
from ondemand.contract.layout import Layout
from ondemand.contract.record import Record
from ondemand.runtime.base import Arrays

Trace = tuple[bytes | None, bytes | None]
"""``traceparent`` and ``tracestate``, as they came."""

# These two are made once for each request: not frozen, because a frozen dataclass takes twice as
# long to make. Nothing changes them after decode.


@dataclass(slots=True, eq=False)
class Located:
    """A record that can be answered, whatever else is wrong with it."""

    record: Record
    address: ReplyAddress
    trace: Trace
    taken_at: float  # seconds on the worker's monotonic clock


@dataclass(frozen=True, slots=True, eq=False)
class Claimed:
    """A sound request but for its body, which is in the object store."""

    located: Located
    claim: Claim
    terms: Terms
    deadline_ms: int | None


@dataclass(slots=True, eq=False)
class Request:
    """A decoded request that fits the model's signature.

    *rows* is 1 for models without a batch axis. Requests of the same *kind* (datatypes and trailing
    shapes) can be concatenated. *deadline_ms* is in milliseconds since the epoch. *binary*: the
    form of the body, and so of the reply's. *layout*: how the next one like it is read quickly.
    """

    located: Located
    inputs: Arrays
    outputs: tuple[str, ...]
    id: str | None
    rows: int
    size_bytes: int
    kind: Hashable
    deadline_ms: int | None
    binary: bool
    layout: Layout | ListLayout | None = None
