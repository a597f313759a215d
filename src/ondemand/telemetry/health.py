"""``/livez``, ``/readyz`` and ``/metrics`` over HTTP: read-only, bounded, on one small thread."""

import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ondemand.errors import ConfigurationError
from ondemand.telemetry.metrics import CONTENT_TYPE

Check = Callable[[], Sequence[str]]
"""What is wrong now, one sentence each; empty when all is well."""

Exposition = Callable[[], bytes]
"""All metrics now, of the type ``CONTENT_TYPE``."""

REQUEST_TIMEOUT_SECONDS = 5.0


class _Handler(BaseHTTPRequestHandler):
    """GET only; anything else gets the library's 501."""

    timeout = REQUEST_TIMEOUT_SECONDS
    server: "HealthServer"
    server_version = "ondemand"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one probe."""
        if self.path == "/metrics":
            self._reply(200, self.server.exposition(), CONTENT_TYPE)
        elif (check := self.server.checks.get(self.path)) is not None:
            problems = check()
            text = "".join(f"{problem}\n" for problem in problems) or "ok\n"
            self._reply(503 if problems else 200, text.encode(), "text/plain; charset=utf-8")
        else:
            self._reply(404, b"try /livez, /readyz or /metrics\n", "text/plain; charset=utf-8")

    def _reply(self, code: int, body: bytes, content_type: str) -> None:
        self.send_response(code)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Probes come every few seconds: they are not news."""


class HealthServer(ThreadingHTTPServer):
    """Serves what *live* and *ready* say, and the metrics."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str, *, live: Check, ready: Check, metrics: Exposition) -> None:
        """Listen on *address*, ``HOST:PORT``; ``ConfigurationError`` if that is not possible."""
        host, _, port = address.rpartition(":")
        self.checks = {"/livez": live, "/readyz": ready}
        self.exposition = metrics
        try:
            super().__init__((host or "0.0.0.0", int(port)), _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve health and metrics on {address}: {error.strerror or error}; "
                "choose another with `--http HOST:PORT`, a free port with `--http 127.0.0.1:0`, "
                "or `--http off`"
            ) from error
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.1,), name="health", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """``HOST:PORT`` as it is really bound."""
        host, port = self.server_address[:2]
        return f"{host!s}:{port}"

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()
        self._thread.join(REQUEST_TIMEOUT_SECONDS)

    def handle_error(self, request: object, client_address: object) -> None:
        """A prober that hangs up early is not an error of ours."""
