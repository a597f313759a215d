"""What an ONNX file may not contain, found without loading it and without the ``onnx`` package.

A model file can point at other files (external data), at addresses in memory, at compiled vendor
code (EPContext) and at operators from libraries. None of it is covered by the file's SHA-256, so
none of it is served. The file is a protobuf message; only the fields that can hide such things are
followed. Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

OPERATOR_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Whose operators ONNX Runtime has built in. Functions that the file defines itself are fine."""

MEMORY_MARKER = b"_ORT_MEM_ADDR_"

_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL
_DEPTH_MAX = 64

# For each message: which of its fields hold which message.
_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_FUNCTION_DOMAIN = 10
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(slots=True)
class _Findings:
    """What the walk has come across."""

    external: set[str] = field(default_factory=set)
    operators: set[tuple[str, str]] = field(default_factory=set)
    own_domains: set[str] = field(default_factory=set)


def forbidden_content(model: bytes) -> tuple[str, ...]:
    """Why *model* is not served, one sentence for each reason; empty if nothing was found.

    Raises ``ValueError`` where *model* is not a protobuf message.
    """
    reasons = []
    if MEMORY_MARKER in model:
        reasons.append("it refers to addresses in memory, which no file can have reason to do")
    findings = _Findings()
    stack = [("Model", memoryview(model), 0)]
    while stack:
        kind, message, depth = stack.pop()
        if depth > _DEPTH_MAX:
            raise ValueError(f"graphs are nested more than {_DEPTH_MAX} deep")
        fields = list(_fields(message))
        _inspect(kind, fields, findings)
        children = _CHILDREN[kind]
        stack += [
            (children[number], value, depth + 1)
            for number, value in fields
            if number in children and isinstance(value, memoryview)
        ]
    return (*reasons, *_reasons(findings))


def _inspect(kind: str, fields: list[tuple[int, int | memoryview]], findings: _Findings) -> None:
    by_number = dict(fields)
    if kind == "Tensor":
        if _TENSOR_EXTERNAL in by_number or by_number.get(_TENSOR_LOCATION) == _EXTERNAL:
            findings.external.add(_text(by_number.get(_TENSOR_NAME)))
    elif kind == "Node":
        domain, operator = by_number.get(_NODE_DOMAIN), by_number.get(_NODE_OPERATOR)
        findings.operators.add((_text(domain), _text(operator)))
    elif kind == "Function":
        findings.own_domains.add(_text(by_number.get(_FUNCTION_DOMAIN)))


def _reasons(findings: _Findings) -> Iterator[str]:
    if findings.external:
        names = ", ".join(sorted(findings.external)[:3])
        yield (
            f"it keeps tensors in other files ({names}), which its digest does not cover; "
            "save it with all its data inside"
        )
    if any(operator == "EPContext" for _, operator in findings.operators):
        yield "it carries code compiled for one vendor's device (EPContext)"
    allowed = OPERATOR_DOMAINS | findings.own_domains
    strange = sorted({domain for domain, _ in findings.operators} - allowed)
    if strange:
        yield (
            f"it needs operators from a library ({', '.join(strange)}); only those that ONNX "
            "Runtime has built in, or that the file defines itself, are run"
        )


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one protobuf message: number, and either an integer or the raw bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in {_FIXED64, _FIXED32}:
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("it is not an ONNX file")
        if length > len(message) - at:
            raise ValueError("it is not an ONNX file, or it is cut short")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A base-128 integer of at most ten bytes, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is not an ONNX file, or it is cut short")
