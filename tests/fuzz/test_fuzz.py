"""A small share of `make fuzz`, the same in every run; and whether it would notice."""

import contextlib
import dataclasses
import gzip
import subprocess
import sys
import zlib
from pathlib import Path
from unittest.mock import patch

import orjson
import pytest
from fuzz import campaign, judge, report
from fuzz.campaign import Tally, run, run_chunk
from fuzz.records import Sample, one
from fuzz.targets import HEADER_NAMES, REPLIES, REQUESTS, TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

from ondemand.contract.record import Record
from ondemand.errors import Status
from ondemand.processor.encode import Answer
from ondemand.processor.outcome import Rejected

RECORDS = 6_000
DECODE = judge.decode
TESTS = Path(__file__).parent.parent


def test_every_record_gets_one_answer():
    """Whatever is in a record, it becomes a request, a refusal or a dead letter; within bounds of
    memory and time. Among them is every answer that a decoder can give."""
    tally = run(1, RECORDS)

    assert tally.records == RECORDS
    assert set(tally.outcomes) >= {*judge.REFUSALS, Status.OK, "unanswerable"}
    assert {name for name, _ in tally.by_target} == {target.name for target in TARGETS}


def test_a_record_is_the_same_in_every_run():
    """What broke is seen again by its seed and number, in another process too."""
    program = "from fuzz.records import one; print(repr([one(5, n).record for n in range(300)]))"
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=TESTS, capture_output=True, check=True, timeout=60
    ).stdout.decode()

    assert printed.strip() == repr([one(5, number).record for number in range(300)])


NAMES = st.sampled_from(HEADER_NAMES) | st.text(max_size=8)
VALUES = st.none() | st.binary(max_size=40) | st.sampled_from([b"application/json", b"0", b"1"])
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    | st.sampled_from(["inputs", "FP32", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "outputs", "name", "shape", "datatype", "data", "parameters"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TARGETS), HEADERS, st.none() | st.binary(max_size=200))
def test_arbitrary_records_get_one_answer(target, headers, value):
    """Records that were never good."""
    judge_arbitrary(target, headers, value)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TARGETS), HEADERS, JUNK, st.binary(max_size=12))
def test_arbitrary_documents_get_one_answer(target, headers, document, tail):
    """Valid JSON that no client would write, at a usable address."""
    head = orjson.dumps({"inputs": document} if not isinstance(document, dict) else document)
    routing = [("correlation-id", b"c"), ("reply-topic", REPLIES.encode())]
    form = [
        ("content-type", b"application/octet-stream"),
        ("inference-header-content-length", b"%d" % len(head)),
    ]
    judge_arbitrary(target, [*headers, *routing, *(form if tail else [])], head + tail)


def judge_arbitrary(target, headers, value):
    """Judge a record made from these parts."""
    record = Record(REQUESTS, 0, 0, None, value, tuple(headers), 1_000)
    judge.judge(Sample(0, target, record, ("arbitrary",)))


@contextlib.contextmanager
def another_exception():
    """A decoder that raises what nobody expects."""

    def broken(located, policy, *, now_ms):
        if b"NaN" in (located.record.value or b""):
            raise KeyError("NaN")
        return DECODE(located, policy, now_ms=now_ms)

    with patch.object(judge, "decode", broken):
        yield


@contextlib.contextmanager
def inflating():
    """A decoder that inflates what is compressed."""

    def broken(located, policy, *, now_ms):
        record = located.record
        with contextlib.suppress(OSError, EOFError, zlib.error):
            value = gzip.decompress(record.value or b"")
            located = dataclasses.replace(located, record=record._replace(value=value))
        return DECODE(located, policy, now_ms=now_ms)

    with patch.object(judge, "decode", broken):
        yield


@contextlib.contextmanager
def talkative():
    """Refusals that quote all that was sent."""

    def broken(located, policy, *, now_ms):
        found = DECODE(located, policy, now_ms=now_ms)
        if isinstance(found, Rejected):
            return Rejected(found.status, f"{found.message}: {located.record.value!r}")
        return found

    with patch.object(judge, "decode", broken):
        yield


@contextlib.contextmanager
def lenient():
    """A worker that lets NaN through."""
    with patch("ondemand.processor.infer.REALS", ()):
        yield


@contextlib.contextmanager
def silent():
    """A worker that gives no answer to what it cannot address."""

    def broken(record, outcome, desk, *, now_ms, located=None):
        return Answer(record, located, outcome, ())

    with patch.object(judge, "bury", broken):
        yield


@pytest.mark.parametrize("breaks", [another_exception, inflating, talkative, lenient, silent])
def test_a_broken_decoder_is_caught(breaks):
    """A checker that passes a decoder broken on purpose is broken itself."""
    with breaks(), pytest.raises((AssertionError, KeyError)) as caught:
        run_chunk(1, range(RECORDS))

    assert any(
        note.startswith("Replay: make fuzz SEED=1 RECORD=") for note in caught.value.__notes__
    )


def test_memory_is_noticed():
    """A decoder that holds more than a record allows is caught."""
    with (
        patch.object(campaign, "HELD_BYTES_MAX", 0),
        patch.object(campaign, "HELD_BYTES_A_BYTE_MAX", 1),
        pytest.raises(AssertionError, match="bytes held for"),
    ):
        run_chunk(1, range(100))


def test_the_report_counts_what_came(tmp_path):
    """Two halves make the same report as the whole, and all counts are in it."""
    tally = Tally()
    tally.add(run_chunk(2, range(100)))
    tally.add(run_chunk(2, range(100, 200)))
    whole = run_chunk(2, range(200))

    assert (tally.outcomes, tally.by_change) == (whole.outcomes, whole.by_change)
    report.write(tally, 2, tmp_path)
    assert "| invalid-request |" in (tmp_path / "decoder.md").read_text()
    assert '"records": 200' in (tmp_path / "decoder.json").read_text()
