"""A real HTTP server on loopback that remembers what it was sent, and answers as a test wants."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Received:
    """One request: its method, its path with the query, its body."""

    method: str
    path: str
    body: str


@dataclass
class Listener:
    """The server as a test sees it."""

    url: str
    received: list[Received] = field(default_factory=list)
    status: int = 200
    location: str | None = None
    """Where the next requests are sent on to."""
    seconds: float = 0.0
    """How long it waits before it answers."""

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, in their order."""
        return [one.path for one in self.received]


@contextlib.contextmanager
def listening() -> Iterator[Listener]:
    """Run a server on a port of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = False  # its end waits for theirs
    heard = Listener(f"http://127.0.0.1:{server.server_address[1]}")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8")
            heard.received.append(Received(self.command, self.path, body))
            time.sleep(heard.seconds)
            with contextlib.suppress(ConnectionError):  # who did not want to wait is gone
                self.answer()

        def answer(self) -> None:
            self.send_response(302 if heard.location else heard.status)
            if heard.location:
                self.send_header("Location", heard.location)
                heard.location = None
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"OK")

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing: tests look at standard error."""

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield heard
    server.shutdown()
    thread.join()
    server.server_close()
