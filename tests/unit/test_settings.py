"""Where settings come from, and what is said of those that cannot be."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.errors import ConfigurationError
from ondemand.settings import (
    ClientSettings,
    Settings,
    WorkerSettings,
    environment_variable,
    load,
    shown_options,
)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `ondemand.toml` of whoever runs the tests counts."""
    monkeypatch.chdir(tmp_path)


def refused(kind: type[Settings] = WorkerSettings, **sources: object) -> str:
    """What is said of settings that cannot be."""
    with pytest.raises(ConfigurationError) as told:
        load(kind, **{"environ": {}, **sources})
    return str(told.value)


def test_without_sources_everything_is_at_its_default() -> None:
    """Nothing need be set, and the source says so."""
    loaded = load(WorkerSettings, environ={})
    assert loaded.settings == WorkerSettings()
    assert {origin.kind for origin in loaded.sources.values()} == {"default"}
    assert set(loaded.sources) == set(WorkerSettings.model_fields)


def test_command_line_then_environment_then_file() -> None:
    """The nearer source wins, field by field, and each value remembers where it came from."""
    Path("ondemand.toml").write_text(
        'kafka = "file:1"\nbatch_rows_max = 3\nlog_level = "error"\n', encoding="utf-8"
    )
    environ = {"ONDEMAND_KAFKA": "environment:1", "ONDEMAND_BATCH_ROWS_MAX": "2"}
    loaded = load(
        WorkerSettings, overrides={"kafka": "option:1", "log_level": None}, environ=environ
    )
    assert loaded.settings.kafka == "option:1"
    assert loaded.settings.batch_rows_max == 2
    assert loaded.settings.log_level == "error"
    assert str(loaded.sources["kafka"]) == "command line"
    assert str(loaded.sources["batch_rows_max"]) == "environment: ONDEMAND_BATCH_ROWS_MAX"
    assert str(loaded.sources["log_level"]) == "file: ondemand.toml: log_level"
    assert str(loaded.sources["http"]) == "default"


def test_a_worker_toml_has_its_settings_in_a_table(tmp_path: Path) -> None:
    """What else a manifest holds is no setting; without the table it sets nothing."""
    path = tmp_path / "worker.toml"
    path.write_text('name = "digits"\n[settings]\nbatch_rows_max = 7\n', encoding="utf-8")
    assert load(WorkerSettings, file=path, environ={}).settings.batch_rows_max == 7
    path.write_text('name = "digits"\n', encoding="utf-8")
    assert load(WorkerSettings, file=path, environ={}).settings == WorkerSettings()


def test_both_sides_share_one_file_and_one_environment() -> None:
    """A worker passes over what only clients know, and the reverse."""
    Path("ondemand.toml").write_text('service = "shop"\nbatch_rows_max = 7\n', encoding="utf-8")
    environ = {"ONDEMAND_TIMEOUT_SECONDS": "2.5", "ONDEMAND_LOG_LEVEL": "debug"}
    worker = load(WorkerSettings, environ=environ).settings
    client = load(ClientSettings, environ=environ).settings
    assert (worker.batch_rows_max, worker.log_level) == (7, "debug")
    assert (client.service, client.timeout_seconds) == ("shop", 2.5)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a=b,c=d", {"a": "b", "c": "d"}),
        ("sasl.jaas.config=x y=z", {"sasl.jaas.config": "x y=z"}),
        ('{"a": "b,c", "d": 1}', {"a": "b,c", "d": "1"}),
        ('{"ssl": {"on": true}}', {"ssl.on": "true"}),
    ],
)
def test_kafka_options_are_written_as_pairs_or_json(text: str, options: dict[str, str]) -> None:
    """Pairs for what is simple, JSON for values with commas."""
    loaded = load(WorkerSettings, environ={"ONDEMAND_KAFKA_OPTIONS": text})
    assert loaded.settings.kafka_options == options


def test_an_option_can_be_given_several_times() -> None:
    """On the command line each `--kafka-option` is a pair, whose value may have commas."""
    overrides = {"kafka_options": ["a=b,c", "d=e"]}
    loaded = load(WorkerSettings, overrides=overrides, environ={})
    assert loaded.settings.kafka_options == {"a": "b,c", "d": "e"}


