"""``worker.toml``: what a worker folder promises about its model, and what callers send.

Reading it costs no model runtime: a client reads it too, to learn how a picture becomes a tensor.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from ondemand import limits
from ondemand.contract.announcement import AnnouncedTensor, PictureForm
from ondemand.contract.tensor import Datatype
from ondemand.contract.topics import check_name, dead_letter_topic, request_topic
from ondemand.runtime.base import Signature, TensorSpec
from ondemand.runtime.problems import PackageError, Problem
from ondemand.runtime.signature import can_be_batched
from ondemand.settings import WorkerSettings

MANIFEST = "worker.toml"

_ANY = -1  # how a shape in the file writes an axis of any length
_SHOWN_MAX = 60


def _model_name(name: str) -> str:
    """The topics of the model are named after it, so they must be names too."""
    check_name(name, "model name")
    for topic in (request_topic(name), dead_letter_topic(name)):
        check_name(topic, "topic name")
    return name


FileName = Annotated[str, Field(min_length=1, max_length=255)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Axis = Annotated[StrictInt, Field(ge=_ANY)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckedFile(_Part):
    """A file of the folder, and the SHA-256 of what it must hold."""

    file: FileName
    sha256: Sha256


class ModelFile(CheckedFile):
    """The ONNX file and how it is served."""

    finite_only: StrictBool = True
    batched: StrictBool | None = None


class ImageSpec(_Part):
    """How a picture becomes a tensor: scaled, and its pixels from *minimum* to *maximum*.

    Black is *minimum* and white *maximum*; *invert* turns that around, for models that were taught
    light strokes on black.
    """

    width: StrictInt = Field(ge=1, le=16_384)
    height: StrictInt = Field(ge=1, le=16_384)
    mode: Literal["L", "RGB"] = "L"
    minimum: float = 0.0
    maximum: float = 255.0
    invert: StrictBool = False

    @property
    def values(self) -> int:
        """How many numbers one picture becomes."""
        return self.width * self.height * (3 if self.mode == "RGB" else 1)

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError(f"minimum ({self.minimum}) must be below maximum ({self.maximum})")
        return self


class OutputEntry(_Part):
    """A tensor that callers get. In *shape*, -1 stands for an axis of any length."""

    name: str = Field(min_length=1, max_length=1_000)
    datatype: Datatype
    shape: tuple[Axis, ...] = Field(max_length=limits.AXES_MAX)

    @property
    def spec(self) -> TensorSpec:
        """The same for code: None stands for an axis of any length."""
        shape = tuple(None if axis == _ANY else axis for axis in self.shape)
        return TensorSpec(self.name, self.datatype, shape)


class InputEntry(OutputEntry):
    """A tensor that callers send, and how a file may become one."""

    image: ImageSpec | None = None
    excerpt_bytes: StrictInt | None = Field(default=None, ge=1)

    @property
    def announced(self) -> AnnouncedTensor:
        """The same for those who ask from elsewhere."""
        spec, image = self.spec, self.image
        picture = None if image is None else PictureForm(**image.model_dump())
        return AnnouncedTensor(spec.name, spec.datatype, spec.shape, picture, self.excerpt_bytes)

    @model_validator(mode="after")
    def _files(self) -> Self:
        of_bytes = self.datatype is Datatype.BYTES
        if self.excerpt_bytes is not None and not of_bytes:
            raise ValueError(f"excerpt_bytes is for BYTES inputs, this one is {self.datatype}")
        if self.image is None:
            return self
        if of_bytes:
            raise ValueError("image is for numbers, this input is BYTES")
        rest = self.shape[1:]
        size = 1
        for axis in rest:
            size *= axis
        if _ANY not in rest and size != self.image.values:
            raise ValueError(
                f"a picture of {self.image.width}x{self.image.height} in mode {self.image.mode} "
                f"has {self.image.values} values, the shape {list(self.shape)} takes {size} a row"
            )
        return self


class GoldenFolder(_Part):
    """Requests whose replies are known. *tolerance*: how far numbers with a fraction may be off."""

    folder: FileName = "golden"
    tolerance: float = Field(default=1e-5, ge=0, lt=1)


class Manifest(_Part):
    """A whole ``worker.toml``."""

    name: Annotated[str, AfterValidator(_model_name)]
    version: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}$")
    description: str = ""
    model: ModelFile
    inputs: tuple[InputEntry, ...] = Field(min_length=1, max_length=limits.TENSORS_MAX)
    outputs: tuple[OutputEntry, ...] = Field(min_length=1, max_length=limits.TENSORS_MAX)
    transform: CheckedFile | None = None
    files: tuple[CheckedFile, ...] = ()
    golden: GoldenFolder | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def signature(self) -> Signature:
        """What callers are promised."""
        inputs = tuple(entry.spec for entry in self.inputs)
        outputs = tuple(entry.spec for entry in self.outputs)
        batched = self.model.batched
        if batched is None:
            batched = can_be_batched((*inputs, *outputs))
        return Signature(inputs=inputs, outputs=outputs, batched=batched)

    @property
    def worker_settings(self) -> WorkerSettings:
        """The settings that the folder asks for; everything else at its default."""
        return WorkerSettings.model_validate(self.settings)

    @field_validator("inputs", "outputs", "files")
    @classmethod
    def _unique(cls, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [getattr(entry, "name", None) or entry.file for entry in entries]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"listed more than once: {', '.join(repeated)}")
        return entries

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.files and self.transform is None:
            raise ValueError("files are for the transform's code, and there is no [transform]")
        first_axes_free = can_be_batched(entry.spec for entry in (*self.inputs, *self.outputs))
        if self.model.batched and not first_axes_free:
            raise ValueError(
                "model.batched is true: then the first axis of every input and output counts rows "
                "and must be -1"
            )
        return self


def read_manifest(folder: Path) -> Manifest:
    """The manifest of *folder*. Raises ``PackageError`` that lists everything wrong in it."""
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        what = "there is no such file" if folder.is_dir() else "there is no such folder"
        hint = f"{what}; a worker folder holds a {MANIFEST} (`ondemand worker new` makes one)"
        raise PackageError([Problem(str(path), hint)]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise PackageError([Problem(str(path), f"cannot be read: {error}")]) from error
    return parse_manifest(text, str(path))


def parse_manifest(text: str, where: str) -> Manifest:
    """The manifest that *text* holds. *where* names the file in a ``PackageError``'s problems."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PackageError([Problem(where, f"is not TOML: {error}")]) from error
    problems: list[Problem] = []
    manifest = None
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        problems += _problems(error, where, Manifest, ())
    settings = document.get("settings", {})
    if isinstance(settings, dict):
        try:
            WorkerSettings.model_validate(settings)
        except ValidationError as error:
            problems += _problems(error, where, WorkerSettings, ("settings",))
    if manifest is None or problems:
        raise PackageError(problems)
    return manifest


