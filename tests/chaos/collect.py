"""Reads a run's topics when it is over, and makes evidence of them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from chaos import load, model
from chaos.evidence import Answered, Asked, Buried
from chaos.load import Kind
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from ondemand.contract.codec import decode_response
from ondemand.contract.dead_letter import read_dead_letter
from ondemand.contract.headers import (
    CORRELATION_ID,
    DEADLINE,
    REPLY_PARTITION,
    REPLY_TOPIC,
    index_headers,
)
from ondemand.contract.record import Record
from ondemand.contract.reply import correlation_of, parse_reply
from ondemand.errors import RequestError, Status

READ_SECONDS = 120.0
BATCH = 1_000


def read_topic(kafka: str, topic: str) -> Iterator[Record]:
    """Every record of *topic* that is committed, partition by partition in order.

    Raises ``TimeoutError`` where it cannot be read to its end: also where a transaction was left
    open for longer than its time limit.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "log_level": 0,
            "group.id": "chaos-reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        known = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        places = [TopicPartition(topic, index, OFFSET_BEGINNING) for index in known]
        ends = {each.partition: consumer.get_watermark_offsets(each)[1] for each in places}
        consumer.assign(places)
        yield from _read(consumer, ends)
    finally:
        consumer.close()


def _read(consumer: Consumer, ends: Mapping[int, int]) -> Iterator[Record]:
    deadline = time.monotonic() + READ_SECONDS
    waiting = {partition for partition, end in ends.items() if end > 0}
    while waiting:
        if time.monotonic() > deadline:
            raise TimeoutError(f"partitions {sorted(waiting)} were not read to their ends")
        for message in consumer.consume(BATCH, 1.0):
            error = message.error()
            if error is None:
                yield Record(
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    message.key(),
                    message.value(),
                    message.headers() or (),
                    message.timestamp()[1],
                )
            elif error.code() == KafkaError._PARTITION_EOF and _at_end(message, ends):
                waiting.discard(message.partition())


def _at_end(message: Message, ends: Mapping[int, int]) -> bool:
    """The library reports an end before the last record while a transaction is open: read on, until
    that is decided."""
    return message.offset() >= ends[message.partition()]


def asked(records: Iterator[Record]) -> list[Asked]:
    """The request topic, with what the model must say of each."""
    found = [_asked(record) for record in records]
    rows = [load.row(each.number, each.kind) for each in found]
    scores = model.scores(rows).tolist() if rows else []
    return [replace(each, scores=tuple(line)) for each, line in zip(found, scores, strict=True)]


def _asked(record: Record) -> Asked:
    fields = index_headers(record.headers)
    number, kind = load.read(fields, record.value)
    topic, partition = fields.get(REPLY_TOPIC), fields.get(REPLY_PARTITION)
    deadline = fields.get(DEADLINE)
    return Asked(
        partition=record.partition,
        offset=record.offset,
        time_ms=record.timestamp_ms,
        key=record.key,
        correlation_id=fields.get(CORRELATION_ID) if kind is not Kind.UNANSWERABLE else None,
        reply=(topic.decode(), int(partition)) if topic and partition else None,
        kind=kind,
        number=number,
        deadline_ms=int(deadline) if deadline else None,
        raw=load.KIND_HEADER in fields,
    )


def answered(records: Iterator[Record]) -> list[Answered]:
    """A reply topic."""
    return [_answered(record) for record in records]


def _answered(record: Record) -> Answered:
    reply = parse_reply(record)
    number: int | None = None
    scores: Sequence[float] = ()
    status: str = reply.status
    if reply.status is Status.OK:
        try:
            response = decode_response(reply.body.value, reply.body.head_length)
            outputs = {tensor.name: tensor.data for tensor in response.outputs}
            number = int(outputs[model.NUMBER][0])
            scores = outputs[model.SCORES][0].tolist()
        except (RequestError, LookupError):
            status = "ok, but not readable"
    return Answered(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        time_ms=record.timestamp_ms,
        key=record.key,
        correlation_id=correlation_of(record),
        status=status,
        number=number,
        scores=tuple(scores),
    )


def buried(records: Iterator[Record]) -> list[Buried]:
    """The dead-letter topic."""
    letters = [read_dead_letter(record) for record in records]
    found = []
    for letter in letters:
        _, partition, offset = letter.source.rsplit("/", 2)
        found.append(Buried(int(partition), int(offset), letter.record.timestamp_ms, letter.reason))
    return found
