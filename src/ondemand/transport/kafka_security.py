"""What the settings of security mean to Kafka's clients: librdkafka's options, tokens, refusals."""

import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ondemand.settings import Security
from ondemand.settings.secret_files import check_private, read_secret

OPAQUE_TOKEN_SECONDS: Final = 60.0
"""How soon a token is read anew that does not say when it expires."""

_BROKER: Final = re.compile(r"\w+://\S+")  # how librdkafka names a broker, with the protocol
_USE: Final = "use the setting `{}`"
_ALWAYS: Final = "the broker's certificate, and that it is for this host, are always checked"

PROTECTED_LIBRDKAFKA: Final[Mapping[str, str]] = {
    "security.protocol": _USE.format("security_protocol"),
    "ssl.ca.location": _USE.format("ssl_ca_file"),
    "ssl.ca.pem": _USE.format("ssl_ca_file"),
    "ssl_ca": _USE.format("ssl_ca_file"),
    "ssl.certificate.location": _USE.format("ssl_certificate_file"),
    "ssl.certificate.pem": _USE.format("ssl_certificate_file"),
    "ssl_certificate": _USE.format("ssl_certificate_file"),
    "ssl.key.location": _USE.format("ssl_key_file"),
    "ssl.key.pem": _USE.format("ssl_key_file"),
    "ssl_key": _USE.format("ssl_key_file"),
    "ssl.key.password": _USE.format("ssl_key_password"),
    "ssl.keystore.location": _USE.format("ssl_certificate_file"),
    "ssl.keystore.password": _USE.format("ssl_key_password"),
    "ssl.endpoint.identification.algorithm": _ALWAYS,
    "enable.ssl.certificate.verification": _ALWAYS,
    "sasl.mechanism": _USE.format("sasl_mechanism"),
    "sasl.mechanisms": _USE.format("sasl_mechanism"),
    "sasl.username": _USE.format("sasl_username"),
    "sasl.password": _USE.format("sasl_password"),
    "sasl.oauthbearer.config": _USE.format("sasl_token_file"),
    "sasl.oauthbearer.method": _USE.format("sasl_token_file"),
    "enable.sasl.oauthbearer.unsecure.jwt": _USE.format("sasl_token_file"),
}
"""librdkafka's options that would pass over the settings of security."""


class Token(NamedTuple):
    """A token for OAUTHBEARER. *expires_at*: seconds since the epoch."""

    text: str
    expires_at: float


def read_token(security: Security, now: Callable[[], float] = time.time) -> Token:
    """The token as it lies in its file now. Raises ``ConfigurationError`` where there is none."""
    if security.sasl_token_file is None:  # the settings would not have been accepted
        raise ValueError("OAUTHBEARER without a token file")
    text = read_secret(security.sasl_token_file, "sasl_token_file").strip()
    return Token(text, _expiry(text) or now() + OPAQUE_TOKEN_SECONDS)


def librdkafka_options(security: Security, kafka: str) -> dict[str, Any]:
    """The options that make librdkafka speak to *kafka* as *security* says.

    TLS below 1.2 is refused by the OpenSSL that librdkafka is built with, at its default level.
    Raises ``ConfigurationError`` where that cannot be: see ``Security.protocol``, and a key or a
    token that everybody may read.
    """
    protocol = security.protocol(kafka)
    options: dict[str, Any] = {"security.protocol": protocol}
    if protocol in {"ssl", "sasl_ssl"}:
        options |= _tls_options(security)
    if security.sasl_token_file is not None:
        read_token(security)  # a missing one is told now, not at the first refresh
        options["sasl.mechanism"] = security.sasl_mechanism
        options["oauth_cb"] = lambda _: tuple(read_token(security))
    elif security.sasl_password is not None:
        options["sasl.mechanism"] = security.sasl_mechanism
        options["sasl.username"] = security.sasl_username
        options["sasl.password"] = security.sasl_password.get_secret_value()
    return options


def unreachable(kafka: str, timeout_seconds: float, reason: str) -> str:
    """What to say where no broker has let us in; *reason*: the last that the library said."""
    reason = " ".join(reason.split())
    where = f"the Kafka at {kafka}"
    if "authorization" in reason.lower():
        return (
            f"{where} knows this login and gives it no right to work there ({reason}): give it the "
            "rights that docs/security.md lists"
        )
    if _is_login(reason):
        return (
            f"{where} does not accept the login ({reason}): check sasl_mechanism, sasl_username "
            "and sasl_password, or the token in sasl_token_file"
        )
    if _is_tls(reason):
        return (
            f"there is no trusted connection to {where} ({reason}): check that it speaks TLS there,"
            " that ssl_ca_file leads to its certificate, which must be valid and for this host, "
            "and that ssl_certificate_file is there if it asks for one"
        )
    if "closed" in reason or "disconnected" in reason.lower():
        return (
            f"{where} hangs up without an answer ({reason}): check that security_protocol is what "
            "it speaks there, and that ssl_certificate_file is there if it asks for one"
        )
    said = f" (the last error: {reason})" if reason else ""
    return (
        f"no Kafka answers at {kafka} within {timeout_seconds:g} s{said}: is "
        "it running? Start one with `ondemand kafka start`, or set --kafka"
    )


def _tls_options(security: Security) -> dict[str, Any]:
    options: dict[str, Any] = {
        "ssl.endpoint.identification.algorithm": "https",
        "enable.ssl.certificate.verification": True,
    }
    if security.ssl_ca_file is not None:
        options["ssl.ca.location"] = str(security.ssl_ca_file)
    if security.ssl_certificate_file is not None and security.ssl_key_file is not None:
        check_private(security.ssl_key_file, "ssl_key_file")
        options["ssl.certificate.location"] = str(security.ssl_certificate_file)
        options["ssl.key.location"] = str(security.ssl_key_file)
    if security.ssl_key_password is not None:
        options["ssl.key.password"] = security.ssl_key_password.get_secret_value()
    return options


def _is_login(reason: str) -> bool:
    text = _BROKER.sub("", reason.lower())
    return "authentication" in text or "sasl" in text


def _is_tls(reason: str) -> bool:
    text = _BROKER.sub("", reason.lower())
    return any(sign in text for sign in ("ssl", "certificate", "tls"))


def _expiry(token: str) -> float | None:
    """When a JSON web token says that it expires; None for any other. Nothing is verified here:
    the broker does that."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None
