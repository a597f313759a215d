"""Transactions: records and positions become visible together, or not at all."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from ondemand.contract.record import OutgoingRecord
from ondemand.errors import TransportError
from ondemand.transport.base import PublishFailure, TransactionAbortedError
from ondemand.transport.kafka_worker_config import KafkaAddress, log
from ondemand.transport.kafka_worker_errors import (
    REFUSED,
    News,
    error_of,
    publish_error,
)
from ondemand.transport.kafka_worker_renewal import AGAIN_SECONDS, STEP_SECONDS, RenewedProducer
from ondemand.transport.kafka_worker_topics import PartitionCounts

COMMIT_SECONDS: Final = 90.0
"""How long a commit may stay unanswered: longer than an outage that brokers come back from."""

ABORT_SECONDS: Final = 5.0
RENEW_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 5.0
PROBE_SECONDS: Final = 2.0
BUFFER_POLL_SECONDS: Final = 0.01
ALONE_TOPICS_MAX: Final = 1_000

_ANY_PARTITION: Final = -1
_TOO_LARGE: Final = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


class _Report(NamedTuple):
    """A record that was not written, and why."""

    record: OutgoingRecord
    error: KafkaError


class _MustAbortError(Exception):
    """The transaction cannot be committed any more, because of *error*."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(error.str())
        self.error = error


