"""Topics: their names, who may be answered where, what the broker lacks, what the file may say."""

from pathlib import Path

import pytest

from ondemand import limits
from ondemand.contract.topics import (
    ChangeKind,
    ReplyTopicRule,
    TopicSpec,
    check_name,
    dead_letter_topic,
    load_topics,
    plan,
    reply_topic,
    request_topic,
    worker_group,
)
from ondemand.errors import ConfigurationError

DECLARED = Path(__file__).resolve().parents[3] / "broker" / "topics.toml"


def test_names():
    """Topics and the group are named after the model or the service."""
    assert request_topic("digits") == "digits.requests"
    assert dead_letter_topic("digits") == "digits.dead-letters"
    assert reply_topic("shop") == "shop.replies"
    assert worker_group("digits") == "ondemand.digits"
    assert check_name("0a._-", "model name") == "0a._-"


@pytest.mark.parametrize(
    "name", ["", "A", "-a", ".a", "_a", "a b", "é", "a\n", "x" * 101, "a/b", "a*"]
)
def test_what_is_no_name_is_refused(name):
    """A name is 1 to 100 of a few characters; the message says what it should have been."""
    with pytest.raises(ValueError, match="no model name"):
        request_topic(name)


def test_a_topics_name_must_fit_too():
    """A model's name may be so long that its topic's would be too long: refused."""
    with pytest.raises(ValueError, match="no topic name"):
        dead_letter_topic("x" * 100)


def test_replies_go_to_replies_topics_by_default():
    """The default allow-list is every name that ends in `.replies`."""
    rule = ReplyTopicRule()
    assert rule.allows("shop.replies")
    assert rule.allows("shop.eu.replies")
    for topic in ("shop.requests", "shop-replies", "replies", "shop.replies.x", "xreplies"):
        assert not rule.allows(topic)


def test_the_asterisk_is_the_only_pattern():
    """`*` stands for any characters; all others, `.` and `?` and `[` too, for themselves."""
    rule = ReplyTopicRule(("a.*-x.*", "b[1].replies", "c?"))
    assert rule.allows("a.1-x.y")
    assert rule.allows("a.-x.")
    assert rule.allows("b[1].replies")
    for topic in ("ab1-x.y", "b1.replies", "cd", "a.1-x", "za.1-x.y"):
        assert not rule.allows(topic)
    assert not ReplyTopicRule(()).allows("")


@pytest.mark.parametrize(
    "topic", ["__consumer_offsets", "own.input", "m.requests", "m.dead-letters"]
)
def test_some_topics_are_never_answered_to(topic):
    """Kafka's own topics, denied, request and dead-letter topics: whatever the patterns say."""
    assert not ReplyTopicRule(("*", topic), frozenset({"own.input"})).allows(topic)
    assert ReplyTopicRule(("*",)).allows("anything-else")


def changes(wanted, *present):
    """Kinds and texts of the plan for one topic."""
    found = plan([wanted], {topic.name: topic for topic in present})
    return [(change.kind, change.text) for change in found]


def test_a_topic_that_is_as_it_should_be_is_left_alone():
    """Settings that nobody declared do not matter."""
    wanted = TopicSpec("a", 2, 1, {"retention.ms": "5"})
    assert changes(wanted, TopicSpec("a", 2, 1, {"retention.ms": "5", "x": "y"})) == []


def test_what_is_missing_is_created_and_nothing_else_is_touched():
    """A plan creates, and never mentions topics that nobody declared."""
    ((kind, text),) = changes(TopicSpec("a", 2), TopicSpec("other", 1))
    assert kind is ChangeKind.CREATE
    assert text == "create a with 2 partitions, replication factor 1"


def test_differences_are_mended_or_refused():
    """More partitions and other settings are done; fewer and another replication factor are not."""
    present = TopicSpec("a", 4, 1, {"retention.ms": "5"})
    ((kind, text),) = changes(TopicSpec("a", 8), present)
    assert kind is ChangeKind.ADD_PARTITIONS
    assert "from 4 partitions to 8" in text
    ((kind, text),) = changes(TopicSpec("a", 1), present)
    assert kind is ChangeKind.REFUSED
    assert "has 4 partitions, 1 are declared" in text
    ((kind, text),) = changes(TopicSpec("a", 4, 3), present)
    assert kind is ChangeKind.REFUSED
    assert "replication factor 1, 3 is declared" in text
    ((kind, text),) = changes(TopicSpec("a", 4, 1, {"retention.ms": "6", "x": "y"}), present)
    assert kind is ChangeKind.SET_CONFIG
    assert "retention.ms from 5 to 6" in text
    assert "x from unset to y" in text


def test_all_differences_of_one_topic_are_told():
    """Partitions, replication and settings are told each by itself."""
    kinds = [kind for kind, _ in changes(TopicSpec("a", 8, 3, {"x": "y"}), TopicSpec("a", 4))]
    assert kinds == [ChangeKind.ADD_PARTITIONS, ChangeKind.REFUSED, ChangeKind.SET_CONFIG]


