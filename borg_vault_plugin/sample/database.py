"""Loading a vault into PostgreSQL: the Server's schema, COPY into every table, and a day's growth."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from importlib import resources
from typing import IO, Any

import psycopg
from psycopg import sql

from borg_vault_plugin.sample.audit import Rows, rows_after_records, rows_before_records
from borg_vault_plugin.sample.content import Table, growing_tables, record_state, record_status, standing_tables
from borg_vault_plugin.sample.plan import EPOCH, HOUR, Plan, utc_text
from borg_vault_plugin.sample.registry import registered_keys
from borg_vault_plugin.sample.rows import AUDIT_TABLES, copy_line, copy_values, stored_columns
from borg_vault_plugin.sample.slices import Slice

Connection = psycopg.Connection[Any]
BLOCK_BYTES = 1 << 20


def create_schema(connection: Connection, plan: Plan) -> None:
    """Create the Server's tables, triggers and grants in an empty database, with partitions for the plan's months."""
    names = ["server.sql"] if plan.shape.era == "v1" else ["server.sql", "server_v2.sql"]
    for name in names:
        connection.execute(resources.files(__package__).joinpath(name).read_bytes())
    add_months(connection, plan.start - HOUR, plan.end)


def add_months(connection: Connection, first: int, last: int) -> None:
    """Create the monthly partitions of audit_vault from one instant to another, where missing."""
    for month in months(first, last):
        connection.execute("SELECT audit_vault_add_month(%s)", (month,))


def months(first: int, last: int) -> Iterator[date]:
    """Give the first day of each month between two instants, in UTC."""
    month = (EPOCH + timedelta(microseconds=first)).date().replace(day=1)
    while month <= (EPOCH + timedelta(microseconds=last)).date():
        yield month
        month = (month + timedelta(days=31)).replace(day=1)


def load_tables(connection: Connection, plan: Plan, slices: Iterable[Slice]) -> None:
    """Fill all tables; `slices` are the chains of the records, in COPY's text format."""
    for table in [*standing_tables(plan), *growing_tables(plan, 0)]:
        copy_table(connection, table)
    copy_slices(connection, plan, slices)
    copy_rows(connection, plan, rows_before_records(plan))
    copy_rows(connection, plan, rows_after_records(plan))
    settle(connection, plan)


def insert_day(connection: Connection, plan: Plan, slices: Iterable[Slice]) -> None:
    """Insert the plan's last day; `slices` are its entries on records, in COPY's text format."""
    day = plan.days[-1]
    add_months(connection, day.start, day.end)
    for table in growing_tables(plan, len(plan.days)):
        copy_table(connection, table)
    copy_slices(connection, plan, slices)
    copy_rows(connection, plan, since(rows_before_records(plan), day.start))
    copy_rows(connection, plan, since(rows_after_records(plan), day.start))
    if day.rotate:
        retire_key(connection, plan)
    update_records(connection, plan)
    settle(connection, plan)


def since(rows: Rows, instant: int) -> Rows:
    """Give the rows that were written at an instant or later."""
    start = utc_text(instant)
    return Rows(
        [row for row in rows.audit_vault if row.created_at >= start],
        [row for row in rows.vault_checkpoints if row.created_at >= start],
        [row for row in rows.vault_signing_keys if row.activated_at >= start],
        [row for row in rows.org_admin_reads if row.read_at >= start],
        [row for row in rows.org_admin_reads_checkpoints if row.checkpoint_at >= start],
        [row for row in rows.vault_key_statements or () if row.created_at >= start],
    )


def retire_key(connection: Connection, plan: Plan) -> None:
    """Mark the key before the newest one as retired."""
    key = registered_keys(plan)[-2]
    change = "UPDATE vault_signing_keys SET status = %s, retired_at = %s, retired_by = %s WHERE key_id = %s"
    connection.execute(change, (key.status, key.retired_at, key.retired_by, key.key_id))


def update_records(connection: Connection, plan: Plan) -> None:
    """Bring the rows of the records that changed on the last day to their present version."""
    versions = ((record, plan.version(record)) for record in sorted(plan.days[-1].updated))
    changes = [
        (record_state(version), record_status(version), version, plan.record_id(record)) for record, version in versions
    ]
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE records SET state = %s, status = %s, version = %s WHERE id = %s", changes)


def settle(connection: Connection, plan: Plan) -> None:
    """Bring what follows from other tables up to date: the sequence and the materialised view."""
    if plan.records:
        connection.execute("SELECT setval('record_reference_seq', %s)", (plan.records,))
    connection.execute("REFRESH MATERIALIZED VIEW org_record_counts")


def copy_table(connection: Connection, table: Table) -> None:
    """COPY rows into one of the Server's other tables."""
    columns = [name.strip() for name in table.columns.split(",")]
    with connection.cursor() as cursor, cursor.copy(copy_statement(table.name, columns)) as copy:
        for row in table.rows:
            copy.write(copy_values(row))


def copy_rows(connection: Connection, plan: Plan, rows: Rows) -> None:
    """COPY rows into the audit tables."""
    for name, table in rows.tables().items():
        if table:
            copy_audit(connection, plan, name, (copy_line(row) for row in table))


def copy_slices(connection: Connection, plan: Plan, slices: Iterable[Slice]) -> None:
    """COPY the chains of records; their checkpoints wait in a file, since a connection does one COPY at a time."""
    with tempfile.TemporaryFile() as waiting:

        def entries() -> Iterator[bytes]:
            for part in slices:
                waiting.write(part.checkpoints)
                yield part.entries

        copy_audit(connection, plan, "audit_vault", entries())
        waiting.seek(0)
        copy_audit(connection, plan, "vault_checkpoints", blocks(waiting))


def blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Read a file in blocks."""
    while block := file.read(BLOCK_BYTES):
        yield block


def copy_audit(connection: Connection, plan: Plan, name: str, data: Iterable[bytes]) -> None:
    """COPY lines into an audit table."""
    columns = stored_columns(AUDIT_TABLES[name], chain_key=plan.shape.era == "v2")
    with connection.cursor() as cursor, cursor.copy(copy_statement(name, columns)) as copy:
        for block in data:
            copy.write(block)


def copy_statement(table: str, columns: Sequence[str]) -> sql.Composed:
    """Give the COPY statement for some columns of a table, which may be named with its schema."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(*table.split(".")), names)
