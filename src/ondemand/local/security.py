"""A local broker that asks who you are: TLS, SASL and access control, as production has them.

It has one listener for each way in that is declared, beside an inner one without encryption, which
brokers and the readiness check use: whoever is on this computer is the administrator there. So this
is for trying and testing how clients meet a secured broker; it keeps no secret from its own
computer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from ondemand.local.ports import HOST

Mechanism = Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"]

_SCRAM: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_MODULES: Final = "org.apache.kafka.common.security"
INNER_PRINCIPAL: Final = "User:ANONYMOUS"


@dataclass(frozen=True, slots=True)
class Listener:
    """A way in: TLS always, and SASL where *mechanisms* are named.

    *name*: capital letters. *certificate*: PEM, the key and then the certificate. *clients*: the
    CA, PEM, of the certificates that clients have to show; None where they need none.
    """

    name: str
    certificate: Path
    clients: Path | None = None
    mechanisms: tuple[Mechanism, ...] = ()

    @property
    def protocol(self) -> str:
        """Kafka's name for it."""
        return "SASL_SSL" if self.mechanisms else "SSL"


@dataclass(frozen=True, slots=True)
class BrokerSecurity:
    """Who may come in, and how. Access is denied to everybody but *super_users*, until ACLs say
    otherwise.

    *passwords*: by user, for SCRAM and PLAIN. *key_set*: a file with the JWK set that signs tokens;
    their issuer and audience are those that *token_issuer* and *token_audience* say.
    """

    listeners: tuple[Listener, ...]
    passwords: Mapping[str, str] = field(repr=False)
    super_users: tuple[str, ...] = ("User:admin",)
    key_set: Path | None = None
    token_issuer: str = "throw-away"  # noqa: S105 - a name
    token_audience: str = "kafka"  # noqa: S105 - a name

    def _properties(self) -> dict[str, str]:
        properties = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": ";".join([INNER_PRINCIPAL, *self.super_users]),
        }
        for listener in self.listeners:
            properties |= self._of_listener(listener)
        return properties

    def joined(self, properties: Mapping[str, str], ports: Sequence[int]) -> dict[str, str]:
        """*properties* of an open broker with what secures it. *ports*: one for each listener."""
        places = [
            (f"{each.name}://{HOST}:{port}", f"{each.name}:{each.protocol}")
            for each, port in zip(self.listeners, ports, strict=True)
        ]
        addresses = ",".join(address for address, _ in places)
        protocols = ",".join(protocol for _, protocol in places)
        named = {
            "listeners": addresses,
            "advertised.listeners": addresses,
            "listener.security.protocol.map": protocols,
        }
        lists = {name: f"{properties[name]},{added}" for name, added in named.items()}
        return {**properties, **lists, **self._properties()}

    def format_options(self) -> Iterator[str]:
        """What the storage tool is told: users exist before the first start."""
        used = {name for each in self.listeners for name in each.mechanisms}
        for mechanism in (name for name in _SCRAM if name in used):
            for user, password in self.passwords.items():
                yield "--add-scram"
                yield f"{mechanism}=[name={user},password={password}]"

    def jvm_options(self) -> Iterator[str]:
        """Kafka reads keys only from where the JVM is told that it may."""
        if self.key_set is not None:
            yield f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.key_set.as_uri()}"

    def _of_listener(self, listener: Listener) -> dict[str, str]:
        own = f"listener.name.{listener.name.lower()}"
        properties = {
            f"{own}.ssl.keystore.type": "PEM",
            f"{own}.ssl.keystore.location": str(listener.certificate),
        }
        if listener.clients is not None:
            properties |= {
                f"{own}.ssl.client.auth": "required",
                f"{own}.ssl.truststore.type": "PEM",
                f"{own}.ssl.truststore.location": str(listener.clients),
                # The principal is the certificate's name alone: User:checkout.
                f"{own}.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
            }
        if listener.mechanisms:
            properties[f"{own}.sasl.enabled.mechanisms"] = ",".join(listener.mechanisms)
        for mechanism in listener.mechanisms:
            properties |= self._of_mechanism(f"{own}.{mechanism.lower()}", mechanism)
        return properties

    def _of_mechanism(self, own: str, mechanism: Mechanism) -> dict[str, str]:
        jaas = f"{own}.sasl.jaas.config"
        if mechanism in _SCRAM:
            return {jaas: f"{_MODULES}.scram.ScramLoginModule required;"}
        if mechanism == "PLAIN":
            users = " ".join(f'user_{name}="{word}"' for name, word in self.passwords.items())
            return {jaas: f"{_MODULES}.plain.PlainLoginModule required {users};"}
        key_set = self.key_set.as_uri() if self.key_set is not None else ""
        return {
            jaas: f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required "
            'unsecuredLoginStringClaim_sub="broker";',
            f"{own}.sasl.server.callback.handler.class": (
                f"{_MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            ),
            f"{own}.sasl.oauthbearer.jwks.endpoint.url": key_set,
            f"{own}.sasl.oauthbearer.expected.issuer": self.token_issuer,
            f"{own}.sasl.oauthbearer.expected.audience": self.token_audience,
        }
