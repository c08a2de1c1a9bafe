"""PostgreSQL's client programs: the ones whose major version fits the server's, here or in the server's container.

pg_dump of a newer major writes settings that the older server refuses on restore, so the exact major is looked for
first: in PATH, in the directories where Debian and PGDG put every major, in the embedded distribution. A newer pg_dump
may dump, with a warning; nothing newer ever restores. A server in a container is asked for its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from borg_vault_plugin import process
from borg_vault_plugin.cluster import embedded_distributions
from borg_vault_plugin.container import Container, docker_environment, feeding
from borg_vault_plugin.database import Source
from borg_vault_plugin.errors import PreflightError

VERSION = re.compile(rb"\(PostgreSQL\) (\d+)(\S*)")
PROBE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a client program: its command, its environment, and what is written to its standard input."""

    command: Sequence[str]
    environment: Mapping[str, str]
    feed: process.Feed | None = None

    def child(
        self, *, stderr: IO[bytes], pass_fds: Iterable[int] = ()
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Start it, as `process.child` does."""
        return process.child(self.command, env=self.environment, stderr=stderr, pass_fds=pass_fds, feed=self.feed)

    def run(self, *, timeout: float, kept: process.Kept = contextlib.nullcontext) -> process.Finished:
        """Run it to its end, as `process.run` does."""
        return process.run(self.command, env=self.environment, timeout=timeout, kept=kept, feed=self.feed)


@dataclass(frozen=True, slots=True)
class Clients:
    """One directory of client programs of one major version."""

    directory: Path
    major: int
    version: str
    tls: bool
    container: Container | None = None
    """Where they are, unless here."""

    def program(self, name: str) -> Path:
        """Give the path of one program, such as pg_dump."""
        return self.directory / name

    def call(
        self,
        program: str,
        *arguments: str,
        source: Source | None = None,
        passwords: Mapping[str, str] | None = None,
        listing: Path | None = None,
        dump: Path | None = None,
    ) -> Call:
        """Give the call of a program on a source's database, on a dump, or with a list of a dump's entries.

        `passwords` are the variables that lead libpq to its password file, where the program runs here. Raises OSError
        when a file is not there.
        """
        if self.container is not None:
            return self._call_inside(self.container, program, arguments, source, listing=listing, dump=dump)
        connecting = [f"--dbname={source.conninfo}", "--no-password"] if source else []
        listed = [f"--use-list={listing}"] if listing else []
        files = [str(dump)] if dump else []
        command = [str(self.program(program)), *connecting, *arguments, *listed, *files]
        return Call(command, process.plain_environment(passwords))

    def _call_inside(
        self,
        container: Container,
        program: str,
        arguments: Sequence[str],
        source: Source | None,
        *,
        listing: Path | None,
        dump: Path | None,
    ) -> Call:
        connecting = [f"--dbname={source.conninfo_inside}", "--no-password"] if source else []
        command = container.command(program, [*connecting, *arguments], listing=listing, dump=dump)
        feed = feeding(source.password_line if source else "", listing=listing, dump=dump)
        return Call(command, docker_environment(), feed)

    def __str__(self) -> str:
        return f"{self.version} in {self.container or self.directory}" + ("" if self.tls else " (no TLS)")


def clients_for(source: Source, server_major: int) -> Clients:
    """Find the client programs for a source's server: its container's own, else those of this host.

    Raises PreflightError that lists what was found and says what to install.
    """
    if source.container is None:
        return find_clients(server_major, needs_tls=source.needs_tls)
    return clients_inside(source.container)


def clients_inside(container: Container) -> Clients:
    """Ask a container for its client programs. Raises PreflightError when it has none."""
    inside = Clients(Path(), 0, "", tls=True, container=container)
    try:
        finished = inside.call("pg_dump", "--version").run(timeout=PROBE_SECONDS)
    except (OSError, process.TimeoutExpired) as error:
        raise PreflightError(f"{container} cannot be asked for its pg_dump: {error}") from error
    match = VERSION.search(finished.stdout)
    if finished.returncode or match is None:
        raise PreflightError(f"{container} has no pg_dump that works: {finished.last_words()}")
    return replace(inside, major=int(match[1]), version=(match[1] + match[2]).decode())


def find_clients(server_major: int, *, needs_tls: bool = False) -> Clients:
    """Find the client programs that fit a server, the exact major first, else the nearest newer one.

    Raises PreflightError that lists what was found and says what to install.
    """
    found = installed_clients()
    usable = [clients for clients in found if clients.tls or not needs_tls]
    newer = [clients for clients in usable if clients.major >= server_major]
    if newer:
        return min(newer, key=lambda clients: clients.major)
    listing = "; ".join(str(clients) for clients in found) or "none at all"
    raise PreflightError(
        f"no pg_dump that fits a PostgreSQL {server_major} server: found {listing}: "
        f"install postgresql-client-{server_major} (Debian, PGDG)"
    )


def installed_clients() -> list[Clients]:
    """List every directory that holds pg_dump and pg_restore, each once, in the order in which they are preferred."""
    seen: dict[Path, Clients] = {}
    for directory, tls in _candidate_directories():
        real = directory.resolve()
        if real in seen or not (directory / "pg_restore").exists():
            continue
        clients = _probe(directory, tls=tls)
        if clients is not None:
            seen[real] = clients
    return list(seen.values())


def _candidate_directories() -> Iterator[tuple[Path, bool]]:
    embedded = [distribution.bin.resolve() for distribution in embedded_distributions()]
    on_path = shutil.which("pg_dump", path=os.environ.get("PATH", os.defpath))
    # Debian's /usr/bin/pg_dump is a wrapper that picks a major by itself: never ask it, look where it would look.
    if on_path and Path(on_path).resolve().name != "pg_wrapper":
        directory = Path(on_path).resolve().parent
        yield directory, directory not in embedded
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        yield directory, True
    for directory in embedded:
        yield directory, False


@functools.cache
def _probe(directory: Path, *, tls: bool) -> Clients | None:
    try:
        finished = process.run(
            [directory / "pg_dump", "--version"], env=process.plain_environment(), timeout=PROBE_SECONDS
        )
    except (OSError, process.TimeoutExpired):
        return None
    match = VERSION.search(finished.stdout)
    if finished.returncode or match is None:
        return None
    return Clients(directory, int(match[1]), (match[1] + match[2]).decode(), tls)
