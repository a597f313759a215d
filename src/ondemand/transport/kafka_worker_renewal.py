"""The library's transactional producer: after each transaction that was aborted, a new one."""

import time
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from ondemand.errors import ConfigurationError
from ondemand.transport.kafka_worker_config import KafkaAddress, log
from ondemand.transport.kafka_worker_errors import News, error_of, start_error

STEP_SECONDS: Final = 1.0
"""How long one call into the library may wait; between two, its caller looks what is wrong."""

AGAIN_SECONDS: Final = 0.02

_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        # A broker that still writes the end of the last transaction says "again", and then it is
        # asked after 1, 2, 4, … ms: at the default of 100 ms each transaction waits so long.
        "retry.backoff.ms": 1,
        # That it went well is said once, by the commit.
        "delivery.report.only.error": True,
    }
)


class RenewedProducer:
    """One producer at a time by the same transactional ID. For one thread, but for ``list_topics``.

    A record whose acknowledgement was lost may be on the broker. When its transaction is aborted,
    the library takes it for one that was never sent, and gives its sequence number to the next
    record: the broker has that number already, acknowledges, and stores nothing. A new producer has
    a new epoch, in which no number was used (decision 0009).
    """

    def __init__(
        self, address: KafkaAddress, news: News, *, transactional_id: str, timeout_seconds: float
    ) -> None:
        self._make = partial(_made, address, news, transactional_id, timeout_seconds)
        self.current = self._make()
        self.spent = False
        """``current`` has aborted a transaction: it must not begin another."""
        self._next: Producer | None = None

    def list_topics(self, topic: str, timeout: float) -> Any:
        """As the library's, by the producer that is in use. For any thread."""
        # Whoever asks holds on to the producer that it asks: the library frees it after that.
        return self.current.list_topics(topic, timeout=timeout)

    def start(self, timeout_seconds: float) -> None:
        """Get the right to transact. Raises ``ConfigurationError`` where the broker refuses it."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                self.current.init_transactions(max(deadline - time.monotonic(), STEP_SECONDS))
            except KafkaException as failure:
                error = error_of(failure)
                if not error.retriable() or time.monotonic() >= deadline:
                    raise ConfigurationError(
                        f"the broker does not let this worker begin transactions: {error.str()}. "
                        'With the guarantee "exactly-once" its login needs the right to write '
                        "transactional IDs that begin with the name of its group"
                    ) from failure
                time.sleep(AGAIN_SECONDS)
            else:
                return

    def renew(self, timeout_seconds: float) -> None:
        """Put a new producer in the place of one that is spent. Raises ``KafkaException``; after a
        retriable one, call it again."""
        if self._next is None:
            self._next = self._make()
        self._next.init_transactions(timeout_seconds)
        # Not closed, but let go: another thread may still ask the old one for topics.
        self.current, self._next = self._next, None
        self.spent = False

    def begin_again(self) -> None:
        """Let go of a new producer that did not get the right to transact in time: the next one
        does not have to get out of whatever this one is in."""
        self._next = None

    def serve(self) -> None:
        """Let the library log, and tell its errors."""
        self.current.poll(0)
        if self._next is not None:
            self._next.poll(0)


def _made(
    address: KafkaAddress, news: News, transactional_id: str, timeout_seconds: float
) -> Producer:
    timeout_ms = round(timeout_seconds * 1000)
    timeouts = {"transaction.timeout.ms": timeout_ms, "message.timeout.ms": timeout_ms}
    options = {
        **address.producer(),
        **_OPTIONS,
        **timeouts,
        **address.options,
        "transactional.id": transactional_id,
        "error_cb": news,
    }
    try:
        return Producer(options, logger=log)
    except KafkaException as error:
        raise start_error(error) from error
