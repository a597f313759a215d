"""A secured broker for tests: who may come in, what each may do, and processes that log in."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from certificates import Authority, TokenIssuer
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from worker_process import is_ready

from ondemand import PredictionClient
from ondemand.contract.topics import WORKERS
from ondemand.local import BrokerSecurity, Listener, LocalKafka
from ondemand.settings import ClientSettings, Security
from ondemand.transport.kafka_security import librdkafka_options
from ondemand.transport.kafka_worker_config import log

BOUND_SECONDS = 60.0
ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 10.0

PASSWORDS = {name: f"pw-{name}-4711" for name in ("admin", "worker", "shop", "bank")}

SASL, MTLS, EXPIRED, FOREIGN = "SASL", "MTLS", "EXPIRED", "FOREIGN"

MODEL = "ffnn"
ROW = {"x": np.ones((1, 8), dtype=np.float32)}
REQUESTS, DEAD_LETTERS = f"{MODEL}.requests", f"{MODEL}.dead-letters"
GROUP = f"ondemand.{MODEL}"
SHOP, BANK = "shop.replies", "bank.replies"
BANK_REQUESTS = "bank.requests"
"""A model of the bank's own, which no shop may ask."""

Right = tuple[str, ResourceType, str, AclOperation]


def read(user: str, topic: str) -> Right:
    """May read a topic, and with it see that it is there."""
    return (user, ResourceType.TOPIC, topic, AclOperation.READ)


def write(user: str, topic: str) -> Right:
    """May write a topic, and with it see that it is there."""
    return (user, ResourceType.TOPIC, topic, AclOperation.WRITE)


def join(user: str, group: str) -> Right:
    """May be a member of a group and commit for it."""
    return (user, ResourceType.GROUP, group, AclOperation.READ)


def transact(user: str, prefix: str) -> Right:
    """May write transactions under identifiers that begin so."""
    return (user, ResourceType.TRANSACTIONAL_ID, f"{prefix}*", AclOperation.WRITE)


WORKER_RIGHTS = (
    read("worker", REQUESTS),
    join("worker", GROUP),
    write("worker", SHOP),
    write("worker", DEAD_LETTERS),
    write("worker", WORKERS),
)
SHOP_RIGHTS = (write("shop", REQUESTS), read("shop", SHOP), read("shop", WORKERS))
BANK_RIGHTS = (read("bank", BANK), read("bank", WORKERS))
"""The least that docs/security.md names; the bank asks no model for anything."""


@dataclass(frozen=True, slots=True)
class Secured:
    """A running secured broker. *folder*: of the certificates and tokens."""

    kafka: LocalKafka
    authority: Authority
    issuer: TokenIssuer
    folder: Path
    admin: AdminClient = field(repr=False)

    def login(self, user: str, **other: Any) -> Security:
        """By password, unless *other* settings say otherwise."""
        given = {
            "ssl_ca_file": self.authority.certificate,
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": user,
            "sasl_password": PASSWORDS[user],
        }
        return Security(**{**given, **other})

    def token(self, user: str, issuer: TokenIssuer | None = None) -> Security:
        """By a token, of *issuer* or of the one that the broker trusts."""
        path = self.folder / f"{user}.token"
        path.write_text((issuer or self.issuer).token(user), encoding="utf-8")
        path.chmod(0o600)
        return Security(
            ssl_ca_file=self.authority.certificate,
            sasl_mechanism="OAUTHBEARER",
            sasl_token_file=path,
        )

    def certificate(self, user: str) -> Security:
        """By a certificate of the user's own."""
        mine = self.authority.identity(user)
        return Security(
            ssl_ca_file=self.authority.certificate,
            ssl_certificate_file=mine.certificate,
            ssl_key_file=mine.key,
        )

    def allow(self, *rights: Right) -> None:
        """Give rights; returns when the broker has them."""
        for future in self.admin.create_acls([_binding(right) for right in rights]).values():
            future.result(ANSWER_SECONDS)

    def withdraw(self, *rights: Right) -> None:
        """Take rights away."""
        filters = [_binding(right, AclBindingFilter) for right in rights]
        for future in self.admin.delete_acls(filters).values():
            assert future.result(ANSWER_SECONDS), "there was no such right"

    @contextmanager
    def without(self, *rights: Right) -> Iterator[None]:
        """Withdrawn for a while, and given back."""
        self.withdraw(*rights)
        try:
            yield
        finally:
            self.allow(*rights)


