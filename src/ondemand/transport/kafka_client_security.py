"""What the settings of security mean to aiokafka, and why a broker does not let us in."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import AuthenticationFailedError, KafkaError, NoError, for_code
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from ondemand.errors import ConfigurationError
from ondemand.settings import Security
from ondemand.settings.secret_files import check_private
from ondemand.transport.kafka_security import read_token

MINUTE_MS: Final = 60_000
CLOSE_SECONDS: Final = 1.0
_USE: Final = "use the setting `{}`"

PROTECTED_AIOKAFKA: Final[Mapping[str, str]] = {
    "security_protocol": _USE.format("security_protocol"),
    "ssl_context": _USE.format("ssl_ca_file"),
    "sasl_mechanism": _USE.format("sasl_mechanism"),
    "sasl_plain_username": _USE.format("sasl_username"),
    "sasl_plain_password": _USE.format("sasl_password"),
    "sasl_oauth_token_provider": _USE.format("sasl_token_file"),
}
"""aiokafka's options that would pass over the settings of security."""


def aiokafka_options(security: Security, kafka: str) -> dict[str, Any]:
    """The keyword arguments that make aiokafka speak to *kafka* as *security* says.

    Files are read at each call, so that a renewed certificate is used from the next connection on.
    Raises ``ConfigurationError`` for files that cannot be used: see ``Security.protocol`` too.
    """
    protocol = security.protocol(kafka)
    options: dict[str, Any] = {"security_protocol": protocol.upper()}
    if protocol in {"ssl", "sasl_ssl"}:
        options["ssl_context"] = _context(security)
    if security.sasl_mechanism is not None:
        options["sasl_mechanism"] = security.sasl_mechanism
    if security.sasl_token_file is not None:
        read_token(security)  # a missing one is told now, not at the first connection
        options["sasl_oauth_token_provider"] = _TokenFile(security)
    elif security.sasl_password is not None:
        options["sasl_plain_username"] = security.sasl_username
        options["sasl_plain_password"] = security.sasl_password.get_secret_value()
    return options


async def why_refused(kafka: str, client_id: str, security: Mapping[str, Any]) -> str:
    """What the first broker that answers says against us; empty where none does or all is well.

    aiokafka logs it and forgets it. *security*: what ``aiokafka_options`` gave.
    """
    for address in kafka.split(","):
        host, _, port = address.rpartition(":")
        try:
            return await _said_by(host, int(port), client_id, security)
        except ConnectionRefusedError:
            continue
        except (KafkaError, OSError) as error:
            return f"{type(error).__name__}: {error}"
    return ""


async def _said_by(host: str, port: int, client_id: str, security: Mapping[str, Any]) -> str:
    connection = AIOKafkaConnection(host, port, client_id=client_id, **security)
    made = True
    try:
        await connection.connect()
        known = await connection.send(MetadataRequest([], allow_auto_topic_creation=False))
        if not known.brokers:  # a refusal of a token that aiokafka took for success
            return "authentication failed: the broker names no broker to us"
        identity = await connection.send(
            InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=MINUTE_MS)
        )
    except OSError:
        made = False  # then nobody tells of its end
        raise
    finally:
        closed = connection.close()
        if made:  # TLS says goodbye first
            await asyncio.wait({closed}, timeout=CLOSE_SECONDS)
    refusal = for_code(identity.error_code)
    return "" if refusal is NoError else f"{refusal.__name__}: this login may not write any topic"


class _TokenFile(AbstractTokenProvider):  # type: ignore[misc] # aiokafka says no types
    """Read for each new connection: whoever renews the token replaces the file."""

    def __init__(self, security: Security) -> None:
        self._security = security

    async def token(self) -> str:
        """The token as it lies there now."""
        try:
            return read_token(self._security).text
        except ConfigurationError as error:
            # What aiokafka knows is tried again; anything else would end its tasks.
            raise AuthenticationFailedError(str(error)) from error


def _context(security: Security) -> ssl.SSLContext:
    """TLS of 1.2 or newer; the broker's certificate and its host are always checked."""
    try:
        context = ssl.create_default_context(
            ssl.Purpose.SERVER_AUTH, cafile=_text(security.ssl_ca_file)
        )
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if security.ssl_certificate_file is not None and security.ssl_key_file is not None:
            check_private(security.ssl_key_file, "ssl_key_file")
            context.load_cert_chain(
                security.ssl_certificate_file, security.ssl_key_file, _key_password(security)
            )
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the files of ssl_ca_file, ssl_certificate_file and ssl_key_file cannot be used: "
            f"{error}"
        ) from error
    return context


def _key_password(security: Security) -> Any:
    """The key's password, asked for only where the key has one."""

    def password() -> str:
        if security.ssl_key_password is None:  # otherwise OpenSSL would ask at the terminal
            raise ValueError("the key is encrypted, and ssl_key_password is not set")
        return security.ssl_key_password.get_secret_value()

    return password


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
