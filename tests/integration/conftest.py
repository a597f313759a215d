"""What tests with workers share."""

import pytest


@pytest.fixture
def names(topic_name, create_topic):
    """Topics of one test's own, as settings for its workers, and its service."""
    stem = topic_name("x").removesuffix(".x")
    create_topic(f"{stem}.requests", partitions=4)
    create_topic(f"{stem}.dead-letters")
    create_topic(f"{stem}.replies", partitions=2)
    return stem
