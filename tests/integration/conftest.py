"""What tests with workers share."""

import pytest

from ondemand.runtime.scaffold import new_package
from ondemand.testing.models import ffnn


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A worker folder for a model that is not in the repository."""
    folder = tmp_path_factory.mktemp("ffnn")
    (folder / "ffnn.onnx").write_bytes(ffnn((8, 4)))
    return new_package(folder / "worker", name="ffnn", model=folder / "ffnn.onnx").folder


@pytest.fixture
def names(topic_name, create_topic):
    """Topics of one test's own, as settings for its workers, and its service."""
    stem = topic_name("x").removesuffix(".x")
    create_topic(f"{stem}.requests", partitions=4)
    create_topic(f"{stem}.dead-letters")
    create_topic(f"{stem}.replies", partitions=2)
    return stem
