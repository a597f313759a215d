"""Ports on this computer: free ones, and whether a given one is taken."""

import socket
from contextlib import ExitStack

from ondemand.errors import ConfigurationError

HOST = "127.0.0.1"


def free(count: int) -> list[int]:
    """``count`` different ports that nothing listens on.

    Another program may take one before it is used: whoever uses them has to be ready to ask again.
    """
    with ExitStack() as stack:  # held together, or the same port could come twice
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind((HOST, 0))
        return [listener.getsockname()[1] for listener in listeners]


def require_free(port: int) -> None:
    """Raise ``ConfigurationError`` if something listens on ``port`` or it may not be used."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"port {port} on {HOST} cannot be used ({_reason(error)}): stop what listens "
                "there, choose another port, or name none and a free one is taken"
            ) from error


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
