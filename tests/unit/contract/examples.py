"""The worked example of docs/contract.md, and the bodies of the golden files, made by the code."""

import numpy as np
from unit.contract.tensors import samples

from ondemand.contract.codec import (
    InferRequest,
    InferResponse,
    encode_error,
    encode_request,
    encode_response,
)
from ondemand.contract.headers import Dialect, ReplyAddress, Terms
from ondemand.contract.reply import Served, ServerTiming, reply_record
from ondemand.contract.request import request_record
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import Status

REQUEST = InferRequest(samples(), ("label", "scores"), "golden")
RESPONSE = InferResponse("everything", "1.2.0", samples(), "golden")


def golden():
    """The golden bodies: file name and bytes. A binary body's name says how long its head is."""
    bodies = {"error.json": encode_error(Status.TOO_LARGE, "größer als „erlaubt“")}
    for name, encode, message in (
        ("request", encode_request, REQUEST),
        ("response", encode_response, RESPONSE),
    ):
        bodies[f"{name}.json"] = encode(message, binary=False).value
        body = encode(message, binary=True)
        bodies[f"{name}.head-{body.head_length}.bin"] = body.value
    return bodies


def worked():
    """The worked example: for each form, the request's and the reply's record as text."""
    address = ReplyAddress(b"order-7", "shop.replies", 3, Dialect.NATIVE)
    given = Tensor("x", Datatype.FP32, np.array([[0.5, -1.0]], "<f4"))
    summed = Tensor("sum", Datatype.FP32, np.array([-0.5], "<f4"))
    terms = Terms(None, 1_800_000_000_000, None, None, None)
    shown = {}
    for form, binary in (("JSON", False), ("BINARY", True)):
        asked = encode_request(InferRequest((given,)), binary=binary)
        answered = encode_response(InferResponse("adder", "2.1.0", (summed,)), binary=binary)
        shown[f"REQUEST_{form}"] = _shown(
            request_record("adder.requests", key=b"7", address=address, terms=terms, body=asked),
            asked,
        )
        shown[f"REPLY_{form}"] = _shown(
            reply_record(
                address,
                key=b"7",
                status=Status.OK,
                served=Served("adder", "2.1.0"),
                timing=ServerTiming(1.2, 0.4, 32),
                body=answered,
            ),
            answered,
        )
    return shown


def _shown(record, body):
    """A record as text: key, headers, value; binary tensors as hexadecimal digits."""
    lines = [f"key      {record.key.decode()}"]
    lines += [f"header   {name}: {value.decode()}" for name, value in record.headers]
    length = len(body.value) if body.head_length is None else body.head_length
    lines.append(f"value    {body.value[:length].decode()}")
    if body.value[length:]:
        lines.append(f"         {body.value[length:].hex(' ')}")
    return "\n".join(lines)
