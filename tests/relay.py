"""A relay before a broker, that loses the acknowledgement of a record which the broker has stored.

Kafka's frames: four bytes of length; a request begins with its kind, version, correlation ID and
client ID, a response with the correlation ID (https://kafka.apache.org/protocol).
"""

import contextlib
import socket
import struct
import threading

HOST = "127.0.0.1"
PRODUCE = 0


class Relay:
    """What connects to ``address`` speaks to the broker on *broker_port*, whose advertised
    listener this has to be.

    After ``lose_an_acknowledgement`` the next produce request of the client *client_id* reaches the
    broker. When the broker has answered, the client's connection is cut without the answer, and
    the client gets no new one until ``mend``; those that it has beside stay.
    """

    def __init__(self, broker_port, client_id):
        self._broker_port = broker_port
        self._client_id = client_id.encode()
        self._listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        self._armed = False
        self._severed = False
        self._open = set()
        self.lost = threading.Event()
        """An acknowledgement was lost."""

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        _shut(self._listener)
        for each in list(self._open):
            _shut(each)

    def lose_an_acknowledgement(self):
        """The next one."""
        self.lost.clear()
        self._armed = True

    def mend(self):
        """Let the client connect again."""
        self._severed = False

    def _accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with (
            contextlib.suppress(OSError),  # an end is gone
            client,
            socket.create_connection((HOST, self._broker_port)) as broker,
        ):
            pair = (client, broker)
            for each in pair:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.update(pair)
            untold = set()  # correlation IDs of requests whose answers are to be lost
            answers = threading.Thread(target=self._answer, args=(*pair, untold), daemon=True)
            answers.start()
            self._ask(*pair, untold)
            answers.join()
            self._open.difference_update(pair)

    def _ask(self, client, broker, untold):
        """Hand over requests until one end is gone."""
        with contextlib.suppress(OSError):
            refused = self._severed
            while request := _frame(client):
                kind, _, correlation_id, length = struct.unpack_from(">hhih", request, 4)
                chosen = request[14 : 14 + max(length, 0)] == self._client_id
                if chosen and refused:
                    break
                if chosen and self._armed and kind == PRODUCE:
                    self._armed, self._severed = False, True
                    untold.add(correlation_id)
                broker.sendall(request)
        _shut(client)
        _shut(broker)

    def _answer(self, client, broker, untold):
        """Hand over answers until one end is gone, or one is to be lost."""
        with contextlib.suppress(OSError):
            while answer := _frame(broker):
                if struct.unpack_from(">i", answer, 4)[0] in untold:
                    self.lost.set()
                    break
                client.sendall(answer)
        _shut(client)
        _shut(broker)


def _frame(connection):
    """One frame, with its length; empty at the end."""
    head = _exactly(connection, 4)
    body = head and _exactly(connection, struct.unpack(">i", head)[0])
    return body and head + body


def _exactly(connection, count):
    got = b""
    while len(got) < count:
        if not (piece := connection.recv(count - len(got))):
            return b""
        got += piece
    return got


def _shut(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
