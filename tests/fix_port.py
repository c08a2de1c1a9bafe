"""Ports on the loopback interface, and servers that listen there."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path


def free_port() -> int:
    """Give a port that nobody listens at."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def until_it_listens(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until a server takes connections."""
    deadline = time.monotonic() + 30
    while True:
        assert server.poll() is None, log.read_text("utf-8")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.05)
        else:
            return
