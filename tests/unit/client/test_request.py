"""What a caller asks is checked before anything leaves the process."""

from typing import Any

import numpy as np
import pytest

from ondemand import limits
from ondemand.client.request import PreparedRequest, check_options, correlation_bytes, request_form
from ondemand.contract.codec import decode_request
from ondemand.contract.headers import Dialect, ReplyAddress
from ondemand.contract.tensor import Datatype, Tensor

IMAGE = np.zeros((1, 4), dtype=np.float32)
ADDRESS = ReplyAddress(b"id-1", "checkout.replies", 3, Dialect.NATIVE)


def prepared(inputs: Any = None, *, model: str = "digits", **options: Any) -> PreparedRequest:
    options.setdefault("timeout_seconds", 2.0)
    options.setdefault("binary_default", True)
    return request_form(model, **options).prepare({"image": IMAGE} if inputs is None else inputs)


def test_the_deadline_is_now_plus_the_timeout() -> None:
    """The worker is told until when somebody waits, in milliseconds since the epoch."""
    headers = dict(prepared(timeout_seconds=2.5).record(ADDRESS, 1_000.0).headers)
    assert headers["deadline"] == b"1002500"


def test_without_a_timeout_no_deadline_is_named() -> None:
    """Nobody waits for a submitted request: a worker may answer it whenever it can."""
    headers = dict(prepared(timeout_seconds=None).record(ADDRESS, 1_000.0).headers)
    assert "deadline" not in headers


def test_options_travel_as_the_contract_says() -> None:
    """Key, version, trace context and the reply address are where workers look for them."""
    record = prepared(key="käse", model_version="1.2.0", traceparent="00-a-b-01").record(ADDRESS, 0)
    headers = dict(record.headers)
    assert record.topic == "digits.requests"
    assert record.key == "käse".encode()
    assert headers["model-version"] == b"1.2.0"
    assert headers["traceparent"] == b"00-a-b-01"
    assert headers["correlation-id"] == b"id-1"
    assert headers["reply-topic"] == b"checkout.replies"
    assert headers["reply-partition"] == b"3"


@pytest.mark.parametrize(
    ("binary", "default", "is_binary"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_the_call_decides_the_form_before_the_settings(
    *, binary: bool | None, default: bool, is_binary: bool
) -> None:
    """``binary=None`` means the settings' form."""
    body = prepared(binary=binary, binary_default=default).body
    assert (body.head_length is not None) is is_binary


def test_tensors_and_arrays_may_be_mixed() -> None:
    """A ``Tensor`` keeps its datatype and takes the name under which it is given."""
    pixels = Tensor("other", Datatype.UINT8, np.zeros((1, 2), dtype=np.uint8))
    request = prepared({"image": [[1, 2]], "pixels": pixels}, outputs=["label"])
    decoded = decode_request(request.body.value, request.body.head_length)
    assert [tensor.name for tensor in decoded.inputs] == ["image", "pixels"]
    assert decoded.inputs[1].datatype is Datatype.UINT8
    assert decoded.outputs == ("label",)


@pytest.mark.parametrize(
    ("inputs", "options", "kind", "message"),
    [
        (IMAGE, {}, TypeError, "map names to arrays"),
        ({}, {}, ValueError, "inputs are empty"),
        ({"x": np.zeros(2, dtype=complex)}, {}, ValueError, "complex"),
        ({"x": np.array([np.nan])}, {"binary": False}, ValueError, "JSON cannot hold"),
        (None, {"model": "No/Such"}, ValueError, "No/Such"),
        (None, {"timeout_seconds": 0}, ValueError, "timeout must be above 0"),
        (None, {"timeout_seconds": float("nan")}, ValueError, "timeout must be above 0"),
        (None, {"outputs": "label"}, TypeError, "sequence of names"),
        (None, {"model_version": ""}, ValueError, "model_version"),
        (None, {"traceparent": "ü"}, ValueError, "traceparent must be ASCII"),
    ],
)
def test_what_cannot_be_sent_is_refused_here(
    inputs: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """Mistakes of the calling code raise as NumPy would, and say what was wrong."""
    with pytest.raises(kind, match=message):
        prepared(inputs, **options)


def test_a_request_over_the_size_limit_is_refused_here() -> None:
    """The broker would refuse it too, later and in its own words."""
    image = np.zeros(limits.REQUEST_BYTES_MAX + 1, dtype=np.uint8)
    with pytest.raises(ValueError, match="send fewer rows at once"):
        prepared({"image": image})


def test_an_unknown_option_is_named() -> None:
    """A misspelt option does not go unnoticed."""
    with pytest.raises(TypeError, match="unknown option 'modelversion'"):
        check_options({"modelversion": "1"})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("correlation_id", ["", b"", "x" * 129, "ü" * 65])
def test_a_correlation_id_has_1_to_128_bytes(correlation_id: str | bytes) -> None:
    """Bytes count, not characters."""
    with pytest.raises(ValueError, match="1 to 128 bytes"):
        correlation_bytes(correlation_id)
