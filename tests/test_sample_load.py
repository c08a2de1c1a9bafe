"""Sample vaults in PostgreSQL: the database holds what the files hold, and guards it as the Server does."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from borg_vault_plugin.sample import SampleVault, VaultShape

AUDIT_TABLES = ["audit_vault", "vault_checkpoints", "org_admin_reads", "org_admin_reads_checkpoints"]
# How each table is ordered in a dump.
ORDERS = {
    "audit_vault": 'record_id, chain_position, chain_key COLLATE "C", id',
    "vault_checkpoints": "record_id, chain_position, id",
    "vault_signing_keys": "activated_at, key_id",
    "org_admin_reads": "org_id, leaf_index, id",
    "org_admin_reads_checkpoints": "org_id, tree_size, id",
    "vault_key_statements": "created_at, id",
}
CHAIN_KEY = "COALESCE(record_id::text, 'schema:' || COALESCE(payload->>'orgId', '__platform__'))"
# Tables of which two databases must agree; the rest follow from them or are about the time of loading.
CONTENT = [
    "orgs", "agents", "api_keys", "webhook_subscriptions", "records", "completions", "server_identity",
    "_migrations", "pgboss.job", "org_record_counts", "vault_signing_keys", *AUDIT_TABLES,
]  # fmt: skip


def sample(era: Any, **changes: Any) -> SampleVault:
    return SampleVault(VaultShape(**{"era": era, "records": 40, "seed": 3, **changes}))


def grow_twice(vault: SampleVault, connection: psycopg.Connection[Any] | None) -> None:
    vault.grow(connection, entries=30, onto="youngest", rotate=True, records_updated=4)
    vault.grow(connection, entries=30, onto="everywhere", records_updated=4)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def exported(connection: psycopg.Connection[Any], table: str) -> list[list[tuple[str, Any]]]:
    """Give a table's rows as a dump has them: pairs in the order of the columns, maps as pairs too."""
    query = f"SELECT t.*{f', {CHAIN_KEY} AS chain_key' if table == 'audit_vault' else ''} FROM {table} t"
    ordered = f"SELECT row_to_json(x)::text FROM ({query}) x ORDER BY {ORDERS[table]}"
    return [json.loads(row[0], object_pairs_hook=list) for row in connection.execute(ordered.encode()).fetchall()]


def as_written(directory: Path, table: str) -> list[dict[str, Any]]:
    lines = (directory / f"{table}.ndjson").read_text().splitlines()
    return [dict(json.loads(line, object_pairs_hook=list)) for line in lines]


@pytest.mark.parametrize(("era", "remembering"), [("v1", True), ("v2", True), ("v2", False)])
def test_database_and_files_hold_the_same_rows(connection: Any, era: Any, *, remembering: bool, tmp_path: Path) -> None:
    loaded = sample(era)
    loaded.load(connection)
    vault = loaded if remembering else sample(era)
    assert any(vault.heads) == remembering
    grow_twice(vault, connection)
    dump = tmp_path / "dump"
    vault.write_ndjson(dump)
    names = list(ORDERS) if era == "v2" else list(ORDERS)[:-1]
    assert sorted(file.stem for file in dump.iterdir()) == sorted(names)
    for table in names:
        rows = [{name: as_dumped(name, value) for name, value in row} for row in exported(connection, table)]
        assert rows == as_written(dump, table), table
        assert rows, table


def as_dumped(name: str, value: Any) -> Any:
    """Give a value of row_to_json as a dump writes it."""
    if name.endswith("_at") and value is not None:
        moment = value.removesuffix("+00:00")
        seconds, _, fraction = moment.partition(".")
        return f"{seconds}.{fraction.ljust(6, '0')[:3]}Z"
    if name in ("cose_sign1", "witness_signature") and value is not None:
        return base64_of(value)
    return [base64_of(item) for item in value] if name == "statement" else value


def base64_of(hex_text: str) -> str:
    return base64.b64encode(bytes.fromhex(hex_text.removeprefix("\\x"))).decode()


