"""Where an archive is restored to: a server, the database that is live there, and the names beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import psycopg

from borg_vault_plugin.config import LABEL, Settings
from borg_vault_plugin.database import Connection, Source, explain, only_row, source_from_url
from borg_vault_plugin.errors import Error, PreflightError, SourceError, UsageError
from borg_vault_plugin.secret import SecretReference, reveal
from borg_vault_plugin.session import open_session

State = Literal["absent", "empty", "server", "other", "closed"]
ASIDE = ("postgres", "template1")
ADDRESS = ("host", "hostaddr", "port", "dbname")
NAME_BYTES = 63  # NAMEDATALEN less one: PostgreSQL cuts longer names off
NAME_TIME = "%Y%m%d%H%M%S"

# A database whose size nobody tells us has none.
FACTS = """
SELECT datallowconn, CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END
  FROM pg_database WHERE datname = %s"""
# Whether it is a Server's, or holds anything that is not an extension's own.
CONTENTS = """
SELECT to_regclass('public.records') IS NOT NULL OR to_regclass('public.audit_vault') IS NOT NULL,
       EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
                  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                                     AND deptype = 'e'))"""


@dataclass(frozen=True, slots=True)
class Live:
    """The database whose place a restored one could take."""

    name: str
    state: State
    """`absent`; `empty`, without tables; a Server's; something `other`; `closed`, so that nobody can tell."""
    size: int | None = None
    reason: str = ""
    """Why it could not be looked into."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A server that was reached, and what is live on it."""

    server: Source
    """Leads to a database that is there and, where the server lets us, is not the live one."""
    live: Live
    major: int
    is_home: bool
    """Whether the live database is the one that backups are made of."""

    @property
    def live_source(self) -> Source:
        """How to reach the live database."""
        return in_database(self.server, self.live.name)

    @property
    def is_aside(self) -> bool:
        """Whether we are connected to another database than the live one."""
        return self.server.database != self.live.name


def server_named(settings: Settings, words: str | None) -> Source:
    """Give the server that `--to` names: NAME of the configuration, env:NAME or file:PATH; without, the source's.

    Raises UsageError for a URL, without repeating it, and ConfigError for what leads nowhere.
    """
    if words is None:
        return settings.source()
    kind, _, rest = words.partition(":")
    if kind == "env" or kind == "file":  # noqa: PLR1714 - mypy follows this
        reference = SecretReference(env=rest) if kind == "env" else SecretReference.model_validate({"file": rest})
        return replace(source_from_url(reveal(reference, "--to")), timeout=settings.database.timeout)
    if not LABEL.fullmatch(words):
        raise UsageError(
            "--to takes a name from the configuration, env:NAME or file:PATH, and no URL: everybody on this machine"
            " could read its password there"
        )
    return settings.target(words)


def is_home(settings: Settings, source: Source) -> bool:
    """Whether a server's database is the one that backups are made of, as far as addresses tell."""
    try:
        home = settings.source()
    except Error:  # where the bundled server is, only its container tells, which may be what was lost
        return False
    return all(source.parameters.get(name) == home.parameters.get(name) for name in ADDRESS)


def look_at(source: Source, *, home: bool) -> Destination:
    """Reach a server and see what is live there. Raises SourceError, PreflightError for a standby."""
    try:
        server = _aside(source)
        with open_session(server) as connection:
            if only_row(connection, "SELECT pg_is_in_recovery()")[0]:
                raise PreflightError(f"{source.place} is a standby: restore to its primary")
            return Destination(server, _live(connection, source), connection.info.server_version // 10000, is_home=home)
    except psycopg.Error as error:
        raise SourceError(f"database {source.address}: {explain(error)}") from error


def in_database(source: Source, name: str) -> Source:
    """Give the way to another database of the same server."""
    return replace(source, parameters={**source.parameters, "dbname": name})


def checked_name(name: str) -> str:
    """Give the name of a database back. Raises UsageError for one that PostgreSQL would change or refuse."""
    size = len(name.encode("utf-8", "surrogateescape"))
    if not name or size > NAME_BYTES or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise UsageError(f"--database {name!r}: the name of a database is UTF-8 of 1 to {NAME_BYTES} bytes")
    return name


def derived_name(name: str, word: str, time: datetime) -> str:
    """Give the name of a database beside another: `<name>_<word>_<time, UTC>`, where `name` gives way if need be."""
    suffix = f"_{word}_{time.astimezone(UTC):{NAME_TIME}}"
    room = NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode("utf-8", "ignore") + suffix


def _aside(source: Source) -> Source:
    """Find a database to talk to the server from, preferably not the live one. Raises psycopg.OperationalError."""
    others = [name for name in ASIDE if name != source.database]
    for name in others:
        other = in_database(source, name)
        try:
            with open_session(other):
                return other
        except psycopg.OperationalError as error:
            if 'database "' not in str(error):
                raise
    return in_database(source, source.database)


def _live(connection: Connection, source: Source) -> Live:
    name = source.database
    facts = connection.execute(FACTS, [name]).fetchone()
    if facts is None:
        return Live(name, "absent")
    allowed, size = facts
    if not allowed:
        return Live(name, "closed", size, "it takes no connections")
    try:
        with open_session(in_database(source, name)) as inside:
            is_server, holds_tables = only_row(inside, CONTENTS)
    except psycopg.Error as error:
        return Live(name, "closed", size, explain(error))
    return Live(name, "server" if is_server else "other" if holds_tables else "empty", size)
