"""Request bodies written by hand, right and wrong, and what becomes of them."""

import json

import pytest

from ondemand.contract.codec import Body, decode_request
from ondemand.errors import RequestError, Status

BAD_REQUEST, BAD_INPUT = Status.INVALID_REQUEST, Status.INVALID_INPUT


def entry(**changes):
    """An input of two FP32 elements, with members changed, or left out where None."""
    members = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]} | changes
    return {member: value for member, value in members.items() if value is not None}


def document(*inputs, **members):
    """A JSON body with these inputs."""
    return json.dumps({"inputs": list(inputs), **members}).encode()


def octets(*inputs, tail=b"", **members):
    """A binary body: the JSON head, then *tail*."""
    head = document(*inputs, **members)
    return Body(head + tail, len(head))


def binary_entry(size, **changes):
    """An input whose data is *size* bytes after the head."""
    return entry(data=None, parameters={"binary_data_size": size}, **changes)


def refused(value, head_length=None):
    """Status and message of the refusal of *value*."""
    with pytest.raises(RequestError) as caught:
        decode_request(value, head_length)
    assert len(caught.value.message) < 1_000, "a message must not grow with what was sent"
    return caught.value.status, caught.value.message


def decoded(*inputs):
    """The only tensor's array in a JSON body of *inputs*."""
    (found,) = decode_request(document(*inputs), None).inputs
    return found.data
