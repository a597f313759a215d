"""Inputs larger than a record, on real Kafka: through an object store, with both guarantees."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from unit.runtime.onnx_files import INPUT, OUTPUT, model_bytes
from worker_process import BOUND_SECONDS, RunningWorker, eventually

from ondemand import PredictionClient
from ondemand.errors import InvalidRequestError
from ondemand.runtime.scaffold import new_package
from ondemand.settings import ClientSettings

pytestmark = pytest.mark.kafka

FLOATS = 1_250_000  # 5 MB; a record holds 1 MiB


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A worker folder for a model that adds up rows of any width."""
    folder = tmp_path_factory.mktemp("total")
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    total = model_bytes(
        [helper.make_node("ReduceSum", [INPUT, "axes"], [OUTPUT])],
        takes={INPUT: (TensorProto.FLOAT, ["rows", "width"])},
        gives={OUTPUT: (TensorProto.FLOAT, ["rows", 1])},
        initializers=[axes],
    )
    (folder / "total.onnx").write_bytes(total)
    return new_package(folder / "worker", name="total", model=folder / "total.onnx").folder


@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
async def test_five_megabytes_go_through_a_worker(kafka, names, package, tmp_path, guarantee):
    """Client, store, topic, worker and back; among small requests, and nothing is left behind."""
    store = f"file://{tmp_path}/claims"
    settings = {
        "request_topic": f"{names}.requests",
        "dead_letter_topic": f"{names}.dead-letters",
        "group": f"ondemand.{names}",
        "guarantee": guarantee,
        "claim_store": store,
    }
    worker = RunningWorker(
        package,
        kafka.address,
        log=tmp_path / "worker.log",
        settings=[f"{name}={value}" for name, value in settings.items()],
    )
    told = ClientSettings(kafka=kafka.address, service=names, claim_store=store)
    with worker.wait_ready():
        async with PredictionClient(settings=told) as client:
            sizes = [FLOATS if i % 4 == 0 else 10 for i in range(12)]
            inputs = ({INPUT: np.full((1, size), 0.5, np.float32)} for size in sizes)
            totals = [
                float(outcome.prediction[OUTPUT][0, 0])
                async for outcome in client.predict_many(names, inputs, timeout=BOUND_SECONDS)
            ]
        assert totals == [size / 2 for size in sizes]
        claims = tmp_path / "claims"
        eventually(lambda: not [p for p in claims.rglob("*") if p.is_file()], "all are deleted")
        assert worker.end() == 0, worker.log


async def test_a_worker_without_a_store_refuses_and_goes_on(kafka, names, package, tmp_path):
    """Only one side was told: the caller hears which."""
    settings = [f"request_topic={names}.requests", f"group=ondemand.{names}"]
    settings.append(f"dead_letter_topic={names}.dead-letters")
    worker = RunningWorker(package, kafka.address, log=tmp_path / "worker.log", settings=settings)
    told = ClientSettings(kafka=kafka.address, service=names, claim_store=f"file://{tmp_path}/c")
    with worker.wait_ready():
        async with PredictionClient(settings=told) as client:
            with pytest.raises(InvalidRequestError, match="claim_store"):
                await client.predict(names, {INPUT: np.zeros((1, FLOATS), np.float32)})
            small = await client.predict(names, {INPUT: np.ones((1, 3), np.float32)})
        assert small[OUTPUT].tolist() == [[3.0]]
