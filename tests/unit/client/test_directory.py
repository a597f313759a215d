"""Who counts as alive: by announcements, silence and farewells, in time that is an argument."""

from dataclasses import replace

from unit.contract.test_announcement import ME

from ondemand import limits
from ondemand.client.directory import Directory
from ondemand.contract.announcement import announcement_record, leaving_record
from ondemand.contract.record import Record

TOPIC = "digits.requests"
OTHER = replace(ME, instance="other-1", rate_per_second=10.0)


def said(announcement):
    """The record in which a worker says so."""
    return read(announcement_record(announcement))


def left(announcement):
    """The record in which a worker takes it back."""
    return read(leaving_record(announcement))


def read(outgoing):
    return Record(outgoing.topic, 0, 0, outgoing.key, outgoing.value, outgoing.headers, 0)


def test_a_worker_is_alive_until_three_intervals_of_silence():
    """Each announcement counts anew; after 15 s of silence at 5 s an interval it is gone."""
    directory = Directory()
    assert not directory.serves(TOPIC)
    assert directory.silent_seconds(TOPIC) is None
    assert directory.hear(said(ME)) == TOPIC
    directory.advance(10)
    directory.hear(said(ME))
    directory.advance(14.75)
    assert directory.serves(TOPIC)
    assert [each.heard_seconds_ago for each in directory.alive(TOPIC)] == [14.75]
    directory.advance(0.5)
    assert not directory.serves(TOPIC)
    assert directory.alive() == []
    assert directory.silent_seconds(TOPIC) == 15.25


def test_silence_counts_only_while_the_broker_is_heard():
    """An outage, or a process that was stopped, makes nobody go."""
    directory = Directory()
    directory.hear(said(ME))
    assert directory.serves(TOPIC)  # an hour without `advance` is an hour without listening


def test_who_says_goodbye_is_gone_at_once():
    """And only that one: the model is served as long as another worker is there."""
    directory = Directory()
    directory.hear(said(ME))
    directory.hear(said(OTHER))
    assert directory.hear(left(ME)) is None
    assert directory.serves(TOPIC)
    assert [each.announcement.instance for each in directory.alive(TOPIC)] == ["other-1"]
    directory.hear(left(OTHER))
    assert not directory.serves(TOPIC)
    directory.advance(12)
    assert directory.silent_seconds(TOPIC) == 12


def test_an_old_announcement_is_as_old_as_it_is():
    """What is read at the start may be of somebody who died long ago."""
    directory = Directory()
    assert directory.hear(said(ME), age_seconds=16) is None
    assert not directory.serves(TOPIC)
    assert directory.silent_seconds(TOPIC) == 16
    assert directory.hear(said(ME), age_seconds=-3) == TOPIC, "a clock that is ahead: just now"


def test_a_farewell_alone_tells_when_somebody_was_there():
    """Compaction leaves no more than that of a worker that has left."""
    directory = Directory()
    directory.hear(left(ME), age_seconds=40)
    assert directory.silent_seconds(TOPIC) == 40
    directory.hear(read(leaving_record(replace(ME, model="No Name"))))  # and breaks nothing


def test_a_worker_is_found_by_the_topic_that_it_reads():
    """Settings may name another topic than the model's own: callers ask by topic."""
    directory = Directory()
    directory.hear(said(replace(ME, topic="elsewhere.requests")))
    assert directory.serves("elsewhere.requests")
    assert not directory.serves(TOPIC)


def test_nobody_speaks_for_another():
    """The key is what compaction and farewells go by: a value under a foreign key counts not."""
    directory = Directory()
    assert directory.hear(said(ME)._replace(key=b"digits/somebody-else")) is None
    assert directory.hear(said(ME)._replace(value=b"{}")) is None
    assert not directory.serves(TOPIC)


def test_memory_is_bounded():
    """However many workers came and went, those of long ago make room; a flood finds none."""
    directory = Directory()
    for number in range(limits.ANNOUNCED_WORKERS_MAX):
        directory.hear(said(replace(ME, instance=str(number))))
    assert directory.hear(said(replace(ME, instance="one too many"))) is None
    directory.advance(16)
    assert directory.hear(said(replace(ME, instance="next"))) == TOPIC
    assert len(directory.alive()) == 1


def test_bytes_are_bounded(monkeypatch):
    """A few who say very much take no more memory than many; what was replaced or left is free."""
    monkeypatch.setattr(limits, "ANNOUNCED_BYTES_MAX", 2 * len(said(ME).value) + 10)
    directory = Directory()
    for _ in range(5):
        assert directory.hear(said(ME)) == TOPIC, "its own last word is replaced"
    assert directory.hear(said(replace(ME, instance="second"))) == TOPIC
    third = replace(ME, instance="third")
    assert directory.hear(said(third)) is None
    directory.hear(left(ME))
    assert directory.hear(said(third)) == TOPIC
