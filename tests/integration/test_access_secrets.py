"""No secret and no payload comes out: of a worker, of a client, of a command, by any way."""

import asyncio
import logging
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from secured import (
    GROUP,
    MODEL,
    MTLS,
    PASSWORDS,
    SHOP,
    LoggedInWorker,
    Secured,
    environment,
    eventually,
    secured_broker,
)

from ondemand import PredictionClient
from ondemand.errors import OndemandError, PredictionError
from ondemand.runtime.scaffold import new_package
from ondemand.settings import ClientSettings, Security
from ondemand.testing.models import ffnn
from ondemand.transport.kafka_worker import KafkaWorkerTransport

pytestmark = pytest.mark.kafka

PAYLOAD = 73_914_628.0
PAYLOAD_SIGNS = ("7391462", "73_914", "7.391462", "7.39146e")
"""A value that comes up nowhere by chance, and how programs may write it."""

KEY_PASSWORD = "canary-key-5523"
COMMAND_SECONDS = 60.0

Outputs = dict[str, str]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


def command(environ: Mapping[str, str], folder: Path, *arguments: str) -> str:
    """All that a command says."""
    done = subprocess.run(
        [sys.executable, "-m", "ondemand", *arguments],
        env={**environ},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_SECONDS,
        check=False,
        text=True,
    )
    return done.stdout + done.stderr


def metrics_of(worker: LoggedInWorker) -> str:
    """What `/metrics`, `/readyz` and `/livez` say."""
    lines = [line for line in worker.said.splitlines() if '"http.listening"' in line]
    address = lines[0].split('"address": "')[1].split('"')[0]
    told = []
    for page in ("metrics", "readyz", "livez"):
        with urllib.request.urlopen(f"http://{address}/{page}", timeout=5) as reply:
            told.append(reply.read().decode())
    return "\n".join(told)


def command_line_of(worker: LoggedInWorker) -> str:
    """What every process on the computer can read of it."""
    listed = subprocess.run(
        ["ps", "-o", "args=", "-p", str(worker.process.pid)],  # noqa: S607 - of every system
        capture_output=True,
        check=True,
        text=True,
    )
    return listed.stdout


def let_library_talk(secured: Secured, security: Security) -> None:
    """A worker's connections, with all that librdkafka has to say of them in the log."""
    transport = KafkaWorkerTransport(
        kafka=secured.kafka.address, group=GROUP, options={"debug": "all"}, security=security
    )
    assert transport.partition_count(SHOP) == 2
    transport.close()


async def asked(secured: Secured) -> str:
    """What a client says and logs while it is answered, refused, and kept out."""
    told: list[str] = []
    shop = {"kafka": secured.kafka.address, "service": "shop", "connect_timeout_seconds": 2.0}
    settings = ClientSettings(**dict(secured.login("shop")), **shop, timeout_seconds=20.0)
    told += [repr(settings), str(settings), str(settings.model_dump())]
    async with PredictionClient(settings=settings) as client:
        good = {"x": np.full((1, 8), PAYLOAD, dtype=np.float32)}
        bad = {"x": np.full((1, 3), PAYLOAD, dtype=np.float32)}
        await client.predict(MODEL, good)
        with pytest.raises(PredictionError) as refused:
            await client.predict(MODEL, bad)
        told += [repr(client), str(refused.value), repr(refused.value)]
    for security in (
        secured.login("shop", sasl_password=PASSWORDS["bank"]),
        secured.token("shop"),
    ):
        kept_out = ClientSettings(**dict(security), **{**shop, "reply_topic": "bank.replies"})
        with pytest.raises(OndemandError) as refusal:
            async with PredictionClient(settings=kept_out):
                pass
        told += [str(refusal.value), repr(refusal.value), str(refusal.value.__cause__)]
    return "\n".join(told)


