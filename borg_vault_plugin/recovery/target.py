"""A server and the new database on it that a set is rebuilt as: connections to it, and PostgreSQL's own programs."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, cast

from borg_vault_plugin import process
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.clients import Call, Clients, clients_inside, installed_clients
from borg_vault_plugin.container import Container
from borg_vault_plugin.database import Connection, Source, answering
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.session import BEGIN, open_session

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Made:
    """What was made on a server."""

    databases: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a set is rebuilt: `server` leads to a database that is there already, `name` is the new one's."""

    server: Source
    name: str
    clients: Clients
    private: Path
    """A directory of ours, for what PostgreSQL's programs read."""
    own: bool
    """Whether the server is ours alone, and gone afterwards."""
    _password: Mapping[str, str] = field(repr=False)
    made: Made = field(default_factory=Made)

    @property
    def database(self) -> Source:
        """How to reach the new database."""
        return replace(self.server, parameters={**self.server.parameters, "dbname": self.name})

    @contextlib.contextmanager
    def on_server(self) -> Iterator[Connection]:
        """Open a prepared session beside the new database. Raises psycopg.Error."""
        with open_session(self.server) as connection, answering(connection, self.server):
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a prepared session that sees one instant of the new database, and only reads. Raises psycopg.Error."""
        with open_session(self.database) as connection, answering(connection, self.database):
            connection.execute(BEGIN)
            yield connection

    def run(
        self,
        program: str,
        *arguments: str,
        connected: bool = True,
        listing: Path | None = None,
        dump: Path | None = None,
    ) -> process.Finished:
        """Run one of PostgreSQL's programs to its end, on the new database or on files alone.

        `dump` is what it reads, `listing` names the entries that it takes of that.
        Raises NotCheckedError when it does not finish in time or cannot be started.
        """
        seconds = self.server.timeout.total_seconds()
        try:
            return self._call(program, arguments, connected=connected, listing=listing, dump=dump).run(timeout=seconds)
        except (OSError, process.TimeoutExpired) as error:
            raise NotCheckedError(f"{program} {self.clients.version}: {error}") from error

    @contextlib.contextmanager
    def output(
        self,
        program: str,
        *arguments: str,
        connected: bool = True,
        listing: Path | None = None,
        dump: Path | None = None,
    ) -> Iterator[IO[bytes]]:
        """Run one of PostgreSQL's programs and give its output, to be read to its end. Raises SourceError."""
        call = self._call(program, arguments, connected=connected, listing=listing, dump=dump)
        # Its messages go to a file: two pipes read one after the other can hang.
        with (
            tempfile.TemporaryFile(dir=self.private) as messages,
            call.child(stderr=messages) as running,
            _ended_after(self.server.timeout.total_seconds(), running),
        ):
            yield cast(IO[bytes], running.stdout)
            returncode = running.wait()
            messages.seek(0)
            if returncode:
                said = process.reason(messages.read())
                raise SourceError(f"{program} {self.clients.version} failed ({process.ending(returncode)}): {said}")

    def _call(
        self, program: str, arguments: tuple[str, ...], *, connected: bool, listing: Path | None, dump: Path | None
    ) -> Call:
        source = self.database if connected else None
        return self.clients.call(
            program, *arguments, source=source, passwords=self._password, listing=listing, dump=dump
        )


def target_on(server: Source, name: str, clients: Clients, private: Path, *, own: bool) -> Target:
    """Make ready what PostgreSQL's programs need; nothing is asked of the server yet."""
    return Target(server, name, clients, private, own, server.write_password_file(private / "pgpass"))


def exact_clients(major: int, *, needs_tls: bool = False, container: Container | None = None) -> Clients:
    """Find the client programs of exactly this major version: what is newer never restores. Raises NotCheckedError."""
    found = [clients_inside(container)] if container else installed_clients()
    fitting = [clients for clients in found if clients.major == major and (clients.tls or not needs_tls)]
    if not fitting:
        listing = "; ".join(str(clients) for clients in found) or "none at all"
        raise NotCheckedError(f"no pg_restore {major} here: found {listing}: install postgresql-client-{major}")
    return fitting[0]


@contextlib.contextmanager
def _ended_after(seconds: float, running: subprocess.Popen[bytes]) -> Iterator[None]:
    timer = threading.Timer(seconds, running.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
