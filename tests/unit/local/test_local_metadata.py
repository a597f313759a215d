"""The one question to a broker, in bytes."""

import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.local.metadata import decode_response, encode_request, known_brokers


def response(brokers: list[tuple[int, str, int, str | None]], *, correlation_id: int = 7) -> bytes:
    """A Metadata response of version 1 as a broker writes it, without its length."""

    def string(text: str | None) -> bytes:
        raw = (text or "").encode()
        return struct.pack(">h", -1) if text is None else struct.pack(">h", len(raw)) + raw

    body = struct.pack(">ii", correlation_id, len(brokers))
    for node, host, port, rack in brokers:
        body += struct.pack(">i", node) + string(host) + struct.pack(">i", port) + string(rack)
    return body + struct.pack(">ii", 1, 0)


BROKERS = st.lists(
    st.tuples(
        st.integers(0, 2**31 - 1),
        st.text(max_size=40),
        st.integers(0, 65_535),
        st.none() | st.text(max_size=20),
    ),
    max_size=5,
)


@given(brokers=BROKERS)
def test_every_listed_broker_is_known(brokers: list[tuple[int, str, int, str | None]]) -> None:
    """Hosts and racks of any length, null racks too, do not shift what follows them."""
    assert decode_response(response(brokers)) == {node for node, *_ in brokers}


@given(brokers=BROKERS.filter(bool), data=st.data())
def test_a_cut_response_is_no_answer(
    brokers: list[tuple[int, str, int, str | None]], data: st.DataObject
) -> None:
    """Half an answer lists fewer brokers than there are, so it counts as none."""
    whole = response(brokers)[:-8]
    cut = data.draw(st.integers(0, len(whole) - 1))
    last_rack_is_null = brokers[-1][3] is None

    if last_rack_is_null or cut < len(whole) - len((brokers[-1][3] or "").encode()):
        with pytest.raises(ValueError, match="Kafka Metadata"):
            decode_response(whole[:cut])


def test_another_answer_is_refused() -> None:
    """A correlation ID that was not asked under belongs to another protocol or question."""
    with pytest.raises(ValueError, match="no answer"):
        decode_response(response([], correlation_id=8))


def test_the_request_begins_with_its_length() -> None:
    """Kafka frames every request with four bytes of length, not counting themselves."""
    request = encode_request()

    assert struct.unpack(">i", request[:4]) == (len(request) - 4,)


def test_an_open_port_that_says_nothing_is_not_ready() -> None:
    """Ready means an answer: a port that only accepts connections times out."""
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(TimeoutError):
        known_brokers("127.0.0.1", mute.getsockname()[1], timeout_seconds=0.2)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\x08\0\0\0\x09\0\0\0\0"]
)
def test_what_is_not_kafka_is_not_ready(answer: bytes) -> None:
    """Another service on the port is told apart from a broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ValueError, match="Kafka"):
            known_brokers("127.0.0.1", server.getsockname()[1], timeout_seconds=5)
        thread.join()
