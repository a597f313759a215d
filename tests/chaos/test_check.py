"""The checker, on evidence made by hand: it finds each broken promise, and nothing where all is
well."""

from dataclasses import replace

import pytest
from chaos.check import CLOCK_SLACK_MS, Rule, judge
from chaos.controls import Rehearsal
from chaos.counts import counts
from chaos.drive import AT_LEAST_ONCE, EXACTLY_ONCE
from chaos.evidence import Answered, Asked, Buried, Done, Evidence, Sighting
from chaos.load import Kind
from chaos.plan import FULL, Act, Scale, draw
from chaos.recovery import Distribution, delays, recoveries
from chaos.report import Result, document, markdown

REPLY = ("run.replies", 1)
PLAIN = Asked(0, 0, 1_000, b"k", b"a", REPLY, Kind.PLAIN, 7, None, (0.25, 0.75))
OK = Answered("run.replies", 1, 0, 1_100, b"k", b"a", "ok", 7, (0.25, 0.75))
POISON = Asked(0, 1, 1_010, b"k", b"b", REPLY, Kind.POISON, 8, None)
FAILED = Answered("run.replies", 1, 1, 1_110, b"k", b"b", "model-error")
LETTER = Buried(0, 1, 1_120, "model-error")
NOWHERE = Asked(0, 2, 1_020, b"k", None, None, Kind.UNANSWERABLE, 9, None)
LETTER_TOO = Buried(0, 2, 1_130, "unanswerable")

GOOD = Evidence(
    asked=[PLAIN, POISON, NOWHERE],
    answered=[OK, FAILED],
    buried=[LETTER, LETTER_TOO],
    sightings=[Sighting(0, 1, 1_100), Sighting(0, 3, 1_130)],
    done=[Done(Act.KILL, 0, 990, 990)],
    ends={0: 3},
    positions={0: 3},
    acknowledged=3,
    callers={"answered": 2, "OutcomeUnknownError": 1},
    exits={},
    evictions=0,
)
LATER = replace(PLAIN, offset=3, correlation_id=b"c")
DUE = replace(PLAIN, deadline_ms=2_000)

BROKEN = {
    "no reply": ({"answered": [FAILED]}, Rule.MISSING),
    "no dead letter": ({"buried": [LETTER_TOO]}, Rule.MISSING),
    "no trace": ({"buried": [LETTER]}, Rule.MISSING),
    "status": ({"answered": [replace(OK, status="internal"), FAILED]}, Rule.WRONG),
    "number": ({"answered": [replace(OK, number=8), FAILED]}, Rule.WRONG),
    "scores": ({"answered": [replace(OK, scores=(0.3, 0.7)), FAILED]}, Rule.WRONG),
    "no scores": ({"answered": [replace(OK, scores=()), FAILED]}, Rule.WRONG),
    "refused for no deadline": (
        {"answered": [replace(OK, status="deadline-exceeded"), FAILED]},
        Rule.WRONG,
    ),
    "refused before its deadline": (
        {
            "asked": [DUE, POISON, NOWHERE],
            "answered": [replace(OK, status="deadline-exceeded"), FAILED],
        },
        Rule.WRONG,
    ),
    "a dead letter too many": (
        {"buried": [LETTER, LETTER_TOO, Buried(0, 0, 1_120, "internal")]},
        Rule.WRONG,
    ),
    "answered to nobody": ({"answered": [OK, FAILED, replace(FAILED, offset=2)]}, None),
    "two statuses": (
        {"answered": [OK, FAILED, replace(OK, offset=2, status="model-error")]},
        Rule.CONTRADICTION,
    ),
    "another partition": ({"answered": [replace(OK, partition=0), FAILED]}, Rule.MISPLACED),
    "another topic": ({"answered": [replace(OK, topic="x.replies"), FAILED]}, Rule.MISPLACED),
    "another key": ({"answered": [replace(OK, key=b"other"), FAILED]}, Rule.MISPLACED),
    "a reply to nothing": (
        {"answered": [OK, FAILED, replace(OK, correlation_id=b"z")]},
        Rule.STRANGER,
    ),
    "a reply without correlation ID": (
        {"answered": [OK, FAILED, replace(OK, correlation_id=None)]},
        Rule.STRANGER,
    ),
    "a dead letter of nothing": (
        {"buried": [LETTER, LETTER_TOO, Buried(1, 0, 1_120, "internal")]},
        Rule.STRANGER,
    ),
    "committed before the reply": (
        {"sightings": [Sighting(0, 1, OK.time_ms - CLOCK_SLACK_MS - 1)]},
        Rule.EARLY_COMMIT,
    ),
    "committed before the dead letter": (
        {"sightings": [Sighting(0, 2, LETTER.time_ms - CLOCK_SLACK_MS - 1)]},
        Rule.EARLY_COMMIT,
    ),
    "committed past a gap": (
        {"answered": [replace(OK, time_ms=9_000), FAILED]},
        Rule.EARLY_COMMIT,
    ),
    "not committed": ({"positions": {0: 2}}, Rule.UNFINISHED),
    "never committed": ({"positions": {}}, Rule.UNFINISHED),
    "an acknowledged request is gone": ({"acknowledged": 4}, Rule.LOST_REQUEST),
    "a caller was told wrongly": ({"callers": {"wrong: another's answer": 1}}, Rule.CALLER),
}


