"""From the library's messages to records."""

from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from ondemand.contract.record import Headers, Record
from ondemand.transport.kafka_worker_config import log


def record_of(message: Any) -> Record:
    """A message without an error, as a ``Record``. Never fails: neighbours must not suffer."""
    try:
        headers: Headers = message.headers() or ()
    except (SystemError, UnicodeDecodeError):
        # A header's name is not UTF-8. What the library made so far must not be touched: a second
        # look at it ends the process. Without headers there is nobody to answer: a dead letter.
        headers = ()
        log.warning(
            "%s/%s/%s: a header's name is not UTF-8; read as a record without headers",
            message.topic(),
            message.partition(),
            message.offset(),
        )
    kind, timestamp_ms = message.timestamp()
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        headers,
        -1 if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
    )
