"""Doubles for the client's tests: a transport that obeys the test, and a worker that answers."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from ondemand.contract.codec import Body, InferResponse, decode_request, encode_response
from ondemand.contract.headers import Dialect, index_headers, parse_address, parse_terms
from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.contract.reply import Served, ServerTiming, reply_record
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import Status
from ondemand.transport.base import OnSent
from ondemand.transport.memory import MemoryBroker

TOPICS = {"digits.requests": 1, "checkout.replies": 4, "audit.replies": 1}
BOUND_SECONDS = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Return when *condition* holds; fail after a bound."""
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():  # noqa: ASYNC110 - a condition on foreign state has no event
            await asyncio.sleep(0.001)


def answer(
    request: OutgoingRecord | Record, *, status: Status = Status.OK, body: Body | None = None
) -> OutgoingRecord:
    """The reply to *request*: output ``sum`` is the sum of the input ``x``."""
    fields = index_headers(request.headers)
    address = parse_address(fields, [Dialect.NATIVE])
    head_length = parse_terms(fields).head_length
    if body is None:
        asked = decode_request(request.value or b"", head_length)
        total = Tensor("sum", Datatype.FP64, np.array([asked.inputs[0].data.sum()], np.float64))
        response = InferResponse("digits", "1.0.0", (total,))
        body = encode_response(response, binary=head_length is not None)
    return reply_record(
        address,
        key=request.key,
        status=status,
        served=Served("digits", "1.0.0"),
        timing=ServerTiming(1.0, 0.5, 1),
        body=body,
    )


class ScriptedTransport:
    """A ``ClientTransport`` whose acknowledgements, replies and failures a test decides."""

    def __init__(self, topics: dict[str, int] | None = None) -> None:
        self.topics = dict(TOPICS if topics is None else topics)
        self.sent: list[OutgoingRecord] = []
        self.listening: Partition | None = None
        self.acknowledging = True
        self._untold: list[OnSent] = []
        self.on_send: Callable[[OutgoingRecord], None] = lambda record: None
        self.send_error: Exception | None = None
        self.fetch_error: Exception | None = None
        self.fetches_cancelled = 0
        self.stopped = 0
        self._replies: asyncio.Queue[Record] = asyncio.Queue()

    async def start(self) -> None:
        """Nothing to connect to."""

    async def partition_count(self, topic: str) -> int | None:
        return self.topics.get(topic)

    async def listen(self, replies: Partition) -> None:
        self.listening = replies

    async def fetch(self, timeout_seconds: float) -> Sequence[Record]:
        try:
            async with asyncio.timeout(min(timeout_seconds, 0.02)):
                records = [await self._replies.get()]
        except TimeoutError:
            records = []
        except asyncio.CancelledError:
            self.fetches_cancelled += 1
            raise
        if self.fetch_error is not None:
            raise self.fetch_error
        while not self._replies.empty():
            records.append(self._replies.get_nowait())
        return records

    def send(self, record: OutgoingRecord, on_sent: OnSent) -> None:
        asyncio.get_running_loop().call_soon(self._take, record, on_sent)

    def acknowledge(self) -> None:
        """Tell of all that was sent, and from now on of each at once."""
        self.acknowledging = True
        while self._untold:
            self._untold.pop(0)(self.send_error)

    async def stop(self) -> None:
        self.stopped += 1

    def _take(self, record: OutgoingRecord, on_sent: OnSent) -> None:
        self.sent.append(record)
        self.on_send(record)
        self._untold.append(on_sent)
        if self.acknowledging:
            self.acknowledge()

    def reply(self, outgoing: OutgoingRecord) -> None:
        """Let *outgoing* arrive on the partition that is listened to."""
        assert self.listening is not None
        self._replies.put_nowait(
            Record(
                outgoing.topic,
                self.listening.index,
                0,
                outgoing.key,
                outgoing.value,
                outgoing.headers,
                -1,
            )
        )

    def answer_all(self) -> None:
        """From now on answer each request as soon as it is sent."""
        self.on_send = lambda record: self.reply(answer(record))


class EchoBroker(MemoryBroker):
    """A memory broker where each request is answered, in its turn, by *respond*."""

    def __init__(self, topics: dict[str, int] | None = None) -> None:
        super().__init__(TOPICS if topics is None else topics)
        self.respond: Callable[[Record], OutgoingRecord] = answer

    def append(self, record: OutgoingRecord) -> Record:
        written = super().append(record)
        if record.topic == "digits.requests":
            super().append(self.respond(written))
        return written
