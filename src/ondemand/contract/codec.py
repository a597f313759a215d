"""V2 bodies, both forms: JSON, and a JSON head followed by binary tensors."""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
from numpy.typing import NDArray

from ondemand.contract.binary_data import decode_bytes, encode_bytes
from ondemand.contract.document import (
    malformed,
    optional_list,
    optional_text,
    parse_object,
    quoted,
)
from ondemand.contract.json_data import decode_data, encode_data
from ondemand.contract.json_numbers import ListLayout, Numbers, reals, take_numbers
from ondemand.contract.layout import Layout
from ondemand.contract.tensor import DTYPES, Datatype, Tensor
from ondemand.errors import RequestError, Status
from ondemand.limits import AXES_MAX, HEADER_VALUE_BYTES_MAX, TENSORS_MAX

_NO_NUMBERS: Numbers = MappingProxyType({})
_DATATYPES = {datatype.value: datatype for datatype in Datatype}
# NumPy counts bytes in a signed 64-bit integer, also those of an empty array's other axes.
_EXTENT_MAX = (2**63 - 1) // 8


class Body(NamedTuple):
    """An encoded body. *head_length* is None for JSON, otherwise the bytes of the JSON head."""

    value: bytes
    head_length: int | None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A V2 inference request. *outputs*: names wanted, in order; empty means all."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    id: str | None = None


class ReadRequest(NamedTuple):
    """A request, and *layout*, by which a body that differs in its numbers only is read without
    being judged again; None where that cannot be."""

    request: InferRequest
    layout: Layout | ListLayout | None


@dataclass(frozen=True, slots=True)
class InferResponse:
    """A V2 inference response."""

    model_name: str
    model_version: str
    outputs: tuple[Tensor, ...]
    id: str | None = None


def decode_request(value: bytes, head_length: int | None) -> InferRequest:
    """The request in *value*. Raises ``RequestError`` with the contract's status and a message
    that says what was wrong and what was expected (docs/contract.md, Fine print).

    Tensors that came as bytes are read-only views of *value*, possibly not aligned. Names of inputs
    are unique, and so are those of outputs; whether a model has them is not checked here.
    """
    return read_request(value, head_length).request


def read_request(value: bytes, head_length: int | None) -> ReadRequest:
    """As ``decode_request``, and by what the next body is read that says the same."""
    head = _head(value, head_length)
    if head_length is None:
        return _read_lists(value)
    request = _request(parse_object(head), _Tensors(value, head, head_length))
    layout = Layout.of(head, len(value), request.inputs, wanted=request.outputs, id=request.id)
    return ReadRequest(request, layout)


def _request(members: dict[str, Any], tensors: "_Tensors") -> InferRequest:
    inputs = tensors.decode(members, "inputs")
    outputs: tuple[str, ...] = ()
    if "outputs" in members:
        outputs = tuple(map(_name_of, optional_list(members, "outputs", TENSORS_MAX)))
        _refuse_repeated(outputs, "outputs")
    return InferRequest(inputs, outputs, optional_text(members, "id"))


def _read_lists(value: bytes) -> ReadRequest:
    """What a JSON body asks. Whatever is wrong with it is said by the thorough way."""
    if (taken := take_numbers(value)) is not None:
        tensors = _Tensors(value, taken.rest, None, taken.numbers)
        with suppress(RequestError):
            request = _request(parse_object(taken.rest), tensors)
            if tensors.used != list(taken.numbers):
                return ReadRequest(request, None)
            wanted, id_ = request.outputs, request.id
            layout = ListLayout.of(taken.rest, request.inputs, wanted=wanted, id=id_)
            return ReadRequest(request, layout)
    return ReadRequest(_request(parse_object(value), _Tensors(value, value, None)), None)


def encode_request(request: InferRequest, *, binary: bool) -> Body:
    """The body for *request*. Raises ``ValueError`` for what the form cannot hold (NaN in JSON)."""
    members: dict[str, Any] = {}
    if request.id is not None:
        members["id"] = request.id
    if request.outputs:
        members["outputs"] = [{"name": name} for name in request.outputs]
    return _encode(members, "inputs", request.inputs, binary=binary)