def test_options_in_a_file_need_no_quotes() -> None:
    """TOML reads a name with dots as tables: they are put together again."""
    Path("ondemand.toml").write_text(
        '[kafka_options]\nsecurity.protocol = "SSL"\nlinger.ms = 5\n', encoding="utf-8"
    )
    options = load(WorkerSettings, environ={}).settings.kafka_options
    assert options == {"security.protocol": "SSL", "linger.ms": "5"}


def test_lists_are_written_with_commas_or_as_json() -> None:
    """A list in the environment is readable, and can hold what has commas."""
    environ = {"ONDEMAND_REPLY_TOPICS": "a.replies, b.replies", "ONDEMAND_DIALECTS": '["spring"]'}
    settings = load(WorkerSettings, environ=environ).settings
    assert settings.reply_topics == ("a.replies", "b.replies")
    assert settings.dialects == ("spring",)


@pytest.mark.parametrize(
    ("sources", "start"),
    [
        (
            {"environ": {"ONDEMAND_BATCH_ROWS_MAX": "abc"}},
            "environment variable ONDEMAND_BATCH_ROWS_MAX='abc': Input should be a valid integer",
        ),
        (
            {"overrides": {"batch_rows_max": 0}},
            "batch_rows_max=0 on the command line: Input should be greater than or equal to 1",
        ),
        (
            {"environ": {"ONDEMAND_KAFKA": "nowhere"}},
            "environment variable ONDEMAND_KAFKA='nowhere': not of the right form. The broker's",
        ),
        (
            {"environ": {"ONDEMAND_DIALECTS": "[oops"}},
            "ONDEMAND_DIALECTS: not JSON",
        ),
        (
            {"file": Path("worker.toml")},
            "worker.toml cannot be read: No such file",
        ),
    ],
)
def test_an_error_names_its_source(sources: dict[str, object], start: str) -> None:
    """Whoever set it wrong reads which option, variable or file to mend."""
    assert refused(**sources).startswith(start)


def test_an_error_in_a_file_names_file_and_key() -> None:
    """As the one before, for `ondemand.toml`."""
    Path("ondemand.toml").write_text('log_level = "loud"\n', encoding="utf-8")
    assert refused().startswith("ondemand.toml: log_level = 'loud': Input should be 'debug'")
    Path("ondemand.toml").write_text("log_level loud\n", encoding="utf-8")
    assert refused().startswith("ondemand.toml is not TOML: ")


def test_a_claim_store_is_a_place_and_nothing_more() -> None:
    """No login in it, no chain of file systems, no way up; and then its limits count."""
    for url in ("file:///srv/claims", "s3://bucket/claims", "memory://x"):
        assert WorkerSettings(claim_store=url).claim_store == url
    for url in ("/srv/claims", "s3://me:secret@bucket", "simplecache::s3://b", "file:///a/../b"):
        with pytest.raises(ConfigurationError, match="claim_store"):
            load(WorkerSettings, overrides={"claim_store": url}, environ={})
    small = {"batch_bytes_max": 2_000_000}
    assert load(WorkerSettings, overrides=small, environ={}).settings.claim_store is None
    told = refused(overrides={**small, "claim_store": "memory://x"})
    assert told.startswith("claim_bytes_max (8000000) must not exceed batch_bytes_max (2000000)")


def test_a_broken_relation_says_both_values_the_reason_and_the_sources() -> None:
    """Two values that do not fit each other may come from two places."""
    told = refused(
        overrides={"batch_bytes_max": 2_000}, environ={"ONDEMAND_REQUEST_BYTES_MAX": "3000"}
    )
    assert told == (
        "request_bytes_max (3000) must not exceed batch_bytes_max (2000): a request that is "
        "accepted must fit a batch (batch_bytes_max from command line, "
        "request_bytes_max from environment: ONDEMAND_REQUEST_BYTES_MAX)"
    )


