"""What a caller asks, checked and encoded before anything leaves the process."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, TypedDict, Unpack, get_args

from ondemand import limits
from ondemand.client.bodies import request_body
from ondemand.contract import topics
from ondemand.contract.arrays import array_tensor
from ondemand.contract.claim import Claim
from ondemand.contract.codec import Body
from ondemand.contract.headers import ReplyAddress, Terms
from ondemand.contract.record import OutgoingRecord
from ondemand.contract.request import request_record
from ondemand.contract.tensor import Tensor

Inputs = Mapping[str, Any]
"""Input tensors by name: anything NumPy makes an array of, or a ``Tensor``."""

Unserved = Literal["fail", "wait"]
"""What becomes of a request to a model that nobody serves now: refused, or sent all the same."""

TIMEOUT_SECONDS_MAX: Final = 86_400.0


class RequestOptions(TypedDict, total=False):
    """What can be said about a request beside its inputs. All may be left out.

    *key*: requests of one key keep their order. *model_version*: refuse to be served by another.
    *outputs*: the names wanted, in order; all by default. *binary*: tensors as bytes rather than
    JSON; by default as the settings say. *traceparent*: W3C trace context, continued in the reply.
    *unserved*: "fail" or "wait" where no worker has announced itself; by default as the settings
    say.
    """

    key: bytes | str | None
    model_version: str | None
    outputs: Sequence[str]
    binary: bool | None
    traceparent: str | None
    unserved: Unserved | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a body may be. Above *record_bytes_max* it goes to the object store, where there is
    one (*claim_bytes_max* is not None)."""

    record_bytes_max: int = limits.REQUEST_BYTES_MAX
    claim_bytes_max: int | None = None

    def by_claim(self, model: str, size_bytes: int) -> bool:
        """Whether a body of *size_bytes* goes to the store. Raises ``ValueError`` if it cannot be
        sent at all."""
        if size_bytes <= self.record_bytes_max:
            return False
        bytes_max = self.claim_bytes_max or self.record_bytes_max
        if size_bytes > bytes_max:
            hint = "" if self.claim_bytes_max else ", or set claim_store"
            raise ValueError(
                f"the request to {model!r} has {size_bytes:,} bytes, more than the "
                f"{bytes_max:,} that a request may have: send fewer rows at once{hint}"
            )
        return True


_RECORD_ONLY: Final = Sizes()


class PreparedRequest(NamedTuple):
    """A request that is known to be sound: all but where its reply goes, and until when."""

    form: "RequestForm"
    body: Body
    by_claim: bool = False  # its body is to be kept in the object store
    claim: Claim | None = None  # and there it is

    def record(self, address: ReplyAddress, now_seconds: float) -> OutgoingRecord:
        """The record to publish at *now_seconds* since the epoch."""
        form = self.form
        deadline_ms = None
        if form.timeout_seconds is not None:
            deadline_ms = round((now_seconds + form.timeout_seconds) * 1_000)
        terms = Terms(
            self.body.head_length, deadline_ms, form.model_version, form.traceparent, None
        )
        return request_record(
            form.topic, key=form.key, address=address, terms=terms, body=self.body, claim=self.claim
        )


@dataclass(frozen=True, slots=True)
class RequestForm:
    """All that is said about a request but its inputs, checked: one form serves many requests."""

    model: str
    topic: str
    key: bytes | None
    binary: bool
    outputs: tuple[str, ...]
    model_version: str | None
    traceparent: bytes | None
    timeout_seconds: float | None  # None: nobody waits, and no deadline is named
    unserved: Unserved | None  # None: as the settings say
    sizes: Sizes

    def prepare(self, inputs: Inputs) -> PreparedRequest:
        """Check and encode one request.

        Raises ``ValueError`` (``TypeError`` for what is no mapping) that says what cannot be sent:
        an array that has no V2 datatype, NaN in a JSON body, too many bytes.
        """
        body = request_body(_tensors(inputs), self.outputs, binary=self.binary)
        return PreparedRequest(self, body, self.sizes.by_claim(self.model, len(body.value)))