def decode_response(value: bytes, head_length: int | None) -> InferResponse:
    """The response in *value*. Raises ``RequestError(INTERNAL)`` if a worker sent nonsense.

    Tensors that came as bytes are read-only views of *value*, possibly not aligned.
    """
    try:
        head = _head(value, head_length)
        taken = take_numbers(value) if head_length is None else None
        if taken is not None:
            with suppress(RequestError):  # said by the thorough way
                tensors = _Tensors(value, taken.rest, None, taken.numbers)
                return _response(parse_object(taken.rest), tensors)
        return _response(parse_object(head), _Tensors(value, head, head_length))
    except RequestError as error:
        message = f"the worker's reply cannot be decoded: {error.message}"
        raise RequestError(Status.INTERNAL, message) from error


def _response(members: dict[str, Any], tensors: "_Tensors") -> InferResponse:
    return InferResponse(
        model_name=optional_text(members, "model_name") or "",
        model_version=optional_text(members, "model_version") or "",
        outputs=tensors.decode(members, "outputs"),
        id=optional_text(members, "id"),
    )


def encode_response(response: InferResponse, *, binary: bool) -> Body:
    """The body for *response*. Raises ``ValueError`` for what the form cannot hold (JSON: NaN)."""
    members: dict[str, Any] = {
        "model_name": response.model_name,
        "model_version": response.model_version,
    }
    if response.id is not None:
        members["id"] = response.id
    return _encode(members, "outputs", response.outputs, binary=binary)


def encode_error(code: str, message: str) -> bytes:
    """``{"error": message, "code": code}``."""
    # Messages quote exceptions and names from anywhere: what UTF-8 cannot hold becomes "?".
    readable = message.encode("utf-8", "replace").decode()
    return orjson.dumps({"error": readable, "code": code})


def decode_error(value: bytes) -> str:
    """The message of an error body, of bounded length; a generic sentence if there is none."""
    try:
        message = parse_object(value).get("error")
    except RequestError:
        message = None
    if type(message) is str and message:
        return message[:HEADER_VALUE_BYTES_MAX]
    return "the worker refused the request and gave no readable reason"


def _head(value: bytes, head_length: int | None) -> bytes:
    """The JSON part of *value*."""
    if head_length is None:
        return value
    if not 0 < head_length <= len(value):
        raise malformed(
            f"the JSON head is said to have {head_length} bytes, but the body has {len(value)}; "
            "a binary body starts with a JSON head"
        )
    return value[:head_length]


def _name_of(entry: dict[str, Any]) -> str:
    name = entry.get("name")
    if type(name) is not str:
        raise malformed(f"the `name` of a tensor must be text, got {quoted(name)}")
    return name


