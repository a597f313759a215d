"""Writing beside the worker's own transport: a small producer that nothing else waits for."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaError

from ondemand.contract.record import OutgoingRecord
from ondemand.errors import TransportError
from ondemand.settings import Security
from ondemand.transport.base import PublishFailure
from ondemand.transport.kafka_worker_config import KafkaAddress
from ondemand.transport.kafka_worker_errors import News
from ondemand.transport.kafka_worker_producer import RecordProducer
from ondemand.transport.kafka_worker_topics import PartitionCounts

LOOK_UP_SECONDS: Final = 2.0

LATE_MS: Final = 5_000
"""What has not reached the broker by then is old news, and given up."""


class KafkaRecordWriter:
    """A ``RecordWriter`` on librdkafka. Parameters as those of ``KafkaWorkerTransport``."""

    def __init__(
        self,
        *,
        kafka: str,
        options: Mapping[str, str] | None = None,
        client_id: str = "ondemand-announcer",
        security: Security | None = None,
    ) -> None:
        shorter = {**(options or {}), "message.timeout.ms": str(LATE_MS)}
        address = KafkaAddress(kafka, client_id, LOOK_UP_SECONDS, shorter, security or Security())
        self._producer = RecordProducer(address, _Silence())
        self._counts = PartitionCounts(self._producer.handle, timeout_seconds=LOOK_UP_SECONDS)

    def partition_count(self, topic: str) -> int | None:
        """How many partitions *topic* has; None if it is not there, or not for this login."""
        return self._counts(topic)

    def write(self, record: OutgoingRecord, timeout_seconds: float) -> None:
        """Return when *record* is acknowledged; raises ``TransportError``."""
        settled: list[Sequence[PublishFailure]] = []
        deadline = time.monotonic() + timeout_seconds
        self._producer.publish([record], settled.append)
        while not settled and (left := deadline - time.monotonic()) > 0:
            self._producer.serve(left)
        if not settled:
            raise TransportError(
                f"a record for topic {record.topic!r} was not acknowledged within "
                f"{timeout_seconds:g} s"
            )
        for failure in settled[0]:
            raise failure.error


class _Silence(News):
    """The worker's own transport tells of the same broker already."""

    def tell(self, error: KafkaError) -> None:
        """Say nothing."""
