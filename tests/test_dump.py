"""db.dump is whole, or the run ends: whatever was cut off, added, damaged or left out is found before it is stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fix_artifacts import BackedUp, client, dump
from fix_cli import RunCli
from fix_repository import PlainRepository
from fix_vault import Vault, connect, new_database

from borg_vault_plugin import SourceError, check_dump
from borg_vault_plugin.clients import Clients
from borg_vault_plugin.cluster import Cluster, embedded_distributions
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.process import run
from borg_vault_plugin.session import open_session
from borg_vault_plugin.snapshot import DumpedTable, tables_to_dump

pytest_plugins = ("fix_server", "fix_backed_up")

Damage = Callable[[bytes], bytes]

# Names that are the beginning of each other, in one schema and in two.
TABLES = """
CREATE TABLE orders (id integer, words text);
INSERT INTO orders SELECT n, repeat('word ', 40) FROM generate_series(1, 2000) n;
CREATE TABLE "orders archive" (id integer);
CREATE SCHEMA "other schema";
CREATE TABLE "other schema".orders (id integer);
CREATE TABLE parted (a integer) PARTITION BY LIST (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
INSERT INTO parted VALUES (1);
"""

# What can happen to a dump, and the words that tell it.
DAMAGES: dict[str, tuple[Damage, str]] = {
    "it is empty": (lambda _: b"", "does not begin as a dump"),
    "it is shorter than its first word": (lambda data: data[:4], "does not begin as a dump"),
    "only its first word is left": (lambda data: data[:5], "is not whole"),
    "noise stands before it": (lambda data: b"NOTICE: hello\n" + data, "does not begin as a dump"),
    "a byte order mark stands before it": (lambda data: b"\xef\xbb\xbf" + data, "does not begin as a dump"),
    "it is cut in half": (lambda data: data[: len(data) // 2], "is not whole"),
    "it is cut at a tenth": (lambda data: data[: len(data) // 10], "is not whole"),
    "its last byte is missing": (lambda data: data[:-1], "is not whole"),
    "its end is missing": (lambda data: data[:-100], "is not whole"),
    "it is of a format that is not known yet": (lambda data: data[:5] + b"\x09" + data[6:], "is not whole"),
    "its middle is full of zeros": (
        lambda data: data[: len(data) // 4] + bytes(len(data) // 2) + data[-(len(data) // 4) :],
        "is not whole",
    ),
    "it is text": (lambda _: b"PGDMP\n--\n-- PostgreSQL database dump\n--\n", "is not whole"),
}


@pytest.fixture(scope="module")
def filled(latest_cluster: Cluster) -> Iterator[str]:
    """A database with tables whose names are hard to tell apart."""
    with new_database(latest_cluster) as name:
        with connect(latest_cluster.conninfo(name)) as connection:
            connection.execute(TABLES)
        yield name


@pytest.fixture(scope="module")
def whole(latest_cluster: Cluster, filled: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole dump of it."""
    return dump(latest_cluster, filled, tmp_path_factory.mktemp("dump") / "db.dump")


def clients_of(cluster: Cluster) -> Clients:
    major = cluster.distribution.major
    return Clients(cluster.programs, major, f"{major}.0", tls=False)


def tables_of(cluster: Cluster, database: str) -> tuple[DumpedTable, ...]:
    with open_session(source_from_url(cluster.conninfo(database))) as connection:
        return tables_to_dump(connection)


def refusal(path: Path, cluster: Cluster, tables: tuple[DumpedTable, ...] = ()) -> str:
    """Give the line that refuses a dump."""
    with pytest.raises(SourceError) as refused:
        check_dump(path, clients_of(cluster), tables)
    assert len(str(refused.value).splitlines()) == 1
    assert str(refused.value).startswith("db.dump ")
    return str(refused.value)


def test_a_dump_of_a_run_begins_as_one_and_holds_every_table(backed_up: BackedUp) -> None:
    path, vault = backed_up.directory / "db.dump", backed_up.vault
    assert path.read_bytes()[:5] == b"PGDMP"
    tables = tables_of(vault.cluster, vault.database)
    check_dump(path, clients_of(vault.cluster), tables)
    names = {(table.schema, table.name) for table in tables}
    assert {("public", "parted"), ("public", "parted_many"), ("public", "line\nbreak"), ("public", "größe")} < names
    assert ('Odd "x" schema', 'we "quote", and space') in names


def test_the_listing_of_a_run_has_each_table_by_its_number(backed_up: BackedUp) -> None:
    vault = backed_up.vault
    listing = client(vault.cluster, "pg_restore", "--list", backed_up.directory / "db.dump")[0].decode()
    for table in tables_of(vault.cluster, vault.database):
        assert f"; 1259 {table.oid} TABLE " in listing
        assert (f"; 0 {table.oid} TABLE DATA " in listing) == table.has_data


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dump_is_refused(damage: str, whole: Path, latest_cluster: Cluster, tmp_path: Path) -> None:
    bend, words = DAMAGES[damage]
    path = tmp_path / "db.dump"
    path.write_bytes(bend(whole.read_bytes()))
    assert words in refusal(path, latest_cluster)


def test_what_pg_restore_notices_we_notice(whole: Path, latest_cluster: Cluster, tmp_path: Path) -> None:
    data = whole.read_bytes()
    path = tmp_path / "db.dump"
    noticed = 0
    for place in (*range(6, 600, 60), len(data) // 2, len(data) // 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        command: list[str | Path] = [latest_cluster.programs / "pg_restore", "--file=/dev/null", path]
        if run(command, env=latest_cluster.environment(), timeout=60).returncode:
            noticed += 1
            assert "is not whole" in refusal(path, latest_cluster)
        else:
            check_dump(path, clients_of(latest_cluster), ())
    assert noticed


def test_a_flipped_byte_in_the_frame_of_the_data_is_refused(
    whole: Path, latest_cluster: Cluster, tmp_path: Path
) -> None:
    data = whole.read_bytes()
    # Before each block of rows stands its length: a sign and four bytes, the lowest first.
    place = data.index(b"1\tword word") - 2
    path = tmp_path / "db.dump"
    path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
    assert "is not whole" in refusal(path, latest_cluster)


LEFT_OUT = {
    "a table": ("--exclude-table=public.orders", "public.orders"),
    "a table with a longer name": ("--exclude-table=public.orders archive", 'public."orders archive"'),
    "a table of another schema": ('--exclude-table="other schema".orders', '"other schema".orders'),
    "a whole schema": ("--exclude-schema=other schema", '"other schema".orders'),
    "a partition": ("--exclude-table=parted_1", "public.parted_1"),
    "a partitioned table": ("--exclude-table=parted", "public.parted"),
    "the rows of a table": ("--exclude-table-data=public.orders", "public.orders"),
    "all rows": ("--schema-only", '"other schema".orders'),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_a_dump_that_leaves_something_out_is_refused(
    what: str, filled: str, latest_cluster: Cluster, tmp_path: Path
) -> None:
    option, name = LEFT_OUT[what]
    path = dump(latest_cluster, filled, tmp_path / "db.dump", option)
    said = refusal(path, latest_cluster, tables_of(latest_cluster, filled))
    assert f"does not hold table {name}:" in said
    assert "run again" in said


def test_a_dump_of_another_database_is_refused(
    whole: Path, filled: str, latest_cluster: Cluster, latest_database: str
) -> None:
    with connect(latest_database) as connection:
        connection.execute(TABLES)
    with open_session(source_from_url(latest_database)) as session:
        others = tables_to_dump(session)
    assert len(others) == len(tables_of(latest_cluster, filled))
    assert "does not hold table" in refusal(whole, latest_cluster, others)


def test_names_of_another_encoding_are_found(cluster: Cluster, tmp_path: Path) -> None:
    with new_database(cluster, options="ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'") as name:
        with connect(cluster.conninfo(name)) as connection:
            connection.execute('CREATE TABLE "größe" (a text); INSERT INTO "größe" VALUES (\'é\')')
        path = dump(cluster, name, tmp_path / "db.dump")
        check_dump(path, clients_of(cluster), tables_of(cluster, name))


def test_a_dump_of_a_newer_pg_dump_is_refused_by_an_older_pg_restore(whole: Path) -> None:
    older = Clients(embedded_distributions()[0].bin, 16, "16.0", tls=False)
    with pytest.raises(SourceError, match=r"is not whole: pg_restore 16\.0 says: .*unsupported version"):
        check_dump(whole, older, ())


# A pg_dump in front of the real one, as a wrapper script for containers is, and what is said of what it writes.
WRAPPERS = {
    "it talks on its output": ('echo "using image postgres"; exec {real} "$@"', "does not begin as a dump"),
    "its output is cut short": ('{real} "$@" | head -c 20000', "is not whole"),
    "it leaves a table out": ('exec {real} --exclude-table=public.orgs "$@"', "does not hold table public.orgs"),
    "it writes nothing": ("exit 0", "does not begin as a dump"),
}


@pytest.fixture
def wrapped(server: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Putter of a script in the place of pg_dump, beside the real pg_restore, first in PATH."""

    def put(script: str) -> None:
        directory, programs = tmp_path / "wrapped", server.cluster.programs
        directory.mkdir()
        real = programs / "pg_dump"
        version = f'case "$1" in --version) exec {real} "$1";; esac'
        (directory / "pg_dump").write_text(f"#!/bin/sh\n{version}\n{script.format(real=real)}\n", "utf-8")
        (directory / "pg_dump").chmod(0o755)
        (directory / "pg_restore").symlink_to(programs / "pg_restore")
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")

    return put


@pytest.mark.parametrize("what", WRAPPERS)
def test_what_a_wrapped_pg_dump_spoils_is_never_stored(
    what: str, wrapped: Callable[[str], None], repository: PlainRepository, run_cli: RunCli, tmp_path: Path
) -> None:
    script, words = WRAPPERS[what]
    wrapped(script)
    said = run_cli("create", exit_code=4).stderr
    assert said.startswith("borg-vault: hook database-dump: db.dump ")
    assert words in said
    assert len(said.splitlines()) == 1
    assert repository.names() == []
    assert not list((tmp_path / "xdg_state_home").rglob("db.dump*"))
