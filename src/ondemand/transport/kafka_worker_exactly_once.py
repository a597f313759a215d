"""The worker's side of Kafka, exactly once: replies and positions in one transaction."""

import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.settings import Security
from ondemand.transport.base import Positions, TransactionAbortedError
from ondemand.transport.kafka_worker_config import KafkaAddress
from ondemand.transport.kafka_worker_errors import News
from ondemand.transport.kafka_worker_source import KafkaSource
from ondemand.transport.kafka_worker_transaction import TransactionalProducer


class _Membership(NamedTuple):
    """Who we are in the group, for as long as one assignment lasts."""

    metadata: bytes
    partitions: frozenset[Partition]


class KafkaExactlyOnceTransport(KafkaSource):
    """A ``TransactionalTransport`` on librdkafka (KIP-98, KIP-447).

    Parameters as those of ``KafkaWorkerTransport``. A transaction carries the membership of the
    assignment by which its requests came: the broker refuses it once the group has moved on,
    however long this process was stopped in between.
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
        self._producer = TransactionalProducer(
            address,
            news,
            transactional_id=f"{group}.{uuid.uuid4().hex}",
            # Who is silent for so long has lost its partitions: its transaction need not last.
            timeout_seconds=session_timeout_seconds,
        )
        self._closing = threading.Lock()
        self._membership: _Membership | None = None
        super().__init__(
            address,
            group=group,
            session_timeout_seconds=session_timeout_seconds,
            news=news,
            handle=self._producer.handle,
        )
        self._nobody = self._consumer.consumer_group_metadata()

    def transact(self, records: Sequence[OutgoingRecord], positions: Positions) -> None:
        """Write *records* and store *positions*, together or not at all. For any one thread."""
        self._require_open()
        # Read once: a membership that ends meanwhile is refused by the broker.
        membership = self._membership
        if membership is None or not positions.keys() <= membership.partitions:
            named = ", ".join(map(str, sorted(positions)))
            raise TransactionAbortedError(f"{named}: not (all) assigned to this worker any more")
        offsets = [TopicPartition(each.topic, each.index, at) for each, at in positions.items()]
        self._producer.transact(records, offsets, membership.metadata)

    def close(self) -> None:
        """Let the listener settle, leave the group, leave no transaction open. Idempotent."""
        with self._closing:
            if self._closed:
                return
            try:
                self._consumer.close()  # calls on_revoked, where the last transaction is awaited
            finally:
                self._closed = True
                self._producer.close()
        self._raise_listener_error()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Asked here, in the thread that rebalances: asked when a transaction begins, it could be
        # of an assignment that is newer than the positions, and the broker would let them pass.
        metadata = consumer.consumer_group_metadata()
        super()._on_assign(consumer, partitions)
        # After the listener has ended what belongs to the assignment before. Without a membership
        # (we were thrown out meanwhile) the broker would check nothing.
        known = metadata is not None and metadata != self._nobody
        self._membership = _Membership(metadata, self._assigned) if known else None

    def _start(self) -> None:
        self._producer.start(self._address.connect_timeout_seconds)

    def _serve(self) -> None:
        self._producer.serve()

    def _forget(self, partitions: frozenset[Partition]) -> None:
        if self._membership is not None and partitions & self._membership.partitions:
            self._membership = None
