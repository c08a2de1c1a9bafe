"""One instant of the database: an exported snapshot that every connection and every pg_dump of a run shares.

The exporting transaction first locks every table that will be dumped (ACCESS SHARE, which takes no snapshot yet), only
then exports its snapshot, and then lists the tables once more. Without that order a TRUNCATE or a rewriting ALTER TABLE
between the export and pg_dump's own locks gives an empty table with exit code 0 (PostgreSQL documentation, 13.6
"Caveats": TRUNCATE and table-rewriting ALTER TABLE are not MVCC-safe).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TypeVar, cast

import psycopg
from psycopg import sql

from borg_vault_plugin import process
from borg_vault_plugin.clients import Clients, clients_for
from borg_vault_plugin.database import Connection, Source, advised, answering, cut, explain, only_row
from borg_vault_plugin.errors import ContendedError, SourceError
from borg_vault_plugin.session import BEGIN, open_session, set_lock_timeout

logger = logging.getLogger(__name__)

Resource = TypeVar("Resource")

# Members of an extension are created by CREATE EXTENSION; only its configuration tables are dumped.
TABLES_TO_DUMP = """
SELECT c.oid::int8, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname),
       c.relkind = 'r' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                      AND d.refclassid = 'pg_extension'::regclass AND NOT coalesce(c.oid = ANY (e.extconfig), false))
 ORDER BY 4"""

# The exporting session has these locks already: whoever is in the way waits for it, so waiting long is in vain.
JOINING_LOCK_TIMEOUT = timedelta(seconds=5)
CONTENDED = "another session, often a migration, wants a table for itself: run again when it is done"
CANCEL_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the source said about itself; what it refused to say is None."""

    id: str
    time: datetime
    server_version: str
    major: int
    database: str
    in_recovery: bool
    system_identifier: str | None
    wal_lsn: str | None


@dataclass(frozen=True, slots=True)
class DumpedTable:
    """A table that pg_dump will write; `quoted` can stand in SQL; a partitioned table itself has no data."""

    oid: int
    schema: str
    name: str
    quoted: str
    has_data: bool


@dataclass
class Snapshot:
    """One instant of one database, shared by connections and client programs until the run abandons it."""

    source: Source
    facts: Facts
    tables: tuple[DumpedTable, ...]
    lock_timeout: timedelta
    private: Path
    password_variables: Mapping[str, str]
    pass_fds: tuple[int, ...] = ()
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _abandoned: bool = field(default=False, repr=False)
    _connections: list[Connection] = field(default_factory=list, repr=False)
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    @property
    def joining_lock_timeout(self) -> timedelta:
        """How long a session that joins the snapshot waits for a table: whoever has it waits for the snapshot."""
        return min(self.lock_timeout, JOINING_LOCK_TIMEOUT)

    @functools.cached_property
    def clients(self) -> Clients:
        """The client programs that fit the server; raises PreflightError when there are none."""
        clients = clients_for(self.source, self.facts.major)
        if clients.major != self.facts.major:
            logger.warning(
                "pg_dump %s for a PostgreSQL %s server: its dump may not restore there: install postgresql-client-%s",
                clients.version, self.facts.server_version, self.facts.major,
            )  # fmt: skip
        return clients

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Open a connection that sees exactly this instant, in a read-only transaction.

        It locks every table at once: whoever wants one for himself later waits for the whole run.
        Raises psycopg.Error, ContendedError, SourceError after the run was abandoned.
        """
        with open_session(self.source, self.lock_timeout) as connection, self._kept(self._connections, connection):
            connection.execute(BEGIN)
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(self.facts.id))
            self._lock_again(connection)
            yield connection

    @contextlib.contextmanager
    def client_output(self, program: str, arguments: Sequence[str]) -> Iterator[IO[bytes]]:
        """Run one of PostgreSQL's client programs against the source and give its output, to be read to its end.

        Its password goes through a private file. Raises SourceError with its last words when it fails.
        """
        call = self.clients.call(program, *arguments, source=self.source, passwords=self.password_variables)
        # Its messages go to a file: two pipes read one after the other can hang.
        with (
            tempfile.TemporaryFile(dir=self.private) as messages,
            call.child(stderr=messages, pass_fds=self.pass_fds) as running,
            self._kept(self._children, running),
        ):
            yield process.widened(cast(IO[bytes], running.stdout))
            returncode = running.wait()
            messages.seek(0)
            words = messages.read()
            # pg_dump waits for its locks by means of statement_timeout, and has none afterwards.
            if returncode and (b"lock timeout" in words or b"statement timeout" in words):
                raise ContendedError(f"{program} of {self.source.address} waited in vain for a table: {CONTENDED}")
            if returncode:
                how = process.ending(returncode)
                said = advised(_said(words))
                raise SourceError(f"{program} of {self.source.address} failed ({how}): {said}")
            for line in words.decode("utf-8", "replace").splitlines():
                logger.warning("%s", line)

    def keeping(self, child: subprocess.Popen[bytes]) -> AbstractContextManager[None]:
        """Have a child ended when the run is abandoned, as long as it is inside this `with`."""
        return self._kept(self._children, child)

    def abandon(self) -> None:
        """End every connection and client program of this snapshot, so that whoever waits for one goes on and fails."""
        with self._guard:
            self._abandoned = True
            connections, children = list(self._connections), list(self._children)
        for running in children:
            process.end(running)
        # The server is asked to stop first, or it would go on for nobody; then whoever still waits is woken.
        asking = [threading.Thread(target=_cancel, args=(connection,), daemon=True) for connection in connections]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(CANCEL_SECONDS)
        for connection in connections:
            cut(connection)

    def _lock_again(self, connection: Connection) -> None:
        if not self.tables:
            return
        tables = ", ".join(f"ONLY {table.quoted}" for table in self.tables)
        set_lock_timeout(connection, self.joining_lock_timeout)
        try:
            connection.execute(f"LOCK TABLE {tables} IN ACCESS SHARE MODE".encode())
        except psycopg.errors.LockNotAvailable as error:
            raise ContendedError(f"database {self.source.address}: {CONTENDED}") from error
        set_lock_timeout(connection, self.lock_timeout)

    @contextlib.contextmanager
    def _kept(self, kept: list[Resource], resource: Resource) -> Iterator[None]:
        with self._guard:
            if self._abandoned:
                raise SourceError("the run was abandoned")
            kept.append(resource)
        try:
            yield
        finally:
            with self._guard:
                kept.remove(resource)


@contextlib.contextmanager
def open_snapshot(
    source: Source,
    *,
    lock_timeout: timedelta,
    private: Path,
    pass_fds: Iterable[int] = (),
    only_tables: Sequence[str] | None = None,
) -> Iterator[Snapshot]:
    """Lock what will be dumped, export a snapshot and hold it open.

    `private` is a directory of ours for password files; `only_tables` restricts the locks to these qualified names.
    Raises SourceError when the server cannot be reached or refuses.
    """
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(open_session(source, lock_timeout))
            with answering(connection, source):
                facts, tables = _export(connection, only_tables)
        except psycopg.Error as error:
            raise SourceError(f"database {source.address}: {explain(error)}") from error
        snapshot = Snapshot(
            source,
            facts,
            tables,
            lock_timeout,
            private,
            source.write_password_file(private / "pgpass"),
            tuple(pass_fds),
        )
        stack.callback(snapshot.abandon)
        yield snapshot
        _check_still_held(connection, source)


def _said(words: bytes) -> str:
    """Give a client's error with what the server said about it, which stands on a line of its own."""
    detail = re.search(r"detail: Error message from server: (.*)", words.decode("utf-8", "replace"))
    return f"{process.reason(words)}: {detail[1].strip()}" if detail else process.reason(words)


