"""What can be set. Each field says what it means, its unit, why this default, and what it interacts
with; ``docs/settings.md`` is generated from here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ondemand import limits
from ondemand.settings.claims import Claims
from ondemand.settings.security import Security

PositiveSeconds = Annotated[float, Field(gt=0, le=86_400)]

RELATIONS: Final = (
    ("request_bytes_max", "batch_bytes_max", "a request that is accepted must fit a batch"),
    ("batch_bytes_max", "queue_bytes_max", "a full batch must fit the queue"),
    ("claim_bytes_max", "batch_bytes_max", "a body from the store must fit a batch, too"),
    ("batch_rows_max", "queue_rows_max", "a full batch must fit the queue"),
    ("request_rows_max", "queue_rows_max", "a request that is accepted must fit the queue"),
    ("model_timeout_seconds", "stuck_seconds", "a run within its limit must not count as stuck"),
)
"""Settings of a worker where the first must not exceed the second, and why."""

HIDDEN: Final = "(hidden)"
_SECRET: Final = re.compile("password|secret|key|token|jaas", re.IGNORECASE)


def shown_options(options: Mapping[str, str]) -> dict[str, str]:
    """Options as people and logs may see them: values of secrets hidden, judged by their names."""
    return {name: HIDDEN if is_secret(name) else value for name, value in options.items()}


def is_secret(option: str) -> bool:
    """Whether an option of that name holds a secret, as far as its name tells."""
    return _SECRET.search(option) is not None


class _Kafka(BaseModel):
    """Where the broker is."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kafka: str = Field(
        default="127.0.0.1:9092",
        pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$",
        description="The broker's addresses, `HOST:PORT[,HOST:PORT…]`; any of them leads to all.",
    )
    kafka_options: dict[str, str] = Field(
        default_factory=dict,
        description="Options of the Kafka client library, by its own names, for what is not "
        "wrapped here (buffers, intervals). Options that delivery or security depend on are "
        "refused. A value `file:PATH` is read from that file, for secrets.",
    )
    connect_timeout_seconds: PositiveSeconds = Field(
        default=10.0, description="How long a start waits for the first answer of a broker."
    )

    @field_validator("kafka_options", mode="before")
    @classmethod
    def _flat(cls, options: object) -> object:
        """TOML reads an unquoted ``security.protocol`` as a table, and numbers as numbers."""
        return dict(_flattened(options)) if isinstance(options, Mapping) else options

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, shown_options(value) if name == "kafka_options" else value


class Settings(Security, Claims, _Kafka):
    """What both sides share."""


