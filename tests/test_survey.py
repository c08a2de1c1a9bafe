"""The survey: what a restored database is compared with is what an independent count finds, and outlives a restore."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fix_artifacts import BackedUp, Replayed, available, client, has_xml, survey_of
from fix_cli import RunCli
from fix_repository import PlainRepository, announce
from fix_vault import Connection, Vault, connect

from borg_vault_plugin.survey import Survey, Table

pytest_plugins = ("fix_server", "fix_backed_up")

WriteConfig = Callable[[str], Path]

ORDINARY_TABLES = """
SELECT schemaname, tablename FROM pg_tables t JOIN pg_class c
    ON c.oid = format('%I.%I', schemaname, tablename)::regclass
 WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND c.relkind = 'r' AND c.relpersistence <> 't'
"""
# Whatever else a column is, its type is not one of these.
COLUMNS = """
SELECT coalesce(domain_name, CASE WHEN data_type = 'ARRAY' THEN data_type ELSE udt_name END)
  FROM information_schema.columns WHERE (table_schema, table_name) = (%s, %s)"""
SHORT_LIST = {"bool", "int2", "int4", "int8", "text", "varchar", "uuid", "bytea", "date", "timestamp", "timestamptz"}
PINNED = (
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1;"
    " SET bytea_output = 'hex'; SET search_path = pg_catalog"
)
# The hash of a row is mixed once more: PostgreSQL adds up those of its columns, and adding up rows would undo that.
ROW_HASH = {
    "record": "hashint8extended(hash_record_extended(ROW(x.*), 0), 0)",
    "text": "hashtextextended(ROW(x.*)::text, 0)",
}
SETVAL = re.compile(rb"setval\('(.*)', (-?\d+), (true|false)\);")


def independent(conninfo: str) -> dict[tuple[str, str], tuple[int, int, str]]:
    """Count and hash every table once more: the hashes are fetched row by row and added up here."""
    with connect(conninfo) as connection:
        connection.execute(PINNED.encode())
        tables = connection.execute(ORDINARY_TABLES).fetchall()
        return {(schema, name): count_and_hash(connection, schema, name) for schema, name in tables}


def count_and_hash(connection: Connection, schema: str, name: str) -> tuple[int, int, str]:
    types = {kind for (kind,) in connection.execute(COLUMNS, [schema, name]).fetchall()}
    method = "record" if types and types <= SHORT_LIST else "text"
    quoted = '"{}"."{}"'.format(schema.replace('"', '""'), name.replace('"', '""'))
    hashes = [
        number
        for (number,) in connection.execute(f"SELECT {ROW_HASH[method]} FROM ONLY {quoted} x".encode()).fetchall()
    ]
    return len(hashes), sum(hashes), method


def by_name(survey: Survey) -> dict[tuple[str, str], Table]:
    return {(table.schema, table.name): table for table in survey.tables}


def digest_of(conninfo: str, name: str) -> str:
    digest = by_name(survey_of(conninfo))["public", name].digest
    assert digest is not None
    return digest


def digests_of(conninfo: str) -> dict[str, str | None]:
    return {table.name: table.digest for table in survey_of(conninfo).tables}


def entries(backed_up: BackedUp, kind: str) -> dict[tuple[str, str], Any]:
    return {(entry["schema"], entry["name"]): entry for entry in backed_up.manifest["survey"][kind]}


def test_rows_and_digests_in_the_manifest_are_those_of_an_independent_count(backed_up: BackedUp) -> None:
    told = {
        name: (entry["rows"], int(entry["digest"]), entry["method"])
        for name, entry in entries(backed_up, "tables").items()
    }
    vault = backed_up.vault
    assert told == independent(vault.cluster.conninfo(vault.database))
    assert told["public", "hard"][0] == 3
    assert told["public", "empty"] == (0, 0, "record")
    assert told["public", "parent"][0] == 1
    assert told["public", "columnless"][0] == 1
    assert {method for _, _, method in told.values()} == {"record", "text"}


def test_digests_and_everything_else_survive_a_restore(replayed: Replayed) -> None:
    name = replayed.source.vault.database
    before = survey_of(replayed.source.cluster.conninfo(name))
    after = survey_of(replayed.cluster.conninfo(name))
    assert after.tables == before.tables
    # A refreshed view and a used sequence are as they were; what the roles are is the business of roles.sql.
    assert replace(after, properties=before.properties) == before


def test_tables_stand_there_once_and_only_those_that_hold_rows_of_their_own(backed_up: BackedUp) -> None:
    tables = [(entry["schema"], entry["name"]) for entry in backed_up.manifest["survey"]["tables"]]
    assert len(tables) == len(set(tables))
    assert not {("public", "parted"), ("public", "parted_rest"), ("public", "audit_vault")} & set(tables)
    assert {("public", "parted_1"), ("public", "parted_many"), ("public", "child")} < set(tables)
    assert {"passing", "elsewhere", "filled"}.isdisjoint(name for _, name in tables)
    assert (("public", "papers") in tables) == has_xml(backed_up.vault)


def test_an_unlogged_table_is_named(backed_up: BackedUp) -> None:
    tables = backed_up.manifest["survey"]["tables"]
    assert [entry["name"] for entry in tables if entry["unlogged"]] == ["unlogged"]


def test_an_unlogged_table_is_not_counted_on_a_standby(backed_up: BackedUp) -> None:
    vault = backed_up.vault
    tables = by_name(survey_of(vault.cluster.conninfo(vault.database), in_recovery=True))
    unlogged = tables["public", "unlogged"]
    assert (unlogged.rows, unlogged.digest, unlogged.unlogged) == (None, None, True)
    assert tables["public", "quick"].rows == 3


def test_foreign_tables_and_materialised_views_are_named(backed_up: BackedUp) -> None:
    assert backed_up.manifest["survey"]["foreign_tables"] == ["public.elsewhere"]
    views = {entry["name"]: entry["populated"] for entry in backed_up.manifest["survey"]["materialised_views"]}
    assert views == {"filled": True, "unfilled": False, "org_record_counts": True}


def test_extensions_are_told_with_their_versions_and_without_their_own_tables(backed_up: BackedUp) -> None:
    with backed_up.vault.connect() as connection:
        installed = connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY 1").fetchall()
    told = [(entry["name"], entry["version"]) for entry in backed_up.manifest["survey"]["extensions"]]
    assert told == installed
    assert [name for name, _ in told] == sorted(["plpgsql", *available(backed_up.vault)])


def test_the_instance_and_the_newest_migration_are_told(backed_up: BackedUp) -> None:
    server, vault = backed_up.manifest["survey"]["server"], backed_up.vault
    assert server["instance"] == str(vault.value("SELECT instance_id FROM server_identity"))
    newest = "SELECT name FROM _migrations ORDER BY id DESC LIMIT 1"
    assert server["migration"] == vault.value(newest)


def test_a_database_that_does_not_know_its_server_says_nothing_of_it(database: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE TABLE public._migrations (id integer, title text)")
    server = survey_of(database).server
    assert (server.instance, server.migration) == (None, None)


# One value of a row, and a value that differs from it as little as two values of its type can.
CHANGES = {
    "numeric": ("0.10", "0.1"),
    "double precision": ("-0.0", "0.0"),
    "real": ("1e-45", "0"),
    "text": ("x", "x "),
    "text ": ("", None),
    "integer": ("0", None),
    "json": ('{"a":1}', '{"a": 1}'),
    "jsonb": ('{"a": 1.0}', '{"a": 1.00}'),
    "timestamptz": ("2026-05-26 01:33:27.000001Z", "2026-05-26 01:33:27.000002Z"),
    "interval": ("1 day", "24 hours"),
    "bytea": ("\\x00", "\\x0000"),
    "text[]": ("{a,NULL}", '{a,"NULL"}'),
    "integer[]": ("[0:0]={1}", "{1}"),
    "regclass": ("pg_class", "pg_proc"),
    "boolean": ("t", "f"),
    "char(3)": ("a", "b"),
    "uuid": ("0190f5fe-7a21-7c3a-8000-000000000000", "0190f5fe-7a21-7c3a-8000-000000000001"),
}


def test_one_changed_value_changes_the_digest(database: str) -> None:
    with connect(database) as connection:
        for name, (before, _) in CHANGES.items():
            rows = f"SELECT n, %s::{name.strip()} AS v FROM generate_series(1, 2) n"
            connection.execute(f'CREATE TABLE public."{name}" AS {rows}'.encode(), [before])
        first = digests_of(database)
        for name, (_, after) in CHANGES.items():
            connection.execute(f'UPDATE public."{name}" SET v = %s::{name.strip()} WHERE n = 2'.encode(), [after])
        changed = digests_of(database)
        for name, (before, _) in CHANGES.items():
            connection.execute(f'UPDATE public."{name}" SET v = %s::{name.strip()} WHERE n = 2'.encode(), [before])
    assert [name for name in CHANGES if changed[name] == first[name]] == []
    assert digests_of(database) == first


def test_the_order_of_rows_does_not_change_the_digest(database: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE TABLE public.up AS SELECT n, n::text AS t FROM generate_series(1, 99) n")
        connection.execute("CREATE TABLE public.down AS SELECT n, n::text AS t FROM generate_series(99, 1, -1) n")
    assert digest_of(database, "up") == digest_of(database, "down") != "0"


def test_values_that_change_places_change_the_digest(database: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE TABLE public.a AS SELECT 1 AS x, 2 AS y UNION SELECT 3, 4")
        connection.execute("CREATE TABLE public.b AS SELECT 1 AS x, 4 AS y UNION SELECT 3, 2")
        connection.execute("CREATE TABLE public.c AS SELECT 2 AS x, 1 AS y UNION SELECT 4, 3")
    assert len({digest_of(database, name) for name in "abc"}) == 3


def test_a_column_that_is_called_like_our_alias_hides_no_other_column(database: str) -> None:
    with connect(database) as connection:
        connection.execute('CREATE TABLE public.t ("row of borg-vault" text, other numeric)')
        connection.execute("INSERT INTO public.t VALUES ('same', 1)")
        digest = digest_of(database, "t")
        connection.execute("UPDATE public.t SET other = 2")
    assert digest_of(database, "t") != digest


def test_a_cast_of_the_tables_own_does_not_stand_in_for_its_rows(database: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE TABLE public.t (a numeric)")
        connection.execute("INSERT INTO public.t VALUES (1)")
        connection.execute("CREATE FUNCTION public.said(public.t) RETURNS text LANGUAGE sql RETURN 'always the same'")
        connection.execute("CREATE CAST (public.t AS text) WITH FUNCTION public.said(public.t)")
        digest = digest_of(database, "t")
        connection.execute("UPDATE public.t SET a = 2")
    assert digest_of(database, "t") != digest


QUICKLY_HASHED = [
    "boolean", "smallint", "integer", "bigint", "text", "varchar", "varchar(7)", "uuid", "bytea", "date", "timestamp",
    "timestamp(3)", "timestamptz",
]  # fmt: skip
SLOWLY_HASHED = [
    "numeric", "real", "double precision", "json", "jsonb", "char(3)", '"char"', "name", "regclass", "oid", "interval",
    "time", "timetz", "money", "inet", "bit(3)", "point", "tsvector", "text[]", "int4range", "mood", "positive", "pair",
    "uuid_domain",
]  # fmt: skip


def test_the_quick_method_serves_only_types_of_the_short_list(database: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0)")
        connection.execute("CREATE TYPE pair AS (a integer, b integer); CREATE DOMAIN uuid_domain AS uuid")
        for number, kind in enumerate(QUICKLY_HASHED + SLOWLY_HASHED):
            connection.execute(f"CREATE TABLE public.t{number} (a integer, b {kind}, c text)".encode())
        connection.execute("CREATE TABLE public.former (a integer, b numeric); ALTER TABLE public.former DROP COLUMN b")
    tables = by_name(survey_of(database))
    for number, kind in enumerate(QUICKLY_HASHED + SLOWLY_HASHED):
        expected = "record" if kind in QUICKLY_HASHED else "text"
        assert (kind, tables["public", f"t{number}"].method) == (kind, expected)
    assert tables["public", "former"].method == "record"


def test_a_type_of_the_same_name_is_not_the_type_of_the_short_list(database: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE SCHEMA mine; CREATE TYPE mine.uuid AS ENUM ('a'); CREATE DOMAIN mine.text AS text")
        connection.execute("CREATE TABLE public.a (v mine.uuid); CREATE TABLE public.b (v mine.text)")
    tables = by_name(survey_of(database))
    assert (tables["public", "a"].method, tables["public", "b"].method) == ("text", "text")


@pytest.mark.parametrize("distribution", ["system-15"], indirect=True)  # the only one built with ICU
def test_a_collation_that_takes_different_texts_for_equal_hides_no_change(database: str) -> None:
    with connect(database) as connection:
        connection.execute(
            "CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
        )
        connection.execute("CREATE TABLE public.t (v text COLLATE public.loose); INSERT INTO public.t VALUES ('a')")
        connection.execute('CREATE TABLE public.strict (v text COLLATE "und-x-icu")')
        digest = digest_of(database, "t")
        connection.execute("UPDATE public.t SET v = 'Á'")
    survey = survey_of(database)
    assert by_name(survey)["public", "t"].method == "text"
    assert by_name(survey)["public", "strict"].method == "record"
    assert by_name(survey)["public", "t"].digest != digest
    assert {"loose", "und-x-icu"} <= {collation.name for collation in survey.collations}


@pytest.mark.usefixtures("server")
def test_counting_can_be_turned_off(repository: PlainRepository, run_cli: RunCli, write_config: WriteConfig) -> None:
    write_config("[database]\ntable_digests = false\n")
    archive = run_cli("create", "--json", "--no-prune", exit_code=0).document["archive"]
    tables = json.loads(repository.read(archive, "manifest.json"))["survey"]["tables"]
    assert {(table["rows"], table["digest"]) for table in tables} == {(None, None)}


def dumped_sequences(backed_up_dump: Path, vault: Vault) -> dict[str, int]:
    """Give the value that the dump sets each sequence to that was used."""
    script = client(vault.cluster, "pg_restore", "--data-only", "--file=-", backed_up_dump)[0]
    return {
        found[1].decode().replace("''", "'"): int(found[2]) for found in SETVAL.finditer(script) if found[3] == b"true"
    }


def test_values_of_sequences_are_the_dumps(backed_up: BackedUp) -> None:
    told = entries(backed_up, "sequences")
    dumped = dumped_sequences(backed_up.directory / "db.dump", backed_up.vault)
    assert told["public", "untouched"]["value"] is None
    assert told['Odd "x" schema', "odd one"]["value"] == dumped['"Odd ""x"" schema"."odd one"'] == 21
    assert told["public", "hard_id_seq"]["value"] == dumped["public.hard_id_seq"] == 3
    used = [entry for entry in told.values() if entry["value"] is not None]
    assert len(used) == len(dumped)


@contextmanager
def counting(vault: Vault) -> Iterator[None]:
    """Call nextval all the time."""
    done, begun = threading.Event(), threading.Event()

    def count() -> None:
        with vault.connect() as connection:
            while not done.is_set():
                connection.execute("SELECT nextval('public.record_reference_seq')")
                begun.set()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        done.set()
        thread.join(30)


def seen_and_dumped(repository: PlainRepository, archive: str, vault: Vault, place: Path) -> tuple[int, int]:
    """Give the value of the busy sequence as the manifest has it, and as the dump has it."""
    extracted = repository.extract(archive, place / "extracted")
    backed_up = BackedUp(vault, extracted, None)
    seen = entries(backed_up, "sequences")["public", "record_reference_seq"]["value"]
    return seen, dumped_sequences(extracted / "db.dump", vault)["public.record_reference_seq"]


def test_a_sequence_that_others_use_is_dumped_with_at_least_the_value_seen(
    server: Vault, repository: PlainRepository, run_cli: RunCli, tmp_path: Path
) -> None:
    with counting(server):
        archive = run_cli("create", "--json", "--no-prune", exit_code=0).document["archive"]
    seen, dumped = seen_and_dumped(repository, archive, server, tmp_path)
    assert seen <= dumped


@contextmanager
def migrating(vault: Vault) -> Iterator[None]:
    """Hold a sequence as ALTER SEQUENCE does until pg_dump has come and gone, then use it and let go."""
    held = threading.Event()

    def alter() -> None:
        with vault.connect() as connection, connection.transaction():
            connection.execute("ALTER SEQUENCE public.record_reference_seq CACHE 1")
            held.set()
            wait_for_pg_dump(vault)
            connection.execute("SELECT nextval('public.record_reference_seq') FROM generate_series(1, 5)")

    thread = threading.Thread(target=alter)
    thread.start()
    try:
        assert held.wait(30)
        yield
    finally:
        thread.join(30)


def wait_for_pg_dump(vault: Vault, seconds: float = 4.0) -> None:
    """Wait until pg_dump has come and gone, but not for ever."""
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND datname = current_database()"
    )
    deadline = time.monotonic() + seconds
    with vault.connect() as connection:
        for awaited in (1, 0):
            while connection.execute(running.encode()).fetchone() != (awaited,) and time.monotonic() < deadline:
                time.sleep(0.01)


@pytest.mark.parametrize("distribution", ["system-15"], indirect=True)  # since 18 pg_dump waits for ALTER SEQUENCE too
def test_a_sequence_that_a_migration_held_is_dumped_with_at_least_the_value_seen(
    vault: Vault, repository: PlainRepository, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(monkeypatch, vault, repository)
    with migrating(vault):
        archive = run_cli("create", "--json", "--no-prune", exit_code=0).document["archive"]
    seen, dumped = seen_and_dumped(repository, archive, vault, tmp_path)
    assert seen <= dumped