def test_a_variable_that_nobody_knows_is_refused_with_the_nearest_name() -> None:
    """A typing error must not silently mean the default."""
    told = refused(environ={"ONDEMAND_BATCH_ROW_MAX": "3"})
    assert "ONDEMAND_BATCH_ROW_MAX is not a setting; did you mean ONDEMAND_BATCH_ROWS_MAX?" in told
    Path("ondemand.toml").write_text("batch_row_max = 3\n", encoding="utf-8")
    assert "batch_row_max is not a setting; did you mean batch_rows_max?" in refused()
    Path("ondemand.toml").unlink()
    assert "batch_row_max is not a setting; did" in refused(overrides={"batch_row_max": "3"})


@pytest.mark.parametrize(
    "variable",
    [
        "ONDEMAND_CACHE",
        "ONDEMAND_DEBUG",
        "ONDEMAND_TEST_KAFKA",
        "ONDEMAND_DIGITS_SERVICE_HOST",
        "ONDEMAND_DIGITS_SERVICE_PORT_METRICS",
        "ONDEMAND_DIGITS_PORT",
        "ONDEMAND_DIGITS_PORT_9464_TCP_ADDR",
        "ondemand_kafka",
        "KAFKA",
    ],
)
def test_variables_of_others_are_left_alone(variable: str) -> None:
    """The cache, the tests, and what an orchestrator sets for services are no settings."""
    assert load(WorkerSettings, environ={variable: "x"}).settings == WorkerSettings()


def test_an_empty_variable_counts_as_not_given() -> None:
    """Compose files pass empty variables for what is not set."""
    assert load(WorkerSettings, environ={"ONDEMAND_KAFKA": ""}).sources["kafka"].kind == "default"


def test_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    """The file is looked for beside the file that names it; its last line break does not count."""
    folder = tmp_path / "worker"
    folder.mkdir()
    (folder / "password").write_text("hush\n", encoding="utf-8")
    (folder / "password").chmod(0o600)
    (folder / "worker.toml").write_text(
        '[settings.kafka_options]\nsasl.password = "file:password"\n', encoding="utf-8"
    )
    loaded = load(WorkerSettings, file=folder / "worker.toml", environ={})
    assert loaded.settings.kafka_options == {"sasl.password": "hush"}
    told = refused(overrides={"kafka_options": ["sasl.password=file:password"]})
    assert (
        told == "kafka_options: sasl.password: password cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    "name", ["sasl.password", "ssl.key.pem", "client.secret", "oauth.TOKEN", "sasl.jaas.config"]
)
def test_secrets_are_hidden_by_name(name: str) -> None:
    """Neither the settings' repr nor what is shown to people has them."""
    settings = load(WorkerSettings, environ={"ONDEMAND_KAFKA_OPTIONS": f"{name}=hush"}).settings
    assert "hush" not in repr(settings) + str(settings)
    assert shown_options(settings.kafka_options) == {name: "(hidden)"}


@pytest.mark.parametrize(
    "text",
    ["hush", "a=b,hush", '{"sasl.password": "hush"', '["hush"]', '{"sasl.password": ["hush"]}'],
)
def test_an_error_about_options_shows_no_value(text: str) -> None:
    """A secret that was written wrongly is still a secret."""
    for sources in (
        {"environ": {"ONDEMAND_KAFKA_OPTIONS": text}},
        {"overrides": {"kafka_options": text}},
    ):
        assert "hush" not in refused(**sources)


@given(rows=st.integers(1, 1_024), seconds=st.floats(0.001, 60))
def test_what_is_set_is_what_is_read(rows: int, seconds: float) -> None:
    """Every source gives the same value, whether it is written as text or not."""
    values = {"batch_rows_max": rows, "drain_timeout_seconds": seconds}
    environ = {environment_variable(name): json.dumps(value) for name, value in values.items()}
    from_environment = load(WorkerSettings, environ=environ).settings
    assert from_environment == load(WorkerSettings, overrides=values, environ={}).settings
    assert from_environment.batch_rows_max == rows
    assert from_environment.drain_timeout_seconds == seconds