def _cancel(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.cancel_safe(timeout=CANCEL_SECONDS)


def _check_still_held(connection: Connection, source: Source) -> None:
    """Make sure that the locks were held to the end: without them an artifact may be of no instant at all."""
    try:
        connection.execute("SELECT pg_export_snapshot()")
    except psycopg.Error as error:
        raise SourceError(
            f"database {source.address}: the session that held the snapshot was ended: {explain(error)}"
        ) from error


def _export(connection: Connection, only_tables: Sequence[str] | None) -> tuple[Facts, tuple[DumpedTable, ...]]:
    for _ in range(2):
        tables = tables_to_dump(connection, only_tables)
        connection.execute(BEGIN)
        try:
            for table in tables:
                _lock(connection, table)
            facts = _facts(connection)
            if tables_to_dump(connection, only_tables) == tables:
                return facts, tables
        except psycopg.errors.UndefinedTable:
            logger.info("a table was dropped while the snapshot was taken: starting over")
        connection.execute("ROLLBACK")
    raise SourceError("tables keep being created or dropped: let the migration finish, then try again")


def tables_to_dump(connection: Connection, only_tables: Sequence[str] | None = None) -> tuple[DumpedTable, ...]:
    """List the tables that pg_dump would write now; `only_tables` are quoted names."""
    found = (DumpedTable(*row) for row in connection.execute(TABLES_TO_DUMP).fetchall())
    return tuple(table for table in found if only_tables is None or table.quoted in only_tables)


def _lock(connection: Connection, table: DumpedTable) -> None:
    # One by one, so that the message of a refusal or a timeout can say which table it was.
    try:
        connection.execute(f"LOCK TABLE ONLY {table.quoted} IN ACCESS SHARE MODE".encode())
    except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as error:
        raise SourceError(f"table {table.quoted}: {explain(error)}") from error


def _facts(connection: Connection) -> Facts:
    identifier, time, number, database, in_recovery = only_row(
        connection,
        "SELECT pg_export_snapshot(), statement_timestamp(), current_setting('server_version_num')::int,"
        " current_database(), pg_is_in_recovery()",
    )
    lsn = "pg_last_wal_replay_lsn()" if in_recovery else "pg_current_wal_lsn()"
    return Facts(
        id=identifier,
        time=time.astimezone(UTC),
        server_version=f"{number // 10000}.{number % 10000}",
        major=number // 10000,
        database=database,
        in_recovery=in_recovery,
        system_identifier=_if_told(connection, "SELECT system_identifier::text FROM pg_control_system()"),
        wal_lsn=_if_told(connection, f"SELECT {lsn}::text"),
    )


def _if_told(connection: Connection, query: str) -> str | None:
    """Ask for something that managed servers refuse; a savepoint keeps the refusal from ending the transaction."""
    try:
        with connection.transaction():
            row = connection.execute(query.encode()).fetchone()
    except psycopg.Error:
        return None
    return None if row is None else row[0]
