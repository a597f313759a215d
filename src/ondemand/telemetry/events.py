"""The closed catalogue of what operators see: every log event and every metric, once.

A test fails for a name that is used but not listed, or listed but never used;
``docs/telemetry.md`` is generated from here. Labels are bounded: each says by what.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Self


class Event(StrEnum):
    """A line in the log: its name, when it is written, and the fields that it has."""

    when: str
    fields: tuple[str, ...]

    def __new__(cls, name: str, when: str, *fields: str) -> Self:
        """A member whose value is *name*."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.when, member.fields = when, fields
        return member

    WORKER_STARTING = (
        "worker.starting",
        "Once the model is loaded and warm.",
        "model",
        "version",
        "topic",
        "group",
        "kafka",
    )
    HTTP_LISTENING = ("http.listening", "Where health and metrics are served.", "address")
    WORKER_DRAINING = (
        "worker.draining",
        "A signal arrived; what is running is settled and committed.",
        "signal",
        "drain_timeout_seconds",
    )
    WORKER_ABANDONED = (
        "worker.abandoned",
        "A second signal arrived; the process leaves at once, what is unsettled will be repeated.",
        "signal",
    )
    WORKER_STOPPED = ("worker.stopped", "The worker left its group.", "requests", "unsettled")
    WORKER_ANNOUNCED = (
        "worker.announced",
        "Clients are told that this worker is there: the first time, and after trouble.",
        "instance",
    )
    WORKER_UNANNOUNCED = (
        "worker.unannounced",
        "Clients cannot be told that this worker is there, for now: some will take it for gone.",
        "message",
    )
    PARTITIONS_ASSIGNED = ("partitions.assigned", "Partitions came to this worker.", "partitions")
    PARTITIONS_REVOKED = (
        "partitions.revoked",
        "Partitions went to another worker, after what was running had settled.",
        "partitions",
        "unsettled",
    )
    PARTITIONS_LOST = (
        "partitions.lost",
        "Partitions were taken while this worker was silent; nothing of them is committed.",
        "partitions",
    )
    PARTITION_STANDS_STILL = (
        "partition.stands-still",
        "A partition has work to do and does not move; if that goes on, the process leaves.",
        "message",
    )
    QUEUE_FULL = (
        "queue.full",
        "The queue is full: partitions are paused, polling goes on.",
        "queue_rows",
        "queue_bytes",
    )
    QUEUE_RESUMED = ("queue.resumed", "The queue has room again.", "queue_rows", "queue_bytes")
    REQUESTS_SUSPECTED = (
        "requests.suspected",
        "A process ended that had begun with these: they are tried in smaller and smaller groups.",
        "partition",
        "attempt",
        "first",
        "last",
    )
    REQUEST_REFUSED = (
        "request.refused",
        "A request was answered with a status that its caller must act on.",
        "correlation_id",
        "status",
        "message",
        "source",
    )
    CLAIM_UNREADABLE = (
        "claim.unreadable",
        "The object store did not give a request's body, or not in time: it is answered so.",
        "message",
    )
    REQUEST_UNANSWERABLE = (
        "request.unanswerable",
        "A record has no usable correlation ID or reply address; it is in the dead letters.",
        "message",
        "source",
    )
    REQUEST_FAILED = (
        "request.failed",
        "The model failed on one request alone; it is answered and in the dead letters.",
        "correlation_id",
        "status",
        "message",
        "source",
    )
    LINES_LEFT_OUT = (
        "log.left-out",
        "Lines of one event were left out because there were too many in one second.",
        "left_out",
        "of",
    )
    PUBLISH_REPEATED = (
        "publish.repeated",
        "The broker did not take a record for now; it is published again.",
        "topic",
        "message",
    )
    PUBLISH_REFUSED = (
        "publish.refused",
        "The broker will never take this reply; the request goes to the dead letters.",
        "topic",
        "message",
    )
    BROKER_SILENT = (
        "broker.silent",
        "The broker did not answer a question; it is asked again.",
        "message",
    )
    COMMIT_FAILED = (
        "commit.failed",
        "Offsets could not be stored; a later commit repeats them.",
        "message",
    )
    WORKER_FAILED = (
        "worker.failed",
        "Something unforeseen happened; the process leaves.",
        "message",
    )
    PROCESS_STARTED = (
        "process.started",
        "A supervisor started one of its processes.",
        "process",
        "pid",
    )
    PROCESS_NOT_STARTED = (
        "process.not-started",
        "The system could not start a process for a supervisor; it is tried again.",
        "process",
        "message",
        "restart_in_seconds",
    )
    PROCESS_ENDED = (
        "process.ended",
        "A process of a supervisor ended; it is started again, unless all of them are to leave.",
        "process",
        "pid",
        "exit_code",
        "restart_in_seconds",
    )


MetricKind = Literal["counter", "gauge", "histogram"]