class WorkerSettings(Settings):
    """How a worker takes, batches and answers."""

    request_topic: str | None = Field(
        default=None, description="The topic to read; by default `<model>.requests`."
    )
    dead_letter_topic: str | None = Field(
        default=None,
        description="Where unanswerable requests and model failures go; by default "
        "`<model>.dead-letters`.",
    )
    group: str | None = Field(
        default=None, description="The consumer group; by default `ondemand.<model>`."
    )
    guarantee: Literal["at-least-once", "exactly-once"] = Field(
        default="at-least-once",
        description="`at-least-once`: after a crash an answer may be repeated; clients deliver the "
        "first. `exactly-once`: replies and offsets move in one transaction, and whoever reads "
        "committed records (our client does) sees one answer to each request. After a crash the "
        "dead worker's partitions wait until the broker has ended its transaction: up to "
        "`session_timeout_seconds`, and the ten seconds in which the broker looks "
        "(docs/decisions/0009).",
    )
    reply_topics: tuple[str, ...] = Field(
        default=("*.replies",),
        min_length=1,
        description="Which topics a request may name for its reply; `*` stands for any characters. "
        "Anything wider lets callers write, with the worker's rights, where they may not.",
    )
    dialects: tuple[Literal["native", "spring", "smallrye"], ...] = Field(
        default=("native",),
        min_length=1,
        description="Whose header names are understood (docs/contract.md, Dialects).",
    )
    batch_rows_max: int = Field(
        default=limits.BATCH_ROWS_MAX,
        ge=1,
        le=65_536,
        description="Rows that the model runs on at once. More amortise the cost per call, and "
        "make the last row wait for all the others.",
    )
    batch_bytes_max: int = Field(
        default=limits.BATCH_BYTES_MAX,
        ge=1_000,
        description="Request bytes in one batch: what bounds the memory of a run.",
    )
    batch_wait_seconds: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="How long the first request of a batch waits for company while the model is "
        "free. 0: not at all. Above 0 only for models whose cost per call dwarfs their cost per "
        "row.",
    )
    request_bytes_max: int = Field(
        default=limits.REQUEST_BYTES_MAX,
        ge=100,
        description="Bytes of a request's body; above, it is answered `too-large` unparsed.",
    )
    request_rows_max: int = Field(
        default=limits.REQUEST_ROWS_MAX,
        ge=1,
        description="Rows of one request; above, it is answered `too-large`.",
    )
    reply_bytes_max: int = Field(
        default=limits.REPLY_BYTES_MAX,
        ge=100,
        description="Bytes of a reply's body; above, the request is answered `internal`. Must stay "
        "below the reply topic's `max.message.bytes`.",
    )
    queue_rows_max: int = Field(
        default=limits.QUEUE_ROWS_MAX,
        ge=1,
        description="Rows that wait in memory; above, partitions pause and polling goes on.",
    )
    queue_bytes_max: int = Field(
        default=limits.QUEUE_BYTES_MAX,
        ge=1_000,
        description="Request bytes that wait in memory; above, partitions pause.",
    )
    default_deadline_seconds: float | None = Field(
        default=None,
        gt=0,
        description="For requests that name no deadline: this long after their record's timestamp "
        "they are answered `deadline-exceeded` unrun. Off by default.",
    )
    claim_expires_seconds: PositiveSeconds = Field(
        default=float(limits.CLAIM_EXPIRES_SECONDS),
        description="How long a claim check counts, from its record's timestamp; then it is "
        "answered `invalid-request` and its object is not read. Let the store itself delete "
        "objects later than that: clients leave some behind.",
    )
    commit_interval_seconds: PositiveSeconds = Field(
        default=0.5,
        description="How often finished offsets are committed in the background: the most work "
        "that a crash repeats. Committing after each batch costs 5 to 10 ms a batch.",
    )
    drain_timeout_seconds: PositiveSeconds = Field(
        default=10.0,
        description="How long a stop or a rebalance waits for what is running to be answered. Keep "
        "it below the orchestrator's grace period.",
    )
    session_timeout_seconds: PositiveSeconds = Field(
        default=10.0, description="After this silence the broker gives the partitions to others."
    )
    shedding: Literal["none", "oldest", "by-deadline"] = Field(
        default="none",
        description="Who is answered `overloaded` when more comes than the model can take. `none`: "
        "nobody, requests wait on the broker. `oldest`: those that waited longest, when the queue "
        "is full. `by-deadline`: those whose deadline what waits before them will outlast.",
    )
    model_timeout_seconds: PositiveSeconds = Field(
        default=60.0,
        description="How long one run of the model may take. Then it is stopped, and the request "
        "that caused it is found and answered `model-timeout`. A runtime that does not stop makes "
        "the process leave after twice this time.",
    )
    attempts_max: int = Field(
        # With 3, a chaos run with a kill or a pause every 5 s found one innocent request guilty.
        default=5,
        ge=2,
        le=100,
        description="How many processes may end while they run the same request (killed by the "
        "model's own code, out of memory, or stuck), each restart trying fewer requests at once. "
        "Then it is answered `model-error`, and kept as a dead letter. One more may end where "
        "the request came in the middle of others: the first end is not told from a kill.",
    )
    stuck_seconds: PositiveSeconds = Field(
        default=300.0,
        description="After how long a partition that has work to do and does not move makes the "
        "process leave (exit code 5), so that another one takes over. `/readyz` says so from a "
        "quarter of it on.",
    )
    model_threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="ONNX Runtime's threads in one run; by default the container's CPU quota, "
        "shared out among `processes`.",
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=limits.PROCESSES_MAX,
        description="How many processes answer, each a member of the group, under a supervisor "
        "that starts those again that end. Each loads the model. More than the request topic has "
        "partitions are of no use.",
    )
    execution_providers: tuple[
        Literal["cpu", "cuda", "tensorrt", "migraphx", "openvino", "directml", "coreml"], ...
    ] = Field(
        default=("cpu",),
        min_length=1,
        description="Where the model runs, the preferred one first. The worker does not start "
        "where one of them is missing from the installed ONNX Runtime or cannot be used: nothing "
        "falls back in silence. What they cannot run goes to the processor if `cpu` is listed, as "
        "in `cuda,cpu`; otherwise the model is refused. All but `cpu` and `coreml` need another "
        "build than the worker's own: the error names it (CUDA and TensorRT: `onnxruntime-gpu`).",
    )
    announce_seconds: float = Field(
        default=5.0,
        gt=0,
        le=limits.ANNOUNCE_SECONDS_MAX,
        description="How often the worker says on `ondemand.workers` that it is there. Clients "
        "count it as gone after three times this silence. Without that topic nothing is said.",
    )
    http: str = Field(
        default="127.0.0.1:9464",
        pattern=r"^([^\s]*:\d+|off)$",
        description="Where `/livez`, `/readyz` and `/metrics` are served, `HOST:PORT`; `off` for "
        "nowhere. Port 0 takes a free one.",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Below this, nothing is logged."
    )

    @model_validator(mode="after")
    def _relations(self) -> "WorkerSettings":
        """Limits that depend on each other."""
        for smaller, larger, reason in RELATIONS:
            if smaller == "claim_bytes_max" and self.claim_store is None:
                continue  # a limit of what is not taken
            low, high = getattr(self, smaller), getattr(self, larger)
            if low > high:
                raise ValueError(f"{smaller} ({low}) must not exceed {larger} ({high}): {reason}")
        return self


