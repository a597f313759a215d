"""What the settings of security mean to each client library, and what refusals are called."""

import base64
import json
import socket
import ssl
import threading
from pathlib import Path

import pytest
from certificates import Authority, Identity
from confluent_kafka import Producer

from ondemand.errors import ConfigurationError
from ondemand.settings import Security
from ondemand.transport.kafka_client_config import ClientAddress
from ondemand.transport.kafka_client_security import aiokafka_options, why_refused
from ondemand.transport.kafka_security import (
    OPAQUE_TOKEN_SECONDS,
    librdkafka_options,
    read_token,
    unreachable,
)
from ondemand.transport.kafka_worker_config import PROTECTED, KafkaAddress, log

HERE = "127.0.0.1:9092"
CANARY = "canary-hush-7391"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs certificates for these tests."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def encrypted(authority: Authority) -> Identity:
    """A certificate whose key needs a password."""
    return authority.identity("encrypted", password=CANARY.encode())


def login(**given: object) -> Security:
    """Security with a password."""
    return Security(
        sasl_mechanism="SCRAM-SHA-512", sasl_username="shop", sasl_password=CANARY, **given
    )


def test_both_libraries_are_told_the_same(authority: Authority) -> None:
    """One set of settings, two libraries, one meaning."""
    security = login(ssl_ca_file=authority.certificate)
    worker = librdkafka_options(security, HERE)
    client = aiokafka_options(security, HERE)
    assert worker["security.protocol"].upper() == client["security_protocol"] == "SASL_SSL"
    assert worker["sasl.mechanism"] == client["sasl_mechanism"] == "SCRAM-SHA-512"
    assert worker["sasl.username"] == client["sasl_plain_username"] == "shop"
    assert worker["sasl.password"] == client["sasl_plain_password"] == CANARY
    Producer(worker)  # knows every option


def test_the_host_is_always_checked(authority: Authority) -> None:
    """There is no setting, and no option of a library, that passes over it."""
    security = Security(ssl_ca_file=authority.certificate)
    worker = librdkafka_options(security, HERE)
    assert worker["ssl.endpoint.identification.algorithm"] == "https"
    assert worker["enable.ssl.certificate.verification"] is True
    context = aiokafka_options(security, HERE)["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    "name", [name for name in PROTECTED if name.startswith(("ssl", "sasl", "security", "enable.s"))]
)
def test_options_cannot_pass_over_the_settings(name: str) -> None:
    """What security depends on has one place; the refusal names it."""
    with pytest.raises(ConfigurationError, match=r"use the setting|always checked"):
        KafkaAddress(HERE, "test", 1.0, {name: "x"})


def test_aiokafka_options_cannot_pass_over_the_settings() -> None:
    """As for librdkafka."""
    for name in ("security_protocol", "ssl_context", "sasl_plain_password"):
        with pytest.raises(ConfigurationError, match="use the setting"):
            ClientAddress(HERE, "test", 1.0, "read_committed", {name: "x"})


def test_addresses_do_not_show_what_they_hold() -> None:
    """What is logged or raised with an address in it has no secret in it."""
    worker = KafkaAddress(HERE, "test", 1.0, {"x": CANARY}, login())
    client = ClientAddress(HERE, "test", 1.0, "read_committed", {"client_rack": CANARY}, login())
    assert CANARY not in repr(worker) + repr(client)


def test_plain_text_to_another_computer_is_refused_by_both() -> None:
    """Before any connection is tried."""
    for make in (
        lambda: KafkaAddress("kafka.example:9092", "test", 1.0, {}),
        lambda: ClientAddress("kafka.example:9092", "test", 1.0, "read_committed", {}),
    ):
        with pytest.raises(ConfigurationError, match="not on this computer"):
            make()


def test_a_key_that_everybody_may_read_is_refused(authority: Authority) -> None:
    """By both libraries' mappings."""
    mine = authority.identity("open")
    mine.key.chmod(0o644)
    security = Security(ssl_certificate_file=mine.certificate, ssl_key_file=mine.key)
    for mapping in (librdkafka_options, aiokafka_options):
        with pytest.raises(ConfigurationError, match=r"ssl_key_file: .* can be read"):
            mapping(security, HERE)


