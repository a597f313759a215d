"""A processor on a memory broker, and requests to it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from unit.processor.builders import DoublingModel

from ondemand.contract.codec import InferRequest, decode_response, encode_request
from ondemand.contract.record import OutgoingRecord, Record
from ondemand.contract.reply import parse_reply
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.processor.lifecycle import make_processor
from ondemand.processor.loop import Processor
from ondemand.processor.report import Reporter
from ondemand.settings import WorkerSettings
from ondemand.telemetry.logging import EventLog
from ondemand.telemetry.metrics import WorkerMetrics
from ondemand.transport.base import PublishingTransport
from ondemand.transport.memory import MemoryBroker

BOUND_SECONDS = 10.0


def broker() -> MemoryBroker:
    """The topics of model `m` and service `s`."""
    return MemoryBroker({"m.requests": 2, "m.dead-letters": 1, "s.replies": 2})


def ask(
    to: MemoryBroker,
    name: str,
    x: object = ((1.0, 2.0),),
    *,
    partition: int = 0,
    key: bytes | None = None,
    headers: Mapping[str, bytes | None] | None = None,
    value: bytes | None = None,
) -> None:
    """Publish a request with the correlation ID *name*, in JSON; *headers* replace its own, *value*
    its body."""
    tensor = Tensor("x", Datatype.FP32, np.asarray(x, dtype=np.float32))
    body = encode_request(InferRequest((tensor,)), binary=False)
    merged = {"correlation-id": name.encode(), "reply-topic": b"s.replies", "reply-partition": b"1"}
    merged.update(headers or {})
    sent = body.value if value is None else value
    to.append(OutgoingRecord("m.requests", partition, key, sent, tuple(merged.items())))


def replies(of: MemoryBroker) -> dict[str, Record]:
    """The replies by correlation ID; the same ID twice is a fault."""
    found: dict[str, Record] = {}
    for record in of.records("s.replies"):
        name = (dict(record.headers)["correlation-id"] or b"").decode()
        assert name not in found, f"{name} was answered twice"
        found[name] = record
    return found


def status(record: Record) -> str:
    """A reply's status."""
    return parse_reply(record).status


def output(record: Record) -> list[list[float]]:
    """A good reply's only output."""
    body = parse_reply(record).body
    return decode_response(body.value, body.head_length).outputs[0].data.tolist()


def eventually(
    holds: Callable[[], object], what: str, *, bound_seconds: float = BOUND_SECONDS
) -> None:
    """Wait until *holds*; fails after a bound that a working system never needs."""
    deadline = time.monotonic() + bound_seconds
    while not holds():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.002)


@contextlib.contextmanager
def processing(
    on: MemoryBroker | PublishingTransport,
    model: DoublingModel | None = None,
    **settings: object,
) -> Iterator[Processor]:
    """A processor that runs in a thread of its own; stopped, and its errors raised, at the end."""
    transport = on.worker(group="ondemand.m") if isinstance(on, MemoryBroker) else on
    processor = make_processor(
        model or DoublingModel(),
        WorkerSettings(**settings),  # type: ignore[arg-type] # checked by the model
        transport=transport,
        reporter=Reporter(EventLog(), WorkerMetrics()),
    )
    errors: list[BaseException] = []

    def run() -> None:
        try:
            processor.run()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="intake")
    thread.start()
    try:
        yield processor
    finally:
        processor.stop()
        thread.join(BOUND_SECONDS)
        assert not thread.is_alive(), "the processor did not stop"
        if errors:
            raise errors[0]