@pytest.mark.parametrize("guarantee", [AT_LEAST_ONCE, EXACTLY_ONCE])
def test_nothing_is_found_where_all_is_well(guarantee):
    """Every request answered once, in order, and committed afterwards."""
    assert judge(GOOD, guarantee).findings == ()


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_promise_is_found(name):
    """By the rule that it breaks; a mere repetition breaks none, at least once."""
    change, rule = BROKEN[name]
    found = judge(replace(GOOD, **change), AT_LEAST_ONCE)
    assert {finding.rule for finding in found.findings} >= ({rule} if rule else set())
    assert bool(found.findings) is (rule is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"answered": [OK, replace(OK, offset=2), FAILED]},
        {"buried": [LETTER, LETTER, LETTER_TOO]},
        {"answered": [OK, FAILED], "buried": [LETTER, LETTER_TOO, LETTER_TOO]},
    ],
)
def test_a_repetition_is_a_duplicate_exactly_once(change):
    """What is permitted at least once is found exactly once: replies and dead letters."""
    evidence = replace(GOOD, **change)
    assert judge(evidence, AT_LEAST_ONCE).findings == ()
    assert judge(evidence, AT_LEAST_ONCE).repeats == 1
    assert [each.rule for each in judge(evidence, EXACTLY_ONCE).findings] == [Rule.DUPLICATE]


def test_order_is_kept_among_ok_answers_of_one_key():
    """The second of two requests may not be answered first; a refusal may overtake."""
    swapped = replace(
        GOOD,
        asked=[PLAIN, POISON, NOWHERE, LATER],
        answered=[replace(OK, offset=5), FAILED, replace(OK, offset=4, correlation_id=b"c")],
        ends={0: 4},
        positions={0: 4},
    )
    assert [each.rule for each in judge(swapped, EXACTLY_ONCE).findings] == [Rule.DISORDER]
    assert judge(swapped, AT_LEAST_ONCE).overtaken == 1
    assert judge(GOOD, EXACTLY_ONCE).overtaken == 0


def test_a_repetition_after_the_deadline_is_no_contradiction():
    """Between an answer and its repetition time passes; a poisoned one late needs no letter."""
    late = replace(FAILED, offset=2, time_ms=2_500, status="deadline-exceeded")
    due = replace(POISON, deadline_ms=2_000)
    repeated = replace(GOOD, asked=[PLAIN, due, NOWHERE], answered=[OK, FAILED, late])
    assert judge(repeated, AT_LEAST_ONCE).findings == ()
    only_late = replace(
        repeated, answered=[OK, late], buried=[LETTER_TOO], sightings=[Sighting(0, 3, 2_500)]
    )
    assert judge(only_late, EXACTLY_ONCE).findings == ()


def test_recovery_lasts_until_every_partition_has_answered_what_came_later():
    """A blow, then requests to two partitions: the later first answer counts."""
    there = replace(PLAIN, partition=1, correlation_id=b"d", time_ms=1_000)
    evidence = replace(
        GOOD,
        asked=[PLAIN, there],
        answered=[OK, replace(OK, correlation_id=b"d", time_ms=3_990)],
    )
    assert recoveries(evidence)[Act.KILL] == Distribution(1, 3_000, 3_000, 3_000, 3_000)
    assert delays(evidence).max == 2_990
    # Who came before the blow does not show that it is over.
    assert recoveries(replace(evidence, done=[Done(Act.KILL, 0, 1_001, 1_001)])) == {}


def test_what_was_done_too_seldom_is_told():
    """A run is compared with what it owes: the promised counts, or its own smaller plan."""
    full = {each.what: each for each in counts(draw(1, FULL), GOOD)}
    assert [each.required for each in full.values()] == [100_000, 3, 50, 50, 20, 20, 5, 1]
    assert [each.what for each in full.values() if each.enough] == ["workers at every time"]
    small = Scale(seconds=1.0, rate_per_second=3.0, workers=2, kills=1, calm_seconds=0.1)
    assert all(each.enough for each in counts(draw(1, small), GOOD))
    silent = counts(draw(1, small), replace(GOOD, done=[]))
    assert [each.done for each in silent if not each.enough] == [0]


def test_a_report_is_good_only_if_all_is():
    """Nothing found, everything done, every control caught; the headline says what is not so."""
    small = draw(1, Scale(seconds=1.0, rate_per_second=3.0, workers=2, kills=1, calm_seconds=0.1))
    caught = Rehearsal("no-gap-check", Rule.EARLY_COMMIT, {"early-commit": 2})
    passed = replace(caught, findings={"missing": 1})
    whole = Result(AT_LEAST_ONCE, "make chaos", small, GOOD, judge(GOOD, AT_LEAST_ONCE), [caught])
    lost = replace(GOOD, answered=[FAILED])
    for result, good, told in [
        (whole, True, "nothing was found"),
        (replace(whole, controls=[passed]), False, "no-gap-check was not caught"),
        (replace(whole, evidence=replace(GOOD, done=[])), False, "too few: workers killed"),
        (replace(whole, verdict=judge(lost, AT_LEAST_ONCE)), False, "3 findings"),
    ]:
        assert result.good is good
        assert told in markdown(result).splitlines()[0]
        assert document(result)["good"] is good
