"""The three brokers of a run: topics with three copies, and brokers killed, restarted, rolled."""

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from chaos.plan import BROKERS
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from ondemand.local import LocalKafka

HEALED_SECONDS = 60.0
RESTART_SECONDS = 120.0  # for one broker, or for all at first
CREATE_SECONDS = 30.0
ASK_SECONDS = 10.0
POLL_SECONDS = 0.1


PROPERTIES = {
    # How often the transactions of those who died are looked for: 10 s by default, for as long
    # nobody else gets their partitions.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}
"""What these brokers are told besides."""


def create_topics(kafka: str, partitions: Mapping[str, int]) -> None:
    """Topics by name, each with so many partitions, three copies, and the brokers' own clock."""
    config = {"min.insync.replicas": "2", "message.timestamp.type": "LogAppendTime"}
    topics = [
        NewTopic(name, num_partitions=count, replication_factor=BROKERS, config=config)
        for name, count in partitions.items()
    ]
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    for created in admin.create_topics(topics, operation_timeout=CREATE_SECONDS).values():
        created.result()
    wait_until_healed(kafka, partitions.keys())


def wait_until_healed(kafka: str, topics: Collection[str] = ()) -> None:
    """Until *topics* are there, and all copies of all topics are in step. Raises
    ``TimeoutError``."""
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    deadline = time.monotonic() + HEALED_SECONDS
    while not _healed(admin, topics):
        if time.monotonic() > deadline:
            raise TimeoutError(f"copies were not in step within {HEALED_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _healed(admin: AdminClient, topics: Collection[str]) -> bool:
    try:
        known = admin.list_topics(timeout=ASK_SECONDS).topics
    except KafkaException:
        return False
    return known.keys() >= set(topics) and all(
        len(partition.isrs) == BROKERS
        for topic in known.values()
        for partition in topic.partitions.values()
    )


class Surgeon:
    """Hurts brokers, one at a time: with three copies and two needed, a second one away would be an
    outage, which is another test's. One for a cluster; works in a thread of its own."""

    def __init__(self, kafka: LocalKafka) -> None:
        self._kafka = kafka
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="surgeon")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What was begun is ended; what was not begun is not done any more.
        self._thread.shutdown(wait=True, cancel_futures=True)

    def kill(self, number: int, seconds: float) -> "Future[tuple[int, int]]":
        """SIGKILL, and a restart after *seconds*; begun and ended, in ms since the epoch."""
        return self._thread.submit(self._timed, lambda: self._killed(number, seconds))

    def roll(self) -> "Future[tuple[int, int]]":
        """Stop in order and restart every broker in turn."""
        return self._thread.submit(self._timed, self._rolled)

    def _timed(self, act: Callable[[], None]) -> tuple[int, int]:
        wait_until_healed(self._kafka.address)
        begun_ms = time.time_ns() // 1_000_000
        act()
        return begun_ms, time.time_ns() // 1_000_000

    def _killed(self, number: int, seconds: float) -> None:
        self._kafka.kill(number)
        time.sleep(seconds)  # the length of its absence, not a wait for anything
        self._kafka.restart(number)

    def _rolled(self) -> None:
        for number in range(1, BROKERS + 1):
            wait_until_healed(self._kafka.address)
            self._kafka.stop_broker(number)
            self._kafka.restart(number)
