"""How to reach the database: libpq parameters from a URL or the environment, the password kept apart.

A `DATABASE_URL` written for the Server's own driver holds parameters that libpq does not know. Those are translated or
dropped with a notice, since failing on them would only teach people to keep two URLs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.abc import Query
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from borg_vault_plugin.container import Container
from borg_vault_plugin.errors import ConfigError, SourceError
from borg_vault_plugin.redaction import remember_secret

Connection = psycopg.Connection[tuple[Any, ...]]

# Any of these says that the operator means libpq's own environment (PostgreSQL documentation, 32.15).
UNREADABLE_URL = (
    "the database URL is not one that PostgreSQL understands: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    " and percent-encode special characters in the password"
)
LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
# sslmode as node-postgres writes it: TLS without looking at the certificate is what libpq calls "require".
TLS_MODES = ("require", "verify-ca", "verify-full")
FOREIGN_SSLMODES = {"no-verify": "require"}
# What to do, by what PostgreSQL or libpq says; connection failures carry no SQLSTATE.
ADVICE = {
    "Connection refused": "start the server, or mend host and port",
    "No such file or directory": "start the server, or mend the socket's directory",
    "failed to resolve host": "mend the host's name, or look at DNS",
    "could not translate host name": "mend the host's name, or look at DNS",
    "password authentication failed": "give the right password",
    "no password supplied": "give the password in DATABASE_URL or PGPASSWORD",
    "no pg_hba.conf entry": "let this host and role in, in the server's pg_hba.conf",
    'snapshot "': "the session that held it was ended: look at the server's log, then run again",
    "too many clients": "raise max_connections, or try again later",
    "lock timeout": "another session, often a migration, holds it: try again later, or raise database.lock_timeout",
    "permission denied": "grant SELECT on it to the backup's role",
    "row-level security": "give the backup's role BYPASSRLS",
    "conflict with recovery": "raise max_standby_streaming_delay on the standby, or back up the primary",
    "terminating connection": "find out who ended it, then run again",
    "the database system is": "wait until the server is up",
    "server closed the connection": (
        "look at the server's log, then run again"
        " (a standby that ends long queries: raise max_standby_streaming_delay on the standby, or back up the primary)"
    ),
    "timeout expired": "look at the network between here and the server",
    'database "': "mend the name in DATABASE_URL",
    'role "': "mend the name in DATABASE_URL",
}

KEEPALIVES = {"keepalives": "1", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "6"}


@dataclass(frozen=True, slots=True)
class Source:
    """One database: how libpq reaches it. `parameters` hold no password; `notices` say what a URL lost."""

    parameters: Mapping[str, str]
    password: str | None = field(default=None, repr=False)
    notices: tuple[str, ...] = ()
    timeout: timedelta = timedelta(hours=12)
    """How long to wait for any one answer."""
    container: Container | None = None
    """In which the server and its clients are, where that is known."""

    def __post_init__(self) -> None:
        """Keep the password out of what is sent elsewhere."""
        remember_secret(self.password or "")

    @property
    def database(self) -> str:
        """The database's name, by libpq's rule: the user's name when none is given."""
        return self.parameters.get("dbname") or self.parameters.get("user") or os.environ.get("USER", "postgres")

    @property
    def needs_tls(self) -> bool:
        """Say whether only a client that can do TLS will be let in; on a Unix socket none is needed."""
        on_socket = self.parameters.get("host", "").startswith("/")
        return self.parameters.get("sslmode") in TLS_MODES and not on_socket

    @property
    def address(self) -> str:
        """Which database on which server, for messages."""
        return f"{self.database} in {self.place}" if self.container else f"{self.database} on {self.place}"

    @property
    def place(self) -> str:
        """Where the server is, for people."""
        if self.container is not None:
            return str(self.container)
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "the local socket"
        port = self.parameters.get("port")
        return f"{host}:{port}" if port else host

    @property
    def conninfo(self) -> str:
        """The libpq conninfo string without the password: it can stand on a command line."""
        return make_conninfo(**self.parameters)

    @property
    def conninfo_inside(self) -> str:
        """The same for a client inside of the container: over its Unix socket."""
        others = {name: value for name, value in self.parameters.items() if name not in ("hostaddr", "port")}
        return make_conninfo(**{**others, "host": ""})

    @property
    def password_line(self) -> str:
        """The password as a line of libpq's password file; empty when there is none."""
        escaped = (self.password or "").replace("\\", "\\\\").replace(":", "\\:")
        return f"*:*:*:*:{escaped}" if self.password is not None else ""

    def connect(self) -> Connection:
        """Open an autocommit connection with TCP keepalives; raises psycopg.OperationalError."""
        parameters = KEEPALIVES | {"connect_timeout": "30", "application_name": "borg-vault"} | dict(self.parameters)
        if self.password is not None:
            parameters["password"] = self.password
        return psycopg.connect(make_conninfo(**parameters), autocommit=True, client_encoding="UTF8")

    def write_password_file(self, path: Path) -> dict[str, str]:
        """Write libpq's password file (mode 0600) and give the variables that make a child read it."""
        if self.password is None:
            return {name: os.environ[name] for name in ("PGPASSFILE",) if name in os.environ}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(f"{self.password_line}\n")
        return {"PGPASSFILE": str(path)}


