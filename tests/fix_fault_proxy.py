"""A socket in front of a server's own, on which an answer can be held back, cut off, or never come.

It stands in a directory, as a server's own does, or on a port of the loopback interface.

What goes wrong is bound to what a client says, such as the text of a query, and to how much of the answer has passed
since then. So a test stops a run in the middle of a COPY without waiting for any amount of time.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlencode

from fix_vault import Vault

from borg_vault_plugin.cluster import Cluster

LOOK_SECONDS = 0.02
LOOPBACK = "127.0.0.1"
TERMINATE = b"X\0\0\0\4"
READY = b"Z\0\0\0\5"  # ReadyForQuery, and then one byte
BACKEND_KEY = re.compile(rb"K\x00\x00\x00\x0c(.{4})", re.DOTALL)  # protocol 3.0: BackendKeyData

# What the sessions of a run say when they come to the part that a test is interested in.
EXPORT = b"pg_export_snapshot()"
DUMP = b"COPY public.audit_vault_2026_05 "
CLIENT_PROGRAM = b"application_name\0pg_"
JOINING_DUMP = b"application_name\0pg_dump"
CHAIN = b'FROM "public"."audit_vault" v'
REGISTRY = b"COPY (SELECT key_id"
SURVEY = b'FROM ONLY "public"."audit_vault_2026_05"'
ESTIMATE = b"pg_table_size"

Outcome = Literal["hold", "cut"]


@dataclass
class Fault:
    """What happens to the answer to a query that holds `sign`, after that many bytes of it."""

    sign: bytes
    after: int
    outcome: Outcome
    everywhere: bool
    """Whether, from then on, nothing passes on any connection."""


@dataclass
class Link:
    """One connection through the proxy."""

    client: socket.socket
    server: socket.socket
    said: bytearray = field(default_factory=bytearray)
    backend: int | None = None
    struck: bool = False
    passed: int = 0
    ending: bytes = b""
    waits: bool = False
    """Whether the server has not given the whole answer to what the client said last."""

    def close(self) -> None:
        """End it in both directions."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def server_hung_up(self) -> bool:
        """Say whether the server has closed its end, whatever is still to be read from it."""
        poll = select.poll()
        poll.register(self.server, select.POLLRDHUP)
        return any(event & (select.POLLRDHUP | select.POLLHUP) for _, event in poll.poll(0))


class Proxy:
    """What stands between a run and a cluster."""

    def __init__(self, cluster: Cluster, directory: Path | None) -> None:
        self.cluster = cluster
        self.reached = threading.Event()
        self.links: list[Link] = []
        self._released = threading.Event()
        self._silent = threading.Event()
        self._fault: Fault | None = None
        self._listener = socket.socket(socket.AF_INET if directory is None else socket.AF_UNIX)
        self._listener.bind((LOOPBACK, 0) if directory is None else str(directory / f".s.PGSQL.{cluster.port}"))
        self._listener.listen()
        port = cluster.port if directory is not None else self._listener.getsockname()[1]
        self._place = urlencode({"host": directory or LOOPBACK, "port": port}, safe="", quote_via=quote)
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, sign: bytes, *, after: int = 0, everywhere: bool = False) -> None:
        """Hold the answer back after so many bytes, until it is released or the server hangs up."""
        self._fault = Fault(sign, after, "hold", everywhere)

    def cut(self, sign: bytes, *, after: int = 0) -> None:
        """Cut the connection after so many bytes of the answer."""
        self._fault = Fault(sign, after, "cut", everywhere=False)

    def release(self) -> None:
        """Let everything pass from now on."""
        self._fault = None
        self._silent.clear()
        self._released.set()

    def backend(self, sign: bytes) -> int:
        """Give the process number of the server's backend for the session that said this."""
        return next(link.backend for link in self.links if sign in link.said and link.backend is not None)

    def url(self, vault: Vault) -> str:
        """Give the URL by which a vault is reached through here."""
        return f"{vault.url.partition('?')[0]}?{self._place}"

    def cut_waiting(self, sign: bytes) -> int:
        """Cut the connections that said this and now wait for an answer; give how many, new ones may come."""
        there = [link for link in self.links if link.waits and sign in link.said and link.client.fileno() != -1]
        for link in there:
            link.close()
        return len(there)

    def close(self) -> None:
        """End every connection, and take no more."""
        self.release()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self.links:
            link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self.cluster.socket_directory / f".s.PGSQL.{self.cluster.port}"))
        except OSError:  # the server is down: so is the way to it
            client.close()
            server.close()
            return
        link = Link(client, server)
        self.links.append(link)
        for pump in (self._questions, self._answers):
            threading.Thread(target=pump, args=(link,), daemon=True).start()

    def _questions(self, link: Link) -> None:
        with contextlib.suppress(OSError):
            while said := link.client.recv(1 << 16):
                link.said += said
                if self._fault is not None and self._fault.sign in said:
                    link.struck = True
                if self._silent.is_set():
                    self._wait_until_released(link)
                link.waits = not said.endswith(TERMINATE)
                link.server.sendall(said)
        link.close()

    def _answers(self, link: Link) -> None:
        with contextlib.suppress(OSError):
            while answer := link.server.recv(1 << 16):
                if link.backend is None and (key := BACKEND_KEY.search(answer)):
                    link.backend = struct.unpack("!i", key[1])[0]
                # Before it is passed on: a client that has its answer may ask again, and then it waits.
                link.ending = (link.ending + answer)[-6:]
                link.waits = link.ending[:5] != READY
                if not self._passed(link, answer):
                    break
        link.close()
        for end in (link.client, link.server):
            end.close()

    def _passed(self, link: Link, answer: bytes) -> bool:
        """Pass an answer on, or let the fault strike; False when the connection is to be cut."""
        fault = self._fault
        if self._silent.is_set():
            self._wait_until_released(link)
        if fault is None or not link.struck or self._released.is_set():
            link.client.sendall(answer)
            return True
        passing = answer[: max(0, fault.after - link.passed)]
        link.client.sendall(passing)
        link.passed += len(passing)
        if len(passing) == len(answer):
            return True
        self.reached.set()
        if fault.outcome == "cut":
            return False
        if fault.everywhere:
            self._silent.set()
        self._wait_until_released(link)
        link.client.sendall(answer[len(passing) :])
        return True

    def _wait_until_released(self, link: Link) -> None:
        while not self._released.wait(LOOK_SECONDS) and not link.server_hung_up():
            pass


@contextlib.contextmanager
def proxy_before(cluster: Cluster) -> Iterator[Proxy]:
    """Stand between everybody who comes through it and a cluster."""
    with (
        tempfile.TemporaryDirectory(prefix="way-") as directory,
        contextlib.closing(Proxy(cluster, Path(directory))) as proxy,
    ):
        yield proxy


@contextlib.contextmanager
def loopback_before(cluster: Cluster) -> Iterator[Proxy]:
    """Stand between everybody who comes over TCP and a cluster, which itself listens on no network."""
    with contextlib.closing(Proxy(cluster, None)) as proxy:
        yield proxy
