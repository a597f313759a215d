"""Requests that say what a sound one has said, but for their numbers: read without judging again.

Callers send the same headers and the same head again and again; what differs is the correlation ID,
the deadline, the trace and the numbers. So what was found of the rest is remembered, a bounded
number of times. Whatever is new, or looks odd, goes the thorough way (``decode``), and comes out of
it as it would without this module: nothing is refused here.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ondemand.contract.headers import (
    CORRELATION_ID,
    DEADLINE,
    TRACEPARENT,
    TRACESTATE,
    Dialect,
    ReplyAddress,
    decimal,
)
from ondemand.contract.json_numbers import ListLayout, take_numbers
from ondemand.contract.layout import Heads, Layout
from ondemand.contract.record import Record
from ondemand.limits import CORRELATION_ID_BYTES_MAX, HEADER_VALUE_BYTES_MAX, HEADERS_MAX
from ondemand.processor.decode import Policy, deadline_of
from ondemand.processor.request import Located, Request, Trace
from ondemand.runtime.base import Arrays

ROUTES_KEPT: Final = 1024
ROUTE_BYTES_KEPT: Final = 512

_OWN = (CORRELATION_ID, DEADLINE, TRACEPARENT, TRACESTATE)
_NO_TRACE: Trace = (None, None)
_ABSENT: Final = b"absent"


class Route(NamedTuple):
    """Where replies go and how the body is read, by headers that were found sound."""

    topic: str
    partition: int | None
    head_length: int | None


@dataclass(frozen=True, slots=True)
class Form:
    """What a body with this layout asks for."""

    layout: Layout | ListLayout
    rows: int
    kind: Hashable


class Forms:
    """What sound requests have said so far. For one thread."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._routes: dict[tuple[str | bytes | None, ...], Route] = {}
        self._forms: Heads[Form] = Heads()

    def __repr__(self) -> str:
        return f"<Forms [{len(self._routes)} routes | {len(self._forms)} forms]>"

    def __len__(self) -> int:
        return len(self._forms)

    def read(self, record: Record, *, now: float, now_ms: int) -> Request | None:
        """The request in *record*; None where it must go the thorough way. *now*: the worker's
        monotonic clock, seconds; *now_ms*: milliseconds since the epoch."""
        value = record.value
        fields = dict(record.headers)
        correlation_id = fields.pop(CORRELATION_ID, None)
        if not value or not correlation_id or self._policy.verdicts:
            return None
        asked_ms: int | None = None
        if DEADLINE in fields:
            asked_ms = decimal(fields.pop(DEADLINE))
            if asked_ms is None:
                return None
        trace = _taken_trace(fields) if TRACEPARENT in fields or TRACESTATE in fields else _NO_TRACE
        route = self._routes.get((*fields, *fields.values()))
        if route is None or trace is None or len(correlation_id) > CORRELATION_ID_BYTES_MAX:
            return None
        deadline_ms = deadline_of(record, asked_ms, self._policy)
        if deadline_ms is not None and deadline_ms <= now_ms:
            return None
        found = self._body(value, route.head_length)
        if found is None:
            return None
        form, inputs = found
        address = ReplyAddress(correlation_id, route.topic, route.partition, Dialect.NATIVE)
        return Request(
            Located(record, address, trace, now),
            inputs,
            form.layout.wanted,
            form.layout.id,
            form.rows,
            len(value),
            form.kind,
            deadline_ms,
            route.head_length is not None,
        )

    def keep(self, request: Request) -> None:
        """*request* came the thorough way and is sound: remember what others may say again.

        Its headers count from the second time on that the form is said: where each body has an ID
        of its own there is nothing to remember, and nothing is looked up in vain.
        """
        layout = request.layout
        address = request.located.address
        if layout is None or address.dialect is not Dialect.NATIVE:
            return
        if self._forms.get(layout.head) is None:
            self._forms.keep(layout.head, Form(layout, request.rows, request.kind))
            return
        fields = dict(request.located.record.headers)
        for name in _OWN:
            fields.pop(name, None)
        key = (*fields, *fields.values())
        if (
            len(fields) + len(_OWN) > HEADERS_MAX
            or sum(map(len, filter(None, key))) > ROUTE_BYTES_KEPT
        ):
            return
        if len(self._routes) >= ROUTES_KEPT:
            self._routes.clear()  # headers that are new each time are not worth an order of use
        head_length = len(layout.head) if request.binary else None
        self._routes[key] = Route(address.topic, address.partition, head_length)

    def _body(self, value: bytes, head_length: int | None) -> tuple[Form, Arrays] | None:
        """The form of a body, and its arrays as the signature names them."""
        if head_length is not None:
            form = self._forms.get(value[:head_length])
            if form is None or not isinstance(form.layout, Layout):
                return None
            if form.layout.length != len(value):
                return None
            return form, form.layout.arrays(value)
        if len(value) > self._policy.request_bytes_max or (taken := take_numbers(value)) is None:
            return None
        form = self._forms.get(taken.rest)
        if form is None or not isinstance(form.layout, ListLayout):
            return None
        arrays = form.layout.arrays(taken.numbers)
        return None if arrays is None else (form, arrays)


def _taken_trace(fields: dict[str, bytes | None]) -> Trace | None:
    """The trace headers, taken out of *fields*; None where one is not as it has to be."""
    trace: list[bytes | None] = []
    for name in (TRACEPARENT, TRACESTATE):
        value = fields.pop(name) if name in fields else _ABSENT
        if not value or len(value) > HEADER_VALUE_BYTES_MAX:
            return None
        trace.append(None if value is _ABSENT else value)
    return trace[0], trace[1]
