"""ONNX Runtime, fed with bytes that were checked. The only module that imports it.

Foreign exceptions stop here. Nothing is read from disk, downloaded or registered: no path, no
operator library, no execution provider but those that were asked for.
"""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from ondemand.contract.tensor import Datatype
from ondemand.errors import ConfigurationError, ModelError
from ondemand.runtime.base import (
    Array,
    Arrays,
    IdentifiedModel,
    Identity,
    Signature,
    TensorSpec,
    rows_of,
)
from ondemand.runtime.execution_providers import CPU, SETTING, check_opened, wanted
from ondemand.runtime.onnx_scan import forbidden_content
from ondemand.runtime.signature import can_be_batched, check_outputs

DATATYPES: Final[Mapping[str, Datatype]] = MappingProxyType(
    {
        "tensor(bool)": Datatype.BOOL,
        "tensor(uint8)": Datatype.UINT8,
        "tensor(uint16)": Datatype.UINT16,
        "tensor(uint32)": Datatype.UINT32,
        "tensor(uint64)": Datatype.UINT64,
        "tensor(int8)": Datatype.INT8,
        "tensor(int16)": Datatype.INT16,
        "tensor(int32)": Datatype.INT32,
        "tensor(int64)": Datatype.INT64,
        "tensor(float16)": Datatype.FP16,
        "tensor(float)": Datatype.FP32,
        "tensor(double)": Datatype.FP64,
        "tensor(string)": Datatype.BYTES,
    }
)
"""ONNX Runtime's names for tensor types, and what they are on the wire."""

_MESSAGE_LENGTH_MAX = 300
_SILENT = 4  # every failure is raised as well: printed, it would be there twice


class OnnxSession:
    """A model file, loaded. What it takes and gives is read from the model itself.

    *execution_providers*: where it may run, the preferred one first, by the setting's names.
    Raises ``ConfigurationError`` for a file that is not an ONNX model, that needs anything outside
    itself, or whose inputs or outputs are no tensors; and for a provider that is not there or does
    not start: nothing falls back to another one.
    """

    def __init__(
        self, content: bytes, *, threads: int, execution_providers: Sequence[str] = (CPU,)
    ) -> None:
        try:
            reasons = forbidden_content(content)
        except ValueError as error:
            raise ConfigurationError(f"the model cannot be loaded: {error}") from error
        if reasons:
            raise ConfigurationError(f"the model is not served: {'; '.join(reasons)}")
        self._session = _open(content, threads, execution_providers)
        self._run_options = _run_options()
        self.signature = _signature(self._session)

    def run(self, outputs: Sequence[str], inputs: Arrays) -> dict[str, Array]:
        """The named *outputs* for *inputs*. BYTES go in and come out as ``bytes``.

        Raises ``ModelError``.
        """
        feed = {name: _to_text(name, array) for name, array in inputs.items()}
        options = self._run_options = _run_options()  # a run that was stopped stays stopped
        try:
            results = self._session.run(list(outputs), feed, options)
        except Exception as error:  # it raises classes without a common root
            raise ModelError(f"the model failed: {_one_line(error)}") from error
        return {name: _from_text(result) for name, result in zip(outputs, results, strict=True)}

    def stop(self) -> None:
        """Ask the run that goes on now to end: ONNX Runtime looks between two operators."""
        self._run_options.terminate = True


class OnnxModel(IdentifiedModel):
    """An ``OnnxSession`` under a name and with a promised signature: what the processor runs."""

    def __init__(self, session: OnnxSession, identity: Identity, signature: Signature) -> None:
        super().__init__(identity, signature)
        self._session: OnnxSession | None = session
        self._outputs = [spec.name for spec in signature.outputs]

    def __repr__(self) -> str:
        return f"<OnnxModel {self.name} {self.version}>"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Every promised output. Raises ``ModelError`` where the model breaks a promise."""
        if self._session is None:
            raise ModelError("the model is closed")
        outputs = self._session.run(self._outputs, inputs)
        check_outputs(self.signature, outputs, rows_of(inputs) if self.signature.batched else None)
        return outputs

    def stop(self) -> None:
        """Let the run that goes on now end soon, by a ``ModelError``."""
        if self._session is not None:
            self._session.stop()

    def close(self) -> None:
        """Free the model's memory. Idempotent."""
        self._session = None


