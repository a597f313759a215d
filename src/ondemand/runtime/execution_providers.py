"""Where a model runs: what was asked for, held against what ONNX Runtime has and then opened.

ONNX Runtime itself drops a provider that it cannot start, and runs on the processor instead: a
fleet of GPUs would idle, and nobody would be told.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from ondemand.errors import ConfigurationError

CPU: Final = "cpu"

SETTING: Final = "execution_providers"


class Provider(NamedTuple):
    """ONNX Runtime's own *name* for it, and the Python *package* whose build has it."""

    name: str
    package: str


PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        CPU: Provider("CPUExecutionProvider", "onnxruntime"),
        "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu"),
        "tensorrt": Provider("TensorrtExecutionProvider", "onnxruntime-gpu"),
        "migraphx": Provider("MIGraphXExecutionProvider", "onnxruntime-migraphx"),
        "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino"),
        "directml": Provider("DmlExecutionProvider", "onnxruntime-directml"),
        "coreml": Provider("CoreMLExecutionProvider", "onnxruntime"),
    }
)
"""By the names that the setting takes."""


def wanted(asked: Sequence[str], available: Iterable[str]) -> list[str]:
    """ONNX Runtime's names for *asked*, in that order. *available*: its names for what it has.

    Raises ``ConfigurationError`` for a name that is not known, for one that is asked for twice, and
    for a provider that this build lacks.
    """
    if not asked or len(set(asked)) != len(asked):
        raise ConfigurationError(f"{SETTING} must name each provider once, not {_list(asked)}")
    unknown = [name for name in asked if name not in PROVIDERS]
    if unknown:
        raise ConfigurationError(
            f"{SETTING} asks for {_list(unknown)}, which is not known here: there are "
            f"{_list(PROVIDERS)}"
        )
    there = set(available)
    missing = [name for name in asked if PROVIDERS[name].name not in there]
    if missing:
        had = [name for name, provider in PROVIDERS.items() if provider.name in there]
        packages = dict.fromkeys(PROVIDERS[name].package for name in missing)
        raise ConfigurationError(
            f"{SETTING} asks for {_list(missing)}, and the ONNX Runtime that is installed has "
            f"{_list(had) or 'none of them'}: install {_list(packages)}, built for this system, "
            f"in its place, or set {SETTING} to what there is"
        )
    return [PROVIDERS[name].name for name in asked]


def check_opened(asked: Sequence[str], opened: Iterable[str]) -> None:
    """Raise ``ConfigurationError`` unless a session has all that was asked for. *opened*: what it
    says itself, in ONNX Runtime's names."""
    there = set(opened)
    missing = [name for name in asked if PROVIDERS[name].name not in there]
    if missing:
        raise ConfigurationError(
            f"{SETTING} asks for {_list(missing)}; ONNX Runtime could not start it and would run "
            "on the processor instead: are the device, its driver and its libraries there, in the "
            "versions that this build needs?"
        )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
