"""What a group has committed: asked for again and again, and as the broker's own log tells it."""

import struct
import threading
import time
from collections.abc import Iterator, Mapping

from chaos.evidence import Sighting
from confluent_kafka import Consumer, KafkaException, TopicPartition

from ondemand.contract.record import Record

INTERVAL_SECONDS = 0.25
ASK_SECONDS = 5.0
COMMITS_TOPIC = "__consumer_offsets"

_COMMIT_KEYS = (0, 1)  # versions of the key that stand for a committed offset


class Lookout:
    """Asks for a group's positions at an interval, in a thread of its own; never joins the group.

    With the group's transactions: a position is told only when it is certain.
    """

    def __init__(self, kafka: str, group: str, topic: str, partitions: int) -> None:
        self.sightings: list[Sighting] = []
        self.positions: dict[int, int] = {}
        self.looks = 0
        self._wanted = [TopicPartition(topic, index) for index in range(partitions)]
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "log_level": 0,
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End. Idempotent; what was seen stays."""
        if not self._stopping.is_set():
            self._stopping.set()
            if self._thread.ident is not None:
                self._thread.join()
            self._consumer.close()

    def ends(self) -> dict[int, int]:
        """The end of each partition of the topic, now. Raises ``KafkaException``."""
        # A broker that has just started may not know the topic yet; the library believes it for
        # minutes, unless it is made to ask again.
        self._consumer.list_topics(self._wanted[0].topic, timeout=ASK_SECONDS)
        return {
            each.partition: self._consumer.get_watermark_offsets(each, timeout=ASK_SECONDS)[1]
            for each in self._wanted
        }

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_SECONDS):
            try:
                found = self._consumer.committed(self._wanted, timeout=ASK_SECONDS)
            except KafkaException:
                continue  # a broker is away: there is nothing to see
            now_ms = time.time_ns() // 1_000_000
            for each in found:
                if each.error is None and each.offset >= 0:
                    self.sightings.append(Sighting(each.partition, each.offset, now_ms))
                    self.positions[each.partition] = each.offset
            self.looks += 1


def commits(records: Iterator[Record], group: str, topic: str) -> Iterator[Sighting]:
    """Every commit of *group* for *topic*, from the records of Kafka's own topic of offsets.

    Its keys are ``version INT16, group STRING, topic STRING, partition INT32``, its values begin
    with ``version INT16, offset INT64`` in every version (Kafka's OffsetCommitKey and -Value).
    """
    for record in records:
        if record.key is None or record.value is None:
            continue
        version = struct.unpack_from(">h", record.key)[0]
        if version not in _COMMIT_KEYS:
            continue
        found, place = _text(record.key, 2)
        of, place = _text(record.key, place)
        if (found, of) != (group, topic):
            continue
        partition = struct.unpack_from(">i", record.key, place)[0]
        position = struct.unpack_from(">q", record.value, 2)[0]
        yield Sighting(partition, position, record.timestamp_ms)


def reached(positions: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    """Whether all partitions' positions are at their ends."""
    return all(positions.get(partition, 0) >= end for partition, end in ends.items())


def _text(key: bytes, place: int) -> tuple[str, int]:
    """A STRING at *place*, and where the next field is."""
    length = struct.unpack_from(">h", key, place)[0]
    start = place + 2
    return key[start : start + length].decode(), start + length
