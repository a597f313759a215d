"""The ceiling: the worker's transport settings, the worker's bytes, no decoding and no model.

It reads requests and answers each under its correlation ID with one reply that was made before the
first came: as large as the worker's own and with as many headers. It waits for no acknowledgement.
"""

import argparse
import signal
import time

import numpy as np
from confluent_kafka import Consumer, Producer

from ondemand.contract.codec import InferResponse, encode_response
from ondemand.contract.headers import CORRELATION_ID, Dialect, ReplyAddress
from ondemand.contract.reply import Served, ServerTiming, reply_record
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.errors import Status
from ondemand.transport.kafka_worker_config import KafkaAddress

RECORDS_MAX = 512
COMMIT_SECONDS = 0.5
UNDER_WAY_MAX = 90_000  # the library's buffer takes 100,000


def reply(*, binary: bool) -> tuple[bytes, list[tuple[str, bytes | None]]]:
    """The value of every answer, and its headers without the correlation ID."""
    scores = np.random.default_rng(0).random((1, 10), dtype=np.float32)
    response = InferResponse("ffnn", "1.0.0", (Tensor("y", Datatype.FP32, scores),))
    record = reply_record(
        ReplyAddress(b"-", "bench.replies", None, Dialect.NATIVE),
        key=None,
        status=Status.OK,
        served=Served("ffnn", "1.0.0"),
        timing=ServerTiming(queue_ms=10.123, model_ms=0.123, batch_rows=256),
        body=encode_response(response, binary=binary),
    )
    headers = [header for header in record.headers if header[0] != CORRELATION_ID]
    return record.value or b"", headers


def run(consumer: Consumer, producer: Producer, *, binary: bool) -> None:
    """Answer until a signal comes."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    value, rest = reply(binary=binary)
    committed_at = time.monotonic()
    while not stopping:
        first = consumer.poll(0.05)
        if first is None:
            continue
        for message in (first, *consumer.consume(RECORDS_MAX, 0)):
            fields = dict(message.headers())
            headers = [(CORRELATION_ID, fields[CORRELATION_ID]), *rest]
            topic, place = fields["reply-topic"].decode(), int(fields["reply-partition"])
            if len(producer) > UNDER_WAY_MAX:
                producer.poll(0.01)
            producer.produce(topic, value, message.key(), place, headers=headers)
        producer.poll(0)
        if time.monotonic() > committed_at + COMMIT_SECONDS:
            committed_at = time.monotonic()
            positions = consumer.position(consumer.assignment())
            consumer.commit(offsets=[each for each in positions if each.offset >= 0])
    producer.flush(10)
    consumer.close()


def main() -> None:
    """Read the command line and echo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--requests", required=True)
    parser.add_argument("--form", choices=["binary", "json"], required=True)
    given = parser.parse_args()
    address = KafkaAddress(given.kafka, "echo", 10.0, {})
    consumer = Consumer(address.consumer(given.group, 10.0))
    consumer.subscribe([given.requests])
    run(consumer, Producer(address.producer()), binary=given.form == "binary")


if __name__ == "__main__":
    main()
