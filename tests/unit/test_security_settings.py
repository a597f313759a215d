"""How the broker is spoken to: what is meant, what fits together, and what nobody gets to see."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import SecretStr, ValidationError

from ondemand.cli.commands import COMMANDS
from ondemand.cli.root import application
from ondemand.errors import ConfigurationError
from ondemand.settings import ClientSettings, Security, Settings, WorkerSettings, load
from ondemand.settings.secret_files import SECRET_BYTES_MAX, check_private, read_secret
from ondemand.settings.security import SECRETS

CANARY = "canary-hush-7391"

LOGIN = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "shop", "sasl_password": CANARY}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `ondemand.toml` of whoever runs the tests counts."""
    monkeypatch.chdir(tmp_path)


def secret_file(path: Path, text: str = CANARY + "\n", mode: int = 0o600) -> Path:
    """A file with a secret."""
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def refusal(**sources: object) -> str:
    """What is said of settings that cannot be; never the secret."""
    with pytest.raises(ConfigurationError) as told:
        load(Settings, **{"environ": {}, **sources})
    assert CANARY not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("given", "protocol"),
    [
        ({}, "plaintext"),
        ({"ssl_ca_file": "ca.pem"}, "ssl"),
        (LOGIN, "sasl_ssl"),
        ({**LOGIN, "security_protocol": "sasl_plaintext"}, "sasl_plaintext"),
        ({"security_protocol": "ssl"}, "ssl"),
    ],
)
def test_what_is_given_says_which_protocol_is_meant(given: dict[str, str], protocol: str) -> None:
    """`auto` never means less than what is given needs; what is said counts."""
    assert Security(**given).protocol("127.0.0.1:9092,localhost:9093") == protocol


@pytest.mark.parametrize(
    "address", ["kafka.example:9092", "kafka:9092", "10.0.0.7:9092", "127.0.0.1:1,192.168.1.9:1"]
)
def test_plain_text_to_another_computer_has_to_be_said(address: str) -> None:
    """Nobody sends requests readable through a network by forgetting a setting; a short name may
    lead anywhere too."""
    with pytest.raises(ConfigurationError, match="set security_protocol to ssl or sasl_ssl"):
        Security().protocol(address)
    assert Security(security_protocol="plaintext").protocol(address) == "plaintext"
    assert Security(ssl_ca_file="ca.pem").protocol(address) == "ssl"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sasl_username": "shop"}, "sasl_mechanism is missing"),
        ({"security_protocol": "sasl_ssl"}, "sasl_mechanism is missing"),
        ({"sasl_mechanism": "PLAIN", "sasl_username": "shop"}, "sasl_password is missing"),
        ({"sasl_mechanism": "OAUTHBEARER"}, "sasl_token_file is missing"),
        (
            {**LOGIN, "sasl_token_file": "token"},
            "sasl_token_file has no use with sasl_mechanism SCRAM-SHA-512",
        ),
        ({**LOGIN, "security_protocol": "ssl"}, "no use with security_protocol ssl"),
        (
            {"ssl_ca_file": "ca.pem", "security_protocol": "plaintext"},
            "ssl_ca_file has no use with security_protocol plaintext",
        ),
        ({"ssl_key_file": "key.pem"}, "belong together"),
        ({"ssl_key_password": CANARY}, "ssl_key_password has no use without ssl_key_file"),
    ],
)
def test_settings_of_security_fit_together(given: dict[str, str], said: str) -> None:
    """A password that nobody asks for is a misunderstanding, found before anything is sent."""
    with pytest.raises(ValidationError, match=said) as told:
        Security(**given)
    assert CANARY not in str(told.value)


def test_a_misfit_names_where_its_parts_come_from() -> None:
    """Two settings that do not fit may come from two places."""
    told = refusal(
        overrides={"security_protocol": "plaintext"}, environ={"ONDEMAND_SSL_CA_FILE": "ca.pem"}
    )
    assert "security_protocol from command line" in told
    assert "ssl_ca_file from environment: ONDEMAND_SSL_CA_FILE" in told