def _problems(
    error: ValidationError, where: str, model: type[BaseModel], prefix: tuple[str, ...]
) -> list[Problem]:
    """Pydantic's findings as lines that name file, key, what was expected and what was found."""
    problems = []
    for finding in error.errors(include_url=False):
        if finding["type"] == "too_short" and finding["input"]:
            continue  # its entries are there, and their own problems are listed
        location = (*prefix, *finding["loc"])
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
        if finding["type"] == "missing":
            message = "is missing"
        elif finding["type"] == "extra_forbidden":
            known = ", ".join(_known_keys(model, finding["loc"][:-1]))
            message = f"is not a key here; known are: {known}"
        else:
            message = finding["msg"].removeprefix("Value error, ") + _found(finding["input"])
        problems.append(Problem(f"{where}: {key.lstrip('.')}" if key else where, message))
    return problems


def _found(value: object) -> str:
    """What stood there, where it is short enough to help."""
    if isinstance(value, dict | list | tuple):
        return ""
    shown = repr(value)
    return f"; found {shown if len(shown) <= _SHOWN_MAX else shown[:_SHOWN_MAX] + '…'}"


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at *location* may have."""
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        nested = _nested(model.model_fields[part].annotation)
        if nested is None:
            break
        model = nested
    return sorted(model.model_fields)


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The model in ``X``, ``X | None`` or ``tuple[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        nested = _nested(argument)
        if nested is not None:
            return nested
    return None
