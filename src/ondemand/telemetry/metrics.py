"""The catalogue's metrics as Prometheus sees them; one registry for each process."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ondemand.telemetry import events
from ondemand.telemetry.events import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Metrics:
    """A registry, and how the catalogue's metrics get into it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes, of the type ``CONTENT_TYPE``."""
        return generate_latest(self.registry)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.meaning, tuple(metric.labels), registry=self.registry)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.meaning, tuple(metric.labels), registry=self.registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(
            metric.name,
            metric.meaning,
            tuple(metric.labels),
            buckets=metric.buckets,
            registry=self.registry,
        )


class WorkerMetrics(_Metrics):
    """What one worker counts. Thread-safe. Called once for each batch, never for each request."""

    def __init__(self) -> None:
        super().__init__()
        self._requests = self._counter(events.REQUESTS)
        self._dead_letters = self._counter(events.DEAD_LETTERS)
        self._publish_failures = self._counter(events.PUBLISH_FAILURES)
        self._commit_failures = self._counter(events.COMMIT_FAILURES)
        self._batch_rows = self._histogram(events.BATCH_ROWS)
        self._model_seconds = self._histogram(events.MODEL_SECONDS)
        self._queue_seconds = self._histogram(events.QUEUE_SECONDS)
        self._queue_rows = self._gauge(events.QUEUE_ROWS)
        self._queue_bytes = self._gauge(events.QUEUE_BYTES)
        self._unsettled = self._gauge(events.UNSETTLED_REQUESTS)
        self._lag = self._gauge(events.LAG_RECORDS)
        self._partitions = self._gauge(events.PARTITIONS)
        self._paused = self._gauge(events.PAUSED)
        self._info = self._gauge(events.WORKER_INFO)

    def worker(self, *, model: str, version: str, guarantee: str) -> None:
        """What runs here."""
        self._info.labels(model=model, version=version, guarantee=guarantee).set(1)

    def answered(self, counts: Mapping[str, int]) -> None:
        """Answers were handed to the producer: how many of each status."""
        for status, count in counts.items():
            self._requests.labels(status=status).inc(count)

    def dead_letter(self, reason: str) -> None:
        """A record was written to the dead letters."""
        self._dead_letters.labels(reason=reason).inc()

    def batch(self, *, rows: int, model_seconds: float, queue_seconds: float) -> None:
        """The model ran."""
        self._batch_rows.observe(rows)
        self._model_seconds.observe(model_seconds)
        self._queue_seconds.observe(queue_seconds)

    def publish_failed(self, outcome: str) -> None:
        """The broker did not acknowledge a record."""
        self._publish_failures.labels(outcome=outcome).inc()

    def commit_failed(self) -> None:
        """The broker did not take a commit."""
        self._commit_failures.inc()

    def holds(
        self, *, partitions: int, queue_rows: int, queue_bytes: int, unsettled: int, paused: int
    ) -> None:
        """What the worker has now, in memory and of the topic; *paused* is 1 or 0."""
        self._partitions.set(partitions)
        self._queue_rows.set(queue_rows)
        self._queue_bytes.set(queue_bytes)
        self._unsettled.set(unsettled)
        self._paused.set(paused)

    def lag(self, records_by_partition: Mapping[int, int]) -> None:
        """What waits on the broker, for the partitions that are assigned now and no others. Of one
        that has been silent since it was assigned nothing is known."""
        self._lag.clear()
        for partition, records in records_by_partition.items():
            self._lag.labels(partition=str(partition)).set(records)


class SupervisorMetrics(_Metrics):
    """What a supervisor counts of its processes, of which there are *processes*."""

    def __init__(self, processes: int) -> None:
        super().__init__()
        self._up = self._gauge(events.PROCESS_UP)
        self._starts = self._counter(events.PROCESS_STARTS)
        for process in range(processes):
            self.ended(process)

    def started(self, process: int) -> None:
        """A process was started."""
        self._starts.labels(process=str(process)).inc()
        self._up.labels(process=str(process)).set(1)

    def ended(self, process: int) -> None:
        """It is not there now."""
        self._up.labels(process=str(process)).set(0)
