"""What the command line knows of a model's inputs, to make them from files."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ondemand.contract.tensor import Datatype
from ondemand.errors import OndemandError
from ondemand.runtime.manifest import MANIFEST, ImageSpec, read_manifest


class InputFileError(OndemandError):
    """The person at the command line must act: a file cannot be an input of the model."""


class Form(StrEnum):
    """How a file is read."""

    JSON = "json"
    NPY = "npy"
    NPZ = "npz"
    PICTURE = "picture"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class KnownInput:
    """What is known of one input of the model; None where it is not."""

    name: str
    datatype: Datatype | None = None
    shape: tuple[int | None, ...] | None = None
    image: ImageSpec | None = None
    excerpt_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How files become inputs of one model. Without inputs, nothing is known of the model."""

    model: str
    inputs: tuple[KnownInput, ...] = ()
    form: Form | None = None  # None: told from the file

    @property
    def takes_files(self) -> bool:
        """Whether the model takes one text or file, whatever is in it."""
        return len(self.inputs) == 1 and self.inputs[0].datatype is Datatype.BYTES

    def known(self, name: str) -> KnownInput | None:
        """The input of that name."""
        return next((known for known in self.inputs if known.name == name), None)

    def single(self, file: str, what: str) -> KnownInput:
        """The one input that a file without names can be for."""
        if len(self.inputs) == 1:
            return self.inputs[0]
        if self.inputs:
            names = ", ".join(known.name for known in self.inputs)
            raise InputFileError(
                f"{file}: {what} is for one input, and {self.model} has several ({names}): name "
                "one with --input NAME, or use a .json or .npz file with all of them"
            )
        raise InputFileError(
            f"{file}: {what} does not say which input it is for, no worker has announced what "
            f"{self.model} takes, and there is no workers/{self.model}/{MANIFEST} here: name the "
            "worker's folder with --worker FOLDER, or the input with --input NAME[:DATATYPE]"
        )


def recipe(
    model: str, *, worker: Path | None, named: str | None, form: Form | None, folder: Path
) -> Recipe:
    """What is known of *model*: from the *worker* folder, by default ``workers/MODEL`` below
    *folder* if it is there, or from *named*, ``NAME[:DATATYPE]``.

    Raises ``PackageError`` for a bad manifest, ``InputFileError`` for a bad *named*.
    """
    place = worker or folder / "workers" / model
    inputs: tuple[KnownInput, ...] = ()
    if worker or (place / MANIFEST).is_file():
        inputs = tuple(
            KnownInput(
                name=entry.name,
                datatype=entry.datatype,
                shape=entry.spec.shape,
                image=entry.image,
                excerpt_bytes=entry.excerpt_bytes,
            )
            for entry in read_manifest(place).inputs
        )
    if named is not None:
        inputs = (_named_input(named, inputs),)
    return Recipe(model, inputs, form)


def _named_input(text: str, inputs: Sequence[KnownInput]) -> KnownInput:
    """``NAME`` or ``NAME:DATATYPE``, with whatever else is known of it."""
    name, colon, datatype = text.rpartition(":")
    if not colon:
        name, datatype = text, ""
    elif datatype.upper() not in set(Datatype):
        raise InputFileError(
            f"--input {text}: {datatype!r} is no datatype; there are {', '.join(Datatype)}"
        )
    known = next((known for known in inputs if known.name == name), None)
    if inputs and known is None:
        names = ", ".join(known.name for known in inputs)
        raise InputFileError(f"--input {text}: the model has no input {name!r}; it takes {names}")
    if known is not None and not datatype:
        return known
    return KnownInput(name, Datatype(datatype.upper()) if datatype else None)
