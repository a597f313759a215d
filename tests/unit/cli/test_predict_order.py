"""``ondemand predict``: every file is told about once, in the order in which it was named."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ondemand.cli import predict
from ondemand.cli.recipe import Form, KnownInput, Recipe
from ondemand.client import PredictionClient
from ondemand.client.prediction import Outcome, Prediction
from ondemand.contract.tensor import Datatype
from ondemand.errors import NotSentError, OutcomeUnknownError
from ondemand.settings import ClientSettings

TEXT = Recipe("m", (KnownInput("x", Datatype.BYTES),), Form.RAW)


class Echo(PredictionClient):
    """Answers with what it was asked, without a broker; looks *ahead* so many inputs further."""

    ahead = 0
    failure: Exception | None = None

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def predict_many(self, model, inputs, **_):
        source, waiting, index, more = iter(inputs), [], 0, True
        while more or waiting:
            while more and len(waiting) <= self.ahead:
                given_inputs = next(source, None)
                more = given_inputs is not None
                waiting += [given_inputs] if more else []
            if waiting:
                answer = self.answer(waiting.pop(0))
                yield Outcome(index, self.failure or answer)
                index += 1

    def answer(self, inputs):
        return Prediction(inputs, "m", "1", None, 1.0, b"1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that are there: their content is their name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "PredictionClient", Echo)
    for name in "abc":
        Path(name).write_text(name)
    return tmp_path


async def told(names: list[str]) -> list[tuple[str, str]]:
    """What is told of each file: its content, or the kind of its error."""
    queue = predict._Files(names, TEXT)
    return [
        (file, result["x"][0].decode() if isinstance(result, Prediction) else type(result).__name__)
        async for file, result in predict._results(queue, ClientSettings(), None)
    ]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)
@given(
    names=st.lists(st.sampled_from(["a", "b", "c", "no-1", "no-2"]), max_size=8),
    ahead=st.integers(0, 9),
)
async def test_every_file_is_told_once_in_order(folder: Path, names: list[str], ahead: int) -> None:
    """However far the client reads ahead, and wherever the bad files stand."""
    Echo.ahead, Echo.failure = ahead, None
    expected = [(name, "InputFileError" if name.startswith("no") else name) for name in names]
    assert await told(names) == expected


@pytest.mark.parametrize("failure", [NotSentError("no topic"), OutcomeUnknownError("no reply")])
async def test_what_concerns_all_is_told_once(folder: Path, failure: Exception) -> None:
    """Where nobody answers anything, the rest need not be asked."""
    Echo.ahead, Echo.failure = 1, failure
    assert await told(["a", "b", "c"]) == [("a", type(failure).__name__)]


async def test_one_files_failure_stops_nothing(folder: Path) -> None:
    """What a file cannot be sent for is its own."""
    Echo.ahead, Echo.failure = 0, ValueError("too large")
    assert await told(["a", "b"]) == [("a", "ValueError"), ("b", "ValueError")]
