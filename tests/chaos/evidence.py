"""What is known of a run when it is over: records as they lie in the topics, and a diary.

Pure data: ``collect`` makes it of a broker, the checker's own tests make it by hand. Times are
milliseconds since the epoch. Those of records are the brokers' (`LogAppendTime`); brokers and
driver share one computer, so all are of one clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaos.load import Kind
from chaos.plan import Act


@dataclass(frozen=True, slots=True)
class Asked:
    """One record of the request topic. *scores*: what the model must say of it."""

    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    correlation_id: bytes | None
    reply: tuple[str, int] | None  # the topic and the partition that it names
    kind: Kind
    number: int
    deadline_ms: int | None
    scores: tuple[float, ...] = ()
    raw: bool = True  # of the raw producers; otherwise of a client


@dataclass(frozen=True, slots=True)
class Answered:
    """One record of a reply topic. *number* and *scores*: of an `ok` reply that could be read."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    correlation_id: bytes | None
    status: str
    number: int | None = None
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Buried:
    """One record of the dead-letter topic: which request it is, and why."""

    partition: int
    offset: int
    time_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """At *time_ms* the group's position in *partition* was *position*, or had been before.

    From the log of the group's commits, where each has the time of its append; or asked for, with
    the time when the answer had come.
    """

    partition: int
    position: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """An act of the plan as it was done. *ended_ms*: when the pause or the absence was over."""

    act: Act
    target: int
    time_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it. *ends*: the end of each partition of the request topic; *positions*: what the
    group had committed at last. *acknowledged*: requests that the brokers took from the raw
    producers. *callers*: what became of each call of the clients. *exits*: how worker processes
    ended. *evictions*: pauses in which others were given what the paused worker had."""

    asked: Sequence[Asked]
    answered: Sequence[Answered]
    buried: Sequence[Buried]
    sightings: Sequence[Sighting]
    done: Sequence[Done]
    ends: Mapping[int, int]
    positions: Mapping[int, int]
    acknowledged: int
    callers: Mapping[str, int]
    exits: Mapping[str, int]
    evictions: int
