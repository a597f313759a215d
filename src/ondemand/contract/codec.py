"""V2 bodies, both forms: JSON, and a JSON head followed by binary tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

from ondemand.contract.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Body:
    """An encoded body. *head_length* is None for JSON, otherwise the bytes of the JSON head."""

    value: bytes
    head_length: int | None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A V2 inference request. *outputs*: names wanted, in order; empty means all."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    id: str | None = None


@dataclass(frozen=True, slots=True)
class InferResponse:
    """A V2 inference response."""

    model_name: str
    model_version: str
    outputs: tuple[Tensor, ...]
    id: str | None = None


def decode_request(value: bytes, head_length: int | None) -> InferRequest:
    """The request in *value*. Raises ``RequestError`` with the contract's status and a message
    that says what was wrong and what was expected (docs/contract.md, Fine print)."""
    raise NotImplementedError


def encode_request(request: InferRequest, *, binary: bool) -> Body:
    """The body for *request*. Raises ``ValueError`` for what the form cannot hold (NaN in JSON)."""
    raise NotImplementedError


def decode_response(value: bytes, head_length: int | None) -> InferResponse:
    """The response in *value*. Raises ``RequestError(INTERNAL)`` if a worker sent nonsense."""
    raise NotImplementedError


def encode_response(response: InferResponse, *, binary: bool) -> Body:
    """The body for *response*. Raises ``ValueError`` for what the form cannot hold (NaN in JSON)."""
    raise NotImplementedError


def encode_error(code: str, message: str) -> bytes:
    """``{"error": message, "code": code}``."""
    raise NotImplementedError


def decode_error(value: bytes) -> str:
    """The message of an error body; a generic sentence if it is not one."""
    raise NotImplementedError


def array_tensors(arrays: Sequence[tuple[str, object]]) -> tuple[Tensor, ...]:
    """Tensors from anything NumPy makes an array of: dtype to datatype, byte order mended, text to
    BYTES as UTF-8. Raises ``ValueError`` for an array that V2 has no datatype for."""
    raise NotImplementedError
