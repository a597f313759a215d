"""Who serves what, as far as workers have said. Pure: records and the passing of time come in.

Its time flows only while the broker is heard: in an outage, or in a process that was stopped, the
silence is ours and not the workers'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ondemand import limits
from ondemand.contract.announcement import Announcement, model_of, read_announcement
from ondemand.contract.record import Record
from ondemand.contract.topics import request_topic

FORGET_SECONDS: Final = 3_600.0
"""After so long it is of no interest any more who served once."""

NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class AliveWorker:
    """A worker that counts as alive, and how long ago it was heard."""

    announcement: Announcement
    heard_seconds_ago: float


@dataclass(slots=True)
class _Heard:
    announcement: Announcement
    at: float
    size_bytes: int

    @property
    def until(self) -> float:
        return self.at + self.announcement.silent_seconds


class Directory:
    """The last word of each worker, by the key of its announcement."""

    def __init__(self) -> None:
        self._now = 0.0
        self._held_bytes = 0
        self._heard: dict[bytes, _Heard] = {}
        self._until: dict[str, float] = {}  # by request topic: how long somebody counts as alive
        self._last: dict[str, float] = {}  # by request topic: when somebody was last there

    def __repr__(self) -> str:
        return f"<Directory [{len(self.alive())} workers alive]>"

    def advance(self, seconds: float) -> None:
        """So much time has passed in which every announcement would have been heard."""
        self._now += seconds

    def hear(self, record: Record, *, age_seconds: float = 0.0) -> str | None:
        """Take note of a *record* of that age. The request topic that is served by whom it tells
        of; None where nobody is served by it."""
        key, at = record.key or b"", self._now - max(age_seconds, 0.0)
        if record.value is None:
            self._leave(key, at)
            return None
        announcement = read_announcement(record.value)
        if announcement is None or announcement.key != key:
            return None
        if not self._has_room(key, len(record.value)):
            return None
        heard = _Heard(announcement, at, len(record.value))
        self._forget(key)
        self._heard[key] = heard
        self._held_bytes += heard.size_bytes
        topic = announcement.topic
        self._until[topic] = max(self._until.get(topic, NEVER), heard.until)
        self._last[topic] = max(self._last.get(topic, NEVER), at)
        return topic if self.serves(topic) else None

    def serves(self, topic: str) -> bool:
        """Whether any worker that reads *topic* counts as alive."""
        return self._until.get(topic, NEVER) > self._now

    def silent_seconds(self, topic: str) -> float | None:
        """How long ago somebody who reads *topic* was last there; None where nobody ever was."""
        last = self._last.get(topic)
        return None if last is None else self._now - last

    def alive(self, topic: str | None = None) -> Sequence[AliveWorker]:
        """The workers that read *topic*, or all; by model, the oldest first."""
        found = [
            AliveWorker(heard.announcement, self._now - heard.at)
            for heard in self._heard.values()
            if heard.until > self._now and topic in {None, heard.announcement.topic}
        ]
        return sorted(found, key=lambda each: (each.announcement.model, each.announcement.since_ms))

    def _leave(self, key: bytes, at: float) -> None:
        left = self._forget(key)
        topic = left.announcement.topic if left is not None else _topic_of(key)
        if topic is None:
            return
        self._last[topic] = max(self._last.get(topic, NEVER), at)
        self._until[topic] = max(
            (each.until for each in self._heard.values() if each.announcement.topic == topic),
            default=NEVER,
        )

    def _forget(self, key: bytes) -> _Heard | None:
        heard = self._heard.pop(key, None)
        if heard is not None:
            self._held_bytes -= heard.size_bytes
        return heard

    def _has_room(self, key: bytes, size_bytes: int) -> bool:
        """Whether *size_bytes* of *key* can be held; forgets those of long ago for it."""
        if self._fits(key, size_bytes):
            return True
        for other in [key for key, each in self._heard.items() if each.until <= self._now]:
            self._forget(other)
        gone = self._now - FORGET_SECONDS
        self._last = {topic: last for topic, last in self._last.items() if last > gone}
        self._until = {topic: self._until.get(topic, NEVER) for topic in self._last}
        return self._fits(key, size_bytes)

    def _fits(self, key: bytes, size_bytes: int) -> bool:
        held = self._heard.get(key)
        workers = len(self._heard) + (held is None)
        held_bytes = self._held_bytes + size_bytes - (0 if held is None else held.size_bytes)
        return workers <= limits.ANNOUNCED_WORKERS_MAX and held_bytes <= limits.ANNOUNCED_BYTES_MAX


def _topic_of(key: bytes) -> str | None:
    """The request topic of a worker of whom nothing but the key is left."""
    try:
        return request_topic(model_of(key))
    except ValueError:
        return None
