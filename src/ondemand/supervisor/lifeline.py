"""The other end of a process's lifeline: what tells it that its parent has gone, or asks it to.

The parent holds one end of a pair of sockets, the process has the other one as its standard input.
Where the parent closes its end, the process drains. The system closes it, too, when the parent
dies, by SIGKILL and on every system: one mechanism for both, and one that asks once only, whatever
signals come beside it. In the other direction the process says where it serves its health.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from ondemand.errors import ConfigurationError, StuckError
from ondemand.settings import WorkerSettings

STANDARD_INPUT: Final = 0
CLOSE_SECONDS: Final = 15.0


def leave_seconds(settings: WorkerSettings) -> float:
    """How long a process may take to leave in order: it waits for what is running to be answered,
    and then for the model's thread, each within the drain's limit, and closes its connections."""
    return 2 * settings.drain_timeout_seconds + CLOSE_SECONDS


class Lifeline:
    """The lifeline at *descriptor*. Until ``on_end``, its end makes the process leave at once:
    it has taken nothing yet."""

    def __init__(
        self,
        descriptor: int = STANDARD_INPUT,
        *,
        leave_seconds: float,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        """*leave_seconds*: how long a drain may take before it counts as stuck.

        Raises ``ConfigurationError`` where nobody holds the other end.
        """
        try:
            self._socket = socket.socket(fileno=os.dup(descriptor))
        except OSError as error:
            raise ConfigurationError(
                "`--member` is what a supervisor starts its processes with; to start several by "
                "hand use `--processes N`"
            ) from error
        self._leave_seconds = leave_seconds
        self._leave = leave
        self._ended = False
        self._drain: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="lifeline", daemon=True)
        self._thread.start()

    def listening(self, address: str) -> None:
        """Tell the parent where health and metrics are served."""
        try:
            self._socket.sendall(f"{address}\n".encode())
        except OSError:
            return  # it has gone: the thread that watches finds out as well, and acts

    def on_end(self, drain: Callable[[], None]) -> None:
        """From now on there is something to settle: at the end call *drain*, from any thread."""
        with self._lock:
            self._drain = drain
            ended = self._ended
        if ended:
            drain()

    def _watch(self) -> None:
        with self._socket:
            while self._parent_is_there():
                pass
        with self._lock:
            self._ended = True
            drain = self._drain
        if drain is None:
            self._leave(0)
            return
        drain()
        # Nobody else sees that a drain hangs once the parent is dead.
        time.sleep(self._leave_seconds)
        self._leave(StuckError.exit_code)

    def _parent_is_there(self) -> bool:
        """Waits until the parent speaks, which it never does, or has gone."""
        try:
            return bool(self._socket.recv(64))
        except OSError:
            return False
