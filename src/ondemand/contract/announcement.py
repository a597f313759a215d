"""Workers announce themselves: who serves which request topic, as whom, how fast, since when.

One record a worker on a compacted topic, written anew every few seconds; a record without a value
takes it back. Who has not been heard for three intervals is gone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from ondemand import limits
from ondemand.contract.document import parse_object
from ondemand.contract.record import OutgoingRecord, Partition
from ondemand.contract.tensor import Datatype
from ondemand.contract.topics import WORKERS
from ondemand.errors import RequestError

ANNOUNCEMENTS: Final = Partition(WORKERS, 0)
"""Where announcements are: one partition, so that a worker's records keep their order."""

SILENT_INTERVALS: Final = 3
"""Whoever misses so many announcements in a row is gone."""

GUARANTEES: Final = ("at-least-once", "exactly-once")

_ANY: Final = -1  # how a shape says "of any length", as in worker.toml
_NUMBER_MAX: Final = 2**53  # above, JSON numbers are not exact everywhere
_TEXT_MAX: Final = 1_000
_PARTITIONS_MAX: Final = 10_000
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

_T = TypeVar("_T")


class PictureForm(NamedTuple):
    """How a picture becomes a tensor: ``[inputs.image]`` of ``worker.toml``."""

    width: int
    height: int
    mode: str
    minimum: float
    maximum: float
    invert: bool


@dataclass(frozen=True, slots=True)
class AnnouncedTensor:
    """A tensor of the model. None in *shape* is an axis of any length; *picture* and
    *excerpt_bytes* say how a file becomes this input, where the model's team has said so."""

    name: str
    datatype: Datatype
    shape: tuple[int | None, ...]
    picture: PictureForm | None = None
    excerpt_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Announcement:
    """What one worker process says of itself. *topic*: the request topic that it reads;
    *partitions*: their indexes; *rate_per_second*: requests answered lately; *model_sha256*: of
    the model's file, in hexadecimal."""

    model: str
    version: str
    instance: str
    topic: str
    guarantee: str
    inputs: tuple[AnnouncedTensor, ...]
    outputs: tuple[AnnouncedTensor, ...]
    batch_rows_max: int
    interval_seconds: float
    since_ms: int
    sent_ms: int = 0
    partitions: tuple[int, ...] = ()
    rate_per_second: float = 0.0
    model_sha256: str | None = None

    @property
    def key(self) -> bytes:
        """What the record is compacted by."""
        return f"{self.model}/{self.instance}".encode()

    @property
    def silent_seconds(self) -> float:
        """After so long without another announcement it counts as gone."""
        return SILENT_INTERVALS * self.interval_seconds


def announcement_record(announcement: Announcement) -> OutgoingRecord:
    """The record that says *announcement*."""
    told = announcement
    value: dict[str, Any] = {
        "model": told.model,
        "version": told.version,
        "instance": told.instance,
        "topic": told.topic,
        "guarantee": told.guarantee,
        "inputs": [_tensor_members(tensor) for tensor in told.inputs],
        "outputs": [_tensor_members(tensor) for tensor in told.outputs],
        "batch_rows_max": told.batch_rows_max,
        "interval_seconds": told.interval_seconds,
        "since_ms": told.since_ms,
        "sent_ms": told.sent_ms,
        "partitions": list(told.partitions),
        "rate_per_second": round(told.rate_per_second, 1),
    }
    if told.model_sha256 is not None:
        value["model_sha256"] = told.model_sha256
    return OutgoingRecord(WORKERS, ANNOUNCEMENTS.index, told.key, orjson.dumps(value), ())


def leaving_record(announcement: Announcement) -> OutgoingRecord:
    """The record that takes *announcement* back: the same key, no value."""
    return OutgoingRecord(WORKERS, ANNOUNCEMENTS.index, announcement.key, None, ())


def model_of(key: bytes) -> str:
    """The model in the key of an announcement; what is no text is replaced."""
    return key.decode(errors="replace").rpartition("/")[0]


