"""Announcements of workers: what is written is read, and what is none breaks nothing."""

import json
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.contract.announcement import (
    AnnouncedTensor,
    Announcement,
    PictureForm,
    announcement_record,
    leaving_record,
    model_of,
    read_announcement,
)
from ondemand.contract.tensor import Datatype

ME = Announcement(
    model="digits",
    version="1.2.0",
    instance="host-1f2e3d4c",
    topic="digits.requests",
    guarantee="exactly-once",
    inputs=(
        AnnouncedTensor(
            "image", Datatype.FP32, (None, 64), PictureForm(8, 8, "L", 0.0, 16.0, invert=True)
        ),
        AnnouncedTensor("note", Datatype.BYTES, (None,), excerpt_bytes=4096),
    ),
    outputs=(AnnouncedTensor("label", Datatype.INT64, (None,)),),
    batch_rows_max=256,
    interval_seconds=5.0,
    since_ms=1_800_000_000_000,
    sent_ms=1_800_000_005_000,
    partitions=(0, 3),
    rate_per_second=410.3,
    model_sha256="0123456789abcdef" * 4,
)


def members(**changed):
    """The value of ME's record with members changed."""
    return orjson.dumps(orjson.loads(announcement_record(ME).value) | changed)


def test_what_is_announced_is_read():
    """A record carries all of it, on the one partition, under the worker's own key."""
    record = announcement_record(ME)
    assert (record.topic, record.partition) == ("ondemand.workers", 0)
    assert record.key == b"digits/host-1f2e3d4c"
    assert read_announcement(record.value) == ME


def test_leaving_takes_the_announcement_back():
    """The same key without a value is what compaction removes; the key still names the model."""
    record = leaving_record(ME)
    assert (record.key, record.value) == (ME.key, None)
    assert model_of(record.key) == "digits"


def test_three_missed_announcements_are_a_silence():
    """How long a worker may be silent follows from how often it speaks."""
    assert replace(ME, interval_seconds=2.0).silent_seconds == 6.0


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{" * 100_000,
        members() + b" " * 65_536,
        members(model=""),
        members(model="x" * 2_000),
        members(version=1),
        members(instance="red \x1b[31m"),
        members(topic="two\nlines"),
        members(model_sha256="0" * 63),
        members(model_sha256=7),
        members(guarantee="perhaps"),
        members(guarantee=[]),
        members(interval_seconds=0),
        members(interval_seconds=301),
        members(interval_seconds=True),
        members(partitions=[-1]),
        members(partitions=[True]),
        members(partitions={}),
        members(rate_per_second=-1),
        members(inputs=[{"name": "x", "datatype": "FP31", "shape": []}]),
        members(inputs=[{"name": "x", "datatype": [], "shape": []}]),
        members(inputs=[{"name": "x", "datatype": "FP32", "shape": [-2]}]),
        members(inputs=[{"name": "x", "datatype": "FP32", "shape": [1] * 17}]),
        members(inputs=[{"name": "x", "datatype": "FP32", "shape": [1], "image": {}}]),
        members(inputs=["x"]),
    ],
)
def test_what_is_no_announcement_is_none(value):
    """Anybody with the right may write to the topic: no value is trusted, and none raises."""
    assert read_announcement(value) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


MEMBERS = st.tuples(st.sampled_from(sorted(orjson.loads(members()))), JSON)


@given(
    st.binary(max_size=50)
    | MEMBERS.map(lambda pair: json.dumps(orjson.loads(members()) | dict([pair])).encode())
)
def test_no_value_raises(value):
    """Whatever is written there, a client that listens goes on."""
    found = read_announcement(value)
    assert found is None or found.silent_seconds > 0


def test_unknown_members_are_passed_over():
    """A newer worker may say more."""
    assert read_announcement(members(colour="green")) == ME
