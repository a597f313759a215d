"""Texts beside the stored positions: what one process leaves to the next.

*tell* takes the errors of the library: where nothing is fetched until a note is read or stored,
nobody else would hear of a right that is missing.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from ondemand.contract.record import Partition
from ondemand.errors import TransportError
from ondemand.transport.base import Note
from ondemand.transport.kafka_worker_errors import error_of

ASK_SECONDS: Final = 2.0


def read_notes(
    consumer: Consumer, partitions: Collection[Partition], tell: Callable[[KafkaError], None]
) -> Mapping[Partition, Note]:
    """What *consumer*'s group has stored. Raises ``TransportError`` where that cannot be known."""
    asked = [TopicPartition(each.topic, each.index) for each in partitions]
    try:
        answers = consumer.committed(asked, timeout=ASK_SECONDS)
    except KafkaException as failure:
        raise _error("are not known", error_of(failure), tell) from failure
    for answer in answers:
        if answer.error is not None:
            raise _error("are not known", answer.error, tell) from KafkaException(answer.error)
    return {
        Partition(answer.topic, answer.partition): Note(answer.offset, answer.metadata or "")
        for answer in answers
        if answer.offset != OFFSET_INVALID
    }


def write_notes(
    consumer: Consumer, notes: Mapping[Partition, Note], tell: Callable[[KafkaError], None]
) -> None:
    """Store *notes*, and wait. Raises ``TransportError`` where they are not stored."""
    if not notes:
        return
    offsets = [offset_of(partition, note) for partition, note in notes.items()]
    try:
        stored = consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as failure:
        raise _error("were not stored", error_of(failure), tell) from failure
    for each in stored or ():
        if each.error is not None:
            raise _error("were not stored", each.error, tell) from KafkaException(each.error)


def offset_of(partition: Partition, note: Note) -> TopicPartition:
    """As the library wants it."""
    return TopicPartition(partition.topic, partition.index, note.position, note.text)


def _error(what: str, error: KafkaError, tell: Callable[[KafkaError], None]) -> TransportError:
    tell(error)
    return TransportError(f"positions and their notes {what}: {error.str()}")
