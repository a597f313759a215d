"""Topic names, who may be answered where, and what has to change on the broker."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from ondemand.errors import ConfigurationError
from ondemand.limits import NAME_LENGTH_MAX

REQUESTS: Final = "requests"
REPLIES: Final = "replies"
DEAD_LETTERS: Final = "dead-letters"
WORKERS: Final = "ondemand.workers"
"""The one topic that all models share: their workers announce themselves there."""

PARTITIONS: Mapping[str, int] = MappingProxyType({REQUESTS: 4, REPLIES: 8, DEAD_LETTERS: 1})
"""By kind, where nothing else is declared: so many workers and instances before any share."""

WORKERS_CONFIG: Mapping[str, str] = MappingProxyType(
    {
        # The last word of each worker is kept. Who crashed never takes it back: after an hour
        # nobody wants to know.
        "cleanup.policy": "compact,delete",
        "retention.ms": "3600000",
        # Only closed segments are compacted, and a client that starts reads what is left.
        "segment.ms": "60000",
        "min.cleanable.dirty.ratio": "0.1",
        # How old an announcement is must not depend on the worker's clock.
        "message.timestamp.type": "LogAppendTime",
    }
)
"""How Kafka keeps announcements, unless the topics file says otherwise."""

DEFAULT_REPLY_TOPICS = (f"*.{REPLIES}",)
"""The default allow-list for reply topics."""

_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{NAME_LENGTH_MAX - 1}}}")
_PARTITIONS_MAX = 10_000
_WORKERS_KEY = "workers"
_VERDICTS_KEPT = 256
_REPLICATION_FACTOR_MAX = 32_767  # Kafka's own: a signed 16-bit integer


def check_name(name: str, what: str) -> str:
    """*name* if it is ``[a-z0-9][a-z0-9._-]{0,99}``; otherwise ``ValueError`` that says *what*."""
    if _NAME.fullmatch(name):
        return name
    raise ValueError(
        f"{name[: NAME_LENGTH_MAX + 1]!r} is no {what}: expected 1 to {NAME_LENGTH_MAX} of "
        "a-z 0-9 . _ -, with a letter or digit first"
    )


def request_topic(model: str) -> str:
    """``<model>.requests``. Raises ``ValueError`` where it is no name."""
    return check_name(f"{check_name(model, 'model name')}.{REQUESTS}", "topic name")


def reply_topic(service: str) -> str:
    """``<service>.replies``. Raises ``ValueError`` where it is no name."""
    return check_name(f"{check_name(service, 'service name')}.{REPLIES}", "topic name")


def dead_letter_topic(model: str) -> str:
    """``<model>.dead-letters``. Raises ``ValueError`` where it is no name."""
    return check_name(f"{check_name(model, 'model name')}.{DEAD_LETTERS}", "topic name")


def worker_group(model: str) -> str:
    """``ondemand.<model>``: the consumer group of the model's workers."""
    return f"ondemand.{check_name(model, 'model name')}"


@dataclass(frozen=True, slots=True)
class ReplyTopicRule:
    """Which topics a worker answers to: patterns with ``*``, never internal or request topics."""

    patterns: tuple[str, ...] = DEFAULT_REPLY_TOPICS
    denied: frozenset[str] = frozenset()

    def allows(self, topic: str) -> bool:
        """Whether a pattern matches *topic* and nothing forbids it.

        Forbidden whatever the patterns say: names of Kafka's own topics (``__…``), topics named in
        *denied*, where workers announce themselves, and everything that ends as request and
        dead-letter topics do.
        """
        return _allows(self.patterns, self.denied, topic)


@lru_cache(maxsize=_VERDICTS_KEPT)
def _allows(patterns: tuple[str, ...], denied: frozenset[str], topic: str) -> bool:
    """Requests name the same few topics again and again."""
    if topic in denied or topic == WORKERS or topic.startswith("__"):
        return False
    if topic.endswith((f".{REQUESTS}", f".{DEAD_LETTERS}")):
        return False
    return _any_of(patterns).fullmatch(topic) is not None


