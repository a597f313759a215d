"""What a requesting service does with the client, checked by ``mypy --strict`` and never run."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from ondemand import Prediction, PredictionClient, SyncPredictionClient
from ondemand.client import ClientStats, Inputs, Outcome, Receipt, RequestOptions
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import (
    InvalidInputError,
    NobodyServesError,
    NotSentError,
    OutcomeUnknownError,
    PredictionError,
    RefusedError,
    Status,
)
from ondemand.settings import ClientSettings
from ondemand.transport.memory import MemoryBroker

IMAGE = np.zeros((1, 64), dtype=np.float32)


async def one(client: PredictionClient) -> None:
    """Ask once, with and without options."""
    prediction = await client.predict("digits", {"image": IMAGE}, timeout=2.0)
    assert_type(prediction, Prediction)
    assert_type(prediction.outputs, Mapping[str, NDArray[Any]])
    assert_type(prediction["label"], NDArray[Any])
    assert_type(prediction.timing.queue_ms, float)
    assert_type(prediction.correlation_id, bytes)
    await client.predict("digits", {"image": [[0.0, 1.0]], "scale": 3}, key="customer-7")
    await client.predict("digits", {"image": Tensor("image", Datatype.FP32, IMAGE)}, binary=False)
    options: RequestOptions = {"model_version": "1.2.0", "outputs": ["label"], "unserved": "wait"}
    await client.predict("digits", {"image": IMAGE}, **options)


async def many(client: PredictionClient) -> None:
    """Ask often: from a list, a generator, an async generator."""

    async def arriving() -> AsyncIterator[Inputs]:
        yield {"image": IMAGE}

    async for outcome in client.predict_many("digits", [{"image": IMAGE}] * 10, in_flight=4):
        assert_type(outcome, Outcome)
        assert_type(outcome.error, Exception | None)
        assert_type(outcome.prediction, Prediction)
    async for outcome in client.predict_many("digits", ({"image": row} for row in IMAGE)):
        assert_type(outcome.index, int)
    async for _ in client.predict_many("digits", arriving(), ordered=False, timeout=1.0):
        pass


async def errors(client: PredictionClient) -> Prediction | None:
    """Tell apart what is safe to repeat from what is not."""
    try:
        return await client.predict("digits", {"image": IMAGE})
    except NobodyServesError:
        return await client.predict("digits", {"image": IMAGE}, unserved="wait")
    except NotSentError:
        return await client.predict("digits", {"image": IMAGE})
    except OutcomeUnknownError as error:
        assert_type(error.correlation_id, bytes | None)
    except InvalidInputError as error:
        assert_type(error.status, Status)
    except RefusedError as error:
        assert_type(error.model_version, str)
    except PredictionError:
        raise
    return None


async def service() -> None:
    """Make clients in every way there is."""
    async with PredictionClient(kafka="127.0.0.1:9092", service="checkout") as client:
        await asyncio.gather(one(client), many(client), errors(client))
        receipt = await client.submit("digits", {"image": IMAGE}, reply_topic="audit.replies")
        assert_type(receipt, Receipt)
        assert_type(client.stats, ClientStats)
    settings = ClientSettings(service="checkout", timeout_seconds=1.0)
    client = PredictionClient(settings=settings, transport=MemoryBroker().client())
    await client.start()
    await client.close()


def script() -> None:
    """The same without asyncio."""
    with SyncPredictionClient(kafka="127.0.0.1:9092", service="checkout") as client:
        assert_type(client.predict("digits", {"image": IMAGE}), Prediction)
        outcomes: Iterator[Outcome] = client.predict_many("digits", [{"image": IMAGE}])
        for outcome in outcomes:
            assert_type(outcome.prediction["label"], NDArray[Any])


async def mistakes(client: PredictionClient) -> None:
    """What the types refuse; an ignore that becomes unused fails the check."""
    await client.predict("digits", IMAGE)  # type: ignore[arg-type]
    await client.predict("digits", {"image": IMAGE}, colour=1)  # type: ignore[call-arg]
    PredictionClient("127.0.0.1:9092")  # type: ignore[call-arg]
