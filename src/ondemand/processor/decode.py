"""A record becomes a request. A bad one becomes a refusal: it never disturbs its neighbours.

Three steps, because the second one needs to know what is on the broker: ``locate`` (whom to
answer), ``check_route`` (is that place there), ``decode`` (what is asked). A fourth, ``redeem``,
where the body is not in the record and has to be fetched first.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ondemand import limits
from ondemand.contract.claim import CLAIM_CHECK, Claim, check_object, parse_claim
from ondemand.contract.codec import InferRequest, read_request
from ondemand.contract.document import quoted
from ondemand.contract.headers import (
    TRACEPARENT,
    TRACESTATE,
    Dialect,
    ReplyAddress,
    Terms,
    index_headers,
    parse_address,
    parse_terms,
)
from ondemand.contract.record import Record
from ondemand.contract.tensor import Tensor
from ondemand.contract.topics import ReplyTopicRule
from ondemand.errors import RequestError, Status, UnanswerableError
from ondemand.processor.outcome import Failed, Rejected, Unanswerable
from ondemand.processor.request import Claimed, Located, Request
from ondemand.runtime.base import Array, Signature, TensorSpec

DEFAULT_RULE = ReplyTopicRule()
_NAMES_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True)
class Policy:
    """What this worker takes: its model's promises and its operator's limits."""

    signature: Signature
    model_version: str
    dialects: tuple[Dialect, ...] = (Dialect.NATIVE,)
    reply_topics: ReplyTopicRule = DEFAULT_RULE
    request_bytes_max: int = limits.REQUEST_BYTES_MAX
    request_rows_max: int = limits.REQUEST_ROWS_MAX
    default_deadline_seconds: float | None = None
    claim_bytes_max: int | None = None
    """Of a body in the object store; None: no claim check is taken."""
    claim_expires_seconds: float = limits.CLAIM_EXPIRES_SECONDS
    verdicts: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """By partition and offset, the requests that are not run any more, and why."""


def locate(record: Record, policy: Policy, *, now: float) -> Located | Unanswerable:
    """Whom to answer. *now* is the worker's monotonic clock, seconds."""
    try:
        fields = index_headers(record.headers)
        address = parse_address(fields, policy.dialects)
    except UnanswerableError as error:
        return Unanswerable(str(error))
    if not policy.reply_topics.allows(address.topic):
        return Unanswerable(
            f"the reply topic {address.topic!r} is not allowed here: this worker answers to "
            f"{' or '.join(policy.reply_topics.patterns)}"
        )
    return Located(record, address, (fields.get(TRACEPARENT), fields.get(TRACESTATE)), now)


def check_route(address: ReplyAddress, partitions: int | None) -> Unanswerable | None:
    """None if the reply's topic and partition are there; *partitions* is what the broker says."""
    if partitions is None:
        return Unanswerable(f"the reply topic {address.topic!r} is not there")
    if address.partition is not None and address.partition >= partitions:
        return Unanswerable(
            f"the reply partition {address.topic}/{address.partition} is not there: "
            f"the topic has {partitions}"
        )
    return None


def decode(
    located: Located, policy: Policy, *, now_ms: int
) -> Request | Claimed | Rejected | Failed:
    """What is asked. *now_ms*: milliseconds since the epoch, for deadlines.

    ``Claimed``: the body is in the object store; fetch it and ``redeem``.
    """
    if policy.verdicts:
        record = located.record
        if (reason := policy.verdicts.get((record.partition, record.offset))) is not None:
            return Failed(Status.MODEL_ERROR, reason)
    try:
        return _decode(located, policy, now_ms)
    except RequestError as error:
        return Rejected(error.status, error.message)


def redeem(claimed: Claimed, content: bytes, policy: Policy) -> Request | Rejected:
    """What is asked, by the *content* of the object that was claimed."""
    try:
        check_object(claimed.claim, content)
        return _request(claimed.located, claimed.terms, content, claimed.deadline_ms, policy)
    except RequestError as error:
        return Rejected(error.status, error.message)


def _decode(located: Located, policy: Policy, now_ms: int) -> Request | Claimed:
    value = located.record.value or b""
    if len(value) > policy.request_bytes_max:
        raise RequestError(
            Status.TOO_LARGE,
            f"the body has {len(value)} bytes; this worker takes {policy.request_bytes_max}",
        )
    fields = index_headers(located.record.headers)
    terms = parse_terms(fields)
    if terms.model_version is not None and terms.model_version != policy.model_version:
        raise RequestError(
            Status.UNSUPPORTED_VERSION,
            f"version {quoted(terms.model_version)} was asked for; "
            f"{policy.model_version!r} is served",
        )
    deadline_ms = deadline_of(located.record, terms.deadline_ms, policy)
    if deadline_ms is not None and deadline_ms <= now_ms:
        raise RequestError(
            Status.DEADLINE_EXCEEDED,
            f"the deadline had passed by {now_ms - deadline_ms} ms when the request was read",
        )
    if CLAIM_CHECK in fields:
        claim = parse_claim(fields, located.record.topic)
        _check_claim(claim, located.record, policy, now_ms)
        return Claimed(located, claim, terms, deadline_ms)
    return _request(located, terms, value, deadline_ms, policy)


