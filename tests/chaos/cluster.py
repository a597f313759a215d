"""The three brokers of a run: topics with three copies, and brokers killed, restarted, rolled."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from chaos.plan import BROKERS
from confluent_kafka.admin import AdminClient, NewTopic

from ondemand.local import LocalKafka

HEALED_SECONDS = 60.0
CREATE_SECONDS = 30.0
POLL_SECONDS = 0.1


def create_topics(kafka: str, partitions: Mapping[str, int]) -> None:
    """Topics by name, each with so many partitions, three copies, and the brokers' own clock."""
    config = {"min.insync.replicas": "2", "message.timestamp.type": "LogAppendTime"}
    topics = [
        NewTopic(name, num_partitions=count, replication_factor=BROKERS, config=config)
        for name, count in partitions.items()
    ]
    admin = AdminClient({"bootstrap.servers": kafka})
    for created in admin.create_topics(topics, operation_timeout=CREATE_SECONDS).values():
        created.result()
    wait_until_healed(kafka, partitions)


def wait_until_healed(kafka: str, topics: Mapping[str, int] | Sequence[str]) -> None:
    """Until every copy of every topic is in step. Raises ``TimeoutError``."""
    admin = AdminClient({"bootstrap.servers": kafka})
    deadline = time.monotonic() + HEALED_SECONDS
    while not _healed(admin, list(topics)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"copies were not in step within {HEALED_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _healed(admin: AdminClient, topics: Sequence[str]) -> bool:
    known = admin.list_topics(timeout=10).topics
    return all(
        name in known and all(len(each.isrs) == BROKERS for each in known[name].partitions.values())
        for name in (*topics, *(name for name in known if name.startswith("__")))
    )


class Surgeon:
    """Hurts brokers, one at a time: with three copies and two needed, a second one away would be an
    outage, which is another test's. Works in a thread of its own."""

    def __init__(self, kafka: LocalKafka, topics: Sequence[str]) -> None:
        self._kafka = kafka
        self._topics = topics
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="surgeon")

    def kill(self, number: int, seconds: float) -> "Future[tuple[int, int]]":
        """SIGKILL, and a restart after *seconds*; begun and ended, in ms since the epoch."""
        return self._thread.submit(self._timed, lambda: self._killed(number, seconds))

    def roll(self) -> "Future[tuple[int, int]]":
        """Stop in order and restart every broker in turn."""
        return self._thread.submit(self._timed, self._rolled)

    def close(self) -> None:
        """Wait until what was begun is over; nothing that was not begun is done any more."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _timed(self, act: Callable[[], None]) -> tuple[int, int]:
        wait_until_healed(self._kafka.address, self._topics)
        begun_ms = time.time_ns() // 1_000_000
        act()
        return begun_ms, time.time_ns() // 1_000_000

    def _killed(self, number: int, seconds: float) -> None:
        self._kafka.kill(number)
        time.sleep(seconds)  # the length of its absence, not a wait for anything
        self._kafka.restart(number)

    def _rolled(self) -> None:
        for number in range(1, BROKERS + 1):
            wait_until_healed(self._kafka.address, self._topics)
            self._kafka.stop_broker(number)
            self._kafka.restart(number)