def explain(error: psycopg.Error) -> str:
    """Give the line in which PostgreSQL said what is wrong, and what to do about the best-known cases."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return advised(lines[0].removeprefix("connection failed: "))


def advised(said: str) -> str:
    """Add what to do about what PostgreSQL said, where that is known."""
    return next((f"{said}: {advice}" for sign, advice in ADVICE.items() if sign in said), said)


def only_row(connection: Connection, query: Query) -> tuple[Any, ...]:
    """Give the one row of a query that always has one; raises psycopg.Error."""
    row = connection.execute(query).fetchone()
    if row is None:
        raise psycopg.DataError("a query that always has a row had none")
    return row


@contextlib.contextmanager
def answering(connection: Connection, source: Source) -> Iterator[None]:
    """Give up on a server that does not answer for too long, whatever the network pretends; raises SourceError."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        cut(connection)

    timer = threading.Timer(source.timeout.total_seconds(), give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.Error as error:
        if late.is_set():
            raise SourceError(
                f"database {source.address}: no answer within {source.timeout}: look at the server and the network,"
                " or raise database.timeout"
            ) from error
        raise
    finally:
        timer.cancel()


def cut(connection: Connection) -> None:
    """End a connection's traffic, so that a thread that waits for an answer goes on and fails."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as traffic:
        traffic.shutdown(socket.SHUT_RDWR)


def source_from_url(url: str) -> Source:
    """Read a URL or a libpq conninfo string.

    Raises ConfigError, without repeating the text, which may hold a password.
    """
    notices: tuple[str, ...] = ()
    if "://" in url:
        _refuse_unencoded_password(url)
        url, notices = _without_foreign_parameters(url)
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError:
        raise ConfigError(UNREADABLE_URL) from None
    if "sslpassword" in parameters:
        raise ConfigError("the database URL holds sslpassword: use a key file of mode 0600 without a password instead")
    # libpq completes a URL from the environment; our children have none, so it is done here.
    return _source(_environment_parameters() | parameters, notices)


def source_from_environment(environment: Mapping[str, str]) -> Source | None:
    """Read libpq's own variables, services included; None when none of them names a server or database."""
    if not any(environment.get(name) for name in LIBPQ_VARIABLES):
        return None
    return _source(_environment_parameters(), ())


def _environment_parameters() -> dict[str, str]:
    return {
        option.keyword.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.envvar and option.val and option.val != option.compiled and option.keyword != b"client_encoding"
    }


def _source(parameters: dict[str, str], notices: tuple[str, ...]) -> Source:
    password = parameters.pop("password", None)
    if password is not None:
        parameters.pop("passfile", None)  # libpq would prefer it to the password file that we write
    return Source(parameters, password, notices)


def _refuse_unencoded_password(url: str) -> None:
    """Refuse a URL whose password holds an unencoded / or ?: libpq would take the rest for the database's name."""
    authority, _, rest = url.partition("://")[2].replace("?", "/", 1).partition("/")
    if "@" not in authority and "@" in rest:
        raise ConfigError(UNREADABLE_URL)


def _without_foreign_parameters(url: str) -> tuple[str, tuple[str, ...]]:
    address, _, query = url.partition("?")
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} | {"ssl"}
    kept: list[tuple[str, str]] = []
    notices: list[str] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            notices.append(f"the database URL's parameter {name!r} means nothing to PostgreSQL and is ignored")
        elif name == "sslmode" and value in FOREIGN_SSLMODES:
            kept.append((name, FOREIGN_SSLMODES[value]))
            notices.append(f"the database URL's sslmode={value} is read as sslmode={FOREIGN_SSLMODES[value]}")
        else:
            kept.append((name, value))
    # %20, not +, for a space: libpq does not read + as one.
    return (f"{address}?{urlencode(kept, quote_via=quote)}" if kept else address), tuple(notices)