def test_no_secret_and_no_payload_comes_out(
    secured: Secured, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Passwords, tokens, keys and inputs are searched for in all that is written at debug level."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "model.onnx").write_bytes(ffnn((8, 4)))
    package = new_package(tmp_path / MODEL, name=MODEL, model=tmp_path / "model.onnx").folder
    right = environment(secured.login("worker"), secured.kafka.address) | {
        "ONDEMAND_LOG_LEVEL": "debug",
        "ONDEMAND_DEBUG": "1",
        "ONDEMAND_CONNECT_TIMEOUT_SECONDS": "2",
    }
    wrong = right | {"ONDEMAND_SASL_PASSWORD": PASSWORDS["bank"]}
    token = secured.token("shop")
    by_token = environment(token, secured.kafka.address) | {"ONDEMAND_DEBUG": "1"}
    mine = secured.authority.identity("shop", password=KEY_PASSWORD.encode())
    by_certificate = environment(
        Security(
            ssl_ca_file=secured.authority.certificate,
            ssl_certificate_file=mine.certificate,
            ssl_key_file=mine.key,
            ssl_key_password=KEY_PASSWORD,
        ),
        secured.kafka.address_of(MTLS),
    )
    outputs: Outputs = {}
    worker = LoggedInWorker(package, right, tmp_path / "worker.log")
    try:
        worker.wait_for("partitions.assigned")
        outputs["client"] = asyncio.run(asked(secured))
        for security in (secured.login("worker"), token):
            let_library_talk(secured, security)
        outputs["metrics"] = metrics_of(worker)
        outputs["command line"] = command_line_of(worker)
        (tmp_path / "input.json").write_text(f'{{"x": [[{PAYLOAD}, 1, 1, 1, 1, 1, 1, 1]]}}')
        (tmp_path / "bad.json").write_text(f'{{"x": [[{PAYLOAD}]]}}')
        for name, environ in (("right", right), ("wrong", wrong), ("token", by_token)):
            outputs[f"show {name}"] = command(environ, tmp_path, "settings", "show")
            outputs[f"json {name}"] = command(environ, tmp_path, "settings", "show", "--json")
            outputs[f"plan {name}"] = command(environ, tmp_path, "topics", "plan", "--model", MODEL)
        for name, environ in (("token", by_token), ("key", by_certificate)):
            for file in ("input.json", "bad.json"):
                outputs[f"predict {name} {file}"] = command(
                    environ, tmp_path, "predict", MODEL, file, "--set", "service=shop"
                )
        outputs["worker not let in"] = command(
            wrong, tmp_path, "worker", "run", str(package), "--http", "off"
        )
        for words in (["--help"], ["worker", "run", "--help"], ["predict", "--help"]):
            outputs[" ".join(words)] = command(right, tmp_path, *words)
    finally:
        worker.stop()
    eventually(lambda: worker.process.poll() is not None, "the worker has ended")
    outputs["worker"] = worker.said
    outputs["log"] = caplog.text
    _check(outputs, [*PASSWORDS.values(), KEY_PASSWORD, *_parts_of(token)])


def _parts_of(token: Security) -> list[str]:
    """The token's claims and its signature: its head is the same for all tokens."""
    assert token.sasl_token_file is not None
    return token.sasl_token_file.read_text(encoding="utf-8").split(".")[1:]


def _check(outputs: Outputs, secrets: list[str]) -> None:
    """That there is something to search in, that it is what it should be, and nothing is found."""
    assert all(outputs.values()), [name for name, text in outputs.items() if not text]
    assert "(hidden)" in outputs["show right"]
    assert "does not accept the login" in outputs["worker not let in"]
    assert '"worker.stopped"' in outputs["worker"]
    assert "SASL" in outputs["log"], "librdkafka's own log is searched"
    assert "aiokafka" in outputs["log"], "and so is aiokafka's"
    found = [
        f"{name}: {sign}"
        for name, text in outputs.items()
        for sign in (*secrets, *PAYLOAD_SIGNS)
        if sign in text and not (name.startswith("predict") and sign in PAYLOAD_SIGNS)
    ]
    assert not found, found


def test_the_search_finds_what_is_there() -> None:
    """A search that finds nothing anywhere proves nothing."""
    outputs = {
        "show right": "(hidden)",
        "worker not let in": "does not accept the login",
        "worker": '"worker.stopped"',
        "log": f"SASL aiokafka password {PASSWORDS['shop']}, input {PAYLOAD}",
    }
    with pytest.raises(AssertionError, match=PASSWORDS["shop"]):
        _check(outputs, list(PASSWORDS.values()))
