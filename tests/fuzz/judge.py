"""What must hold for every record, whatever is in it: exactly one answer, and a bounded one."""

import numpy as np
from fuzz.records import Sample
from fuzz.targets import REPLIES, TARGETS, WIDTH, Target

from ondemand import limits
from ondemand.contract.codec import decode_error, decode_response
from ondemand.contract.dead_letter import read_dead_letter, redriven_record
from ondemand.contract.record import OutgoingRecord, Record
from ondemand.contract.reply import Served, correlation_of, parse_reply
from ondemand.contract.tensor import DTYPES, Datatype
from ondemand.errors import RequestError, Status
from ondemand.processor.decode import check_route, decode, locate
from ondemand.processor.encode import NO_TIMING, Answer, Desk, bury, encode, refuse
from ondemand.processor.forms import Forms
from ondemand.processor.infer import infer
from ondemand.processor.outcome import Failed, Rejected, Unanswerable
from ondemand.processor.request import Located, Request
from ondemand.runtime.base import Array, Arrays, Signature

DESK = Desk(Served("m", "1"), "m.dead-letters")
NOW_MS = 1_700_000_000_000
PARTITIONS = {REPLIES: 2}
REFUSALS = {
    Status.INVALID_REQUEST,
    Status.INVALID_INPUT,
    Status.TOO_LARGE,
    Status.UNSUPPORTED_VERSION,
    Status.DEADLINE_EXCEEDED,
}
MESSAGE_BYTES_MAX = 1_000
"""Of an error's body: it must not grow with what a stranger sent."""

SQUEEZED = {"bomb", "compressed"}
"""Changes after which no body is a request: nothing here inflates what was compressed."""

_INEXACT = {Datatype.FP16, Datatype.FP32, Datatype.FP64}
_SAID_ENOUGH = 3
"""So often a record must be read until all that can be remembered of it is."""

_forms = {target.name: Forms(target.policy) for target in TARGETS}


