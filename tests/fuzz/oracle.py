"""What a worker must do with a record, worked out by itself: no batch, no neighbours, no broker."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ondemand import limits
from ondemand.contract.codec import InferResponse, decode_response
from ondemand.contract.record import OutgoingRecord, Record
from ondemand.contract.reply import Served
from ondemand.contract.topics import ReplyTopicRule
from ondemand.processor.decode import Policy, check_route, decode, locate
from ondemand.processor.encode import NO_TIMING, Answer, Desk, bury, encode, refuse, replace
from ondemand.processor.infer import infer
from ondemand.processor.outcome import Rejected, Unanswerable
from ondemand.runtime.base import Model

DEAD_LETTERS = "oracle.dead-letters"
GOOD_PREFIX = b"good-"


@dataclass(frozen=True, slots=True)
class Expected:
    """What one record must lead to. *answer*: correlation ID and status of the reply, if there is
    to be one. *output* is that of a good request."""

    answer: tuple[bytes, str] | None
    dead_letter: bool
    output: np.ndarray | None

    @property
    def is_good(self) -> bool:
        """Whether the request was sent unchanged."""
        return self.output is not None

    @property
    def correlation_id(self) -> bytes | None:
        """The reply's."""
        return None if self.answer is None else self.answer[0]

    @property
    def rows(self) -> int:
        """Of the output."""
        return 0 if self.output is None else len(self.output)

    def is_answered_by(self, response: InferResponse) -> bool:
        """Whether *response* holds the output, up to what batching changes in the last bits."""
        (output,) = response.outputs
        return self.output is not None and bool(
            output.shape == self.output.shape
            and np.allclose(output.data, self.output, rtol=1e-4, atol=1e-6)
        )


class Oracle:
    """Works out what a worker of *model* does; *partitions*: how many each reply topic has."""

    def __init__(self, model: Model, partitions: Mapping[str, int]) -> None:
        self._model = model
        self._partitions = partitions
        self._desk = Desk(Served(model.name, model.version), DEAD_LETTERS)

    def expect(self, record: Record) -> Expected:
        """What must become of *record*."""
        answer = self._deliverable(self._answer(record))
        topics = {outgoing.topic for outgoing in answer.outgoing}
        reply = None
        if answer.located is not None and topics - {DEAD_LETTERS}:
            reply = answer.located.address.correlation_id, str(answer.status)
        output = None
        if reply is not None and reply[0].startswith(GOOD_PREFIX):
            (outgoing,) = answer.outgoing
            head = dict(outgoing.headers).get("inference-header-content-length")
            response = decode_response(outgoing.value or b"", int(head) if head else None)
            output = response.outputs[0].data
        return Expected(reply, DEAD_LETTERS in topics, output)

    def _deliverable(self, answer: Answer) -> Answer:
        """What is left of *answer* once the broker has refused a reply that is too large."""
        reply = answer.outgoing[0]
        if reply.topic == DEAD_LETTERS or _size_bytes(reply) < limits.RECORD_BYTES_MAX:
            return answer
        if instead := replace(answer, "too large", self._desk, now_ms=0):
            return self._deliverable(instead)
        return dataclasses.replace(answer, outgoing=answer.outgoing[1:])

    def _answer(self, record: Record) -> Answer:
        now_ms = time.time_ns() // 1_000_000
        policy = Policy(
            self._model.signature,
            self._model.version,
            reply_topics=ReplyTopicRule(denied=frozenset({record.topic})),
        )
        located = locate(record, policy, now=0.0)
        if isinstance(located, Unanswerable):
            return bury(record, located, self._desk, now_ms=now_ms)
        if gone := check_route(located.address, self._partitions.get(located.address.topic)):
            return bury(record, gone, self._desk, now_ms=now_ms, located=located)
        decoded = decode(located, policy, now_ms=now_ms)
        if isinstance(decoded, Rejected):
            return refuse(located, decoded, self._desk, now_ms=now_ms)
        (outcome,) = infer(self._model, (decoded,))
        return encode(decoded, outcome, self._desk, timing=NO_TIMING, now_ms=now_ms)


def _size_bytes(record: OutgoingRecord) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