def _binding(right: Right, kind: Any = AclBinding) -> Any:
    user, resource, name, operation = right
    prefix = name.endswith("*")
    return kind(
        resource,
        name.removesuffix("*"),
        ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """One broker with a listener for each way in, the topics of a model and two services, and the
    least rights for all of them."""
    authority, issuer = Authority(folder), TokenIssuer()
    key_set = folder / "keys.json"
    key_set.write_text(issuer.key_set(), encoding="utf-8")
    broker = authority.identity("broker").both
    security = BrokerSecurity(
        listeners=(
            Listener(SASL, broker, mechanisms=("SCRAM-SHA-512", "PLAIN", "OAUTHBEARER")),
            Listener(MTLS, broker, clients=authority.certificate),
            Listener(EXPIRED, authority.identity("expired", expired=True).both),
            Listener(FOREIGN, authority.identity("foreign", host="kafka.example").both),
        ),
        passwords=PASSWORDS,
        key_set=key_set,
    )
    with LocalKafka(security=security) as kafka:
        login = Security(
            ssl_ca_file=authority.certificate,
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="admin",
            sasl_password=PASSWORDS["admin"],
        )
        options = librdkafka_options(login, kafka.address)
        admin = AdminClient({**options, "bootstrap.servers": kafka.address}, logger=log)
        names = (REQUESTS, DEAD_LETTERS, SHOP, BANK, BANK_REQUESTS)
        topics = [NewTopic(WORKERS, 1), *(NewTopic(name, 2) for name in names)]
        for future in admin.create_topics(topics, operation_timeout=ANSWER_SECONDS).values():
            future.result(ANSWER_SECONDS)
        secured = Secured(kafka, authority, issuer, folder, admin)
        secured.allow(*WORKER_RIGHTS, *SHOP_RIGHTS, *BANK_RIGHTS)
        yield secured


def settings(secured: Secured, security: Security | None = None, **given: object) -> ClientSettings:
    """The shop's, unless others are given."""
    kafka = given.pop("kafka", secured.kafka.address)
    return ClientSettings(
        **{
            **dict(security or secured.login("shop")),
            "kafka": kafka,
            "service": "shop",
            "timeout_seconds": 20.0,
            "connect_timeout_seconds": CONNECT_SECONDS,
            **given,
        }
    )


@asynccontextmanager
async def shop(secured: Secured, **given: object) -> AsyncIterator[PredictionClient]:
    """The shop's client."""
    async with PredictionClient(settings=settings(secured, **given)) as client:
        yield client


def end_of(secured: Secured, topic: str) -> int:
    """How many records were ever written to *topic*."""
    options = librdkafka_options(secured.login("admin"), secured.kafka.address)
    consumer = Consumer(
        {**options, "bootstrap.servers": secured.kafka.address, "group.id": "counts"}
    )
    try:
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, each)) for each in range(2)]
    finally:
        consumer.close()
    return sum(high for _, high in ends)


def environment(security: Security, kafka: str) -> dict[str, str]:
    """*security* as a deployment would set it."""
    given = {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        for name, value in security
        if value is not None
    }
    named = {f"ONDEMAND_{name.upper()}": value for name, value in given.items()}
    return {**os.environ, **named, "ONDEMAND_KAFKA": kafka}


class LoggedInWorker:
    """`ondemand worker run`, with all that it says in one file."""

    def __init__(self, package: Path, environ: Mapping[str, str], log: Path, *more: str) -> None:
        self.log = log
        line = [sys.executable, "-m", "ondemand", "worker", "run", str(package)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*line, "--http", "127.0.0.1:0", "--log-format", "json", *more],
                stdout=out,
                stderr=out,
                env={**environ},
            )

    @property
    def said(self) -> str:
        """Standard output and standard error until now."""
        return self.log.read_text(encoding="utf-8")

    def wait_for(self, word: str) -> "LoggedInWorker":
        """Until it has said *word*."""
        eventually(lambda: word in self.said, f"the worker says {word!r}: {self.said[-2_000:]}")
        return self

    def ready(self) -> bool:
        """What `/readyz` says."""
        return is_ready(self.said)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(BOUND_SECONDS)


async def answered(client: PredictionClient) -> bool:
    """Whether a prediction comes back."""
    return (await client.predict(MODEL, ROW))["y"].shape == (1, 4)


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until *holds*; a bound that a working system never needs."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)
