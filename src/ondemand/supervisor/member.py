"""One process of a worker, as its parent holds it."""

import contextlib
import socket
import subprocess
from collections.abc import Sequence
from typing import Final

ADDRESS_BYTES_MAX: Final = 300


class MemberProcess:
    """A process that runs *command*, with a lifeline to us as its standard input.

    Raises ``OSError`` where the system cannot start one. It leads a process group of its own: a
    Ctrl-C reaches the parent alone, and is not passed on as a second one.
    """

    def __init__(self, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as on_failure:
            on_failure.enter_context(ours)
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=theirs.fileno(), process_group=0
            )
            on_failure.pop_all()
        ours.settimeout(0.0)
        self._lifeline = ours
        self._said = b""
        self.speaks = True
        self.pid = self._process.pid

    def __repr__(self) -> str:
        return f"<MemberProcess [pid {self.pid} | {self.address or 'not serving'}]>"

    def fileno(self) -> int:
        """What becomes readable when it says something, for as long as it ``speaks``."""
        return self._lifeline.fileno()

    @property
    def address(self) -> str | None:
        """``HOST:PORT`` of its health and metrics; None as long as they are not served."""
        line, ended, _ = self._said.partition(b"\n")
        return line.decode("ascii", errors="replace") if ended else None

    def listen(self) -> None:
        """Take in what it has said; does not wait."""
        try:
            said = self._lifeline.recv(ADDRESS_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        self.speaks = bool(said)
        self._said = (self._said + said)[:ADDRESS_BYTES_MAX]

    def exit_code(self) -> int | None:
        """How it ended, minus the signal's number where one ended it; None while it runs."""
        return self._process.poll()

    def ask_to_drain(self) -> None:
        """Close our end of the lifeline; it may go on speaking."""
        with contextlib.suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Free what held it, once it has ended."""
        self.speaks = False
        self._lifeline.close()
