"""What can go wrong, sorted by who must act.

``RequestError``        the caller: answered with its status, never retried
``UnanswerableError``   the caller too, but there is nowhere to answer: a dead letter
``ModelError``          the model's team: answered, never retried
``StoreError``          the operator: an object store did not give or take a body
``TransportError``      nobody yet: retried, and no offset moves
``ConfigurationError``  the operator: refuse to start
``StuckError``          the operator: the process left, because only a new one makes progress
``PredictionError``     raised by the client, to the service that awaits a prediction
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar


class Status(StrEnum):
    """The kinds of answer, as the reply's ``status`` header names them (docs/contract.md)."""

    OK = "ok"
    INVALID_REQUEST = "invalid-request"
    INVALID_INPUT = "invalid-input"
    TOO_LARGE = "too-large"
    UNSUPPORTED_VERSION = "unsupported-version"
    DEADLINE_EXCEEDED = "deadline-exceeded"
    OVERLOADED = "overloaded"
    MODEL_ERROR = "model-error"
    MODEL_TIMEOUT = "model-timeout"
    INTERNAL = "internal"


class OndemandError(Exception):
    """The root of every error that this package raises on purpose."""


class RequestError(OndemandError):
    """The caller must act: the request cannot be served as it is, and is answered so."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class UnanswerableError(OndemandError):
    """The caller must act, but cannot be told: no usable correlation ID or reply address."""


class ModelError(OndemandError):
    """The model's team must act: the model failed on an input that its signature allows."""


class ModelStoppedError(ModelError):
    """The model's team must act: a run took longer than its limit, and was stopped."""


class StuckError(OndemandError):
    """The operator must act, after the process has left: something here no longer makes progress,
    and only a new process will."""

    exit_code: ClassVar[int] = 5


class TransportError(OndemandError):
    """Nobody must act yet: the broker did not take or give a record. Retried; no offset moves."""


class StoreError(OndemandError):
    """The operator must act: an object store did not take or give a body. Told to who asked."""


class ObjectMissingError(StoreError):
    """The caller must act: what it refers to is not in the store, or not any more."""


class ConfigurationError(OndemandError):
    """The operator must act: a setting, a file or the broker is not as it has to be to start."""


class PredictionError(OndemandError):
    """The requesting service must decide: no prediction came back.

    *correlation_id* is the request's, for the worker's logs; None where no request was made.
    """

    def __init__(self, message: str, *, correlation_id: bytes | None = None) -> None:
        super().__init__(message)
        self.correlation_id = correlation_id


class NotSentError(PredictionError):
    """The request never reached the broker: it is safe to send it again."""


class NobodyServesError(NotSentError):
    """The operator must act: the model's topic is there, and no worker that reads it."""


class OutcomeUnknownError(PredictionError):
    """The request was sent, no reply came in time: the model may or may not have run."""


class RefusedError(PredictionError):
    """A reply came, and its status is not ``ok``."""

    status: Status = Status.INTERNAL

    def __init__(
        self, message: str, *, model_version: str = "", correlation_id: bytes | None = None
    ) -> None:
        super().__init__(message, correlation_id=correlation_id)
        self.model_version = model_version


class InvalidRequestError(RefusedError):
    """The caller must act: the request could not be decoded."""

    status = Status.INVALID_REQUEST


class InvalidInputError(RefusedError):
    """The caller must act: a tensor's name, datatype, shape or value does not fit the model."""

    status = Status.INVALID_INPUT


class TooLargeError(RefusedError):
    """The caller must act: the request is over a size limit."""

    status = Status.TOO_LARGE


class UnsupportedVersionError(RefusedError):
    """The caller must act: the version asked for is not served."""

    status = Status.UNSUPPORTED_VERSION


class DeadlineExceededError(RefusedError):
    """Nobody must act: the request waited too long and was not run."""

    status = Status.DEADLINE_EXCEEDED


class OverloadedError(RefusedError):
    """The operator must act: the worker shed the request, or the object store was silent."""

    status = Status.OVERLOADED


class ModelFailedError(RefusedError):
    """The model's team must act: the model failed on this request alone."""

    status = Status.MODEL_ERROR


class ModelTimeoutError(RefusedError):
    """The model's team must act: the run was stopped at its time limit."""

    status = Status.MODEL_TIMEOUT


class InternalError(RefusedError):
    """The operator must act: a fault of the worker's own."""

    status = Status.INTERNAL


REFUSALS: Mapping[Status, type[RefusedError]] = MappingProxyType(
    {refusal.status: refusal for refusal in RefusedError.__subclasses__()}
)
"""The error that the client raises for each status other than ``ok``."""