def read_announcement(value: bytes) -> Announcement | None:
    """The announcement in a record's *value*; None where it is none, or says what cannot be."""
    if len(value) > limits.ANNOUNCEMENT_BYTES_MAX:
        return None
    try:
        members = parse_object(value)
        return Announcement(
            model=_printable(members["model"]),
            version=_printable(members["version"]),
            instance=_printable(members["instance"]),
            topic=_printable(members["topic"]),
            guarantee=_one_of(members["guarantee"], GUARANTEES),
            inputs=_tensors(members["inputs"]),
            outputs=_tensors(members["outputs"]),
            batch_rows_max=_whole(members["batch_rows_max"]),
            interval_seconds=_number(
                members["interval_seconds"], least=0.001, most=limits.ANNOUNCE_SECONDS_MAX
            ),
            since_ms=_whole(members["since_ms"]),
            sent_ms=_whole(members["sent_ms"]),
            partitions=_listed(members["partitions"], _whole, _PARTITIONS_MAX),
            rate_per_second=_number(members["rate_per_second"], least=0, most=_NUMBER_MAX),
            model_sha256=_sha256(members.get("model_sha256")),
        )
    except (RequestError, KeyError, TypeError, ValueError):
        return None


def _tensor_members(tensor: AnnouncedTensor) -> dict[str, Any]:
    members: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype.value,
        "shape": [_ANY if axis is None else axis for axis in tensor.shape],
    }
    if tensor.picture is not None:
        members["image"] = tensor.picture._asdict()
    if tensor.excerpt_bytes is not None:
        members["excerpt_bytes"] = tensor.excerpt_bytes
    return members


def _tensors(value: object) -> tuple[AnnouncedTensor, ...]:
    return _listed(value, _tensor, limits.TENSORS_MAX)


def _tensor(value: object) -> AnnouncedTensor:
    members = _object(value)
    excerpt, picture = members.get("excerpt_bytes"), members.get("image")
    return AnnouncedTensor(
        name=_text(members["name"]),
        datatype=Datatype(members["datatype"]),
        shape=_listed(members["shape"], _axis, limits.AXES_MAX),
        picture=None if picture is None else _picture(_object(picture)),
        excerpt_bytes=None if excerpt is None else _whole(excerpt),
    )


def _picture(members: dict[str, Any]) -> PictureForm:
    return PictureForm(
        width=_whole(members["width"]),
        height=_whole(members["height"]),
        mode=_text(members["mode"]),
        minimum=_number(members["minimum"], least=-_NUMBER_MAX, most=_NUMBER_MAX),
        maximum=_number(members["maximum"], least=-_NUMBER_MAX, most=_NUMBER_MAX),
        invert=members["invert"] is True,
    )


def _axis(value: object) -> int | None:
    return None if value == _ANY else _whole(value)


def _object(value: object) -> dict[str, Any]:
    if type(value) is dict:
        return value
    raise ValueError("not an object")


def _text(value: object) -> str:
    if type(value) is str and 1 <= len(value) <= _TEXT_MAX:
        return value
    raise ValueError("not a text")


def _printable(value: object) -> str:
    """A text without control characters: terminals are shown it."""
    text = _text(value)
    if text.isprintable():
        return text
    raise ValueError("not printable")


def _sha256(value: object) -> str | None:
    if value is None or (type(value) is str and _SHA256.fullmatch(value)):
        return value
    raise ValueError("not a SHA-256")


def _one_of(value: object, known: tuple[str, ...]) -> str:
    if value in known:
        return str(value)
    raise ValueError("not one of those")


def _whole(value: object) -> int:
    if type(value) is int and 0 <= value <= _NUMBER_MAX:
        return value
    raise ValueError("not a whole number")


def _number(value: object, *, least: float, most: float) -> float:
    if type(value) in {int, float} and least <= value <= most:  # type: ignore[operator] # checked
        return float(value)  # type: ignore[arg-type] # checked
    raise ValueError("not a number in its range")


def _listed(value: object, of: Callable[[object], _T], length_max: int) -> tuple[_T, ...]:
    if type(value) is list and len(value) <= length_max:
        return tuple(map(of, value))
    raise ValueError("not a list, or too long")