def _refuse_repeated(names: Iterable[str], member: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            message = f"`{member}` names {quoted(name)} more than once"
            raise RequestError(Status.INVALID_INPUT, message)
        seen.add(name)


class _Tensors:
    """Reads the tensors of one body in their order; binary ones follow the head one by one."""

    __slots__ = ("_booleans", "_numbers", "_position", "_value", "used")

    def __init__(
        self,
        value: bytes,
        head: bytes,
        head_length: int | None,
        numbers: Numbers = _NO_NUMBERS,
    ) -> None:
        self._value = value
        self._numbers = numbers  # lists that were taken out of the body, by what is in their place
        self.used: list[str] = []
        self._position = head_length  # where the next binary tensor starts; None: there are none
        # Looking for one byte is 50 times as fast as looking at the type of each element, and most
        # documents of numbers hold neither the r of `true` nor the l of `false`. Heads of binary
        # bodies rarely hold `data` at all: not worth a look.
        self._booleans = head_length is not None or b"r" in head or b"l" in head

    def decode(self, members: dict[str, Any], member: str) -> tuple[Tensor, ...]:
        """The tensors that *member* lists. Raises ``RequestError``."""
        if members.get(member) is None:
            raise malformed(f"the body must have a list `{member}`")
        entries = optional_list(members, member, TENSORS_MAX)
        tensors = tuple([self._tensor(entry) for entry in entries])
        if len(tensors) > 1:
            _refuse_repeated([tensor.name for tensor in tensors], member)
        if self._position is not None and self._position != len(self._value):
            left = len(self._value) - self._position
            raise malformed(f"{left} bytes follow the last binary tensor")
        return tensors

    def _tensor(self, entry: dict[str, Any]) -> Tensor:
        name = _name_of(entry)
        try:
            return self._named_tensor(name, entry)
        except RequestError as error:
            message = f"tensor {quoted(name)}: {error.message}"
            raise RequestError(error.status, message) from error

    def _named_tensor(self, name: str, entry: dict[str, Any]) -> Tensor:
        datatype = _datatype(entry.get("datatype"))
        shape = _shape(entry.get("shape"))
        count = math.prod(shape)
        parameters = entry.get("parameters")
        if parameters is not None and type(parameters) is not dict:
            raise malformed(f"`parameters` must be a JSON object, got {quoted(parameters)}")
        size = parameters.get("binary_data_size") if parameters else None
        data = entry.get("data")
        if size is None:
            if data is None:
                raise malformed("neither `data` nor `parameters.binary_data_size` is there")
            array = self._array(data, datatype, shape, count)
        else:
            if data is not None:
                raise malformed("both `data` and `parameters.binary_data_size` are there")
            start = self._take(size)
            array = decode_bytes(
                self._value, start, size, datatype=datatype, shape=shape, count=count
            )
        return Tensor(name, datatype, array)

    def _array(self, data: Any, datatype: Datatype, shape: list[int], count: int) -> NDArray[Any]:
        numbers = self._numbers.get(data) if type(data) is str else None
        if numbers is not None:
            array = reals(numbers, datatype, shape, count=count)
            if array is not None:
                self.used.append(data)
                return array
        return decode_data(data, datatype, shape, count=count, booleans=self._booleans)

    def _take(self, size: Any) -> int:
        """Where the next *size* bytes after the head start."""
        start = self._position
        if start is None:
            raise malformed(
                "`parameters.binary_data_size` needs content-type application/octet-stream and "
                "the header inference-header-content-length"
            )
        if type(size) is not int or size < 0:
            raise malformed(f"`binary_data_size` must be a count of bytes, got {quoted(size)}")
        left = len(self._value) - start
        if size > left:
            raise malformed(f"`binary_data_size` is {size}, but {left} bytes are left of the body")
        self._position = start + size
        return start


def _datatype(name: Any) -> Datatype:
    if type(name) is not str:
        raise malformed(f"`datatype` must be text, got {quoted(name)}")
    datatype = _DATATYPES.get(name)
    if datatype is None:
        message = f"unknown datatype {quoted(name)}; expected one of {', '.join(Datatype)}"
        raise RequestError(Status.INVALID_INPUT, message)
    return datatype


def _shape(shape: Any) -> list[int]:
    """*shape* if NumPy can hold it. The product is exact: Python's integers have no end."""
    if type(shape) is not list:
        raise malformed(f"`shape` must be a list, got {quoted(shape)}")
    if len(shape) > AXES_MAX:
        raise malformed(f"`shape` has {len(shape)} axes, at most {AXES_MAX} are taken")
    extent = 1
    for length in shape:
        if type(length) is not int or length < 0:
            raise malformed(f"`shape` must list whole numbers from 0 up, got {quoted(length)}")
        extent *= length or 1
    if extent > _EXTENT_MAX:
        raise malformed(f"the dimensions of shape {shape} overflow")
    return shape


def _encode(
    members: dict[str, Any], member: str, tensors: Sequence[Tensor], *, binary: bool
) -> Body:
    """The body with *tensors* listed as *member*."""
    entries: list[dict[str, Any]] = []
    members[member] = entries
    parts: list[bytes] = [b""]
    for tensor in tensors:
        _check_dtype(tensor)
        entry: dict[str, Any] = {
            "name": tensor.name,
            "shape": tensor.data.shape,
            "datatype": tensor.datatype,
        }
        entries.append(entry)
        if binary:
            part = encode_bytes(tensor)
            parts.append(part)
            entry["parameters"] = {"binary_data_size": len(part)}
        else:
            entry["data"] = encode_data(tensor)
    head = json_text(members)
    if not binary:
        return Body(head, None)
    parts[0] = head
    return Body(b"".join(parts), len(head))


def _check_dtype(tensor: Tensor) -> None:
    found, expected = tensor.data.dtype, DTYPES[tensor.datatype]
    if found is not expected and found != expected:
        needed = f"{tensor.datatype} needs {expected}"
        raise ValueError(f"tensor {quoted(tensor.name)}: dtype {found}, but {needed}")


def json_text(value: Any) -> bytes:
    """*value* as JSON. Raises ``ValueError`` for what is not text."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"JSON cannot hold a name or an id of this body: {error}") from error
