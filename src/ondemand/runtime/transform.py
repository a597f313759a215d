"""A model team's own code around its model: what callers send and get, and what the model does.

It is part of the release, like the model file, and runs with the worker's rights. So it is checked
in the same way: the bytes whose SHA-256 was compared are compiled and executed; nothing is imported
from the folder.
"""

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ondemand.errors import ConfigurationError, ModelError
from ondemand.runtime.base import (
    Array,
    Arrays,
    IdentifiedModel,
    Identity,
    Model,
    Signature,
    rows_of,
)
from ondemand.runtime.files import digest
from ondemand.runtime.signature import check_outputs

CLASS = "Transform"


class Transform(Protocol):
    """What ``transform.py`` defines under the name ``Transform``.

    It is made once, as ``Transform(files)``: *files* are the manifest's ``[[files]]`` as bytes, by
    name. For a batched model every method gets and gives whole batches: arrays whose first axis
    counts rows, as many and in the order that came in.
    """

    def signature(self, model: Signature) -> Signature:
        """What callers send and get, for a model with this signature. May raise ``ValueError``."""

    def prepare(self, inputs: Arrays) -> Arrays:
        """The model's inputs. Raises ``ModelError`` for what cannot be prepared.

        The batch is then split until the request that is at fault stands alone.
        """

    def present(self, inputs: Arrays, outputs: Arrays) -> Arrays:
        """The caller's outputs, from the same *inputs* and the model's *outputs*."""


def load_transform(source: bytes, *, file: str, files: Mapping[str, bytes]) -> Transform:
    """The ``Transform`` that *source* defines. *file* is its name in messages and tracebacks.

    Raises ``ConfigurationError`` where the code does not run or defines no such class.
    """
    module = ModuleType(f"ondemand_transform_{digest(source)[:16]}")
    module.__file__ = file
    # Dataclasses look their module up here.
    sys.modules[module.__name__] = module
    try:
        code = compile(source, file, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - the release's own code, checked by digest
        transform: Transform = getattr(module, CLASS)(dict(files))
    except Exception as error:
        del sys.modules[module.__name__]
        if isinstance(error, AttributeError) and not hasattr(module, CLASS):
            raise ConfigurationError(f"{file} defines no class {CLASS}") from error
        raise ConfigurationError(f"{file} does not start: {_named(error)}") from error
    missing = [
        name
        for name in ("signature", "prepare", "present")
        if not callable(getattr(transform, name, None))
    ]
    if missing:
        raise ConfigurationError(f"the {CLASS} of {file} has no method {', '.join(missing)}")
    return transform


def offered_signature(transform: Transform, model: Signature) -> Signature:
    """What callers of *transform* send and get. Raises ``ConfigurationError``."""
    try:
        return transform.signature(model)
    except Exception as error:
        raise ConfigurationError(
            f"the transform does not fit the model: {_named(error)}"
        ) from error


class TransformedModel(IdentifiedModel):
    """A model behind its team's transform: the caller's arrays in, the caller's arrays out."""

    def __init__(
        self, model: Model, transform: Transform, identity: Identity, signature: Signature
    ) -> None:
        super().__init__(identity, signature)
        self._model = model
        self._transform = transform

    def __repr__(self) -> str:
        return f"<TransformedModel {self.name} {self.version}>"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Every promised output. Raises ``ModelError``, also for whatever the transform raises."""
        try:
            prepared = self._transform.prepare(inputs)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"the transform could not prepare: {_named(error)}") from error
        raw = self._model.run(prepared)
        try:
            presented = dict(self._transform.present(inputs, raw))
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"the transform could not present: {_named(error)}") from error
        outputs = {
            spec.name: np.asarray(presented[spec.name])
            for spec in self.signature.outputs
            if spec.name in presented
        }
        check_outputs(self.signature, outputs, rows_of(inputs) if self.signature.batched else None)
        return outputs

    def stop(self) -> None:
        """Let the model's run end soon; the transform's own code is not stopped."""
        self._model.stop()

    def close(self) -> None:
        """Free the model's memory. Idempotent."""
        self._model.close()


def _named(error: Any) -> str:
    """The error with its class: a bare ``KeyError`` says nothing by its message alone."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
