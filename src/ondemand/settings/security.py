"""How the broker is spoken to: encrypted or not, and as whom. Settings of both sides.

Which protocol is meant is decided here once, for both client libraries (``Security.protocol``).
Secrets are ``SecretStr``: what shows settings, on purpose or not, cannot show them.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from ondemand.errors import ConfigurationError

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]

TOKEN_MECHANISM: Final = "OAUTHBEARER"  # noqa: S105 - a mechanism's name
_SECRET_FORM: Final = "In the environment, or `file:PATH`; never on a command line."  # noqa: S105


class Security(BaseModel):
    """TLS and SASL, as both client libraries need them."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    security_protocol: Literal["auto", Protocol] = Field(
        default="auto",
        description="`auto` is `sasl_ssl` where a `sasl_` setting is given, `ssl` where an `ssl_` "
        "setting is, and otherwise `plaintext`, but only to this computer itself. Without "
        "encryption to any other (`plaintext`, `sasl_plaintext`) has to be said.",
    )
    ssl_ca_file: Path | None = Field(
        default=None,
        description="The certificates that the broker's must lead to, PEM; by default the "
        "system's. The broker's certificate must be for the host that is connected to: there is "
        "no option to pass over that.",
    )
    ssl_certificate_file: Path | None = Field(
        default=None,
        description="This side's own certificate and what it leads to, PEM, where the broker asks "
        "for one (mTLS).",
    )
    ssl_key_file: Path | None = Field(
        default=None,
        description="The key of `ssl_certificate_file`, PEM. Refused where everybody on the "
        "computer may read it.",
    )
    ssl_key_password: SecretStr | None = Field(
        default=None, description=f"What `ssl_key_file` is encrypted with. {_SECRET_FORM}"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = (
        Field(
            default=None,
            description="How this side proves who it is: by `sasl_username` and `sasl_password`, "
            "or with OAUTHBEARER by `sasl_token_file`.",
        )
    )
    sasl_username: str | None = Field(default=None, min_length=1, description="As whom.")
    sasl_password: SecretStr | None = Field(
        default=None, description=f"The password of `sasl_username`. {_SECRET_FORM}"
    )
    sasl_token_file: Path | None = Field(
        default=None,
        description="Where the token for OAUTHBEARER lies. It is read anew before the old one "
        "expires, so whoever renews it only replaces the file.",
    )

    def protocol(self, kafka: str) -> Protocol:
        """What ``security_protocol`` means for the broker at *kafka*, ``HOST:PORT[,…]``.

        Raises ``ConfigurationError`` where it would be plain text to another computer, and nobody
        has said so.
        """
        if self.security_protocol != "auto":
            return self.security_protocol
        if self._given("sasl_"):
            return "sasl_ssl"
        if self._given("ssl_"):
            return "ssl"
        remote = [address for address in kafka.split(",") if not _is_this_computer(address)]
        if remote:
            raise ConfigurationError(
                f"the Kafka at {', '.join(remote)} is not on this computer, and nothing says how "
                "to speak to it: set security_protocol to ssl or sasl_ssl; or to plaintext, if "
                "everybody in the network between may read and change all requests and replies"
            )
        return "plaintext"

    @model_validator(mode="after")
    def _fit(self) -> "Security":
        """What is given must be used: a password that nobody asks for is a misunderstanding."""
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> list[str]:
        told = []
        protocol = self.security_protocol
        if protocol in {"plaintext", "sasl_plaintext"} and (given := self._given("ssl_")):
            told.append(f"{given[0]} has no use with security_protocol {protocol}")
        if protocol in {"plaintext", "ssl"} and (given := self._given("sasl_")):
            told.append(f"{given[0]} has no use with security_protocol {protocol}")
        if (self.ssl_certificate_file is None) is not (self.ssl_key_file is None):
            told.append("ssl_certificate_file and ssl_key_file belong together: give both")
        if self.ssl_key_password is not None and self.ssl_key_file is None:
            told.append("ssl_key_password has no use without ssl_key_file")
        return told + self._sasl_problems()

    def _sasl_problems(self) -> list[str]:
        """What the mechanism needs and what it has no use for."""
        if self.sasl_mechanism is None:
            wanted = self._given("sasl_") or self.security_protocol in {
                "sasl_plaintext",
                "sasl_ssl",
            }
            return ["sasl_mechanism is missing: say how to log in"] if wanted else []
        by_token = self.sasl_mechanism == TOKEN_MECHANISM
        used = {"sasl_token_file"} if by_token else {"sasl_username", "sasl_password"}
        given = set(self._given("sasl_")) - {"sasl_mechanism"}
        missing = [f"{name} is missing for {self.sasl_mechanism}" for name in sorted(used - given)]
        needless = [
            f"{name} has no use with sasl_mechanism {self.sasl_mechanism}"
            for name in sorted(given - used)
        ]
        return missing + needless

    def _given(self, prefix: str) -> list[str]:
        """The settings of that prefix that have a value."""
        return [
            name
            for name in Security.model_fields
            if name.startswith(prefix) and getattr(self, name) is not None
        ]


SECRETS: Final = ("ssl_key_password", "sasl_password")
"""Settings whose value nobody may see."""

FILES: Final = ("ssl_ca_file", "ssl_certificate_file", "ssl_key_file", "sasl_token_file")
"""Settings that are paths: in a file of settings, relative to it."""


def _is_this_computer(address: str) -> bool:
    """Whether ``HOST:PORT`` cannot lead anywhere else. A short name can: it is looked up."""
    host = address.rpartition(":")[0]
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
