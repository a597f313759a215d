"""Purge plans: no offset beyond what matches, and nothing promised that Kafka does not do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.cli.letters import letter

from ondemand.cli.deadletters_filter import Filter, LetterId
from ondemand.cli.deadletters_purge import command, cut, delete_records, lines, plan_cuts
from ondemand.errors import ConfigurationError
from ondemand.settings import Settings
from ondemand.transport.kafka_admin_records import Span


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9)), max_size=12),
    st.none() | st.integers(0, 60),
)
def test_a_cut_loses_only_what_matches(steps, before):
    """Offsets have gaps, times no order: everything before the cut is meant, and the cut is as far
    as that allows."""
    letters, offset = [], 10
    for step, time_ms in steps:
        letters.append(letter(offset, time_ms=time_ms))
        offset += step
    span = Span(10, offset)
    wanted = Filter(until_ms=5)
    found = cut(0, span, letters, wanted, before=before)

    lost = [each for each in letters if each.record.offset < found.before]
    assert span.low <= found.before <= span.end
    assert before is None or found.before <= max(before, span.low)
    assert all(map(wanted.takes, lost))
    assert sum(found.lost.values()) == len(lost)
    kept = [each for each in letters if each.record.offset >= found.before]
    bounded = before is not None and found.before == max(before, span.low)
    if not bounded and found.before < span.end:
        assert not wanted.takes(kept[0])


def test_named_partitions_are_the_only_ones():
    """--before 1:5 says nothing of partition 0."""
    letters = {0: [letter(0)], 1: [letter(offset, partition=1) for offset in range(9)]}
    spans = {0: Span(0, 1), 1: Span(0, 9)}
    (found,) = plan_cuts(spans, letters, Filter(), [LetterId(1, 5)])
    assert (found.partition, found.before, found.lost) == (1, 5, {"model-error": 5})
    with pytest.raises(ConfigurationError, match=r"no partition 2.*0 to 1"):
        plan_cuts(spans, letters, Filter(), [LetterId(2, 0)])


def test_the_plan_is_what_kafka_reads_and_ends_with_nothing_deleted():
    """The JSON names only partitions that lose something; the last line says what was done."""
    spans = {0: Span(0, 0), 1: Span(3, 6)}
    letters = {0: [], 1: [letter(offset, partition=1) for offset in (3, 4, 5)]}
    cuts = plan_cuts(spans, letters, Filter(), [])
    document = delete_records("m.dead-letters", cuts)
    assert document == {
        "partitions": [{"topic": "m.dead-letters", "partition": 1, "offset": 6}],
        "version": 1,
    }
    told = lines("m.dead-letters", cuts, Settings(), "p.json")
    assert told[0] == "m.dead-letters/0: nothing"
    assert told[1] == "m.dead-letters/1: offsets 3 to 5: 3 model-error"
    assert json.dumps(document, indent=2) in told
    assert told[-1] == "Nothing was deleted."


def test_an_empty_plan_has_no_command():
    """Where nothing could go there is nothing to copy."""
    told = lines(
        "m.dead-letters", plan_cuts({0: Span(0, 0)}, {0: []}, Filter(), []), Settings(), ""
    )
    assert told == ["m.dead-letters/0: nothing", "Nothing was deleted."]


def test_the_command_can_be_copied():
    """Quoted for a shell; a secured broker needs the operator's own login."""
    assert command(Settings(kafka="127.0.0.1:9092"), "a b.json") == (
        "kafka-delete-records.sh --bootstrap-server 127.0.0.1:9092 --offset-json-file 'a b.json'"
    )
    secured = Settings(kafka="k.example:9093", security_protocol="ssl")
    assert command(secured, "p.json").endswith("--command-config client.properties")
