"""What a Python developer writes in an afternoon: aiokafka, orjson, NumPy and ONNX Runtime.

It takes what a fetch brings, runs the model once for all of it, sends all answers, waits for their
acknowledgements and commits. No limits, no refusals, no dead letters, no deadlines, no metrics: one
bad record ends it.
"""

import argparse
import asyncio
import contextlib
import signal

import numpy as np
import onnxruntime
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

HEAD_LENGTH = "inference-header-content-length"
RECORDS_MAX = 512


def row_of(record: ConsumerRecord, fields: dict[str, bytes]) -> np.ndarray:
    """The request's one row."""
    if HEAD_LENGTH not in fields:
        return np.array(orjson.loads(record.value)["inputs"][0]["data"], dtype=np.float32)
    return np.frombuffer(record.value, dtype="<f4", offset=int(fields[HEAD_LENGTH]))


def answer(scores: np.ndarray, fields: dict[str, bytes]) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers of the reply."""
    output = {"name": "y", "shape": [1, 10], "datatype": "FP32"}
    headers = [("correlation-id", fields["correlation-id"])]
    if HEAD_LENGTH not in fields:
        output["data"] = scores
        body = {"model_name": "ffnn", "outputs": [output]}
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), headers
    output["parameters"] = {"binary_data_size": scores.nbytes}
    head = orjson.dumps({"model_name": "ffnn", "outputs": [output]})
    return head + scores.tobytes(), [*headers, (HEAD_LENGTH, b"%d" % len(head))]


async def run(given: argparse.Namespace) -> None:
    """Answer until cancelled."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(given.model, options, providers=["CPUExecutionProvider"])
    consumer = AIOKafkaConsumer(
        given.requests,
        bootstrap_servers=given.kafka,
        group_id=given.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=given.kafka, acks="all", enable_idempotence=True, max_batch_size=262_144
    )
    async with consumer, producer:
        while True:
            fetched = await consumer.getmany(timeout_ms=100, max_records=RECORDS_MAX)
            records = [record for batch in fetched.values() for record in batch]
            if not records:
                continue
            fields = [dict(record.headers) for record in records]
            rows = np.stack([row_of(*pair) for pair in zip(records, fields, strict=True)])
            scores = session.run(["y"], {"x": rows})[0]
            sent = []
            for record, these, row in zip(records, fields, scores, strict=True):
                value, headers = answer(row, these)
                topic = these["reply-topic"].decode()
                place = int(these["reply-partition"])
                sent.append(
                    await producer.send(
                        topic, value, key=record.key, partition=place, headers=headers
                    )
                )
            await asyncio.gather(*sent)
            await consumer.commit()


async def main() -> None:
    """Read the command line and answer until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--kafka", "--group", "--requests", "--model"):
        parser.add_argument(name, required=True)
    task = asyncio.create_task(run(parser.parse_args()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(main())
