"""Probes of the database: only questions, each in a session of its own, which ends with the probe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg

from borg_vault_plugin.clients import clients_for
from borg_vault_plugin.database import Connection, Source, answering, explain, only_row
from borg_vault_plugin.doctor.checks import Check, found, ok, refused
from borg_vault_plugin.errors import PreflightError, SourceError
from borg_vault_plugin.history import SKEW
from borg_vault_plugin.preflight import check_rights
from borg_vault_plugin.registry import refuse_private_keys
from borg_vault_plugin.session import SESSION_SETTINGS, open_session
from borg_vault_plugin.snapshot import tables_to_dump

CLOCK_OFF = timedelta(seconds=10)
STANDBY_BEHIND = timedelta(minutes=10)
# A run's sessions: the exporting one, pg_dump, registry, chain, survey, and one for roles and properties.
SESSIONS = 6

# By what ends a session or a transaction that lasts long; our sessions set them to 0 (session.py), pg_dump its own.
TIMEOUTS = tuple(name for name in SESSION_SETTINGS if name.endswith("_timeout"))
CUTTING = """
SELECT name, current_setting(name), source FROM pg_settings
 WHERE name = ANY (%s) AND setting <> '0' ORDER BY name"""
# What our sessions leave as it is, or cannot set, with the value that limits nothing.
LIMITS = """
SELECT name, current_setting(name) FROM pg_settings
 WHERE (name, setting) NOT IN (VALUES ('old_snapshot_threshold', '-1'), ('temp_file_limit', '-1'),
                                      ('tcp_user_timeout', '0'))
   AND name IN ('old_snapshot_threshold', 'temp_file_limit', 'tcp_user_timeout') ORDER BY name"""
ROOM = """
SELECT least(current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL)::int,
             CASE WHEN r.rolconnlimit >= 0 THEN r.rolconnlimit
               - (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid)::int END,
             CASE WHEN d.datconnlimit >= 0 THEN d.datconnlimit
               - (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid)::int END) + 1
  FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()"""
STANDBY = """
SELECT pg_is_in_recovery(), current_setting('hot_standby_feedback')::bool,
       current_setting('max_standby_streaming_delay'),
       CASE WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()
            THEN now() - pg_last_xact_replay_timestamp() END"""
DRILL_DATABASES = "SELECT datname FROM pg_database WHERE datname ~ '^borg_vault_drill_[0-9a-f]{12}$' ORDER BY 1"
VAULT = ("public.audit_vault", "public.vault_signing_keys")


@contextlib.contextmanager
def plain_session(source: Source) -> Iterator[Connection]:
    """Open a session as the server gives it, nothing set; raises psycopg.Error, SourceError when it is silent."""
    with contextlib.closing(source.connect()) as connection, answering(connection, source):
        yield connection


@contextlib.contextmanager
def prepared_session(source: Source) -> Iterator[Connection]:
    """Open a session as a run has it; raises psycopg.Error, SourceError when it is silent."""
    with open_session(source) as connection, answering(connection, source):
        yield connection


def server_major(source: Source) -> int:
    """Ask for the server's major version; raises psycopg.Error, SourceError."""
    with plain_session(source) as connection:
        return connection.info.server_version // 10000


def server(source: Source) -> Iterator[Check]:
    """Reach the server."""
    with plain_session(source) as connection:
        (version,) = only_row(connection, "SHOW server_version")
        notices = "".join(f"; {notice}" for notice in source.notices)
        yield ok("server", source.address, f"PostgreSQL {version}, as role {connection.info.user}{notices}")


def clock(source: Source) -> Iterator[Check]:
    """Compare this host's clock with the server's, as closely as an answer takes."""
    with plain_session(source) as connection:
        before = datetime.now(UTC)
        (theirs,) = only_row(connection, "SELECT clock_timestamp()")
        apart = theirs - before - (datetime.now(UTC) - before) / 2
    if abs(apart) <= CLOCK_OFF:
        yield ok("clock", source.address, f"{abs(apart).total_seconds():.1f} s from this host's")
        return
    which = "ahead of" if apart > timedelta() else "behind"
    said = f"the server's clock is {abs(apart).total_seconds():,.0f} s {which} this host's"
    yield found("clock.far" if abs(apart) > SKEW else "clock.off", source.address, said, "set both by NTP")


def shares_sessions(source: Source) -> bool:
    """Say whether one session of ours is several of the server's: then nothing else may be asked.

    A pooler in transaction mode gives its server session to whoever begins a transaction next.
    """
    with plain_session(source) as one:
        own = _process(one)
        if own == one.info.backend_pid:  # a pooler makes that number up
            return False
        with plain_session(source) as other, other.transaction():
            return _process(other) == own or _process(one) != own