@lru_cache(maxsize=64)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all *patterns*; ``*`` is the only character that stands for others."""
    parts = ("[^\n]*".join(map(re.escape, pattern.split("*"))) for pattern in patterns)
    return re.compile("|".join(f"(?:{part})" for part in parts) or "(?!)")


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
    """What has to change so that *wanted* is there. Never deletes, never lowers partitions.

    Settings that *wanted* does not name are left as they are.
    """
    changes: list[TopicChange] = []
    for topic in wanted:
        found = present.get(topic.name)
        if found is None:
            text = (
                f"create {topic.name} with {_partitions(topic.partitions)}, "
                f"replication factor {topic.replication_factor}"
            )
            changes.append(TopicChange(ChangeKind.CREATE, topic, text))
        else:
            changes += _differences(topic, found)
    return tuple(changes)


def _differences(wanted: TopicSpec, found: TopicSpec) -> list[TopicChange]:
    """What of a topic that is there is not as it should be."""
    changes = []
    if wanted.partitions > found.partitions:
        text = (
            f"raise {wanted.name} from {_partitions(found.partitions)} to {wanted.partitions}: "
            "keys move to other partitions, so order per key starts anew"
        )
        changes.append(TopicChange(ChangeKind.ADD_PARTITIONS, wanted, text))
    if wanted.partitions < found.partitions:
        text = (
            f"{wanted.name} has {_partitions(found.partitions)}, {wanted.partitions} are declared: "
            "Kafka cannot take partitions away; declare what is there"
        )
        changes.append(TopicChange(ChangeKind.REFUSED, wanted, text))
    if wanted.replication_factor != found.replication_factor:
        text = (
            f"{wanted.name} has replication factor {found.replication_factor}, "
            f"{wanted.replication_factor} is declared: that takes a reassignment of its partitions "
            "(kafka-reassign-partitions)"
        )
        changes.append(TopicChange(ChangeKind.REFUSED, wanted, text))
    differing = [
        f"{key} from {found.config.get(key, 'unset')} to {value}"
        for key, value in wanted.config.items()
        if found.config.get(key) != value
    ]
    if differing:
        text = f"set {wanted.name}: {', '.join(differing)}"
        changes.append(TopicChange(ChangeKind.SET_CONFIG, wanted, text))
    return changes


def _partitions(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"


def load_topics(
    text: str, *, models: Sequence[str] = (), services: Sequence[str] = ()
) -> tuple[TopicSpec, ...]:
    """The topics that ``broker/topics.toml`` (*text*) declares, plus those of *models* and
    *services*; with any model, the one where workers announce themselves. Raises
    ``ConfigurationError`` that names the line's key and what was expected."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the topics file is not valid TOML: {error}") from error
    known = {"models", "services", "replication_factor", "config"}
    known |= {REQUESTS, REPLIES, DEAD_LETTERS, _WORKERS_KEY}
    _refuse_unknown(table, known, "")
    all_models = _names(table, "models", models)
    all_services = _names(table, "services", services)
    defaults = {kind: _defaults(table, kind) for kind in (REQUESTS, DEAD_LETTERS, REPLIES)}
    try:
        names = [(REQUESTS, request_topic(model)) for model in all_models]
        names += [(DEAD_LETTERS, dead_letter_topic(model)) for model in all_models]
        names += [(REPLIES, reply_topic(service)) for service in all_services]
    except ValueError as error:
        raise ConfigurationError(f"topics file: {error}") from error
    announcements = (_announcements(table),) if all_models else ()
    return (*(replace(defaults[kind], name=name) for kind, name in names), *announcements)


def _announcements(table: dict[str, Any]) -> TopicSpec:
    """The topic where workers announce themselves: one partition, and settings of its own."""
    path = f"{_WORKERS_KEY}."
    section = _table(table, _WORKERS_KEY, "")
    _refuse_unknown(section, {"replication_factor", "config"}, path)
    shared = _number(table, "replication_factor", "", most=_REPLICATION_FACTOR_MAX)
    return TopicSpec(
        name=WORKERS,
        partitions=1,
        replication_factor=_number(
            section, "replication_factor", path, most=_REPLICATION_FACTOR_MAX, default=shared
        ),
        config=_config(table, "") | dict(WORKERS_CONFIG) | _config(section, path),
    )


def _defaults(table: dict[str, Any], kind: str) -> TopicSpec:
    """What every topic of *kind* is like; its name is still open."""
    section = _table(table, kind, "")
    _refuse_unknown(section, {"partitions", "replication_factor", "config"}, f"{kind}.")
    shared = _number(table, "replication_factor", "", most=_REPLICATION_FACTOR_MAX)
    own = _number(
        section, "replication_factor", f"{kind}.", most=_REPLICATION_FACTOR_MAX, default=shared
    )
    return TopicSpec(
        name="",
        partitions=_number(
            section, "partitions", f"{kind}.", most=_PARTITIONS_MAX, default=PARTITIONS[kind]
        ),
        replication_factor=own,
        config=_config(table, "") | _config(section, f"{kind}."),
    )


def _table(table: dict[str, Any], key: str, path: str) -> dict[str, Any]:
    """The sub-table *key*; empty where there is none."""
    value = table.get(key, {})
    if isinstance(value, dict):
        return value
    raise ConfigurationError(f"topics file: {path}{key} must be a table, got {value!r}")


def _refuse_unknown(table: dict[str, Any], known: set[str], path: str) -> None:
    for key in table:
        if key not in known:
            expected = ", ".join(sorted(known))
            message = f"topics file: unknown key {path}{key}; expected one of {expected}"
            raise ConfigurationError(message)


def _names(table: dict[str, Any], key: str, more: Sequence[str]) -> list[str]:
    """The names listed under *key* and *more*, each once."""
    listed = table.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ConfigurationError(f"topics file: {key} must be a list of names, got {listed!r}")
    return list(dict.fromkeys([*listed, *more]))


def _number(table: dict[str, Any], key: str, path: str, *, most: int, default: int = 1) -> int:
    value = table.get(key, default)
    if type(value) is int and 1 <= value <= most:
        return value
    raise ConfigurationError(
        f"topics file: {path}{key} must be a whole number from 1 to {most}, got {value!r}"
    )


def _config(table: dict[str, Any], path: str) -> dict[str, str]:
    """Kafka's own topic settings, by Kafka's names, as the text that Kafka takes."""
    settings = {}
    for key, value in _table(table, "config", path).items():
        if isinstance(value, bool):
            settings[key] = str(value).lower()
        elif isinstance(value, int | str):
            settings[key] = str(value)
        else:
            raise ConfigurationError(
                f"topics file: {path}config.{key} must be text, a whole number or a boolean, "
                f'got {value!r}; write names with dots in quotes, "{key}.…"'
            )
    return settings
