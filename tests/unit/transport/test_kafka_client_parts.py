"""The client's Kafka transport without a broker: options, look-ups, what is certain of a send."""

import asyncio
from typing import Any

import pytest

from ondemand.contract.record import Partition
from ondemand.errors import ConfigurationError, TransportError
from ondemand.testing.conformance_harness import outgoing
from ondemand.transport import kafka_client_metadata
from ondemand.transport.base import send_and_wait
from ondemand.transport.kafka_client import KafkaClientTransport
from ondemand.transport.kafka_client_config import PROTECTED, ClientAddress
from ondemand.transport.kafka_client_metadata import PartitionCounts


def _address(**options: str) -> ClientAddress:
    return ClientAddress("127.0.0.1:9", "test", 1.0, "read_committed", options)


@pytest.mark.parametrize("name", sorted(PROTECTED))
def test_protected_options_are_refused(name: str) -> None:
    """An option that delivery depends on is refused by name, with the reason."""
    with pytest.raises(ConfigurationError, match=f"'{name}' cannot be set: {PROTECTED[name]}"):
        KafkaClientTransport(kafka="127.0.0.1:9", options={name: "1"})


def test_options_are_read_as_what_they_are() -> None:
    """Text becomes a number or a truth where aiokafka takes one, for whom it concerns."""
    address = _address(linger_ms="5", check_crcs="false", client_rack="a", retry_backoff_ms="50")
    producer, consumer = address.producer(), address.consumer()
    assert (producer["linger_ms"], producer["retry_backoff_ms"]) == (5, 50)
    assert "check_crcs" not in producer
    assert consumer["check_crcs"] is False
    assert consumer["client_rack"] == "a"
    assert "linger_ms" not in consumer


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"no_such_option": "1"}, "'no_such_option' is not known"),
        ({"linger_ms": "soon"}, "'linger_ms' is a whole number, not 'soon'"),
        ({"check_crcs": "maybe"}, "'check_crcs' is true or false, not 'maybe'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, str], said: str) -> None:
    """An option that nobody knows, or a value that cannot be one, is named at the start."""
    with pytest.raises(ConfigurationError, match=said):
        KafkaClientTransport(kafka="127.0.0.1:9", options=options)


async def test_nothing_works_before_the_start() -> None:
    """Every call before ``start`` says so, with an error of our own."""
    transport = KafkaClientTransport(kafka="127.0.0.1:9")
    for call in (
        send_and_wait(transport, outgoing("requests")),
        transport.partition_count("requests"),
        transport.listen(Partition("replies", 0)),
        transport.fetch(0.0),
    ):
        with pytest.raises(TransportError):
            await call


async def test_many_look_ups_at_once_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand sends that need a count ask once; one who gives up does not stop the others."""
    asked: list[str] = []
    answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def look_up(client: Any, topic: str, *, timeout_seconds: float) -> int | None:
        asked.append(topic)
        return await answer

    monkeypatch.setattr(kafka_client_metadata, "look_up", look_up)
    counts = PartitionCounts(lambda: None, timeout_seconds=1.0)
    waiting = [asyncio.create_task(counts("requests")) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    answer.set_result(3)
    assert (await asyncio.gather(*waiting, return_exceptions=True))[1:] == [3] * 99
    assert asked == ["requests"]
    assert await counts("requests") == 3
    assert asked == ["requests"]
