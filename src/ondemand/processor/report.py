"""What the processor tells operators: each thing once, as a log line, a metric, or both."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ondemand.contract.headers import printable
from ondemand.contract.record import Partition
from ondemand.errors import Status, TransportError
from ondemand.processor.encode import Answer
from ondemand.processor.outcome import Completed, Rejected, Unanswerable
from ondemand.telemetry.events import Event
from ondemand.telemetry.logging import EventLog
from ondemand.telemetry.metrics import WorkerMetrics


class Reporter:
    """Joins log and metrics. Called once for each batch or event, never for each ``ok`` answer."""

    def __init__(self, log: EventLog, metrics: WorkerMetrics) -> None:
        self.log = log
        self.metrics = metrics
        self.batch = metrics.batch
        self.holds = metrics.holds

    def answered(self, answers: Sequence[Answer]) -> None:
        """Count all answers, and write a line for each that is not ``ok``."""
        others = [answer for answer in answers if not isinstance(answer.outcome, Completed)]
        counts = Counter([answer.status for answer in others])
        if len(others) < len(answers):
            counts[Status.OK] = len(answers) - len(others)
        self.metrics.answered(counts)
        for answer in others:
            self._not_ok(answer)

    def lag(self, records: Mapping[Partition, int]) -> None:
        """What waits on the broker."""
        self.metrics.lag({partition.index: lag for partition, lag in records.items()})

    def commit_failed(self, error: TransportError) -> None:
        """Offsets were not stored."""
        self.metrics.commit_failed()
        self.log.warning(Event.COMMIT_FAILED, message=str(error))

    def publish_repeated(self, topic: str, error: TransportError) -> None:
        """A record was not taken, and goes out again."""
        self.metrics.publish_failed("repeated")
        self.log.warning(Event.PUBLISH_REPEATED, topic=topic, message=str(error))

    def publish_refused(self, topic: str, error: TransportError) -> None:
        """A reply will never be taken."""
        self.metrics.publish_failed("refused")
        self.log.error(Event.PUBLISH_REFUSED, topic=topic, message=str(error))

    def _not_ok(self, answer: Answer) -> None:
        outcome, source = answer.outcome, answer.record.source
        if isinstance(outcome, Completed):
            return
        if answer.has_dead_letter:
            self.metrics.dead_letter(answer.status)
        if answer.located is None or isinstance(outcome, Unanswerable):
            self.log.warning(Event.REQUEST_UNANSWERABLE, message=outcome.message, source=source)
            return
        fields = {
            "correlation_id": printable(answer.located.address.correlation_id),
            "status": answer.status,
            "message": outcome.message,
            "source": source,
        }
        if isinstance(outcome, Rejected):
            self.log.info(Event.REQUEST_REFUSED, **fields)
        else:
            self.log.error(Event.REQUEST_FAILED, **fields)
