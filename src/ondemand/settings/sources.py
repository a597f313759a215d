"""Where settings come from: merged, checked, and each value remembered with its origin."""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar, get_origin

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from ondemand.errors import ConfigurationError
from ondemand.settings.fields import ClientSettings, Settings, WorkerSettings, is_secret
from ondemand.settings.secret_files import read_secret
from ondemand.settings.security import FILES, SECRETS

S = TypeVar("S", bound=Settings)

PREFIX: Final = "ONDEMAND_"
SETTINGS_FILE: Final = "ondemand.toml"
FROM_FILE: Final = "file:"

_FIELDS: Final = {
    name: field
    for kind in (WorkerSettings, ClientSettings)
    for name, field in kind.model_fields.items()
}
"""Of both sides: one environment and one file may serve both, and each takes what is its own."""

_SEE_ALL: Final = " (`ondemand settings show` lists those that there are)"
_OTHER_VARIABLES: Final = frozenset({"ONDEMAND_CACHE", "ONDEMAND_DEBUG"})
# How an orchestrator announces a service whose name starts with `ondemand`.
_SERVICE_LINK: Final = re.compile(r".+_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)")


class Origin(NamedTuple):
    """Where a value came from. *name*: the variable, the field, or the file and its key."""

    kind: Literal["command line", "environment", "file", "default"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}" if self.kind in {"environment", "file"} else self.kind

    def with_value(self, value: object) -> str:
        """How an error begins: the source and what stood there."""
        match self.kind:
            case "environment":
                return f"environment variable {self.name}={value!r}"
            case "command line":
                return f"{self.name}={value!r} on the command line"
            case _:
                return f"{self.name} = {value!r}"


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """Settings, and for each field where its value came from."""

    settings: S
    sources: Mapping[str, Origin]


@dataclass(frozen=True, slots=True)
class _Value:
    raw: object
    origin: Origin
    folder: Path  # what a `file:PATH` in it is relative to


def load(
    kind: type[S],
    *,
    overrides: Mapping[str, object] | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded[S]:
    """Merge the sources: *overrides* by field (from the command line; None stands for not given),
    *environ* (``os.environ`` by default), *file*, defaults.

    *file* is a ``worker.toml``, whose table ``[settings]`` counts; without one, ``ondemand.toml``
    in the current folder counts, if it is there. An empty environment variable counts as not given.

    Raises ``ConfigurationError`` that names the source of what cannot be.
    """
    found = dict(  # the later source wins
        chain(
            _of_file(file),
            _of_environment(os.environ if environ is None else environ),
            _of_command_line(overrides or {}),
        )
    )
    own = {
        name: _with_file(name, value) for name, value in found.items() if name in kind.model_fields
    }
    settings = _validated(kind, own)
    sources = {
        name: own[name].origin if name in own else Origin("default") for name in kind.model_fields
    }
    return Loaded(_with_secrets(settings, own.get("kafka_options")), sources)


def environment_variable(field: str) -> str:
    """``batch_rows_max`` is ``ONDEMAND_BATCH_ROWS_MAX``."""
    return PREFIX + field.upper()


def _of_command_line(overrides: Mapping[str, object]) -> Iterator[tuple[str, _Value]]:
    for name, raw in overrides.items():
        if name not in _FIELDS:
            raise ConfigurationError(f"{name} is not a setting{_nearest(name, _FIELDS)}{_SEE_ALL}")
        if raw is None or raw in ([], ()):
            continue
        origin = Origin("command line", name)
        structured = _structured(name, raw, origin)
        _no_secret_in_argv(name, structured)
        yield name, _Value(structured, origin, Path())


def _no_secret_in_argv(name: str, raw: object) -> None:
    """Every process on the computer may read every other one's command line."""
    options = raw if isinstance(raw, Mapping) else {name: raw} if name in SECRETS else {}
    for option, value in options.items():
        if (name in SECRETS or is_secret(option)) and not str(value).startswith(FROM_FILE):
            raise ConfigurationError(
                f"{option}: a secret must not be on a command line, where every process on this "
                f"computer can read it: write file:PATH, or set {environment_variable(name)}"
            )


def _of_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Value]]:
    names = {environment_variable(name): name for name in _FIELDS}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        if variable in names:
            if environ[variable]:
                name, origin = names[variable], Origin("environment", variable)
                yield name, _Value(_structured(name, environ[variable], origin), origin, Path())
        elif not _is_other(variable):
            raise ConfigurationError(
                f"environment variable {variable} is not a setting{_nearest(variable, names)}"
                f"{_SEE_ALL}"
            )


def _is_other(variable: str) -> bool:
    """Whether a variable that is no setting has a reason to be there."""
    return (
        variable in _OTHER_VARIABLES
        or variable.startswith("ONDEMAND_TEST_")
        or bool(_SERVICE_LINK.fullmatch(variable))
    )


