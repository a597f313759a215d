"""What a caller gets: a prediction, or the error that says why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from ondemand.client.bodies import response_arrays
from ondemand.client.correlation import Arrival, Cause, NoReply
from ondemand.client.exchange import Exchange
from ondemand.contract.codec import decode_error
from ondemand.contract.headers import printable
from ondemand.contract.record import Record
from ondemand.contract.reply import ServerTiming, parse_reply
from ondemand.errors import (
    REFUSALS,
    InternalError,
    NotSentError,
    OutcomeUnknownError,
    PredictionError,
    RequestError,
    Status,
)

UNKNOWN: Final = "is a worker running, and does it keep up?"
"""What can be said of who could have answered where workers do not announce themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A model's answer to one request.

    *outputs*: NumPy arrays by name, in the reply's order; BYTES are object arrays of ``bytes``.
    *server_timing*: the worker's own account, as it came (see ``timing``).
    *round_trip_ms*: from publishing the request to having the reply, here. The arrays may share
    memory with the reply and be read-only: copy what you want to change.
    """

    outputs: Mapping[str, NDArray[Any]]
    model_name: str
    model_version: str
    server_timing: bytes | None
    round_trip_ms: float
    correlation_id: bytes

    @property
    def timing(self) -> ServerTiming:
        """The worker's own account, read: ``queue_ms``, ``model_ms``, ``batch_rows``."""
        return ServerTiming.parse(self.server_timing)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The output *name*. Raises ``KeyError`` that lists the outputs there are."""
        if name not in self.outputs:
            raise KeyError(f"no output {name!r}: there are {', '.join(self.outputs) or 'none'}")
        return self.outputs[name]

    def __repr__(self) -> str:
        outputs = ", ".join(f"{name}{list(array.shape)}" for name, array in self.outputs.items())
        return (
            f"<Prediction [{outputs} | {self.model_name} {self.model_version} | "
            f"{self.round_trip_ms:.1f} ms]>"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one of many inputs; *index* counts them from 0.

    ``outcome.prediction`` raises where there is none: to stop at the first failure, just use it; to
    go on, look at ``outcome.error`` first.
    """

    index: int
    result: Prediction | Exception

    @property
    def error(self) -> Exception | None:
        """Why there is no prediction (``PredictionError``; ``ValueError`` or ``TypeError`` for an
        input that cannot be sent); None where there is one."""
        return self.result if isinstance(self.result, Exception) else None

    @property
    def prediction(self) -> Prediction:
        """The prediction; raises ``error`` where there is none."""
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def __repr__(self) -> str:
        return f"<Outcome [{self.index}: {self.result!r}]>"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A request that the broker has acknowledged; its reply goes to *reply_topic*."""

    correlation_id: bytes
    topic: str
    reply_topic: str


@dataclass(frozen=True, slots=True)
class ClientStats:
    """Counts since the client was made; *pending* is the present number.

    *sent*: requests handed to the broker. *answered*: replies delivered, good or bad. *late*:
    replies after their timeout. *unknown*: replies that nobody waited for (repeated by a worker,
    given up by the caller, or unreadable). *foreign*: replies to other instances on the same
    partition; many mean that the reply topic has too few. *timeouts*: replies not come in time.
    """

    sent: int = 0
    answered: int = 0
    late: int = 0
    unknown: int = 0
    foreign: int = 0
    timeouts: int = 0
    pending: int = 0


def read_arrival(
    arrival: Arrival, exchange: Exchange, now: float, *, account: str = UNKNOWN
) -> Prediction:
    """The prediction in *arrival*, which came at *now* of the exchange's clock. *account*: who
    could have answered, for the message where nobody did.

    Raises ``PredictionError``: ``NotSentError``, ``OutcomeUnknownError`` or the class of the
    reply's status.
    """
    if isinstance(arrival, NoReply):
        raise _no_reply_error(arrival, exchange, account) from arrival.error
    reply = parse_reply(arrival)
    if reply.status is not Status.OK:
        raise REFUSALS[reply.status](
            decode_error(reply.body.value),
            model_version=reply.model_version,
            correlation_id=exchange.correlation_id,
        )
    try:
        outputs = response_arrays(reply.body)
    except RequestError as error:
        raise _unreadable_error(error, arrival, reply.model_version, exchange) from error
    return Prediction(
        outputs=outputs,
        model_name=reply.model_name,
        model_version=reply.model_version,
        server_timing=reply.server_timing,
        round_trip_ms=(now - exchange.started) * 1_000,
        correlation_id=exchange.correlation_id,
    )


def _no_reply_error(no_reply: NoReply, exchange: Exchange, account: str) -> PredictionError:
    """The error that says which of the two a caller has: not sent, or outcome unknown."""
    model, topic, correlation_id = exchange.model, exchange.topic, exchange.correlation_id
    match no_reply.cause:
        case Cause.NOT_TAKEN:
            message = f"the request to {model!r} was not sent to {topic}: {no_reply.detail}"
            return NotSentError(message, correlation_id=correlation_id)
        case Cause.SEND_FAILED:
            message = (
                f"the request to {model!r} may or may not have reached {topic}: {no_reply.detail}"
            )
        case Cause.NOT_ACKNOWLEDGED:
            message = (
                f"the broker did not confirm the request to {model!r} within the send timeout, so "
                f"it may or may not be in {topic}: does the broker answer?"
            )
        case Cause.NOT_ANSWERED:
            message = (
                f"no reply from {model!r} within {exchange.timeout_seconds} s: the request is in "
                f"{topic}; {account} "
                f"(correlation ID {printable(correlation_id)})"
            )
        case Cause.NOT_READ:
            message = f"the reply from {model!r} cannot be awaited any longer: {no_reply.detail}"
    return OutcomeUnknownError(message, correlation_id=correlation_id)


def _unreadable_error(
    error: RequestError, record: Record, model_version: str, exchange: Exchange
) -> InternalError:
    message = f"the worker's reply ({record.source}) cannot be read: {error.message}"
    return InternalError(
        message, model_version=model_version, correlation_id=exchange.correlation_id
    )
