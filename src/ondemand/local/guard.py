"""Runs one JVM and ends it when its owner ends, however the owner ends.

A program of its own (``python guard.py OWNER LOG SCRATCH COMMAND…``) that needs the standard
library only, so that it starts in milliseconds and weighs little. It prints the JVM's process ID.

- The owner holds the other end of the standard input. At its end of file the owner is gone, by
  SIGKILL too: the JVM is killed, and the scratch folder (``-`` for none) is removed.
- SIGTERM is passed on to the JVM; the guard ends when the JVM has, with its exit status.
- On Linux the kernel kills the JVM if the guard itself is killed.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# A forked child of the owner may still hold the pipe open: the parent's ID tells as well.
OWNER_CHECK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> int:
    """Run the command until it or the owner ends; return its exit status."""
    owner, log, scratch, *command = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake = _signals_as_bytes()
    with Path(log).open("ab") as output:
        os.dup2(output.fileno(), sys.stderr.fileno())  # a fault of the guard's own
        jvm = subprocess.Popen(  # noqa: S603 - the owner's own command line
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread
        )
    sys.stdout.write(f"{jvm.pid}\n")
    sys.stdout.flush()
    while jvm.poll() is None:
        readable, _, _ = select.select([0, wake], [], [], OWNER_CHECK_SECONDS)
        if wake in readable and signal.SIGTERM in os.read(wake, 64):
            jvm.terminate()
        if os.getppid() != int(owner) or (0 in readable and not os.read(0, 64)):
            _abandoned(jvm, scratch)
    return jvm.returncode


def _signals_as_bytes() -> int:
    """A descriptor that becomes readable at SIGTERM and at the JVM's end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader


def _end_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the owner's pipe must do."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request was made
        os._exit(1)


def _abandoned(jvm: "subprocess.Popen[bytes]", scratch: str) -> None:
    """Kill the JVM and remove what only the owner would have removed."""
    jvm.kill()
    jvm.wait()
    if scratch != "-":
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
