"""Asking processes over HTTP: what is not an answer is nobody's trouble but its own."""

import socket
import threading

import pytest

from ondemand.supervisor.scrape import ANSWER_BYTES_MAX, Answer, ask_all
from ondemand.telemetry.health import HealthServer


@pytest.fixture
def server():
    """A process that serves its health."""
    made = HealthServer(
        "127.0.0.1:0", live=list, ready=lambda: ["no partitions"], metrics=lambda: b"x 1.0\n"
    )
    yield made
    made.close()


@pytest.fixture
def listening():
    """A socket that is listened on; what comes of it is the test's."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def address(listener):
    """Where it is."""
    return "{}:{}".format(*listener.getsockname())


def test_answers_come_with_their_status(server):
    """A 503 is an answer, too: its text says what is wrong."""
    assert ask_all({4: server.address}, "/readyz") == {4: Answer(503, "no partitions\n")}
    assert ask_all({4: server.address}, "/metrics") == {4: Answer(200, "x 1.0\n")}


def test_one_that_is_frozen_or_gone_does_not_keep_the_others(server, listening):
    """The frozen one accepts and never answers; the one that is gone refuses."""
    with socket.create_server(("127.0.0.1", 0)) as going:
        gone = address(going)
    asked = {0: address(listening), 1: gone, 2: server.address}
    assert ask_all(asked, "/livez", timeout_seconds=0.5) == {2: Answer(200, "ok\n")}


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (ANSWER_BYTES_MAX + 1),
    ],
    ids=["no HTTP", "cut off", "too long"],
)
def test_what_is_no_answer_counts_as_none(listening, said):
    """Half a page would be read as a process that lost half of its metrics."""

    def serve():
        connection, _ = listening.accept()
        with connection:
            connection.recv(1_000)
            connection.sendall(said)

    thread = threading.Thread(target=serve)
    thread.start()
    assert ask_all({0: address(listening)}, "/metrics", timeout_seconds=10.0) == {}
    thread.join(10)
    assert not thread.is_alive()