def request_form(
    model: str,
    *,
    timeout_seconds: float | None,
    binary_default: bool,
    sizes: Sizes = _RECORD_ONLY,
    **options: Unpack[RequestOptions],
) -> RequestForm:
    """The form of requests to *model*. Raises ``ValueError`` or ``TypeError`` that says what is
    malformed, or not known."""
    check_options(options)
    if timeout_seconds is not None:
        check_timeout(timeout_seconds)
    outputs, binary, key = options.get("outputs", ()), options.get("binary"), options.get("key")
    if isinstance(outputs, str):
        raise TypeError(f"outputs must be a sequence of names, such as [{outputs!r}]")
    return RequestForm(
        model=model,
        topic=topics.request_topic(model),
        key=key.encode() if isinstance(key, str) else key,
        binary=binary_default if binary is None else binary,
        outputs=tuple(outputs),
        model_version=_header_text(options.get("model_version"), "model_version"),
        traceparent=_ascii(_header_text(options.get("traceparent"), "traceparent")),
        timeout_seconds=timeout_seconds,
        unserved=_known_unserved(options.get("unserved")),
        sizes=sizes,
    )


def check_options(options: RequestOptions) -> None:
    """Raise ``TypeError`` for an option that there is not."""
    unknown = sorted(set(options) - RequestOptions.__optional_keys__)
    if unknown:
        known = ", ".join(sorted(RequestOptions.__optional_keys__))
        raise TypeError(f"unknown option {unknown[0]!r}: there are {known}")


def check_timeout(timeout_seconds: float) -> float:
    """*timeout_seconds* if it is usable; otherwise ``ValueError``."""
    if not (math.isfinite(timeout_seconds) and 0 < timeout_seconds <= TIMEOUT_SECONDS_MAX):
        raise ValueError(
            f"timeout must be above 0 and at most {TIMEOUT_SECONDS_MAX:.0f} seconds, "
            f"not {timeout_seconds!r}"
        )
    return timeout_seconds


def correlation_bytes(correlation_id: bytes | str) -> bytes:
    """A caller's own correlation ID as it travels. Raises ``ValueError`` unless 1 to 128 bytes."""
    encoded = correlation_id.encode() if isinstance(correlation_id, str) else correlation_id
    if not 1 <= len(encoded) <= limits.CORRELATION_ID_BYTES_MAX:
        raise ValueError(
            f"a correlation ID has 1 to {limits.CORRELATION_ID_BYTES_MAX} bytes, not {len(encoded)}"
        )
    return encoded


def _tensors(inputs: Inputs) -> tuple[Tensor, ...]:
    if not isinstance(inputs, Mapping):
        raise TypeError(
            'inputs must map names to arrays, such as {"image": array}, '
            f"not be of type {type(inputs).__name__}"
        )
    if not inputs:
        raise ValueError("inputs are empty: name at least one tensor")
    return tuple(
        [
            replace(value, name=name) if isinstance(value, Tensor) else array_tensor(name, value)
            for name, value in inputs.items()
        ]
    )


def _known_unserved(unserved: Unserved | None) -> Unserved | None:
    if unserved is not None and unserved not in get_args(Unserved):
        raise ValueError(f"unserved must be 'fail' or 'wait', not {unserved!r}")
    return unserved


def _header_text(value: str | None, what: str) -> str | None:
    """*value* if a header can carry it: an empty header is malformed by the contract."""
    if value is None or 1 <= len(value.encode()) <= limits.HEADER_VALUE_BYTES_MAX:
        return value
    raise ValueError(
        f"{what} must have 1 to {limits.HEADER_VALUE_BYTES_MAX} bytes, not {len(value.encode())}"
    )


def _ascii(value: str | None) -> bytes | None:
    if value is not None and not value.isascii():
        raise ValueError(f"traceparent must be ASCII, not {value!r}")
    return None if value is None else value.encode("ascii")
