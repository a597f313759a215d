"""From what arrived to what the caller gets: a prediction or the one right error."""

import numpy as np
import pytest

from ondemand.client.correlation import Cause, NoReply
from ondemand.client.exchange import Exchange
from ondemand.client.prediction import Outcome, Prediction, read_arrival
from ondemand.contract.codec import Body, InferResponse, encode_error, encode_response
from ondemand.contract.headers import Dialect, ReplyAddress
from ondemand.contract.record import Record
from ondemand.contract.reply import Served, ServerTiming, reply_record
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import (
    REFUSALS,
    InternalError,
    NotSentError,
    OutcomeUnknownError,
    RefusedError,
    Status,
)

EXCHANGE = Exchange(b"id-1", "digits", "digits.requests", 2.0, 100.0)
LABEL = Tensor("label", Datatype.INT64, np.array([7], dtype=np.int64))
TIMING = ServerTiming(queue_ms=1.0, model_ms=0.5, batch_rows=32)


def reply(status: Status, body: Body) -> Record:
    outgoing = reply_record(
        ReplyAddress(b"id-1", "checkout.replies", 0, Dialect.NATIVE),
        key=None,
        status=status,
        served=Served("digits", "1.2.0"),
        timing=TIMING,
        body=body,
    )
    return Record("checkout.replies", 0, 5, None, outgoing.value, outgoing.headers, -1)


def answered(*, binary: bool = True) -> Record:
    response = InferResponse("digits", "1.2.0", (LABEL,))
    return reply(Status.OK, encode_response(response, binary=binary))


@pytest.mark.parametrize("binary", [True, False])
def test_a_good_reply_becomes_a_prediction(*, binary: bool) -> None:
    """Outputs, version, timings and the round trip are all there, in both body forms."""
    prediction = read_arrival(answered(binary=binary), EXCHANGE, 100.004)
    assert prediction["label"].tolist() == [7]
    assert prediction.outputs["label"].dtype == np.int64
    assert (prediction.model_name, prediction.model_version) == ("digits", "1.2.0")
    assert prediction.timing == TIMING
    assert prediction.round_trip_ms == pytest.approx(4.0)
    assert repr(prediction) == "<Prediction [label[1] | digits 1.2.0 | 4.0 ms]>"


def test_an_unknown_output_name_lists_those_there_are() -> None:
    """A misspelt output costs one look, not a debugger."""
    with pytest.raises(KeyError, match="no output 'lable': there are label"):
        read_arrival(answered(), EXCHANGE, 100.0)["lable"]


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_status_has_its_error(status: Status) -> None:
    """One class for each status of the contract, with the worker's message and version."""
    record = reply(status, Body(encode_error(status, "the third row is empty"), None))
    with pytest.raises(RefusedError, match="the third row is empty") as caught:
        read_arrival(record, EXCHANGE, 100.0)
    assert type(caught.value) is REFUSALS[status]
    assert caught.value.status is status
    assert caught.value.model_version == "1.2.0"
    assert caught.value.correlation_id == b"id-1"


def test_a_reply_that_cannot_be_read_names_its_record() -> None:
    """A worker's nonsense is the worker's fault, and says where it lies."""
    with pytest.raises(InternalError, match=r"checkout\.replies/0/5"):
        read_arrival(reply(Status.OK, Body(b"{", None)), EXCHANGE, 100.0)


@pytest.mark.parametrize(
    ("cause", "kind", "message"),
    [
        (Cause.NOT_TAKEN, NotSentError, "was not sent to digits.requests: why"),
        (Cause.SEND_FAILED, OutcomeUnknownError, "may or may not have reached digits.requests"),
        (Cause.NOT_ACKNOWLEDGED, OutcomeUnknownError, "did not confirm"),
        (Cause.NOT_ANSWERED, OutcomeUnknownError, "no reply from 'digits' within 2.0 s: the req"),
        (Cause.NOT_READ, OutcomeUnknownError, "cannot be awaited any longer: why"),
    ],
)
def test_only_what_is_certainly_unsent_is_called_not_sent(
    cause: Cause, kind: type[Exception], message: str
) -> None:
    """*Not sent* is safe to repeat: it is never said where the broker may have the request."""
    origin = ConnectionError("origin")
    with pytest.raises(kind, match=message) as caught:
        read_arrival(NoReply(cause, "why", origin), EXCHANGE, 103.0)
    assert caught.value.__cause__ is origin


def test_an_outcome_raises_only_when_its_prediction_is_asked_for() -> None:
    """Loops over many inputs choose for themselves whether a failure stops them."""
    failed = Outcome(3, OutcomeUnknownError("no reply"))
    assert isinstance(failed.error, OutcomeUnknownError)
    with pytest.raises(OutcomeUnknownError, match="no reply"):
        _ = failed.prediction
    prediction: Prediction = read_arrival(answered(), EXCHANGE, 100.0)
    good = Outcome(4, prediction)
    assert good.error is None
    assert good.prediction is prediction
