"""From a file's content to the tokens that the model reads, and from its scores to a file type.

The rules are those of the ``magika`` package (its feature extraction, version 2), so that both give
the same answer for the same bytes:

* tokens are bytes; 256 stands for "nothing here"
* the first and the last 4,096 bytes are looked at, without the white space before or after them,
  and of these the first and the last 1,024
* a file with fewer than 8 bytes besides leading white space is not shown to the model: it is
  ``empty``, ``txt`` or ``unknown``
* an answer with a score below its label's threshold becomes ``txt`` or ``unknown``
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ondemand.contract.tensor import Datatype
from ondemand.runtime.base import Array, Arrays, Signature, TensorSpec

BLOCK_BYTES = 4_096
BEGIN_TOKENS = 1_024
END_TOKENS = 1_024
NOTHING = 256
CONTENT_BYTES_MIN = 8

CONTENT, TOKENS, SCORES = "content", "bytes", "target_label"
LABEL, SCORE, MIME = "label", "score", "mime"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said about one file."""

    label: str
    score: float


class Labels:
    """``labels.json``: the model's labels in its order, and what becomes of each."""

    def __init__(self, document: bytes) -> None:
        tables = json.loads(document)
        self.names: list[str] = tables["labels"]
        self._thresholds: dict[str, float] = tables["thresholds"]
        self._threshold_otherwise: float = tables["threshold_otherwise"]
        self._shown_as: dict[str, str] = tables["shown_as"]
        self._text = frozenset(tables["text"])
        self._mime: dict[str, str] = tables["mime"]

    def answer(self, index: int, score: float) -> Answer:
        """What is said where the model gives the label *index* its highest score."""
        name = self.names[index]
        shown = self._shown_as.get(name, name)
        if score >= self._thresholds.get(name, self._threshold_otherwise):
            return Answer(shown, score)
        return Answer("txt" if shown in self._text else "unknown", score)

    def mime(self, label: str) -> str:
        """The media type of a label that is shown."""
        return self._mime[label]


class Transform:
    """File contents in; label, score and media type out."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._labels = Labels(files["labels.json"])

    def signature(self, model: Signature) -> Signature:
        """One element of BYTES for each file. Raises ``ValueError`` for another model."""
        tokens, scores = BEGIN_TOKENS + END_TOKENS, len(self._labels.names)
        needed = Signature(
            inputs=(TensorSpec(TOKENS, Datatype.INT32, (None, tokens)),),
            outputs=(TensorSpec(SCORES, Datatype.FP32, (None, scores)),),
            batched=True,
        )
        if model != needed:
            raise ValueError(f"this transform is for {needed}, the model is {model}")
        return Signature(
            inputs=(TensorSpec(CONTENT, Datatype.BYTES, (None,)),),
            outputs=(
                TensorSpec(LABEL, Datatype.BYTES, (None,)),
                TensorSpec(SCORE, Datatype.FP32, (None,)),
                TensorSpec(MIME, Datatype.BYTES, (None,)),
            ),
            batched=True,
        )

    def prepare(self, inputs: Arrays) -> dict[str, Array]:
        """The tokens of each file; rows of nothing for those that the model is not asked about."""
        contents = inputs[CONTENT]
        tokens = np.full((len(contents), BEGIN_TOKENS + END_TOKENS), NOTHING, dtype=np.int32)
        for row, content in zip(tokens, contents, strict=True):
            begin = content[:BLOCK_BYTES].lstrip()[:BEGIN_TOKENS]
            end = content[-BLOCK_BYTES:].rstrip()[-END_TOKENS:]
            row[: len(begin)] = np.frombuffer(begin, dtype=np.uint8)
            row[len(row) - len(end) :] = np.frombuffer(end, dtype=np.uint8)
        return {TOKENS: tokens}

    def present(self, inputs: Arrays, outputs: Arrays) -> dict[str, Array]:
        """The answer for each file."""
        contents, scores = inputs[CONTENT], outputs[SCORES]
        best = scores.argmax(axis=1)
        answers = [
            # As a Python float: thresholds are compared in double precision.
            _without_model(content) or self._labels.answer(int(index), float(row[index]))
            for content, index, row in zip(contents, best, scores, strict=True)
        ]
        return {
            LABEL: _texts([answer.label for answer in answers]),
            SCORE: np.array([answer.score for answer in answers], dtype=np.float32),
            MIME: _texts([self._labels.mime(answer.label) for answer in answers]),
        }


def _without_model(content: bytes) -> Answer | None:
    """The answer for a file with too little in it for the model; None if there is enough."""
    if not content:
        return Answer("empty", 1.0)
    if len(content[:BLOCK_BYTES].lstrip()) >= CONTENT_BYTES_MIN:
        return None
    try:
        content[:BLOCK_BYTES].decode("utf-8")
    except UnicodeDecodeError:
        return Answer("unknown", 1.0)
    return Answer("txt", 1.0)


def _texts(values: list[str]) -> Array:
    """BYTES: an object array of UTF-8."""
    array = np.empty(len(values), dtype=object)
    array[:] = [value.encode("utf-8") for value in values]
    return array