def _run_options() -> Any:
    import onnxruntime  # noqa: PLC0415 - see _open

    return onnxruntime.RunOptions()


def _open(content: bytes, threads: int, execution_providers: Sequence[str]) -> Any:
    """A silent session on *threads* processors, which reads nothing but *content*."""
    # The file's metadata could otherwise change the session's options.
    os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)
    import onnxruntime  # noqa: PLC0415 - half a second, and only where a model is run

    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(_SILENT)
    names = wanted(execution_providers, onnxruntime.get_available_providers())
    options = _options(threads)
    if CPU not in execution_providers:
        # The processor takes what the others cannot run, unless it is forbidden to.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # Its fallback would open the session anew on the processor, now or at a failing run.
        session = onnxruntime.InferenceSession(content, options, providers=names, enable_fallback=0)
    except Exception as error:  # it raises classes without a common root
        raise ConfigurationError(
            f"the model cannot be loaded: {_one_line(error)}{_hint(error, execution_providers)}"
        ) from error
    check_opened(execution_providers, session.get_providers())
    return session


def _options(threads: int) -> Any:
    """A session's options, as every model here is run."""
    import onnxruntime  # noqa: PLC0415 - see _open

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # A plan of memory is kept for every shape ever seen, and each batch may have another row count:
    # 35 MB more for `filetype` after 12 row counts, and no run was faster for it.
    options.enable_mem_pattern = False
    # Between runs, spinning threads burn the quota that intake and delivery need: `digits` on two
    # threads used a whole processor with it and 0.15 without, for the same 75 µs a run of 32 rows.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _hint(error: Exception, execution_providers: Sequence[str]) -> str:
    """What to do where the providers cannot run all of the model."""
    if CPU in execution_providers or "CPU EP" not in str(error):
        return ""
    asked = ", ".join(execution_providers)
    return f" ({SETTING} is {asked}: add {CPU} to let the processor run what they cannot)"


def _signature(session: Any) -> Signature:
    """What the model itself says. Named and unknown axes are free."""
    inputs = tuple(_spec(node) for node in session.get_inputs())
    outputs = tuple(_spec(node) for node in session.get_outputs())
    return Signature(inputs=inputs, outputs=outputs, batched=can_be_batched((*inputs, *outputs)))


def _spec(node: Any) -> TensorSpec:
    datatype = DATATYPES.get(node.type)
    if datatype is None:
        raise ConfigurationError(
            f"{node.name!r} of the model is a {node.type}, which is not a tensor that can be sent; "
            "export it with plain tensors (for scikit-learn: options={'zipmap': False})"
        )
    shape = tuple(axis if isinstance(axis, int) and axis >= 0 else None for axis in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _to_text(name: str, array: Array) -> Array:
    """``bytes`` as the ``str`` that ONNX Runtime takes: it would run on the text ``"b'…'"``."""
    if array.dtype != object:
        return array
    texts = np.empty(array.size, dtype=object)
    for index, element in enumerate(array.flat):
        try:
            texts[index] = element.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(
                f"{name}: element {index} is not UTF-8, the model takes text"
            ) from error
    return texts.reshape(array.shape)


def _from_text(array: Array) -> Array:
    if array.dtype != object:
        return array
    elements = np.empty(array.size, dtype=object)
    elements[:] = [text.encode("utf-8") for text in array.flat]
    return elements.reshape(array.shape)


def _one_line(error: Exception) -> str:
    """The message without line breaks, short enough for a reply."""
    message = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    short = len(message) <= _MESSAGE_LENGTH_MAX
    return message if short else message[:_MESSAGE_LENGTH_MAX] + "…"
