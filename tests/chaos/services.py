"""Who asks: raw producers at a paced rate, and clients that come and go."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from chaos import load, model
from chaos.load import Ask, Kind
from chaos.plan import Fault
from confluent_kafka import KafkaError, Message, Producer

from ondemand import PredictionClient
from ondemand.client import Prediction
from ondemand.errors import ConfigurationError, NotSentError, PredictionError
from ondemand.settings import ClientSettings

CLIENT_RATE_PER_SECOND = 8.0
CLIENT_TIMEOUT_SECONDS = 30.0
CLIENT_NUMBERS_FROM = 500_000  # apart from the raw producers' numbers
CLIENT_NUMBERS_EACH = 1_000
CLIENT_START_SECONDS = 2.0  # for one attempt, and for all of them
CLIENT_PATIENCE_SECONDS = 60.0
FLUSH_SECONDS = 60.0
REPLY_PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Names:
    """The topics and the group of one run. Services read their own reply topics."""

    run: str

    @property
    def requests(self) -> str:
        return f"{self.run}.requests"

    @property
    def dead_letters(self) -> str:
        return f"{self.run}.dead-letters"

    @property
    def service(self) -> str:
        return f"{self.run}-service"

    @property
    def group(self) -> str:
        return f"ondemand.{self.run}"

    @property
    def replies(self) -> tuple[str, str]:
        """Of the raw producers, and of the clients."""
        return f"{self.run}.replies", f"{self.service}.replies"

    def partitions(self, requests: int) -> dict[str, int]:
        """Every topic, and how many partitions it has."""
        counts = dict.fromkeys(self.replies, REPLY_PARTITIONS)
        return {self.requests: requests, self.dead_letters: 1, **counts}


class RawProducer:
    """Publishes requests at a fixed rate, whatever the answers do. A thread of its own."""

    def __init__(self, kafka: str, names: Names, asks: Sequence[Ask], rate_per_second: float):
        self.acknowledged = 0
        self.refused: Counter[str] = Counter()
        self._names = names
        self._asks = asks
        self._rate_per_second = rate_per_second
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "log_level": 0,  # that brokers go away is no news here
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.timeout.ms": 120_000,
                "partitioner": "murmur2_random",
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="raw producer")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether there is more to send."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End, early or not; all that was sent is acknowledged or given up."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._producer.flush(FLUSH_SECONDS)

    def _run(self) -> None:
        started = time.monotonic()
        for index, ask in enumerate(self._asks):
            while (wait := started + index / self._rate_per_second - time.monotonic()) > 0:
                if self._stopping.is_set():
                    return
                self._producer.poll(min(wait, 0.05))
            self._publish(ask)
            self._producer.poll(0)

    def _publish(self, ask: Ask) -> None:
        topic, _, key, value, headers = load.record(
            ask,
            run=self._names.run,
            topic=self._names.requests,
            reply=(self._names.replies[0], ask.number % REPLY_PARTITIONS),
            now_ms=time.time_ns() // 1_000_000,
        )
        self._producer.produce(
            topic, value, key, headers=list(headers), on_delivery=self._on_delivery
        )

    def _on_delivery(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.refused[error.name()] += 1


@dataclass(slots=True)
class Visitors:
    """Clients that come, ask, and go, some of them without waiting for their answers.

    One event loop in a thread of its own. *outcomes*: what became of each call, by name; those that
    begin with "wrong" are what no caller may ever be told.
    """

    kafka: str
    names: Names
    outcomes: Counter[str] = field(default_factory=Counter)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _thread: threading.Thread | None = None
    _visits: set["asyncio.Task[None]"] = field(default_factory=set)
    _leaving: set[PredictionClient] = field(default_factory=set)

    def start(self) -> None:
        """Begin to receive visits."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="visitors")
        self._thread.start()

    def receive(self, visit: Fault) -> None:
        """A client comes."""
        asyncio.run_coroutine_threadsafe(self._admit(visit), self._loop)

    def stop(self) -> None:
        """Wait until the last client has gone. Idempotent."""
        if self._thread is None or not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._all_gone(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _admit(self, visit: Fault) -> None:
        task = asyncio.create_task(self._visit(visit))
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)

    async def _all_gone(self) -> None:
        while self._visits:
            await asyncio.wait(self._visits)

    async def _visit(self, visit: Fault) -> None:
        client = await self._started(self._loop.time() + CLIENT_PATIENCE_SECONDS)
        if client is None:
            self.outcomes["client could not start"] += 1
            return
        until = self._loop.time() + visit.seconds
        calls: set[asyncio.Task[None]] = set()
        try:
            for number in range(CLIENT_NUMBERS_EACH):
                if self._loop.time() >= until:
                    break
                number += CLIENT_NUMBERS_FROM + visit.target * CLIENT_NUMBERS_EACH  # noqa: PLW2901
                calls.add(asyncio.create_task(self._call(client, number)))
                await asyncio.sleep(1 / CLIENT_RATE_PER_SECOND)
            if calls and not visit.rude:
                await asyncio.wait(calls)
        finally:
            self._leaving.add(client)
            await client.close()
            if calls:
                await asyncio.wait(calls)

    async def _started(self, until: float) -> PredictionClient | None:
        """A client, as soon as one can be started."""
        settings = ClientSettings.model_validate(
            {
                "kafka": self.kafka,
                "service": self.names.service,
                "connect_timeout_seconds": CLIENT_START_SECONDS,
            }
        )
        while self._loop.time() < until:
            client = PredictionClient(settings=settings)
            try:
                await client.start()
            except (NotSentError, ConfigurationError):
                continue
            return client
        return None

    async def _call(self, client: PredictionClient, number: int) -> None:
        kind = {17: Kind.POISON, 23: Kind.SLOW}.get(number % 50, Kind.PLAIN)
        tensor = load.row(number, kind)
        try:
            prediction = await client.predict(
                self.names.run,
                {load.INPUT: tensor},
                timeout=CLIENT_TIMEOUT_SECONDS,
                key=b"client-%d" % (number // CLIENT_NUMBERS_EACH),
            )
        except PredictionError as error:
            left = " when its client left" if client in self._leaving else ""
            self.outcomes[_refusal(kind, error) + left] += 1
        except Exception as error:  # noqa: BLE001 - a caller may be told nothing else: a finding
            self.outcomes[f"wrong: {type(error).__name__} was raised"] += 1
        else:
            self.outcomes[_answer(number, kind, prediction)] += 1


def _refusal(kind: Kind, error: PredictionError) -> str:
    """Poison is refused as such; anybody may be told that it is not known, not sent or too late."""
    name = type(error).__name__
    status = getattr(error, "status", None)
    if status in (None, "deadline-exceeded") or (kind is Kind.POISON and status == "model-error"):
        return name
    return f"wrong: {name} for a {kind} request"


def _answer(number: int, kind: Kind, prediction: Prediction) -> str:
    told = int(prediction[model.NUMBER][0])
    expected = model.scores([load.row(number, kind)])
    if told != number or not np.allclose(prediction[model.SCORES], expected, atol=model.TOLERANCE):
        return "wrong: the answer of another request"
    return "answered"
