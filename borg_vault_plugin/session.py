"""A session that asks a database about itself: nothing may end it, filter its rows or change how values are printed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from borg_vault_plugin.database import Connection, Source, answering

# Set where the server knows them. row_security: a policy would filter COPY without a word; off makes PostgreSQL refuse
# instead. The timeouts: a server may end long or idle transactions by default. The rest: pinned output formats.
SESSION_SETTINGS = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "row_security": "off",
    "search_path": "pg_catalog",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "quote_all_identifiers": "off",
    "jit": "off",
}
BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@contextlib.contextmanager
def open_session(source: Source, lock_timeout: timedelta = timedelta(seconds=10)) -> Iterator[Connection]:
    """Open a prepared session outside any snapshot, to ask the server about itself; raises psycopg.Error."""
    with contextlib.closing(source.connect()) as connection:
        with answering(connection, source):
            prepare_session(connection, lock_timeout=lock_timeout)
        yield connection


def prepare_session(connection: Connection, *, lock_timeout: timedelta) -> None:
    """Pin everything in a session that could end it, filter its rows or change how values are printed."""
    settings = SESSION_SETTINGS | {"lock_timeout": f"{lock_timeout // timedelta(milliseconds=1)}ms"}
    connection.execute(
        "SELECT set_config(s.name, v.value, false) FROM pg_settings s"
        " JOIN unnest(%s::text[], %s::text[]) AS v(name, value) ON lower(s.name) = lower(v.name)",
        [list(settings), list(settings.values())],
    )


def set_lock_timeout(connection: Connection, timeout: timedelta) -> None:
    """Say how long the session waits for a lock from now on."""
    connection.execute(f"SET lock_timeout = {timeout // timedelta(milliseconds=1)}".encode())
