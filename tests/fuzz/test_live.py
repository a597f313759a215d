"""A small share of `make fuzz-live`, on the real broker."""

import json
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer
from fuzz.extremes import INFLATED_BYTES, extremes
from fuzz.live import GROWTH_BYTES_MAX, Place, run_live
from fuzz.live_report import document

from ondemand.contract.topics import load_topics

HOSTILE = 1_500
TOPICS = Path(__file__).parents[2] / "broker" / "topics.toml"

pytestmark = pytest.mark.kafka


@pytest.fixture
def place(kafka, topic_name):
    """Topics of the test's own."""
    return Place(kafka.address, topic_name("x").removesuffix(".x"))


def test_hostile_records_and_their_neighbours(place, tmp_path):
    """Every record gets its status or a dead letter, the good ones between them get their own
    answers, memory is bounded, and the worker lives and leaves in order."""
    found = run_live(place, tmp_path / "m", hostile=HOSTILE, seed=3, extra=extremes())

    assert found.problems == []
    assert found.hostile + found.not_taken == HOSTILE + len(extremes())
    assert found.good == HOSTILE // 3
    assert found.shared_batches > 0
    assert found.growth_bytes < GROWTH_BYTES_MAX
    told = json.loads(document(found, 3))
    assert sum(told["replies"].values()) == sum(found.replies.values()) > HOSTILE


def test_a_topic_as_declared_takes_no_bomb(kafka, topic_name, create_topic):
    """A batch that becomes too large where it is read is refused by the broker, and what is small
    goes on being taken, compressed or not."""
    declared = {topic.name: topic for topic in load_topics(TOPICS.read_text("utf-8"))}
    topic = create_topic(topic_name(), config=dict(declared["digits.requests"].config))
    producer = Producer(
        {
            "bootstrap.servers": kafka.address,
            "compression.type": "gzip",
            "message.max.bytes": 2 * INFLATED_BYTES,
        }
    )
    told = {}
    for name, value in (("bomb", bytes(INFLATED_BYTES)), ("small", bytes(10_000))):
        producer.produce(topic, value, on_delivery=lambda e, _, name=name: told.update({name: e}))
        assert producer.flush(60) == 0

    assert told["bomb"].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert told["small"] is None
