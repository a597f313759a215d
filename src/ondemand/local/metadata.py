"""Asks a broker which brokers it knows: the question that tells whether it is ready.

A port opens seconds before a broker serves. Kafka's Metadata request (API key 3, version 1) is
answered only by a broker that does, and lists only brokers that have joined the quorum. Spoken
here in bytes, because a Kafka client library retries, waits and logs where this has to fail fast.
The layout is that of Kafka's protocol guide: https://kafka.apache.org/protocol
"""

import socket
import struct

_API_KEY, _API_VERSION, _CORRELATION_ID = 3, 1, 7
_CLIENT_ID = b"ondemand-local"
_RESPONSE_BYTES_MAX = 1_000_000


def known_brokers(host: str, port: int, *, timeout_seconds: float) -> frozenset[int]:
    """The node IDs that the broker at ``host:port`` lists; empty while it does not serve.

    Raises ``OSError`` if nothing answers there within the timeout, and ``ValueError`` if what
    answers is not Kafka.
    """
    with socket.create_connection((host, port), timeout=timeout_seconds) as connection:
        connection.settimeout(timeout_seconds)
        connection.sendall(encode_request())
        (size,) = struct.unpack(">i", _read_exactly(connection, 4))
        if not 0 < size <= _RESPONSE_BYTES_MAX:
            raise ValueError(f"{host}:{port} answered, but not in Kafka's protocol")
        return decode_response(_read_exactly(connection, size))


def encode_request() -> bytes:
    """A Metadata request for no topic, with its length in front."""
    header = struct.pack(">hhih", _API_KEY, _API_VERSION, _CORRELATION_ID, len(_CLIENT_ID))
    no_topics = struct.pack(">i", 0)
    body = header + _CLIENT_ID + no_topics
    return struct.pack(">i", len(body)) + body


def decode_response(body: bytes) -> frozenset[int]:
    """The node IDs in a Metadata response, given without its length.

    Raises ``ValueError`` if the body is no such response.
    """
    try:
        correlation_id, count = struct.unpack_from(">ii", body)
        if correlation_id != _CORRELATION_ID or count < 0:
            raise ValueError("this is no answer to a Kafka Metadata request")
        nodes, offset = set(), 8
        for _ in range(count):
            (node,) = struct.unpack_from(">i", body, offset)
            offset = _after_string(body, offset + 4) + 4  # the host, then the port
            offset = _after_string(body, offset)  # the rack, which may be null
            nodes.add(node)
    except struct.error as error:
        raise ValueError("a Kafka Metadata response ends too early") from error
    return frozenset(nodes)


def _after_string(body: bytes, offset: int) -> int:
    """Where the string at ``offset`` ends; a length of -1 stands for null."""
    (length,) = struct.unpack_from(">h", body, offset)
    return offset + 2 + max(int(length), 0)


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    """``count`` bytes, or ``ConnectionError`` where the other side ends before."""
    received = bytearray()
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise ConnectionError("the connection was closed in the middle of an answer")
        received += part
    return bytes(received)