@contextlib.contextmanager
def second_database(database: str, connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """Make another empty database beside a connection's own."""
    name = f"{connection.info.dbname}_second"
    connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        with psycopg.connect(make_conninfo(database, dbname=name), autocommit=True) as other:
            other.execute("SET TimeZone = 'UTC'")
            yield other
    finally:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.parametrize("era", ["v1", "v2"])
def test_growing_a_database_and_loading_a_grown_vault_give_the_same(database: str, connection: Any, era: Any) -> None:
    before, after = sample(era), sample(era)
    before.load(connection)
    grow_twice(before, connection)
    grow_twice(after, None)
    with second_database(database, connection) as other:
        after.load(other, processes=2)
        for table in CONTENT + (["vault_key_statements"] if era == "v2" else []):
            query = f"SELECT t::text FROM {table} t ORDER BY 1".encode()
            assert connection.execute(query).fetchall() == other.execute(query).fetchall(), table


def test_a_day_updates_records_and_retires_the_key(connection: Any) -> None:
    vault = sample("v1")
    vault.load(connection)
    before = dict(connection.execute("SELECT id, (state, status, version)::text FROM records").fetchall())
    vault.grow(connection, entries=30, onto="everywhere", rotate=True, records_updated=4)
    after = dict(connection.execute("SELECT id, (state, status, version)::text FROM records").fetchall())
    assert sum(after[record] != before[record] for record in before) == 4
    assert connection.execute("SELECT count(*) FROM records WHERE is_amended").fetchone() == (4,)
    statuses = "SELECT array_agg(status ORDER BY activated_at), count(retired_at) FROM vault_signing_keys"
    assert connection.execute(statuses).fetchone() == (["retired", "retired", "retired", "active"], 3)


@pytest.mark.parametrize("change", ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}"])
def test_audit_tables_only_grow(connection: Any, change: str) -> None:
    sample("v2").load(connection)
    partitions = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_vault'::regclass"
    months = [name for (name,) in connection.execute(partitions).fetchall()]
    assert len(months) >= 2
    for table in [*AUDIT_TABLES, "vault_key_statements", *months]:
        with pytest.raises(psycopg.errors.RaiseException, match="is not allowed"):
            connection.execute(change.format(table).encode())


def test_audit_tables_are_dropped_only_on_purpose(connection: Any) -> None:
    sample("v2").load(connection)
    with pytest.raises(psycopg.errors.RaiseException, match=r"dropping public\.vault_checkpoints is"):
        connection.execute("DROP TABLE vault_checkpoints")
    connection.execute("DROP TABLE chain_restore_markers")
    connection.execute("SET agledger.allow_audit_drop = 'on'")
    connection.execute("DROP TABLE audit_vault")


def test_schema_has_what_makes_dumps_hard(connection: Any) -> None:
    vault = sample("v2")
    vault.load(connection)
    facts = {
        "SELECT count(*) FROM pg_class WHERE relrowsecurity": 1,
        "SELECT count(*) FROM pg_policies WHERE roles = '{agledger_app}'": 1,
        "SELECT sum(records)::int FROM org_record_counts": 40,
        "SELECT last_value FROM record_reference_seq": 40,
        "SELECT count(*) FROM records WHERE words @@ 'parcel & record'": 10,
        "SELECT count(*) FROM pgboss.job WHERE state = 'failed' AND output->>'seconds' = '0.25'": 1,
        "SELECT max(id) FROM _migrations": 4,
        "SELECT count(*) FROM completions": 40,
        "SELECT has_table_privilege('agledger_app', 'audit_vault', 'INSERT')": True,
        "SELECT has_table_privilege('agledger_app', 'audit_vault', 'UPDATE, DELETE, TRUNCATE')": False,
        "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'agledger_app'": False,
    }
    assert {query: connection.execute(query.encode()).fetchone()[0] for query in facts} == facts


def test_growth_reaches_into_months_that_had_no_partition(connection: Any) -> None:
    vault = sample("v1", records=4)
    vault.load(connection)
    for _ in range(12):
        vault.grow(connection, entries=4, onto="everywhere")
    total = "SELECT count(*), max(created_at) > '2026-09-01' FROM audit_vault WHERE record_id > %s"
    assert connection.execute(total, ["00000000-0000-0000-0000-000000000000"]).fetchone() == (68, True)


def test_a_role_that_is_not_superuser_can_load(connection: Any) -> None:
    owner = sql.Identifier(f"owner_of_{connection.info.dbname}")
    name = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("CREATE ROLE {} CREATEROLE").format(owner))
    connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner))
    connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(owner))
    connection.execute(sql.SQL("SET ROLE {}").format(owner))
    try:
        sample("v2").load(connection)
        assert connection.execute("SELECT count(*) FROM pg_event_trigger").fetchone() == (0,)
    finally:
        connection.execute("RESET ROLE")
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(name))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(owner))
        connection.execute(sql.SQL("DROP ROLE {}").format(owner))
