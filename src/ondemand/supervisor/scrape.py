"""Asks several processes of this computer for the same path at once, within one bound.

A process that is away, frozen or talks nonsense is missing from the result, and keeps nobody
waiting for longer than that.
"""

import http.client
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ANSWER_SECONDS: Final = 2.0
"""Whoever asks us and waits for less takes silence for a no, which is what it would be told."""

ANSWER_BYTES_MAX: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What one process said."""

    status: int
    text: str


def ask_all(
    addresses: Mapping[int, str], path: str, *, timeout_seconds: float = ANSWER_SECONDS
) -> dict[int, Answer]:
    """The answers by process, of those that gave one in time. *addresses*: ``HOST:PORT``."""
    answers: dict[int, Answer] = {}
    deadline = time.monotonic() + timeout_seconds

    def ask_one(process: int, address: str) -> None:
        if (answer := _ask(address, path, timeout_seconds)) is not None:
            answers[process] = answer

    threads = [
        threading.Thread(target=ask_one, args=asked, name="scrape", daemon=True)
        for asked in addresses.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))
    return dict(answers)


def _ask(address: str, path: str, timeout_seconds: float) -> Answer | None:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(ANSWER_BYTES_MAX + 1)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if len(body) > ANSWER_BYTES_MAX or response.length:  # what is missing of its content-length
        return None
    return Answer(response.status, body.decode("utf-8", errors="replace"))
