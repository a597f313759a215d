"""What the demo asks: every handwritten digit of scikit-learn, and the type of every file of this
repository and of Python's standard library. And whether the answers are right.
"""

import os
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ondemand.cli.input_files import excerpt, shortened
from ondemand.client import Outcome, Prediction

HELD_OUT_EVERY: Final = 5
"""workers/digits/build_model.py: samples whose index is a multiple of this were not trained on."""

ACCURACY_MIN: Final = 0.97
EXCERPT_BYTES: Final = 4_096
"""workers/filetype/worker.toml: the first and the last so many bytes of a file matter."""

_NOT_OURS: Final = frozenset(
    {"site-packages", "dist-packages", "__pycache__", ".git", ".venv", "node_modules"}
)

Pixels = NDArray[Any]


@dataclass(slots=True)
class Measured:
    """What became of the requests to one model."""

    requests: int
    in_flight: int
    started: float = 0.0
    first_taken: float = 0.0
    ended: float = 0.0
    answers: dict[int, Prediction] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)

    def take(self, outcome: Outcome) -> None:
        """One answer, or the reason why there is none."""
        if isinstance(outcome.result, Prediction):
            self.answers[outcome.index] = outcome.result
        else:
            self.errors[outcome.index] = outcome.result

    @property
    def taken(self) -> int:
        """How many requests have come to an end."""
        return len(self.answers) + len(self.errors)

    @property
    def complete(self) -> bool:
        """Whether every request was answered."""
        return len(self.answers) == self.requests

    @property
    def requests_per_second(self) -> float:
        """Of those that were answered."""
        return len(self.answers) / max(self.ended - self.started, 1e-9)

    def round_trip_ms(self, percentile: float) -> float:
        """A percentile of the round trips; NaN where nothing was answered."""
        times = [answer.round_trip_ms for answer in self.answers.values()]
        return float(np.percentile(times, percentile)) if times else float("nan")

    @property
    def batch_rows(self) -> float:
        """The average batch. Each request tells its own batch's rows, so large batches are told of
        more often: a batch of n rows counts n times 1/n."""
        rows = [max(answer.timing.batch_rows, 1) for answer in self.answers.values()]
        return len(rows) / sum(1 / count for count in rows) if rows else float("nan")


@dataclass(frozen=True, slots=True)
class Digits:
    """scikit-learn's handwritten digits: 1,797 pictures of 8 x 8 pixels from 0 to 16."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def load(cls) -> "Digits":
        """From the package; nothing is fetched."""
        from sklearn.datasets import load_digits

        found = load_digits()
        return cls(found.data.astype(np.float32), found.target.astype(np.int64))

    def inputs(self) -> Iterator[dict[str, Pixels]]:
        """One request for each digit."""
        for row in self.pixels:
            yield {"image": row[np.newaxis]}

    def accuracy(self, measured: Measured) -> tuple[float, float]:
        """How many are right, of all and of those that the model was not trained on."""
        right = np.zeros(len(self.labels), dtype=bool)
        for index, answer in measured.answers.items():
            right[index] = int(answer["label"][0]) == self.labels[index]
        held_out = np.arange(len(right)) % HELD_OUT_EVERY == 0
        return float(right.mean()), float(right[held_out].mean())


@dataclass(frozen=True, slots=True)
class Files:
    """Files, and what of each is sent. Read before: files may change, or go, while others run."""

    paths: tuple[Path, ...]
    excerpts: tuple[bytes, ...]

    @classmethod
    def find(cls, repository: Path) -> "Files":
        """Every regular file of the repository and of the standard library that can be read."""
        library = Path(sysconfig.get_paths()["stdlib"])
        read: dict[Path, bytes] = {}
        for path in (*_of_repository(repository), *_below(library)):
            with suppress(OSError):
                if path.is_file():
                    read[path] = excerpt(path, EXCERPT_BYTES)
        return cls(tuple(read), tuple(read.values()))

    def inputs(self) -> Iterator[dict[str, Pixels]]:
        """One request for each file."""
        for each in self.excerpts:
            content = np.empty(1, dtype=object)
            content[0] = each
            yield {"content": content}

    def agreement(
        self, measured: Measured, label: Callable[[bytes], str], advance: Callable[[], object]
    ) -> list[str]:
        """A line for each file that *label* (the magika package) calls otherwise, given all of it.

        Of a file that has changed meanwhile, it is given what was asked about.
        """
        told = []
        for index, answer in measured.answers.items():
            ours, theirs = answer["label"][0].decode(), label(self._content(index))
            if ours != theirs:
                told.append(f"{self.paths[index]}: {ours}, magika says {theirs}")
            advance()
        return told

    def _content(self, index: int) -> bytes:
        """The whole file, if it still is what was sent."""
        sent = self.excerpts[index]
        try:
            content = self.paths[index].read_bytes()
        except OSError:
            return sent
        return content if shortened(content, EXCERPT_BYTES) == sent else sent


def _of_repository(folder: Path) -> list[Path]:
    """What git has or would take; without git, what is not plainly somebody else's."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - any
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return _below(folder)
    return sorted(folder / name for name in set(listed.split("\0")) if name)


def _below(folder: Path) -> list[Path]:
    """All files below *folder*; not those that were installed or made there by others."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _NOT_OURS)
        found += [Path(place, name) for name in sorted(names)]
    return found


def magika_label() -> Callable[[bytes], str]:
    """What the magika package calls the type of a content."""
    from magika import Magika

    magika = Magika()
    return lambda content: str(magika.identify_bytes(content).output.label)


def verdicts(
    measured: Mapping[str, Measured], held_out: float, differing: Sequence[str]
) -> list[str]:
    """What is not as it has to be; empty where all is well."""
    wrong = [
        f"{model}: {len(each.answers)} of {each.requests} requests were answered"
        for model, each in measured.items()
        if not each.complete
    ]
    if held_out < ACCURACY_MIN:
        wrong.append(f"digits: {held_out:.1%} right on held-out samples, not {ACCURACY_MIN:.0%}")
    if differing:
        wrong.append(f"filetype: {len(differing)} files are called otherwise by magika")
    return wrong
