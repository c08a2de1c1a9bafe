"""Letting a restored database take the live one's name: nobody gets in between, and no crash leaves half of it.

Everything is one transaction. PostgreSQL's lock on a database, which renaming it takes first, keeps every new session
waiting at the door until the transaction ends; the sessions that are inside are ended meanwhile, from another
connection, so a pool that reconnects all the time gets nowhere. Then both names change, the old database is closed
(ALLOW_CONNECTIONS false) and the new one is open, all at the same instant. Whoever waited is told that the database was
renamed, and is let into the new one when he asks again. If we are killed at any point before the commit, PostgreSQL
takes everything back and the live database is open as it was; there is nothing that an operator has to undo.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType

import psycopg
from psycopg import sql

from borg_vault_plugin.database import Connection, Source, answering, explain
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.session import open_session

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # PostgreSQL waits five seconds for sessions to end, and then gives up
PAUSE_SECONDS = 0.05
LOCK_TIMEOUT = timedelta(seconds=5)  # meanwhile nobody gets in

RIGHTS = """
SELECT d.datname, pg_has_role(d.datdba, 'USAGE'), me.rolcreatedb OR me.rolsuper
  FROM pg_database d JOIN pg_roles me ON me.rolname = current_user WHERE d.datname = ANY (%s) ORDER BY 1"""
# What outlives the sessions and stays with the old database, or keeps it from being renamed.
BOUND = """
SELECT format('prepared transaction %%L', gid) FROM pg_prepared_xacts WHERE database = ANY (%s)
 UNION ALL SELECT format('replication slot %%I', slot_name) FROM pg_replication_slots WHERE database = ANY (%s)
 UNION ALL SELECT format('subscription %%I', subname) FROM pg_subscription
            WHERE subdbid IN (SELECT oid FROM pg_database WHERE datname = ANY (%s)) ORDER BY 1"""
# By the rules of pg_terminate_backend.
BEYOND_US = """
SELECT DISTINCT a.usename FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
  JOIN pg_roles me ON me.rolname = current_user
 WHERE a.datname = ANY (%s) AND NOT me.rolsuper
   AND (r.rolsuper OR NOT (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))) ORDER BY 1"""
SESSIONS = """
SELECT pid FROM pg_stat_activity WHERE datname = ANY (%s) AND pid <> pg_backend_pid()
   AND backend_type IS DISTINCT FROM 'autovacuum worker'"""  # those are asked to leave by whoever renames


@dataclass(frozen=True, slots=True)
class Names:
    """Who gets whose name: `restored` becomes `live`, and what was called so, if anything was, becomes `previous`."""

    live: str
    restored: str
    previous: str | None

    @property
    def present(self) -> list[str]:
        """The databases that are there before."""
        return [self.restored] if self.previous is None else [self.live, self.restored]


def obstacles(server: Connection, names: Names) -> Iterator[str]:
    """Say what would keep a swap from going well, as far as the server can tell now. Raises psycopg.Error."""
    for name, owns, may_rename in server.execute(RIGHTS, [names.present]).fetchall():
        if not (owns and may_rename):
            yield f"role {server.info.user} may not rename {name} (it must have the owner's rights, and CREATEDB)"
    for (what,) in server.execute(BOUND, [names.present] * 3).fetchall():
        yield f"{what} belongs to the database: end or drop it first"
    for (role,) in server.execute(BEYOND_US, [names.present]).fetchall():
        yield f"role {server.info.user} may not end sessions of {role} (pg_signal_backend; a superuser's: SUPERUSER)"


def swap(server: Source, names: Names) -> None:
    """Let the restored database take the live one's name. Raises SourceError; then everything is as it was."""
    try:
        with (
            open_session(server, LOCK_TIMEOUT) as renaming,
            open_session(server) as ending,
            answering(renaming, server),
        ):
            _rename_patiently(renaming, ending, names)
    except psycopg.Error as error:
        # The answer to a commit can be lost on its way.
        if not _is_done(server, names):
            untouched = f"{names.live} could not be renamed, and is as it was; {names.restored} is there still"
            raise SourceError(f"{untouched}: {explain(error)}") from error


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no SIGINT or SIGTERM come between what belongs together: it takes seconds, and is the end of the run."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal arrives here
        return
    before = {number: signal.signal(number, _come_too_late) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _come_too_late(number: int, _frame: FrameType | None) -> None:
    logger.info("%s comes too late: the names are about to change", signal.Signals(number).name)


def _rename_patiently(renaming: Connection, ending: Connection, names: Names) -> None:
    for left in reversed(range(ATTEMPTS)):
        try:
            return _rename(renaming, ending, names)
        except psycopg.errors.ObjectInUse as error:
            logger.info("sessions of %s do not end: %s", names.live, explain(error))
            if not left:
                raise
    return None


def _rename(renaming: Connection, ending: Connection, names: Names) -> None:
    live, restored = sql.Identifier(names.live), sql.Identifier(names.restored)
    with renaming.transaction(), _ended(ending, names):
        if names.previous is not None:
            previous = sql.Identifier(names.previous)
            renaming.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(live, previous))
            renaming.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(previous))
        renaming.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(restored, live))
        renaming.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(live))


@contextlib.contextmanager
def _ended(ending: Connection, names: Names) -> Iterator[None]:
    """End every session of both databases, again and again, as long as we are inside."""
    done = threading.Event()
    thread = threading.Thread(target=_end_sessions, args=(ending, names.present, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _end_sessions(ending: Connection, databases: list[str], done: threading.Event) -> None:
    # Until the renaming is committed, everybody but that session sees the names as they were.
    with contextlib.suppress(psycopg.OperationalError):
        while not done.wait(PAUSE_SECONDS):
            for (pid,) in ending.execute(SESSIONS, [databases]).fetchall():
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                    ending.execute("SELECT pg_terminate_backend(%s)", [pid])


def _is_done(server: Source, names: Names) -> bool:
    """Whether the names have changed all the same. Raises SourceError when nobody can tell."""
    wanted = {names.live, names.restored, names.previous or names.live}
    try:
        with open_session(server) as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE datname = ANY (%s)", [list(wanted)])
            return {name for (name,) in rows.fetchall()} == wanted - {names.restored}
    except psycopg.Error as error:
        raise SourceError(
            f"the server was lost while {names.live} was renamed: {explain(error)}: look whether {names.restored} is"
            " there still (then everything is as it was) or not (then the restored database is live)"
        ) from error