def pooler(source: Source) -> Iterator[Check]:
    """Look for a pooler between us and the server."""
    advice = "let DATABASE_URL lead to PostgreSQL itself, or give this database pool_mode=session"
    try:
        shared = shares_sessions(source)
    except psycopg.Error as error:
        if "pooling" not in str(error):
            raise
        yield found("pooler.transactions", source.address, f"a transaction is refused: {explain(error)}", advice)
        return
    if shared:
        said = "a pooler in transaction mode: a run's locks, settings and snapshot would be lost between statements"
        yield found("pooler.transactions", source.address, said, advice)
        return
    with plain_session(source) as connection:
        direct = _process(connection) == connection.info.backend_pid
    if direct:
        yield ok("pooler", source.address, "none in between")
    else:
        said = f"a pooler that keeps sessions apart; a run needs {SESSIONS} at once"
        yield found("pooler.sessions", source.address, said, "let DATABASE_URL lead to PostgreSQL itself")


def clients(source: Source) -> Iterator[Check]:
    """Look for the client programs that fit."""
    major = server_major(source)
    try:
        fitting = clients_for(source, major)
    except PreflightError as error:
        yield refused("clients.none", f"PostgreSQL {major}", error)
        return
    if fitting.major == major:
        yield ok("clients", f"PostgreSQL {major}", f"pg_dump and pg_restore {fitting}")
    else:
        said = f"pg_dump {fitting}, newer than the server: its dump may not restore there"
        yield found("clients.newer", f"PostgreSQL {major}", said, f"install postgresql-client-{major}")


def rights(source: Source) -> Iterator[Check]:
    """Ask for the right to read every table, sequence and large object, and for policies in the way."""
    with prepared_session(source) as connection:
        try:
            check_rights(connection)
        except PreflightError as error:
            yield refused("rights.missing", source.address, error)
        else:
            tables = len(tables_to_dump(connection))
            yield ok("rights", source.address, f"role {connection.info.user} can read all {tables} tables")


def vault(source: Source) -> Iterator[Check]:
    """Look for the vault's tables, and for a private key in the registry, which ends every run."""
    with prepared_session(source) as connection:
        missing = [name for name in VAULT if only_row(connection, f"SELECT to_regclass('{name}')") == (None,)]
        if missing:
            said = f"there is no table {' and no table '.join(missing)}: this is not a Server's database"
            yield found("vault.missing", source.address, said, "mend the name in DATABASE_URL")
            return
        try:
            refuse_private_keys(connection)
        except SourceError as error:
            yield refused("vault.private_key", source.address, error)
        except psycopg.errors.InsufficientPrivilege:
            return  # among the rights
        else:
            yield ok("vault", source.address, "chain and key registry are there, without a private key")


def timeouts(source: Source) -> Iterator[Check]:
    """Look at what would end long transactions; our sessions override all of it (session.py)."""
    with plain_session(source) as connection:
        theirs = connection.execute(CUTTING, [list(TIMEOUTS)]).fetchall()
    said = ", ".join(f"{name} = {value} (set for the {origin})" for name, value, origin in theirs)
    told = f"{said}: overridden in our sessions" if theirs else "nothing ends long transactions"
    yield ok("timeouts", source.address, told)


def limits(source: Source) -> Iterator[Check]:
    """Look at limits that our sessions do not override."""
    with prepared_session(source) as connection:
        rows = connection.execute(LIMITS).fetchall()
    for name, value in rows:
        yield found("limits.set", source.address, f"{name} = {value} can end a long run", "raise it on the server")


def connections(source: Source) -> Iterator[Check]:
    """Count the sessions that are free for this role in this database."""
    with prepared_session(source) as connection:
        (free,) = only_row(connection, ROOM)
    if free >= SESSIONS:
        yield ok("connections", source.address, f"{free} are free, a run takes {SESSIONS}")
    else:
        said = f"{free} are free, but a run takes {SESSIONS}"
        yield found("connections.few", source.address, said, "raise max_connections, or the limit of role or database")


def standby(source: Source) -> Iterator[Check]:
    """Look at what on a standby ends a long snapshot, and how far behind it is."""
    with prepared_session(source) as connection:
        in_recovery, feedback, delay, behind = only_row(connection, STANDBY)
    if not in_recovery:
        yield ok("standby", source.address, "no: this is the primary")
        return
    if feedback or delay == "-1":
        yield ok("standby", source.address, "yes, and replay does not cancel a long snapshot")
    else:
        said = f"hot_standby_feedback is off: replay cancels what is in its way for {delay}"
        advice = "set hot_standby_feedback = on there, or max_standby_streaming_delay = -1, or back up the primary"
        yield found("standby.cancels", source.address, said, advice)
    if behind is not None and behind > STANDBY_BEHIND:
        said = f"its last transaction is {behind // timedelta(minutes=1)} minutes old, and more has arrived"
        yield found("standby.behind", source.address, said, "find out why replay is slow or paused")


def drill_databases(source: Source) -> Iterator[Check]:
    """Look for databases of drills that were killed; one that runs has its own, too."""
    with prepared_session(source) as connection:
        names = [name for (name,) in connection.execute(DRILL_DATABASES).fetchall()]
    if names:
        said = f"{', '.join(names)}: of a drill that runs, or that was killed"
        yield found("leftovers.found", source.address, said, "drop them when no drill runs")


def _process(connection: Connection) -> int:
    (number,) = only_row(connection, "SELECT pg_backend_pid()")
    return int(number)
