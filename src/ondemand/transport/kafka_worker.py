"""The worker's side of Kafka, at least once: replies are acknowledged before offsets move."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.settings import Security
from ondemand.transport.base import Note, OnSettled, Positions
from ondemand.transport.kafka_worker_config import KafkaAddress, log
from ondemand.transport.kafka_worker_errors import News
from ondemand.transport.kafka_worker_offsets import Offsets
from ondemand.transport.kafka_worker_producer import RecordProducer
from ondemand.transport.kafka_worker_source import SLICE_SECONDS, KafkaSource

FLUSH_SECONDS: Final = 10.0


class KafkaWorkerTransport(KafkaSource):
    """A ``PublishingTransport`` on librdkafka, at least once.

    *kafka* is ``HOST:PORT[,…]``; *options* are librdkafka's own, by name: those that delivery
    depends on are refused with a ``ConfigurationError``.
    """

    def __init__(
        self,
        *,
        kafka: str,
        group: str,
        options: Mapping[str, str] | None = None,
        session_timeout_seconds: float = 10.0,
        connect_timeout_seconds: float = 10.0,
        client_id: str = "ondemand-worker",
        security: Security | None = None,
    ) -> None:
        address = KafkaAddress(
            kafka, client_id, connect_timeout_seconds, options or {}, security or Security()
        )
        news = News()
        self._offsets = Offsets()
        self._producer = RecordProducer(address, news)
        self._closing = threading.Lock()
        super().__init__(
            address,
            group=group,
            session_timeout_seconds=session_timeout_seconds,
            news=news,
            handle=self._producer.handle,
            callbacks={"on_commit": self._offsets.on_commit},
        )

    def fetch(self, records_max: int, timeout_seconds: float) -> Sequence[Record]:
        """At most *records_max* records, waiting for a first one. Calls the listener."""
        self._require_open()
        self._offsets.repeat_failed(self._consumer)
        return super().fetch(records_max, timeout_seconds)

    def publish(self, records: Sequence[OutgoingRecord], on_settled: OnSettled) -> None:
        """Hand *records* to the send buffer. Thread-safe."""
        self._require_open()
        self._producer.publish(records, on_settled)

    def serve(self, timeout_seconds: float = 0.0) -> None:
        """Call the ``on_settled`` of what has settled."""
        self._producer.serve(timeout_seconds)

    def commit(self, positions: Positions) -> None:
        """Send *positions*; what fails is logged and repeated."""
        self._require_open()
        self._producer.serve()
        self._offsets.commit(self._consumer, positions)

    def commit_and_wait(self, positions: Positions) -> None:
        """Store *positions*; raises ``TransportError`` if they are not."""
        self._require_open()
        self._producer.serve()
        self._offsets.commit_and_wait(self._consumer, positions)

    def note(self, notes: Mapping[Partition, Note]) -> None:
        """Store these positions and texts, and wait."""
        super().note(notes)
        self._offsets.noted(notes)

    def close(self) -> None:
        """Flush the replies, let the listener commit, leave the group. Idempotent."""
        with self._closing:
            if self._closed:
                return
            deadline = time.monotonic() + FLUSH_SECONDS
            try:
                # Replies first, offsets second, leaving last: a crash in between repeats an answer,
                # never loses one.
                self._producer.flush(FLUSH_SECONDS)
                self._leave()  # calls on_revoked, where the listener commits
            finally:
                self._closed = True
                if left := self._producer.flush(max(deadline - time.monotonic(), SLICE_SECONDS)):
                    log.warning("%d records were not acknowledged in time, and are given up", left)
                    self._producer.abandon(SLICE_SECONDS)
        self._raise_listener_error()

    def _start(self) -> None:
        """An idempotent producer needs no leave to begin."""

    def _serve(self) -> None:
        self._producer.serve()

    def _forget(self, partitions: frozenset[Partition]) -> None:
        self._offsets.forget(partitions)
