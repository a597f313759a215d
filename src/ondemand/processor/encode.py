"""An outcome becomes a reply under the request's own correlation ID, and a dead letter where the
contract wants one. A reply that cannot be made becomes one that says so: never silence."""

from dataclasses import dataclass

from ondemand import limits
from ondemand.contract.codec import Body, encode_error
from ondemand.contract.dead_letter import UNANSWERABLE, dead_letter_record
from ondemand.contract.record import OutgoingRecord, Record
from ondemand.contract.reply import Served, ServerTiming, reply_record
from ondemand.errors import Status
from ondemand.processor.outcome import Completed, Failed, Outcome, Rejected, Unanswerable
from ondemand.processor.request import Located, Request

NO_TIMING = ServerTiming()


@dataclass(frozen=True, slots=True)
class Desk:
    """What stands on every answer of one worker."""

    served: Served
    dead_letter_topic: str
    reply_bytes_max: int = limits.REPLY_BYTES_MAX

    @property
    def worker(self) -> str:
        """As dead letters name the worker: ``model/version``."""
        return f"{self.served.model_name}/{self.served.model_version}"


@dataclass(slots=True, eq=False)
class Answer:
    """What answers one record: a reply, a dead letter, or both. *located* is None where nobody can
    be told. Made once for each request, so not frozen; nothing changes it."""

    record: Record
    located: Located | None
    outcome: Outcome | Unanswerable
    outgoing: tuple[OutgoingRecord, ...]

    @property
    def status(self) -> str:
        """The reply's status, or the dead letter's reason."""
        if isinstance(self.outcome, Completed):
            return Status.OK
        return UNANSWERABLE if isinstance(self.outcome, Unanswerable) else self.outcome.status

    @property
    def has_dead_letter(self) -> bool:
        """Whether the record is kept for operators."""
        return isinstance(self.outcome, Failed | Unanswerable)


def encode(
    request: Request, outcome: Outcome, desk: Desk, *, timing: ServerTiming, now_ms: int
) -> Answer:
    """The answer to a request that was decoded."""
    located = request.located
    if not isinstance(outcome, Completed):
        return refuse(located, outcome, desk, timing=timing, now_ms=now_ms)
    body = _success_body(request, outcome, desk)
    if isinstance(body, Failed):
        return refuse(located, body, desk, timing=timing, now_ms=now_ms)
    return Answer(
        located.record, located, outcome, (_reply(located, Status.OK, body, desk, timing),)
    )


def refuse(
    located: Located,
    outcome: Rejected | Failed,
    desk: Desk,
    *,
    now_ms: int,
    timing: ServerTiming = NO_TIMING,
) -> Answer:
    """The answer to a request that has no outputs, decoded or not."""
    body = Body(encode_error(outcome.status, outcome.message), None)
    outgoing = [_reply(located, outcome.status, body, desk, timing)]
    if isinstance(outcome, Failed):
        outgoing.append(
            _dead_letter(
                located.record,
                outcome.status,
                outcome.message,
                desk,
                now_ms=now_ms,
                located=located,
            )
        )
    return Answer(located.record, located, outcome, tuple(outgoing))


def bury(
    record: Record,
    outcome: Unanswerable,
    desk: Desk,
    *,
    now_ms: int,
    located: Located | None = None,
) -> Answer:
    """The dead letter for a record that nobody can be told about."""
    letter = _dead_letter(
        record, UNANSWERABLE, outcome.message, desk, now_ms=now_ms, located=located
    )
    return Answer(record, located, outcome, (letter,))


def replace(answer: Answer, reason: str, desk: Desk, *, now_ms: int) -> Answer | None:
    """What to publish when the broker refuses the reply of *answer* for good; None: nothing more.

    Outputs that cannot be delivered become ``internal`` with a dead letter. A refusal that cannot
    be delivered becomes a dead letter. One that already has its dead letter needs no second one.
    """
    located = answer.located
    if located is None or isinstance(answer.outcome, Failed | Unanswerable):
        return None
    if isinstance(answer.outcome, Completed):
        failure = Failed(Status.INTERNAL, f"the broker refused the reply: {reason}")
        return refuse(located, failure, desk, now_ms=now_ms)
    outcome = Unanswerable(f"the broker refused the reply to {located.address.topic}: {reason}")
    return bury(answer.record, outcome, desk, now_ms=now_ms, located=located)


def _success_body(request: Request, outcome: Completed, desk: Desk) -> Body | Failed:
    try:
        body = outcome.rows.body(
            outcome.start,
            outcome.stop,
            model_name=desk.served.model_name,
            model_version=desk.served.model_version,
            names=request.outputs,
            id=request.id,
            binary=request.binary,
        )
    except ValueError as error:
        return Failed(Status.MODEL_ERROR, f"the model's answer cannot be written: {error}")
    if len(body.value) > desk.reply_bytes_max:
        return Failed(
            Status.INTERNAL,
            f"the reply would have {len(body.value)} bytes; the limit is {desk.reply_bytes_max}: "
            "ask for fewer rows or outputs",
        )
    return body


def _reply(
    located: Located, status: Status, body: Body, desk: Desk, timing: ServerTiming
) -> OutgoingRecord:
    return reply_record(
        located.address,
        key=located.record.key,
        status=status,
        served=desk.served,
        timing=timing,
        body=body,
        trace=located.trace,
    )


def _dead_letter(
    record: Record, reason: str, message: str, desk: Desk, *, now_ms: int, located: Located | None
) -> OutgoingRecord:
    return dead_letter_record(
        desk.dead_letter_topic,
        record,
        reason=reason,
        message=message,
        worker=desk.worker,
        time_ms=now_ms,
        dialect=None if located is None else located.address.dialect,
    )