SECONDS_BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: *labels* maps each label to what bounds its values."""

    name: str
    kind: MetricKind
    meaning: str
    labels: Mapping[str, str] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


REQUESTS = Metric(
    "ondemand_requests_total",
    "counter",
    "Requests answered, by status, once their answers are with the producer.",
    {"status": "the ten statuses of the contract"},
)
DEAD_LETTERS = Metric(
    "ondemand_dead_letters_total",
    "counter",
    "Records written to the dead letters.",
    {"reason": "`unanswerable` and the statuses of the contract"},
)
BATCH_ROWS = Metric(
    "ondemand_batch_rows", "histogram", "Rows in one run of the model.", buckets=ROWS_BUCKETS
)
MODEL_SECONDS = Metric(
    "ondemand_model_seconds",
    "histogram",
    "Seconds of one run of the model, concatenating and splitting included.",
    buckets=SECONDS_BUCKETS,
)
QUEUE_SECONDS = Metric(
    "ondemand_queue_seconds",
    "histogram",
    "Seconds that the longest waiting request of a batch waited in this worker.",
    buckets=SECONDS_BUCKETS,
)
QUEUE_ROWS = Metric("ondemand_queue_rows", "gauge", "Rows that wait in this worker.")
QUEUE_BYTES = Metric("ondemand_queue_bytes", "gauge", "Request bytes that wait in this worker.")
UNSETTLED_REQUESTS = Metric(
    "ondemand_unsettled_requests",
    "gauge",
    "Requests taken from the broker whose answers it has not acknowledged yet.",
)
LAG_RECORDS = Metric(
    "ondemand_lag_records",
    "gauge",
    "Records of this partition that no worker has fetched yet.",
    {"partition": "the partitions of the request topic"},
)
PARTITIONS = Metric("ondemand_assigned_partitions", "gauge", "Partitions that this worker reads.")
PAUSED = Metric(
    "ondemand_paused", "gauge", "1 while partitions are paused because the queue is full."
)
PUBLISH_FAILURES = Metric(
    "ondemand_publish_failures_total",
    "counter",
    "Records that the broker did not acknowledge.",
    {"outcome": "`repeated` or `refused`"},
)
COMMIT_FAILURES = Metric(
    "ondemand_commit_failures_total", "counter", "Commits of offsets that the broker did not take."
)
WORKER_INFO = Metric(
    "ondemand_worker_info",
    "gauge",
    "1; its labels say what runs here.",
    {"model": "one", "version": "one", "guarantee": "one"},
)
PROCESS_UP = Metric(
    "ondemand_process_up",
    "gauge",
    "1 while this process of a supervisor runs, 0 while it is to be started again.",
    {"process": "the `processes` of the settings"},
)
PROCESS_STARTS = Metric(
    "ondemand_process_starts_total",
    "counter",
    "How often a supervisor has started this process.",
    {"process": "the `processes` of the settings"},
)

METRICS = (
    REQUESTS,
    DEAD_LETTERS,
    BATCH_ROWS,
    MODEL_SECONDS,
    QUEUE_SECONDS,
    QUEUE_ROWS,
    QUEUE_BYTES,
    UNSETTLED_REQUESTS,
    LAG_RECORDS,
    PARTITIONS,
    PAUSED,
    PUBLISH_FAILURES,
    COMMIT_FAILURES,
    WORKER_INFO,
    PROCESS_UP,
    PROCESS_STARTS,
)


def page() -> str:
    """``docs/telemetry.md``: the catalogue for people."""
    events = "\n".join(
        f"| `{event}` | {event.when} | {', '.join(f'`{name}`' for name in event.fields)} |"
        for event in Event
    )
    metrics = "\n".join(
        f"| `{metric.name}` | {metric.kind} | {metric.meaning} | "
        f"{'; '.join(f'`{label}`: {bound}' for label, bound in metric.labels.items())} |"
        for metric in METRICS
    )
    return (
        "# Telemetry\n\n"
        "Made from `src/ondemand/telemetry/events.py` by `make docs`; do not edit.\n\n"
        "## Log events\n\n"
        "One event a line on stderr, as JSON or for a console (`log_format`). At most 20 lines\n"
        "of one event are written in a second; what is left out is counted. Payloads and keys\n"
        "are never logged. Correlation IDs are shown as text where they are printable ASCII,\n"
        "otherwise as hex. With several `processes` each line of one of them says which it is, in\n"
        "the field `process`.\n\n"
        f"| event | when | fields |\n|---|---|---|\n{events}\n\n"
        "## Metrics\n\n"
        "Served at `/metrics` in the Prometheus text format. Every label is bounded. With several\n"
        "`processes` one page holds the samples of all of them, each with the label `process`,\n"
        "and those of the supervisor.\n\n"
        "| metric | kind | meaning | labels, and what bounds them |\n|---|---|---|---|\n"
        f"{metrics}\n"
    )
