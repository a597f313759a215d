"""The worker's side of Kafka, exactly once: replies and positions in one transaction."""

import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from ondemand.contract.record import OutgoingRecord, Partition, Record
from ondemand.errors import TransportError
from ondemand.settings import Security
from ondemand.transport.base import Membership, Positions, TransactionAbortedError
from ondemand.transport.kafka_worker_config import KafkaAddress
from ondemand.transport.kafka_worker_errors import News
from ondemand.transport.kafka_worker_source import (
    LOOK_AGAIN_SECONDS,
    PROBE_SECONDS,
    KafkaSource,
)
from ondemand.transport.kafka_worker_starts import Starts
from ondemand.transport.kafka_worker_transaction import TransactionalProducer

HANG_SECONDS: Final = 10.0
"""How long a call of the commit thread may be overdue while the group's coordinator answers."""


class _Membership(NamedTuple):
    """Who we are in the group, for as long as one assignment lasts."""

    metadata: bytes
    partitions: frozenset[Partition]


_NOBODY: Final = _Membership(b"", frozenset())


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
        self.transactional_id = f"{group}.{uuid.uuid4().hex}"
        self._producer = TransactionalProducer(
            address,
            news,
            transactional_id=self.transactional_id,
            # Who is silent for so long has lost its partitions: its transaction need not last.
            timeout_seconds=session_timeout_seconds,
        )
        self._closing = threading.Lock()
        self._probe_at = 0.0
        self._membership = _NOBODY
        self._paused: frozenset[Partition] = frozenset()
        super().__init__(
            address,
            group=group,
            session_timeout_seconds=session_timeout_seconds,
            news=news,
            handle=self._producer.handle,
        )
        self._starts = Starts(self._consumer, news.tell)
        self._unjoined = self._consumer.consumer_group_metadata()

    @property
    def membership(self) -> Membership:
        """Who this worker is in its group now."""
        return self._membership

    def fetch(self, records_max: int, timeout_seconds: float) -> Sequence[Record]:
        """At most *records_max* records, waiting for a first one. Calls the listener."""
        self._require_open()
        if self._producer.overdue_seconds > HANG_SECONDS:
            self._leave_if_it_hangs()
        if self._starts.found():
            super().pause(self._paused)
        return super().fetch(records_max, timeout_seconds)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch nothing from these until ``resume``."""
        self._paused = self._paused.union(partitions)
        super().pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch from these again."""
        self._paused = self._paused.difference(partitions)
        super().resume(partitions)

    def lag(self) -> Mapping[Partition, int]:
        """Records not yet fetched. Where it is not known from where to read, one at least: such a
        partition stands still, and must be seen to."""
        return {**super().lag(), **dict.fromkeys(self._starts.unknown(), 1)}

    def transact(
        self, records: Sequence[OutgoingRecord], positions: Positions, membership: Membership
    ) -> None:
        """Write *records* and store *positions*, together or not at all. For any one thread."""
        self._require_open()
        if not positions.keys() <= membership.partitions:
            named = ", ".join(map(str, sorted(positions)))
            raise TransactionAbortedError(f"{named}: not (all) assigned to this worker")
        offsets = [TopicPartition(each.topic, each.index, at) for each, at in positions.items()]
        self._producer.transact(records, offsets, membership.metadata)

    def close(self) -> None:
        """Let the listener settle, leave the group, leave no transaction open. Idempotent."""
        with self._closing:
            if self._closed:
                return
            try:
                self._leave()  # calls on_revoked, where the last transaction is awaited
            finally:
                self._closed = True
                self._producer.close()
        self._raise_listener_error()

    def _leave_if_it_hangs(self) -> None:
        """Raises ``TransportError`` where a transaction waits for a coordinator that is there.

        The library can wait for one that was replaced, for ever and whatever time it was given
        (its issues 5456 and 5511). Where the coordinator is away, it is right to wait.
        """
        now = time.monotonic()
        if now < self._probe_at:
            return
        self._probe_at = now + LOOK_AGAIN_SECONDS
        asked = TopicPartition(self._topic, 0)
        try:
            found = self._consumer.committed([asked], timeout=PROBE_SECONDS)
        except KafkaException:
            return
        if found[0].error is None:
            raise TransportError(
                f"Kafka's client library does not come back from {self._producer.called!r}, though "
                "the group's coordinator answers: this process can transact no more, and must be "
                "replaced"
            )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Asked here, in the thread that rebalances: asked when a transaction begins, it could be
        # of an assignment that is newer than the positions, and the broker would let them pass.
        metadata = consumer.consumer_group_metadata()
        # Without a membership (we were thrown out meanwhile) the broker would check nothing.
        known = metadata is not None and metadata != self._unjoined
        mine = frozenset(Partition(each.topic, each.partition) for each in partitions)
        self._membership = _Membership(metadata, mine) if known else _NOBODY
        super()._on_assign(consumer, partitions)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del consumer  # the one that Starts was made with
        self._paused = frozenset()
        self._starts.assign([Partition(each.topic, each.partition) for each in partitions])

    def _mine(self, partitions: Collection[Partition]) -> list[TopicPartition]:
        # What is not read yet is nothing to the library.
        unknown = self._starts.unknown()
        return super()._mine([each for each in partitions if each not in unknown])

    def _start(self) -> None:
        self._producer.start(self._address.connect_timeout_seconds)

    def _serve(self) -> None:
        self._producer.serve()

    def _forget(self, partitions: frozenset[Partition]) -> None:
        self._starts.forget(partitions)