def test_an_encrypted_key_is_opened_with_its_password(encrypted: Identity) -> None:
    """And where there is none, nobody is asked at a terminal: it is said."""
    files = {"ssl_certificate_file": encrypted.certificate, "ssl_key_file": encrypted.key}
    aiokafka_options(Security(**files, ssl_key_password=CANARY), HERE)
    Producer(librdkafka_options(Security(**files, ssl_key_password=CANARY), HERE))
    with pytest.raises(ConfigurationError, match="ssl_key_password is not set"):
        aiokafka_options(Security(**files), HERE)
    with pytest.raises(ConfigurationError, match="cannot be used") as told:
        aiokafka_options(Security(**files, ssl_key_password="wrong" + CANARY), HERE)
    assert CANARY not in str(told.value)


def token_security(path: Path, text: str) -> Security:
    """Security with a token in a file."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return Security(sasl_mechanism="OAUTHBEARER", sasl_token_file=path)


def web_token(claims: object) -> str:
    """A JSON web token with these claims; nobody here looks at its signature."""
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{middle}.c2ln"


def test_a_token_is_read_anew_each_time(tmp_path: Path) -> None:
    """Who renews it replaces the file, and both libraries get the new one."""
    security = token_security(tmp_path / "token", web_token({"exp": 5_000}) + "\n")
    refresh = librdkafka_options(security, HERE)["oauth_cb"]
    assert refresh("") == (web_token({"exp": 5_000}), 5_000.0)
    token_security(tmp_path / "token", web_token({"exp": 9_000}))
    assert refresh("") == (web_token({"exp": 9_000}), 9_000.0)


@pytest.mark.parametrize(
    "text", ["opaque", "a.b.c", web_token({}), web_token([]), web_token({"exp": "soon"})]
)
def test_a_token_that_does_not_say_when_it_expires_is_read_often(tmp_path: Path, text: str) -> None:
    """What cannot be known is not guessed to be long."""
    token = read_token(token_security(tmp_path / "token", text), now=lambda: 100.0)
    assert token == (text, 100.0 + OPAQUE_TOKEN_SECONDS)


def test_a_missing_token_is_told_before_anything_connects(tmp_path: Path) -> None:
    """By both mappings."""
    security = Security(sasl_mechanism="OAUTHBEARER", sasl_token_file=tmp_path / "gone")
    for mapping in (librdkafka_options, aiokafka_options):
        with pytest.raises(ConfigurationError, match=r"sasl_token_file: .*gone cannot be read"):
            mapping(security, HERE)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("", "is it running?"),
        ("sasl_ssl://h:1: Connect to ipv4#1.2.3.4:1 failed: Connection refused", "is it running?"),
        ("SASL authentication error: Authentication failed", "does not accept the login"),
        ("AuthenticationFailedError: [Error 58]", "does not accept the login"),
        ("ssl://h:1: SSL handshake failed: certificate\nverify failed", "no trusted connection"),
        ("ClusterAuthorizationFailed: this login may not write", "gives it no right"),
        ("KafkaConnectionError: Connection at h:1 closed", "hangs up without an answer"),
        ("SSLCertVerificationError: certificate has expired", "no trusted connection"),
    ],
)
def test_a_refusal_is_called_by_its_name(reason: str, said: str) -> None:
    """One line that says what is wrong and which settings to look at."""
    told = unreachable(HERE, 2.0, reason)
    assert said in told
    assert "\n" not in told


def old_server(identity: Identity) -> tuple[socket.socket, list[str]]:
    """A TLS server that knows nothing newer than 1.1, and what became of who came."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    listener = socket.create_server(("127.0.0.1", 0))
    outcomes: list[str] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(connection, server_side=True).close()
                outcomes.append("shaken hands")
            except OSError as error:
                outcomes.append(str(error))
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener, outcomes


async def test_nothing_older_than_tls_1_2_is_spoken(authority: Authority) -> None:
    """A broker that knows only 1.1 is refused by both libraries."""
    listener, outcomes = old_server(authority.identity("old"))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    security = Security(ssl_ca_file=authority.certificate)
    with listener:
        assert "SSL" in await why_refused(address, "test", aiokafka_options(security, address))
        said: list[str] = []
        options = librdkafka_options(security, address)
        producer = Producer(
            {
                **options,
                "bootstrap.servers": address,
                "error_cb": lambda error: said.append(error.str()),
            },
            logger=log,
        )
        for _ in range(50):
            producer.poll(0.1)
            if any("SSL" in text for text in said):
                break
    assert any("SSL" in text for text in said), said
    assert "shaken hands" not in outcomes