class ClientSettings(Settings):
    """How a service sends requests and awaits replies."""

    service: str = Field(
        default="cli", description="The service's name; its replies come to `<service>.replies`."
    )
    reply_topic: str | None = Field(
        default=None, description="The topic for replies; by default `<service>.replies`."
    )
    timeout_seconds: PositiveSeconds = Field(
        default=5.0,
        description="How long `predict` waits for a reply, counted from the acknowledged send. The "
        "worker is told the deadline, so that it does not run what nobody awaits.",
    )
    send_timeout_seconds: PositiveSeconds = Field(
        default=10.0, description="How long a send may take until it counts as not sent."
    )
    unserved: Literal["fail", "wait"] = Field(
        default="fail",
        description="What becomes of a request to a model that no worker has announced itself for. "
        "`fail`: refused within half a second, unsent. `wait`: sent, and answered by who starts "
        "within its timeout. Choose `wait` where one worker alone is restarted now and then, "
        "or where workers do not announce themselves.",
    )
    pending_max: int = Field(
        default=limits.PENDING_MAX,
        ge=1,
        description="Predictions awaited at once; a further `predict` waits for a place.",
    )
    claim_above_bytes: int = Field(
        default=limits.REQUEST_BYTES_MAX,
        ge=1_000,
        le=limits.REQUEST_BYTES_MAX,
        description="With `claim_store`: a body of more bytes than this goes there rather than "
        "into the record; by default only what no record may hold.",
    )
    binary: bool = Field(
        default=True,
        description="Send tensors as bytes (784 floats cost 0.5 µs) rather than JSON (33 to "
        "53 µs).",
    )


def _flattened(options: Mapping[Any, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested tables as dotted names; numbers and truth values as Kafka writes them."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float):
            yield f"{prefix}{name}", str(value).lower()
        else:
            yield f"{prefix}{name}", value