def _of_file(file: Path | None) -> Iterator[tuple[str, _Value]]:
    path = file or Path(SETTINGS_FILE)
    if file is None and not path.exists():
        return
    table = _table(path)
    for name, raw in table.items():
        if name not in _FIELDS:
            raise ConfigurationError(
                f"{path}: {name} is not a setting{_nearest(name, _FIELDS)}{_SEE_ALL}"
            )
        yield name, _Value(raw, Origin("file", f"{path}: {name}"), path.parent)


def _table(path: Path) -> dict[str, Any]:
    """The settings in a file: all of an ``ondemand.toml``, the table ``[settings]`` of others."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"{path} cannot be read: {reason}") from error
    table = document if path.name == SETTINGS_FILE else document.get("settings", {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: settings must be a table, `[settings]`")
    return table


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def _structured(name: str, raw: object, origin: Origin) -> object:
    """Text for a list or for options as what it stands for; anything else as it is."""
    shape = get_origin(_FIELDS[name].annotation) if name in _FIELDS else None
    if shape is dict:
        return _options(raw, origin)
    if shape is tuple and isinstance(raw, str):
        return (
            _json(raw, origin) if raw.startswith("[") else [part.strip() for part in raw.split(",")]
        )
    return raw


def _options(raw: object, origin: Origin) -> object:
    """``a=b,c=d``, a JSON object, or several ``a=b``. Errors show none of it: it may be secret."""
    if isinstance(raw, str) and raw.lstrip().startswith("{"):
        return _json(raw, origin)
    if isinstance(raw, Mapping):
        return raw
    parts = raw.split(",") if isinstance(raw, str) else raw
    options: dict[str, str] = {}
    for position, part in enumerate(parts if isinstance(parts, Sequence) else [], start=1):
        name, equals, value = str(part).partition("=")
        if not equals or not name.strip():
            raise ConfigurationError(
                f"{origin.name}: part {position} is not NAME=VALUE; write NAME=VALUE[,NAME=VALUE…]"
                ", or a JSON object where a value has commas"
            )
        options[name.strip()] = value.strip()
    return options


def _json(text: str, origin: Origin) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        # From None: the original error holds the text, and with it perhaps a secret.
        raise ConfigurationError(f"{origin.name}: not JSON: {error.msg}, at {error.pos}") from None


def _validated(kind: type[S], found: Mapping[str, _Value]) -> S:
    try:
        return kind.model_validate({name: value.raw for name, value in found.items()})
    except ValidationError as error:
        lines = [_explained(finding, found) for finding in error.errors(include_url=False)]
        raise ConfigurationError("\n".join(lines)) from None


def _explained(finding: ErrorDetails, found: Mapping[str, _Value]) -> str:
    """One finding, with its source first."""
    message = finding["msg"].removeprefix("Value error, ")
    if not finding["loc"]:  # a relation: it names its fields, and shows both values
        named = [name for name in _FIELDS if re.search(rf"\b{name}\b", message)]
        where = ", ".join(
            f"{name} from {found[name].origin if name in found else 'default'}" for name in named
        )
        return f"{message} ({where})"
    name = str(finding["loc"][0])
    value = found[name]
    if name == "kafka_options":
        inner = ".".join(str(part) for part in finding["loc"][1:])
        return f"{value.origin.name}: {inner + ': ' if inner else ''}{message}"
    if name in SECRETS:
        return f"{value.origin.name or name}: {message}"
    if finding["type"] == "string_pattern_mismatch":
        message = f"not of the right form. {_FIELDS[name].description}"
    return f"{value.origin.with_value(value.raw)}: {message}"


def _with_file(name: str, value: _Value) -> _Value:
    """A secret as what it stands for, and a path from the folder that it is relative to.

    Raises ``ConfigurationError`` for a secret that is written into a file of settings.
    """
    raw = value.raw
    if name in FILES and isinstance(raw, str | Path):
        return _of_raw(value, value.folder / Path(raw).expanduser())
    if name not in SECRETS:
        return value
    if isinstance(raw, str) and raw.startswith(FROM_FILE):
        return _of_raw(value, SecretStr(read_secret(_path(raw, value.folder), name)))
    if value.origin.kind == "file":
        raise ConfigurationError(
            f"{value.origin.name}: a secret must not be in a file of settings: write "
            f'"file:PATH", or set {environment_variable(name)}'
        )
    return value


def _of_raw(value: _Value, raw: object) -> _Value:
    return _Value(raw, value.origin, value.folder)


def _path(text: str, folder: Path) -> Path:
    return folder / Path(text.removeprefix(FROM_FILE)).expanduser()


def _with_secrets(settings: S, options: _Value | None) -> S:
    """Values of the form ``file:PATH`` replaced by what is in the file."""
    if options is None:
        return settings
    resolved = {
        name: read_secret(_path(value, options.folder), f"kafka_options: {name}")
        if value.startswith(FROM_FILE)
        else value
        for name, value in settings.kafka_options.items()
    }
    return settings.model_copy(update={"kafka_options": resolved})
