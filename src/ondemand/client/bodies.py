"""Bodies out and bodies in: a caller's heads, and a model's, are the same again and again.

So a binary head is written once for all requests of one form, and read once for all responses.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ondemand.contract.binary_data import encode_bytes
from ondemand.contract.codec import Body, InferRequest, decode_response, encode_request
from ondemand.contract.layout import Heads, Layout
from ondemand.contract.tensor import Datatype, Tensor

FORMS_KEPT: Final = 256

_Place = tuple[str, Datatype, "np.dtype[Any]", tuple[int, ...], int]
_written: dict[tuple[tuple[str, ...], tuple[_Place, ...]], bytes] = {}
_layouts: Heads[Layout] = Heads()


def request_body(inputs: tuple[Tensor, ...], outputs: tuple[str, ...], *, binary: bool) -> Body:
    """As ``encode_request``, with the same errors."""
    if not binary:
        return encode_request(InferRequest(inputs, outputs), binary=False)
    parts = [b""]
    places = []
    for tensor in inputs:
        part = encode_bytes(tensor)
        parts.append(part)
        data = tensor.data
        places.append((tensor.name, tensor.datatype, data.dtype, data.shape, len(part)))
    form = (outputs, tuple(places))
    head = _written.get(form)
    if head is None:
        body = encode_request(InferRequest(inputs, outputs), binary=True)
        if len(_written) >= FORMS_KEPT:
            _written.clear()
        _written[form] = body.value[: body.head_length]
        return body
    parts[0] = head
    return Body(b"".join(parts), len(head))


def response_arrays(body: Body) -> dict[str, NDArray[Any]]:
    """The outputs by name, in their order. Raises as ``decode_response`` does."""
    value, head_length = body
    if head_length is None:
        return {each.name: each.data for each in decode_response(value, None).outputs}
    head = value[:head_length]
    layout = _layouts.get(head)
    if layout is not None and layout.length == len(value):
        return layout.arrays(value)
    outputs = decode_response(value, head_length).outputs
    layout = Layout.of(head, len(value), outputs, wanted=(), id=None)
    if layout is not None:
        _layouts.keep(head, layout)
    return {each.name: each.data for each in outputs}