def test_the_declared_topics():
    """`broker/topics.toml` declares what the workers and the demo need."""
    topics = {topic.name: topic for topic in load_topics(DECLARED.read_text("utf-8"))}
    partitions = {name: topic.partitions for name, topic in topics.items()}
    assert partitions == {
        "digits.requests": 4,
        "filetype.requests": 4,
        "digits.dead-letters": 1,
        "filetype.dead-letters": 1,
        "cli.replies": 8,
        "demo.replies": 8,
        "bench.replies": 8,
        "ondemand.workers": 1,
    }
    assert {topic.replication_factor for topic in topics.values()} == {1}


def test_the_declared_sizes_agree_with_the_limits():
    """Requests and replies have what the limits say; a dead letter has room for its reasons."""
    topics = {topic.name: topic for topic in load_topics(DECLARED.read_text("utf-8"))}
    for name in ("digits.requests", "cli.replies"):
        assert topics[name].config["max.message.bytes"] == str(limits.RECORD_BYTES_MAX)
    letters = topics["digits.dead-letters"].config
    added = 2 * limits.HEADER_VALUE_BYTES_MAX
    assert int(letters["max.message.bytes"]) >= limits.RECORD_BYTES_MAX + added
    requests = topics["digits.requests"].config
    assert int(letters["retention.ms"]) > int(requests["retention.ms"])


def test_models_and_services_are_added_once():
    """What the command line names joins what the file lists; order kept, nothing twice."""
    text = 'models = ["a"]\nservices = ["s"]\n'
    found = load_topics(text, models=["b", "a"], services=["s", "t"])
    assert [topic.name for topic in found] == [
        "a.requests",
        "b.requests",
        "a.dead-letters",
        "b.dead-letters",
        "s.replies",
        "t.replies",
        "ondemand.workers",
    ]


def test_the_nearer_setting_wins():
    """A kind's own settings are laid over those for all topics."""
    text = """
        models = ["a"]
        replication_factor = 3
        config = { "x" = 1, "y" = true, "z" = "all" }
        [requests]
        partitions = 7
        config = { "x" = 2 }
        [dead-letters]
        replication_factor = 2
    """
    requests, letters, _ = load_topics(text)
    assert requests == TopicSpec("a.requests", 7, 3, {"x": "2", "y": "true", "z": "all"})
    assert letters == TopicSpec("a.dead-letters", 1, 2, {"x": "1", "y": "true", "z": "all"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = ", "not valid TOML"),
        ("model = ['a']", "unknown key model;"),
        ("[requests]\npartition = 2", "unknown key requests.partition;"),
        ("models = 'a'", "models must be a list"),
        ("models = [1]", "models must be a list"),
        ("models = ['A']", "'A' is no model name"),
        ("requests = 4", "requests must be a table"),
        ("config = 4", "config must be a table"),
        ("replication_factor = 0", "replication_factor must be a whole number from 1"),
        ("replication_factor = true", "replication_factor must be a whole number"),
        ("[replies]\npartitions = '8'", "replies.partitions must be a whole number"),
        ("[replies]\npartitions = 1000000", "replies.partitions must be"),
        ("[config]\nretention.ms = 5", "config.retention must be text"),
        ("[requests.config]\nx = 1.5", "requests.config.x must be text"),
    ],
)
def test_a_wrong_file_is_refused_by_key(text, said):
    """Each message names the key and what was expected."""
    with pytest.raises(ConfigurationError, match="topics file") as caught:
        load_topics(text)
    assert said in str(caught.value)


def test_partitions_where_nothing_is_declared():
    """Without a file a new model gets what ours gets: several workers and instances at once."""
    made = {topic.name: topic.partitions for topic in load_topics("", models=["m"], services=["s"])}

    assert made == {"m.requests": 4, "m.dead-letters": 1, "s.replies": 8, "ondemand.workers": 1}


def test_announcements_are_kept_by_worker_and_not_for_long():
    """Any model brings the topic for announcements, compacted and stamped by the broker, whatever
    all other topics are; a service alone needs none."""
    text = """
        models = ["m"]
        replication_factor = 3
        [config]
        "cleanup.policy" = "delete"
        "max.message.bytes" = 7
        [workers.config]
        "retention.ms" = 60000
    """
    announcements = load_topics(text)[-1]
    assert (announcements.name, announcements.partitions) == ("ondemand.workers", 1)
    assert announcements.replication_factor == 3
    config = announcements.config
    assert config["cleanup.policy"] == "compact,delete"
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert (config["retention.ms"], config["max.message.bytes"]) == ("60000", "7")
    assert [topic.name for topic in load_topics("", services=["s"])] == ["s.replies"]
    with pytest.raises(ConfigurationError, match=r"unknown key workers\.partitions"):
        load_topics('models = ["m"]\n[workers]\npartitions = 2')


def test_nobody_can_be_answered_among_the_announcements():
    """A request must not make a worker write there with its own rights, whatever is allowed."""
    assert not ReplyTopicRule(("*",)).allows("ondemand.workers")