class Echo:
    """A model that gives back what it takes, and takes what its signature says."""

    def __init__(self, target: Target) -> None:
        self.signature: Signature = target.policy.signature
        self.finite_only = target.finite_only

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Each input as the output of the same place."""
        if self.finite_only:
            for spec in self.signature.inputs:
                inexact = spec.datatype in _INEXACT
                assert not inexact or np.isfinite(inputs[spec.name]).all(), "NaN came through"
        places = zip(self.signature.inputs, self.signature.outputs, strict=True)
        return {gives.name: inputs[takes.name] for takes, gives in places}


def judge(sample: Sample) -> str:
    """The status or the reason of the one answer that *sample* gets.

    Raises ``AssertionError``, or whatever broke, where it gets none or a wrong one.
    """
    answer = answer_of(sample.record, sample.target)
    _check(sample.record, answer)
    for _ in range(_SAID_ENOUGH):
        again = remembered_answer_of(sample.record, sample.target)
        assert again.outgoing == answer.outgoing, "what is remembered of a form changes the answer"
    if not sample.changes:
        assert answer.status == Status.OK, answer
    if SQUEEZED.intersection(sample.changes):
        assert answer.status != Status.OK, "what was compressed has been inflated"
    check_readers(sample.record)
    return answer.status


def remembered_answer_of(record: Record, target: Target) -> Answer:
    """As ``answer_of``, by what was remembered of the records before, where there is anything."""
    request = _forms[target.name].read(record, now=0.0, now_ms=NOW_MS)
    if request is None:
        return answer_of(record, target)
    address = request.located.address
    if check_route(address, PARTITIONS.get(address.topic)):
        return answer_of(record, target)
    return _run(request, target)


def answer_of(record: Record, target: Target) -> Answer:
    """What a worker does with *record*, around a model that gives back what it takes."""
    policy = target.policy
    located = locate(record, policy, now=0.0)
    if isinstance(located, Unanswerable):
        return bury(record, located, DESK, now_ms=NOW_MS)
    if gone := check_route(located.address, PARTITIONS.get(located.address.topic)):
        return bury(record, gone, DESK, now_ms=NOW_MS, located=located)
    return _decoded(located, target)


def _decoded(located: Located, target: Target) -> Answer:
    decoded = decode(located, target.policy, now_ms=NOW_MS)
    if isinstance(decoded, Rejected):
        assert decoded.status in REFUSALS, decoded
        return refuse(located, decoded, DESK, now_ms=NOW_MS)
    _forms[target.name].keep(decoded)
    return _run(decoded, target)


def _run(request: Request, target: Target) -> Answer:
    _check_request(request, target)
    (outcome,) = infer(Echo(target), (request,))
    return encode(request, outcome, DESK, timing=NO_TIMING, now_ms=NOW_MS)


def _check_request(request: Request, target: Target) -> None:
    """What reaches the model is what its signature says."""
    signature = target.policy.signature
    assert request.inputs.keys() == {spec.name for spec in signature.inputs}
    for spec in signature.inputs:
        array = request.inputs[spec.name]
        assert array.dtype == DTYPES[spec.datatype], array.dtype
        assert array.ndim == len(spec.shape), array.shape
        if signature.batched:
            assert len(array) == request.rows, (array.shape, request.rows)
        if spec.datatype is Datatype.BYTES:
            assert all(type(element) is bytes for element in array.reshape(-1).tolist())
    assert 0 < request.rows <= limits.REQUEST_ROWS_MAX, request.rows
    assert target.name != "numbers" or request.inputs["x"].shape[1] == WIDTH


def _check(record: Record, answer: Answer) -> None:
    """Where the answer goes, and what it holds."""
    topics = sorted(outgoing.topic for outgoing in answer.outgoing)
    if isinstance(answer.outcome, Unanswerable):
        assert topics == [DESK.dead_letter_topic], topics
    elif isinstance(answer.outcome, Failed):
        # The one failure that a sound model leaves: JSON that grows beyond the limit.
        assert answer.outcome.message.startswith("the reply would have"), answer.outcome
        assert topics == [DESK.dead_letter_topic, REPLIES], topics
    else:
        assert topics == [REPLIES], topics
    for outgoing in answer.outgoing:
        read = Record(outgoing.topic, 0, 0, outgoing.key, outgoing.value, outgoing.headers, 0)
        if outgoing.topic == DESK.dead_letter_topic:
            _check_dead_letter(read, record)
        else:
            _check_reply(outgoing, read, answer)


def _check_dead_letter(read: Record, record: Record) -> None:
    letter = read_dead_letter(read)
    assert letter.source == record.source
    if read.value is None and record.value is not None:  # larger than a dead letter may be
        kept = sum(len(part or b"") for part in (record.key, record.value))
        kept += sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
        assert kept > limits.REQUEST_BYTES_MAX, "a record that could be kept was not"
        assert "too large to be kept" in letter.message, letter.message
    else:
        assert (read.key, read.value) == (record.key, record.value)
        assert list(read.headers[: len(record.headers)]) == list(record.headers)
    assert len(letter.message.encode()) <= MESSAGE_BYTES_MAX, "the message grows with the record"


def _check_reply(outgoing: OutgoingRecord, read: Record, answer: Answer) -> None:
    reply = parse_reply(read)
    assert reply.status == answer.status, (reply, answer.status)
    assert answer.located is not None
    address = answer.located.address
    assert outgoing.partition == address.partition
    assert address.correlation_id in dict(outgoing.headers).values()
    if reply.status == Status.OK:
        decode_response(reply.body.value, reply.body.head_length)
        return
    assert decode_error(reply.body.value)
    size = len(reply.body.value)
    assert size <= MESSAGE_BYTES_MAX, f"a message of {size} bytes grows with the request"


def check_readers(record: Record) -> None:
    """The readers of the other topics meet strangers' records, too: clients and operators."""
    correlation_of(record)
    reply = parse_reply(record)
    if reply.status == Status.OK:
        try:
            decode_response(reply.body.value, reply.body.head_length)
        except RequestError as error:
            assert error.status is Status.INTERNAL, error  # noqa: PT017 - which one it is
    letter = read_dead_letter(record)
    assert letter.source_topic is not None
    redriven_record(letter, "m.requests")
