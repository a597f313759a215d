"""What people and scripts see of an answer."""

import json

import numpy as np
import pytest
from rich.console import Console

from ondemand.cli.answers import answer_json, answers_table, caption, error_json
from ondemand.cli.known_models import hint
from ondemand.client import Prediction
from ondemand.contract.reply import ServerTiming
from ondemand.errors import InvalidInputError, NotSentError


def prediction(**outputs: object) -> Prediction:
    """An answer with these outputs."""
    return Prediction(
        outputs={name: np.asarray(value) for name, value in outputs.items()},
        model_name="digits",
        model_version="1.0.0",
        server_timing=ServerTiming(1.5, 0.5, 4).header(),
        round_trip_ms=3.25,
        correlation_id=b"1",
    )


def texts(*values: bytes) -> np.ndarray:
    """A BYTES output."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def shown(*answers: tuple[str, Prediction]) -> list[str]:
    """The lines of the table."""
    console = Console(width=120)
    with console.capture() as captured:
        console.print(answers_table(answers))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_row_of_the_answer_is_a_row_of_the_table() -> None:
    """One value as it is, of many the highest; markup in a label is text."""
    scores = np.eye(10, dtype=np.float32)[[7, 3]]
    lines = shown(("a.png", prediction(label=[7, 3], scores=scores)))
    assert lines[0].split() == ["file", "label", "scores", "ms"]
    assert lines[1].split() == ["a.png", "[0]", "7", "highest", "1", "at", "[7]", "3.2"]
    assert lines[2].split() == ["a.png", "[1]", "3", "highest", "1", "at", "[3]"]
    assert shown(("f", prediction(label=texts(b"[red]x"))))[1].split()[:2] == ["f", "[red]x"]


def test_outputs_without_common_rows_are_shown_as_a_whole() -> None:
    """A model without a batch axis answers once."""
    lines = shown(("x", prediction(a=np.zeros((2, 3)), b=1.5, c=np.zeros(3))))
    assert lines[1].split("  ")[0] == "x"
    assert "array of 2x3" in lines[1]
    assert "0, 0, 0" in lines[1]


def test_many_rows_are_cut() -> None:
    """A terminal is not a file: the rest is in the JSON."""
    lines = shown(("x", prediction(label=np.arange(30))))
    assert len(lines) == 22
    assert lines[-1].startswith("… 10 more rows")


def test_json_has_everything() -> None:
    """All values, text where it is text, and null for what JSON has no number for."""
    answer = prediction(label=texts(b"py", b"\xff"), score=[1.5, float("nan")], n=3)
    document = json.loads(answer_json("a.py", answer))
    assert document["outputs"] == {"label": ["py", [255]], "score": [1.5, None], "n": 3}
    assert document["file"] == "a.py"
    assert document["model_version"] == "1.0.0"
    assert document["timing"] == {
        "round_trip_ms": 3.25,
        "queue_ms": 1.5,
        "model_ms": 0.5,
        "batch_rows": 4,
    }


def test_json_of_a_failure_says_who_refused() -> None:
    """A status stands there only where a worker answered."""
    refused = json.loads(error_json("x", InvalidInputError("wrong shape")))
    assert refused == {"file": "x", "error": "wrong shape", "status": "invalid-input"}
    assert "status" not in json.loads(error_json("x", NotSentError("no broker")))


def test_the_caption_says_who_answered_how_fast() -> None:
    """Model, version, count and time."""
    answers = [("a", prediction(x=1)), ("b", prediction(x=1))]
    assert caption(answers) == "digits 1.0.0, 2 answered, 3.2 ms at the median"


@pytest.mark.parametrize(
    ("model", "topics", "told"),
    [
        ("dgits", {"digits.requests", "prices.requests"}, "; did you mean 'digits'?"),
        ("zzz", {"digits.requests", "cli.replies"}, "; served here: digits"),
        ("zzz", {f"m{n}.requests" for n in range(9)}, "; served here: m0, m1, m2, m3, m4, …"),
        ("zzz", {"cli.replies"}, ""),
        ("digits", {"digits.requests"}, ""),
    ],
)
def test_a_model_that_is_not_there_brings_those_that_are(
    model: str, topics: set[str], told: str
) -> None:
    """The nearest name, or those there are; nothing where the model is there."""
    assert hint(model, topics) == told
