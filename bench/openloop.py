"""Latency at a fixed rate: an open loop.

Requests are due on a schedule that answers do not slow down, and each latency runs from the moment
when its request was due: coordinated omission is counted. Percentiles are exact, every latency is
kept. The load generator is librdkafka alone, one thread that sends and one that reads, so that what
differs between systems is the systems.
"""

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from broker import Broker
from confluent_kafka import Consumer, Producer, TopicPartition
from drain import place_for
from systems import Running, System
from workload import PARTITIONS, REPLIES, Backlog

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
START_SECONDS = 60.0
WARM_UP_RATE = 1000
JUDGED_EVERY = 7  # of the fetches, about so many
LATE_SECONDS = 2.0  # answers are waited for so long after the last request
SENDER = {
    "linger.ms": 0,
    "socket.nagle.disable": True,
    "acks": "all",
    # As idempotent producers: without a bound each request is a batch of its own, however many wait
    # in the broker, and at 4,000/s the echo takes 150 ms instead of 7.
    "max.in.flight.requests.per.connection": 5,
    "log_level": 2,
}
READER = {
    "group.id": "bench-load",
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 50,
    "fetch.queue.backoff.ms": 10,
    "socket.nagle.disable": True,
    "isolation.level": "read_committed",
    "log_level": 2,
}


@dataclass(frozen=True, slots=True)
class Latency:
    """One system at one rate, once. Milliseconds from the scheduled time."""

    system: str
    form: str
    guarantee: str
    repeat: int
    rate_per_second: float
    requests: int
    answered: int
    percentiles_ms: dict[str, float]
    max_ms: float
    void: str | None


class Load:
    """Sends requests on a schedule and takes the time of each answer."""

    def __init__(self, broker: Broker, backlog: Backlog) -> None:
        self._topic = backlog.topic
        self._workload = backlog.workload
        self._producer = Producer({"bootstrap.servers": broker.address, **SENDER})
        self._consumer = Consumer({"bootstrap.servers": broker.address, **READER})
        ends = broker.ends(REPLIES)
        self._consumer.assign([TopicPartition(REPLIES, *each) for each in ends.items()])
        self._arrived: dict[bytes, float] = {}
        self._wrong = 0
        self._sent = 0
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._reader.join()
        self._consumer.close()

    def first_answer(self) -> None:
        """Ask until there is one. Raises ``TimeoutError``."""
        deadline = time.perf_counter() + START_SECONDS
        while not self._arrived:
            self._send()
            time.sleep(0.2)
            if time.perf_counter() > deadline:
                raise TimeoutError(f"no answer within {START_SECONDS:g} s")

    def at_rate(self, rate: float, seconds: float) -> tuple[np.ndarray, int]:
        """Milliseconds from due to answered, infinite where there is no answer; wrong answers."""
        wrong_before = self._wrong
        asked = self._ask(rate, int(rate * seconds))
        return self._waited_ms(asked), self._wrong - wrong_before

    def until(self, stop: threading.Event, rate: float) -> tuple[np.ndarray, np.ndarray]:
        """Ask until *stop* is set. When each request was due, on ``perf_counter``'s clock, and the
        milliseconds from then to its answer."""
        asked = self._ask(rate, None, stop)
        return np.array([due for due, _ in asked]), self._waited_ms(asked)

    def _ask(
        self, rate: float, count: int | None, stop: threading.Event | None = None
    ) -> list[tuple[float, bytes]]:
        """Send on schedule: when each request was due, and its key."""
        asked: list[tuple[float, bytes]] = []
        started = time.perf_counter() + 0.02
        while len(asked) != count and not (stop is not None and stop.is_set()):
            due = started + len(asked) / rate
            while (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            asked.append((due, self._send()))
        return asked

    def _waited_ms(self, asked: list[tuple[float, bytes]]) -> np.ndarray:
        deadline = time.perf_counter() + LATE_SECONDS
        while any(key not in self._arrived for _, key in asked) and time.perf_counter() < deadline:
            time.sleep(0.05)
        return np.array([(self._arrived.get(key, np.inf) - due) * 1000 for due, key in asked])

    def _send(self) -> bytes:
        number = self._sent
        self._sent += 1
        key, place = b"%09d" % number, number % PARTITIONS
        value, headers = self._workload.parts(number, key, place)
        self._producer.produce(self._topic, value, key, place, headers=headers)
        self._producer.poll(0)
        return key

    def _read(self) -> None:
        while not self._stop.is_set():
            first = self._consumer.poll(0.1)
            if first is None or first.error() is not None:
                continue
            messages = [first, *self._consumer.consume(10_000, 0)]
            now = time.perf_counter()
            for message in messages:
                self._arrived.setdefault(message.key(), now)
            # All would cost the computer more than the systems do.
            if len(self._arrived) % JUDGED_EVERY == 0:
                self._wrong += not self._workload.is_right(first)


def latencies(
    broker: Broker,
    system: System,
    backlog: Backlog,
    rates: Mapping[int, float],
    *,
    repeat: int,
    warm_up_seconds: float,
) -> list[Latency]:
    """Start *system* and load it at each of *rates* for so many seconds, in turn; a rate it cannot
    hold is the last."""
    with tempfile.TemporaryDirectory() as folder:
        place = place_for(broker, backlog, Path(folder))
        with Running(system, place) as running:
            load = Load(broker, backlog)
            try:
                load.first_answer()
                load.at_rate(WARM_UP_RATE, warm_up_seconds)
                found = list(_at_rates(load, system, running, rates, repeat=repeat))
            except TimeoutError as error:
                void = running.died or error
                found = [_summary(system, 0.0, repeat, np.array([np.inf]), void)]
            finally:
                load.close()
    broker.trim(REPLIES, broker.ends(REPLIES))
    return found


def _at_rates(
    load: Load, system: System, running: Running, rates: Mapping[int, float], *, repeat: int
) -> Iterator[Latency]:
    for rate, seconds in rates.items():
        each, wrong = load.at_rate(rate, seconds)
        void = running.died or (wrong if system.infers and wrong else None)
        yield _summary(system, rate, repeat, each, void)
        if not np.isfinite(each).all():
            return


def _summary(
    system: System, rate: float, repeat: int, latencies_ms: np.ndarray, void: object
) -> Latency:
    return Latency(
        system=system.name,
        form=system.form,
        guarantee=system.guarantee,
        repeat=repeat,
        rate_per_second=rate,
        requests=len(latencies_ms),
        answered=int(np.isfinite(latencies_ms).sum()),
        percentiles_ms={
            f"p{p:g}": float(np.percentile(latencies_ms, p, method="higher")) for p in PERCENTILES
        },
        max_ms=float(latencies_ms.max()),
        void=None if void is None else str(void),
    )