@pytest.mark.parametrize("kind", [Settings, WorkerSettings, ClientSettings])
def test_nothing_shows_a_secret(kind: type[Settings]) -> None:
    """Not the repr, not the text, not a dump of the settings."""
    settings = kind(**LOGIN)
    assert settings.sasl_password == SecretStr(CANARY)
    shown = repr(settings) + str(settings) + str(settings.model_dump()) + settings.model_dump_json()
    assert CANARY not in shown


def test_a_secret_comes_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    """As it is, or `file:PATH`; the line break that editors add does not count."""
    path = secret_file(tmp_path / "password")
    for text in (CANARY, f"file:{path}"):
        environ = {
            "ONDEMAND_SASL_MECHANISM": "PLAIN",
            "ONDEMAND_SASL_USERNAME": "shop",
            "ONDEMAND_SASL_PASSWORD": text,
        }
        password = load(Settings, environ=environ).settings.sasl_password
        assert password == SecretStr(CANARY)


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    """A worker folder holds its settings and what they name, wherever it is mounted."""
    folder = tmp_path / "worker"
    folder.mkdir()
    secret_file(folder / "password")
    (folder / "worker.toml").write_text(
        '[settings]\nssl_ca_file = "ca.pem"\nsasl_mechanism = "PLAIN"\nsasl_username = "shop"\n'
        'sasl_password = "file:password"\n',
        encoding="utf-8",
    )
    settings = load(WorkerSettings, file=folder / "worker.toml", environ={}).settings
    assert settings.ssl_ca_file == folder / "ca.pem"
    assert settings.sasl_password == SecretStr(CANARY)


def test_a_secret_in_a_file_of_settings_is_refused() -> None:
    """Such files are committed, mounted, copied and shown."""
    Path("ondemand.toml").write_text(f'sasl_password = "{CANARY}"\n', encoding="utf-8")
    assert "a secret must not be in a file of settings" in refusal()


@pytest.mark.parametrize(
    "overrides",
    [
        {"sasl_password": CANARY},
        {"ssl_key_password": CANARY},
        {"kafka_options": [f"ssl.keystore.password={CANARY}"]},
    ],
)
def test_a_secret_on_the_command_line_is_refused(overrides: dict[str, object]) -> None:
    """Every process on a computer reads every other's arguments."""
    assert "must not be on a command line" in refusal(overrides=overrides)


def test_a_secret_of_the_wrong_type_is_not_shown() -> None:
    """A secret that was written wrongly is still a secret."""
    Path("ondemand.toml").write_text("sasl_password = 7391\n", encoding="utf-8")
    assert "7391" not in refusal()


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666, 0o602])
def test_a_file_that_everybody_may_read_or_change_is_no_secret(tmp_path: Path, mode: int) -> None:
    """Its owner and its group may: orchestrators give mounted secrets to a group."""
    path = secret_file(tmp_path / "password", mode=mode)
    with pytest.raises(ConfigurationError, match="chmod o-rwx") as told:
        read_secret(path, "sasl_password")
    assert CANARY not in str(told.value)
    path.chmod(0o440)
    assert read_secret(path, "sasl_password") == CANARY


@pytest.mark.parametrize("text", ["", "\n", "x" * (SECRET_BYTES_MAX + 1)])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, text: str) -> None:
    """An empty password is a mistake, and so is a file that is no password at all."""
    with pytest.raises(ConfigurationError, match="should hold the secret alone"):
        read_secret(secret_file(tmp_path / "password", text), "sasl_password")


def test_a_secret_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Which setting, which file, and why."""
    with pytest.raises(ConfigurationError, match=r"sasl_password: .*gone cannot be read: No such"):
        check_private(tmp_path / "gone", "sasl_password")


def options_of(command: Any) -> Iterator[str]:
    """Every option of a command and of those below it."""
    for parameter in command.params:
        yield from parameter.opts
    for inner in getattr(command, "commands", {}).values():
        yield from options_of(inner)


def test_no_command_has_an_option_for_a_secret() -> None:
    """What does not exist cannot be written into a shell's history."""
    said = {
        option
        for command in COMMANDS
        for option in options_of(typer.main.get_command(application(command)))
    }
    assert "--kafka" in said
    forbidden = {name.replace("_", "-") for name in SECRETS} | {"password", "secret", "token"}
    assert not [option for option in said if any(word in option for word in forbidden)]