class TransactionalProducer:
    """One transaction at a time. For one thread, but for ``serve`` and ``overdue_seconds``.

    *transactional_id* belongs to this process alone: who is fenced is told by the group's
    membership, not by the name. *timeout_seconds*: after this long an open transaction is aborted
    by the broker; until then those of a process that was killed hold up whoever reads behind them.
    """

    def __init__(
        self, address: KafkaAddress, news: News, *, transactional_id: str, timeout_seconds: float
    ) -> None:
        self._news = news
        self._timeout_seconds = timeout_seconds
        self.handle: Final = RenewedProducer(
            address, news, transactional_id=transactional_id, timeout_seconds=timeout_seconds
        )
        """For look-ups that must be as fresh as what is sent: they follow the producer in use."""
        self._counts = PartitionCounts(self.handle, timeout_seconds=STEP_SECONDS)
        self._busy = threading.Lock()
        self._open = False
        self._alone: set[str] = set()
        self._called_at: float | None = None
        self.called = ""
        """What of the library was called last."""

    def start(self, timeout_seconds: float) -> None:
        """Get the right to transact. Raises ``ConfigurationError`` where the broker refuses it."""
        self.handle.start(timeout_seconds)

    def transact(
        self, records: Sequence[OutgoingRecord], offsets: list[TopicPartition], membership: Any
    ) -> None:
        """Write *records* and store *offsets*, as the member of the group that *membership* is.

        Raises ``TransactionAbortedError`` where nothing of it became visible, and
        ``TransportError`` where that is not known, or this producer is of no use any more.
        """
        with self._busy:
            if self._open:
                self._abort(TransactionAbortedError("an earlier transaction is not aborted yet"))
            while not self._attempt(records, offsets, membership):
                """Once more, with the records of some topics alone."""

    @property
    def overdue_seconds(self) -> float:
        """For how long a call into the library has not returned that was given a second; 0 where
        none is under way. For any thread."""
        called_at = self._called_at
        return 0.0 if called_at is None else max(time.monotonic() - called_at - STEP_SECONDS, 0.0)

    def serve(self) -> None:
        """Let the library log, and tell its errors, while nothing is transacted."""
        if self._busy.acquire(blocking=False):
            try:
                self.handle.serve()
            finally:
                self._busy.release()

    def close(self) -> None:
        """Leave no transaction open. What is under way in another thread is left to the broker."""
        if not self._busy.acquire(timeout=CLOSE_SECONDS):
            log.warning("a transaction is still under way: the broker ends it")
            return
        try:
            if self._open:
                self._abort(TransactionAbortedError("closed"))
        except TransportError as error:
            log.warning("a transaction was left open, and the broker aborts it: %s", error)
        finally:
            self._busy.release()

    @property
    def _producer(self) -> Producer:
        return self.handle.current

    def _attempt(
        self, records: Sequence[OutgoingRecord], offsets: list[TopicPartition], membership: Any
    ) -> bool:
        """True: committed. False: aborted, and worth another attempt at once."""
        reports: list[_Report] = []
        self._begin()
        store = partial(self._store, offsets, membership)
        try:
            # First, because this is asked again after a millisecond where the last transaction has
            # not ended on the broker; the library registers partitions again only after 20 ms.
            self._repeated(store, self._timeout_seconds)
            self._produce_all(records, reports)
            self._flush(records, reports, store)
            if not reports:
                self._commit()
                return True
            error = reports[0].error
            # Raises what the transaction itself failed of: a record may tell only that it was
            # dropped for that.
            self._repeated(store, self._timeout_seconds)
        except _MustAbortError as failure:
            error = failure.error
        aborted = TransactionAbortedError(f"a transaction was aborted: {error.str()}")
        aborted.__cause__ = KafkaException(error)
        self._abort(aborted)  # also brings the reports that have not come yet
        return self._judged(records, reports, aborted, error)

    def _begin(self) -> None:
        """Raises ``TransactionAbortedError`` where no producer that may begin can be had now."""
        if self.handle.spent:
            self._renew()
        try:
            self._producer.begin_transaction()
        except KafkaException as failure:
            self._give_up(failure)
        self._open = True

    def _renew(self) -> None:
        begun = time.monotonic()
        try:
            self._repeated(self.handle.renew, RENEW_SECONDS)
        except _MustAbortError as failure:
            self.handle.begin_again()
            raise TransactionAbortedError(
                f"no transaction could be begun after one that was aborted: {failure}"
            ) from failure
        log.info("a new producer after an abort, in %.0f ms", 1000 * (time.monotonic() - begun))

    def _store(self, offsets: list[TopicPartition], membership: Any, seconds: float) -> None:
        self._producer.send_offsets_to_transaction(offsets, membership, seconds)

    def _produce_all(self, records: Sequence[OutgoingRecord], reports: list[_Report]) -> None:
        produce = self._producer.produce
        for record in records:
            topic, partition, key, value, headers = record
            if topic in self._alone:
                self._produce(record, reports)
                self._producer.flush(STEP_SECONDS)
                continue
            try:  # as _produce, in place: this is done for every reply
                produce(
                    topic,
                    value,
                    key,
                    _ANY_PARTITION if partition is None else partition,
                    partial(_report, reports, record),
                    headers=list(headers) if headers else None,
                )
            except (BufferError, KafkaException):
                self._produce(record, reports)

    def _produce(self, record: OutgoingRecord, reports: list[_Report]) -> None:
        topic, partition, key, value, headers = record
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            try:
                self._producer.produce(
                    topic,
                    value,
                    key,
                    _ANY_PARTITION if partition is None else partition,
                    partial(_report, reports, record),
                    headers=list(headers) if headers else None,
                )
            except BufferError:
                if time.monotonic() >= deadline:
                    raise _MustAbortError(KafkaError(KafkaError._QUEUE_FULL)) from None  # noqa: SLF001 - a public constant
                self._producer.poll(BUFFER_POLL_SECONDS)
            except KafkaException as failure:
                error = error_of(failure)
                if error.code() not in REFUSED:
                    raise _MustAbortError(error) from failure
                reports.append(_Report(record, error))
                return
            else:
                return

    def _flush(
        self,
        records: Sequence[OutgoingRecord],
        reports: list[_Report],
        store: Callable[[float], object],
    ) -> None:
        """Wait until all is written or something is not. One topic that is gone would otherwise
        hold up the answers of all others until its records time out."""
        deadline = time.monotonic() + self._timeout_seconds
        while self._producer.flush(STEP_SECONDS) and not reports:
            if time.monotonic() >= deadline:
                raise _MustAbortError(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001
            # Raises where the transaction has failed already, and what is to be sent never will be.
            self._repeated(store, self._timeout_seconds)
            reports += self._of_topics_gone(records)

    def _of_topics_gone(self, records: Sequence[OutgoingRecord]) -> list[_Report]:
        counts: dict[str, int] = {}
        for topic in {record.topic for record in records}:
            self._counts.forget(topic)
            try:
                counts[topic] = self._counts(topic) or 0
            except TransportError:
                return []  # the broker is silent: nothing is known
        error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        return [
            _Report(record, error)
            for record in records
            if (record.partition or 0) >= counts[record.topic]
        ]

    def _commit(self) -> None:
        """Raises ``TransportError`` where it may be committed or not: then the process must leave,
        and who reads next learns from the broker which it was."""
        self._repeated(self._producer.commit_transaction, COMMIT_SECONDS, gives_up=True)
        self._open = False

    def _abort(self, reason: TransactionAbortedError) -> None:
        """Raises *reason* where that takes too long: nothing is visible, and the next transaction
        begins with it."""
        try:
            self._repeated(self._producer.abort_transaction, ABORT_SECONDS)
        except _MustAbortError as failure:
            raise reason from failure
        self._open = False
        self.handle.spent = True
        self._producer.poll(0)

    def _repeated(
        self, call: Callable[[float], object], seconds: float, *, gives_up: bool = False
    ) -> None:
        """Call until it succeeds, at most for *seconds*."""
        self.called = getattr(call, "func", call).__name__
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._called_at = time.monotonic()
                call(STEP_SECONDS)
            except KafkaException as failure:
                error = error_of(failure)
                over = time.monotonic() >= deadline
                if error.txn_requires_abort() or (over and error.retriable() and not gives_up):
                    raise _MustAbortError(error) from failure
                if over or not error.retriable():
                    self._give_up(failure)
                time.sleep(AGAIN_SECONDS)
            else:
                return
            finally:
                self._called_at = None

    def _give_up(self, failure: KafkaException) -> NoReturn:
        error = error_of(failure)
        if error.fatal():
            self._news.fatal = error
        raise TransportError(
            f"this process can transact no more, and must be replaced: {error.str()}"
        ) from failure

    # What a transaction was aborted for.

    def _judged(
        self,
        records: Sequence[OutgoingRecord],
        reports: Sequence[_Report],
        aborted: TransactionAbortedError,
        error: KafkaError,
    ) -> bool:
        """False: try again at once. Otherwise raises *aborted*, with the records that are to blame
        and would be refused again."""
        refused = [report for report in reports if report.error.code() in REFUSED]
        if not refused and error.code() in REFUSED:
            refused = self._of_topics_gone(records) or self._probed(records)
        crowded = {
            report.record.topic
            for report in refused
            if report.error.code() in _TOO_LARGE and self._in_a_batch(report.record, records)
        }
        failures = [
            PublishFailure(record, publish_error(why, record.topic), permanent=True)
            for record, why in refused
            if record.topic not in crowded
        ]
        if crowded:
            # The topic takes less than a batch: not for certain less than each of its records.
            if len(self._alone) >= ALONE_TOPICS_MAX:
                self._alone.clear()
            self._alone |= crowded
            if not failures:
                return False
        aborted.failures = tuple(failures)
        raise aborted

    def _in_a_batch(self, record: OutgoingRecord, records: Sequence[OutgoingRecord]) -> bool:
        return record.topic not in self._alone and sum(r.topic == record.topic for r in records) > 1

    def _probed(self, records: Sequence[OutgoingRecord]) -> list[_Report]:
        """The broker refuses a topic and does not say which: try each with a transaction that is
        aborted. Authorisation is refused so."""
        refused = []
        for topic in sorted({record.topic for record in records}):
            mine = [record for record in records if record.topic == topic]
            if error := self._probe(mine[0]):
                refused += [_Report(record, error) for record in mine]
        return refused

    def _probe(self, record: OutgoingRecord) -> KafkaError | None:
        reports: list[_Report] = []
        self._begin()
        self._produce(record, reports)
        left = self._producer.flush(PROBE_SECONDS)
        self._abort(TransactionAbortedError(f"topic {record.topic!r} was being tried"))
        if left:
            return KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
        refused = [report.error for report in reports if report.error.code() in REFUSED]
        return refused[0] if refused else None


def _report(
    reports: list[_Report], record: OutgoingRecord, error: KafkaError | None, _: Message
) -> None:
    """A delivery report: with this producer's options, always of a record that was not written."""
    if error is not None:
        reports.append(_Report(record, error))