def _check_claim(claim: Claim, record: Record, policy: Policy, now_ms: int) -> None:
    """A claim check that is worth to be fetched: nothing is read for one that is not."""
    if policy.claim_bytes_max is None:
        raise RequestError(
            Status.INVALID_REQUEST,
            "this worker takes no claim checks: its operator has to set claim_store",
        )
    if record.value:
        raise RequestError(
            Status.INVALID_REQUEST,
            f"header {CLAIM_CHECK} says that the body is elsewhere, and the record has one, too",
        )
    if claim.size_bytes > policy.claim_bytes_max:
        raise RequestError(
            Status.TOO_LARGE,
            f"the object has {claim.size_bytes} bytes; this worker takes {policy.claim_bytes_max}",
        )
    age_seconds = (now_ms - record.timestamp_ms) / 1000 if record.timestamp_ms >= 0 else 0.0
    if age_seconds > policy.claim_expires_seconds:
        raise RequestError(
            Status.INVALID_REQUEST,
            f"the claim check has expired: it is {age_seconds:.0f} s old, and counts for "
            f"{policy.claim_expires_seconds:g} s",
        )


def _request(
    located: Located, terms: Terms, value: bytes, deadline_ms: int | None, policy: Policy
) -> Request:
    body, layout = read_request(value, terms.head_length)
    inputs = _match_inputs(body.inputs, policy)
    rows = _count_rows(inputs, policy)
    return Request(
        located=located,
        inputs=inputs,
        outputs=_match_outputs(body, policy.signature),
        id=body.id,
        rows=rows,
        size_bytes=len(value),
        kind=_kind_of(inputs, policy.signature),
        deadline_ms=deadline_ms,
        binary=terms.head_length is not None,
        layout=layout,
    )


def deadline_of(record: Record, asked_ms: int | None, policy: Policy) -> int | None:
    """The caller's deadline; without one, the worker's default counted from the record's time."""
    if asked_ms is not None:
        return asked_ms
    if policy.default_deadline_seconds is None or record.timestamp_ms < 0:
        return None
    return record.timestamp_ms + round(policy.default_deadline_seconds * 1000)


def _match_inputs(tensors: Sequence[Tensor], policy: Policy) -> Mapping[str, Array]:
    """The tensors by name, each one as the signature wants it."""
    specs = policy.signature.inputs
    given = {tensor.name: tensor for tensor in tensors}
    if given.keys() != {spec.name for spec in specs}:
        raise RequestError(
            Status.INVALID_INPUT,
            f"inputs {_names_of_stranger(given)} were given; "
            f"this model takes {_names(s.name for s in specs)}",
        )
    for spec in specs:
        _check_tensor(given[spec.name], spec)
    return {spec.name: given[spec.name].data for spec in specs}


def _check_tensor(tensor: Tensor, spec: TensorSpec) -> None:
    if tensor.datatype is not spec.datatype or not _fits(tensor.shape, spec.shape):
        found = TensorSpec(tensor.name, tensor.datatype, tensor.shape)
        raise RequestError(Status.INVALID_INPUT, f"got {found}; this model takes {spec}")


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    if len(shape) != len(wanted):
        return False
    for axis, expected in zip(shape, wanted, strict=True):
        if expected is not None and axis != expected:
            return False
    return True


def _count_rows(inputs: Mapping[str, Array], policy: Policy) -> int:
    if not policy.signature.batched:
        return 1
    counts = set(map(len, inputs.values()))
    if len(counts) > 1:
        raise RequestError(
            Status.INVALID_INPUT, f"the inputs have different row counts: {sorted(counts)}"
        )
    rows = counts.pop()
    if rows == 0:
        raise RequestError(Status.INVALID_INPUT, "the inputs have no rows")
    if rows > policy.request_rows_max:
        raise RequestError(
            Status.TOO_LARGE,
            f"the request has {rows} rows; this worker takes {policy.request_rows_max}",
        )
    return rows


def _match_outputs(body: InferRequest, signature: Signature) -> tuple[str, ...]:
    if not body.outputs:
        return ()
    known = {spec.name for spec in signature.outputs}
    for name in body.outputs:
        if name not in known:
            raise RequestError(
                Status.INVALID_INPUT,
                f"output {quoted(name)} was asked for; this model gives {_names(sorted(known))}",
            )
    if len(set(body.outputs)) != len(body.outputs):
        raise RequestError(Status.INVALID_INPUT, "an output is asked for more than once")
    return body.outputs


def _kind_of(inputs: Mapping[str, Array], signature: Signature) -> Hashable:
    """Requests of one kind can be concatenated: datatypes are the signature's, so shapes decide."""
    if not signature.batched:
        return None
    return tuple([array.shape[1:] for array in inputs.values()])


def _names_of_stranger(names: Collection[str]) -> str:
    """The first of them, cut: no message grows with what a stranger sent."""
    listed = ", ".join(quoted(name) for name in islice(names, _NAMES_SHOWN_MAX))
    left = len(names) - _NAMES_SHOWN_MAX
    return f"{listed} and {left} more" if left > 0 else listed or "none"


def _names(names: Iterable[str]) -> str:
    listed = ", ".join(repr(name) for name in names)
    return listed or "none"
