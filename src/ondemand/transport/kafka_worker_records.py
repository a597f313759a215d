"""From the library's messages to records."""

from operator import methodcaller
from typing import Any, Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from ondemand.contract.record import Headers, Record
from ondemand.transport.kafka_worker_config import log

# Where a header's name is not UTF-8, the library returns a broken list *and* leaves an exception
# behind. `message.headers()`, once Python has specialised it, does not look for the exception and
# takes the list: whoever touches it then ends the process. This way of calling always looks.
_headers_of: Final = methodcaller("headers")


def record_of(message: Any) -> Record:
    """A message without an error, as a ``Record``. Never fails: neighbours must not suffer."""
    try:
        headers: Headers = _headers_of(message) or ()
    except (SystemError, UnicodeDecodeError):
        # Not a second look: it would be given the broken list. Without headers there is nobody to
        # answer, and the record becomes a dead letter.
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
