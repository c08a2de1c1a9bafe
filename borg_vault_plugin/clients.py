"""PostgreSQL's client programs: the ones whose major version fits the server's.

pg_dump of a newer major writes settings that the older server refuses on restore, so the exact major is looked for
first: in PATH, in the directories where Debian and PGDG put every major, in the embedded distribution. A newer pg_dump
may dump, with a warning; nothing newer ever restores.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from borg_vault_plugin import process
from borg_vault_plugin.cluster import embedded_distributions
from borg_vault_plugin.errors import PreflightError

VERSION = re.compile(rb"\(PostgreSQL\) (\d+)(\S*)")
PROBE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Clients:
    """One directory of client programs of one major version."""

    directory: Path
    major: int
    version: str
    tls: bool

    def program(self, name: str) -> Path:
        """Give the path of one program, such as pg_dump."""
        return self.directory / name

    def __str__(self) -> str:
        return f"{self.version} in {self.directory}" + ("" if self.tls else " (no TLS)")


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
