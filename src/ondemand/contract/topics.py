"""Topic names, who may be answered where, and what has to change on the broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_REPLY_TOPICS = ("*.replies",)
"""The default allow-list for reply topics."""


def check_name(name: str, what: str) -> str:
    """*name* if it is ``[a-z0-9][a-z0-9._-]{0,99}``; otherwise ``ValueError`` that says *what*."""
    raise NotImplementedError


def request_topic(model: str) -> str:
    """``<model>.requests``."""
    raise NotImplementedError


def reply_topic(service: str) -> str:
    """``<service>.replies``."""
    raise NotImplementedError


def dead_letter_topic(model: str) -> str:
    """``<model>.dead-letters``."""
    raise NotImplementedError


def worker_group(model: str) -> str:
    """``ondemand.<model>``: the consumer group of the model's workers."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ReplyTopicRule:
    """Which topics a worker answers to: patterns with ``*``, never internal or request topics."""

    patterns: tuple[str, ...] = DEFAULT_REPLY_TOPICS
    denied: frozenset[str] = frozenset()

    def allows(self, topic: str) -> bool:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be, or as it is."""

    name: str
    partitions: int
    replication_factor: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


class ChangeKind(StrEnum):
    """What can differ between a topic as it should be and as it is."""

    CREATE = "create"
    ADD_PARTITIONS = "add-partitions"
    SET_CONFIG = "set-config"
    REFUSED = "refused"  # fewer partitions, another replication factor: never done, always said


@dataclass(frozen=True, slots=True)
class TopicChange:
    """One line of a plan; *text* is for people."""

    kind: ChangeKind
    topic: TopicSpec
    text: str


def plan(wanted: Sequence[TopicSpec], present: Mapping[str, TopicSpec]) -> tuple[TopicChange, ...]:
    """What has to change so that *wanted* is there. Never deletes, never lowers partitions."""
    raise NotImplementedError


def load_topics(text: str, *, models: Sequence[str] = (), services: Sequence[str] = ()) -> tuple[TopicSpec, ...]:
    """The topics that ``broker/topics.toml`` (*text*) declares, plus those of *models* and
    *services*. Raises ``ConfigurationError`` that names the line's key and what was expected."""
    raise NotImplementedError
