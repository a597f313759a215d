"""What a secured local broker is told to be."""

from pathlib import Path

from ondemand.local.properties import Node, server_properties
from ondemand.local.security import BrokerSecurity, Listener

NODE = Node(1, 9092, 9093, (9094, 9095))
CANARY = "canary-hush-7391"

SECURITY = BrokerSecurity(
    listeners=(
        Listener("SASL", Path("/b.pem"), mechanisms=("SCRAM-SHA-512", "OAUTHBEARER")),
        Listener("MTLS", Path("/b.pem"), clients=Path("/ca.pem")),
    ),
    passwords={"shop": CANARY},
    key_set=Path("/keys.json"),
)


def told() -> dict[str, str]:
    """The properties of one node."""
    return SECURITY.joined(server_properties(NODE, [NODE], Path("/data"), {}), NODE.secured_ports)


def test_each_listener_has_its_port_and_its_protocol() -> None:
    """They stand beside the inner one, which brokers and the readiness check use."""
    assert told()["listeners"] == (
        "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093,"
        "SASL://127.0.0.1:9094,MTLS://127.0.0.1:9095"
    )
    assert told()["listener.security.protocol.map"].endswith(",SASL:SASL_SSL,MTLS:SSL")
    assert "CONTROLLER://" not in told()["advertised.listeners"]


def test_nobody_has_rights_but_the_super_users() -> None:
    """Access is denied until an ACL says otherwise."""
    assert told()["allow.everyone.if.no.acl.found"] == "false"
    assert told()["super.users"] == "User:ANONYMOUS;User:admin"
    assert told()["authorizer.class.name"].endswith("StandardAuthorizer")


def test_a_client_certificate_is_required_where_a_ca_is_named() -> None:
    """And only there."""
    assert told()["listener.name.mtls.ssl.client.auth"] == "required"
    assert "listener.name.sasl.ssl.client.auth" not in told()


def test_users_are_made_before_the_first_start() -> None:
    """For each SCRAM mechanism that a listener offers, and for no other."""
    assert list(SECURITY.format_options()) == [
        "--add-scram",
        f"SCRAM-SHA-512=[name=shop,password={CANARY}]",
    ]
    assert CANARY not in repr(SECURITY)


def test_the_broker_may_read_the_key_set_and_nothing_else() -> None:
    """Kafka refuses any place for keys that the JVM was not told of."""
    assert list(SECURITY.jvm_options()) == [
        "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file:///keys.json"
    ]
