"""From a sealed set to a database: roles that cannot log in, properties, everything in the dump, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fix_artifacts import OWNER, POLICED, READER, BackedUp
from fix_drill import plain_set, target_of
from fix_vault import connect, new_database

from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.recovery.rebuild import (
    Rebuilt,
    Scripts,
    archived_scripts,
    discard,
    make_database,
    make_roles,
    rebuild,
    restore_dump,
    scripts_beside,
    statements,
)
from borg_vault_plugin.recovery.target import Target
from borg_vault_plugin.sealed_set import SealedSet, open_set

pytest_plugins = ("fix_server", "fix_backed_up")

LOGINS = "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname = ANY (%s) ORDER BY 1"


@pytest.fixture
def target(latest_cluster: Cluster, tmp_path: Path) -> Iterator[Target]:
    """A new database beside others; what was made is dropped after the test."""
    target = target_of(latest_cluster, "rebuilt", tmp_path / "private")
    yield target
    discard(target)
    assert (target.made.databases, target.made.roles) == ([], [])


@pytest.fixture
def filled(latest_cluster: Cluster, tmp_path: Path) -> Iterator[SealedSet]:
    """A set of a small database."""
    with new_database(latest_cluster) as name:
        with connect(latest_cluster.conninfo(name)) as connection:
            connection.execute("CREATE TABLE public.t (a integer PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
        yield plain_set(latest_cluster, name, tmp_path / "set")


def count(target: Target) -> int:
    with target.reading() as connection:
        row = connection.execute("SELECT count(*) FROM public.t").fetchone()
    assert row is not None
    return int(row[0])


def beside(sealed: SealedSet, target: Target) -> Scripts:
    with target.on_server() as server:
        there = {name for (name,) in server.execute("SELECT rolname FROM pg_roles").fetchall()}
    return scripts_beside(sealed.manifest.survey.properties, target.name, there)


def test_a_set_becomes_a_database_of_another_name(filled: SealedSet, target: Target) -> None:
    assert rebuild(filled, target, beside(filled, target), jobs=2) == Rebuilt((), ())
    assert count(target) == 2
    assert target.made.databases == ["rebuilt"]


def test_roles_that_are_made_cannot_log_in_and_others_are_left_alone(
    latest_cluster: Cluster, target: Target, tmp_path: Path
) -> None:
    there, missing = "there already", "missing until now"
    with connect(latest_cluster.conninfo()) as connection:
        connection.execute(f'CREATE ROLE "{there}" LOGIN CONNECTION LIMIT 5; CREATE ROLE "{missing}" LOGIN'.encode())
        connection.execute(f'GRANT "{there}" TO "{missing}"'.encode())
        connection.execute(f"ALTER ROLE \"{missing}\" SET work_mem = '7MB'".encode())
        with new_database(latest_cluster) as name:
            connection.execute(f'GRANT CREATE ON DATABASE "{name}" TO "{there}", "{missing}"'.encode())
            sealed = plain_set(latest_cluster, name, tmp_path / "set")
        connection.execute(f'DROP ROLE "{missing}"; ALTER ROLE "{there}" CONNECTION LIMIT 9'.encode())
        assert rebuild(sealed, target, beside(sealed, target)).roles == (missing,)
        assert connection.execute(LOGINS, [[missing, there]]).fetchall() == [(missing, False), (there, True)]
        limits = "SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname = %s"
        assert connection.execute(limits, [there]).fetchone() == (9, None)
        assert connection.execute(limits, [missing]).fetchone() == (-1, ["work_mem=7MB"])
        members = "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = %s::regrole"
        assert connection.execute(members, [f'"{missing}"']).fetchall() == [(f'"{there}"',)]
        discard(target)
        assert connection.execute(LOGINS, [[missing, there]]).fetchall() == [(there, True)]
        connection.execute(f'DROP ROLE "{there}"'.encode())


def test_archived_scripts_are_taken_apart_as_they_were_written(backed_up: BackedUp) -> None:
    scripts = archived_scripts(open_set(backed_up.directory))
    apart = statements(scripts.database)
    assert sum(statement.startswith("CREATE DATABASE") for statement in apart) == 1
    assert sum(statement.startswith(("ALTER", "GRANT", "REVOKE", "COMMENT")) for statement in apart) == len(apart) - 3
    together = "\n".join(statements(scripts.roles)).replace("\n", "")
    assert together == scripts.roles.replace("\n", "")
    assert len([one for one in statements(scripts.roles) if one.startswith("DO ")]) == 8


TEXTS = {
    "": [],
    "-- only words": [],
    "SELECT 1": ["SELECT 1"],
    'SELECT \';\'; SELECT "a;""b";': ["SELECT ';';", 'SELECT "a;""b";'],
    "SELECT E'\\';', 'it''s;';\n-- end;": ["SELECT E'\\';', 'it''s;';"],
    "SELECT 2 - 1; -- less;\nSELECT 3": ["SELECT 2 - 1;", "-- less;\nSELECT 3"],
}


@pytest.mark.parametrize("script", TEXTS)
def test_statements_end_where_postgresql_ends_them(script: str) -> None:
    assert statements(script) == TEXTS[script]


@pytest.mark.parametrize("script", ["SELECT 'a; SELECT 1;", 'SELECT 1; CREATE ROLE "x;', "SELECT E'\\';"])
def test_a_script_that_ends_inside_a_text_is_refused(script: str) -> None:
    with pytest.raises(SourceError, match="ends inside of a text or name"):
        statements(script)


def test_no_program_is_run_for_an_archive(filled: SealedSet, target: Target, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"\\! touch {told}\n"
    for name in ("roles.sql", "database.sql"):
        path = filled.directory / name
        path.write_text(script + path.read_text("utf-8"), "utf-8")
    with pytest.raises(SourceError, match=r"roles\.sql was refused: syntax error"):
        rebuild(filled, target, archived_scripts(filled))
    assert not told.exists()


def test_a_role_that_is_missing_in_the_script_is_the_archives_fault(filled: SealedSet, target: Target) -> None:
    wanted = replace(filled.manifest.survey.properties, owner="nobody knows")
    scripts = scripts_beside(wanted, target.name, ["postgres"])
    with pytest.raises(SourceError, match=r'database\.sql was refused: role "nobody knows" does not exist'):
        rebuild(filled, target, scripts)
    assert target.made.databases == []


def test_a_database_that_is_there_is_left_alone(
    filled: SealedSet, latest_cluster: Cluster, latest_database: str, tmp_path: Path
) -> None:
    name = latest_database.rpartition("dbname=")[2].split()[0].strip("'")
    there = target_of(latest_cluster, name, tmp_path / "private")
    with pytest.raises(SourceError, match="already exists"):
        rebuild(filled, there, beside(filled, there))
    assert there.made.databases == []
    discard(there)
    with connect(latest_database) as connection:
        connection.execute("SELECT 1")


@pytest.mark.parametrize("roles", ["", "CREATE ROLE passing LOGIN; SELECT 1 / 0;"])
def test_roles_are_made_all_or_none(roles: str, filled: SealedSet, target: Target) -> None:
    scripts = beside(filled, target)
    if roles:
        with pytest.raises(SourceError, match="division by zero"):
            rebuild(filled, target, replace(scripts, roles=roles))
    with target.on_server() as server:
        assert make_roles(server, "") == ()
        assert server.execute(LOGINS, [["passing"]]).fetchall() == []


def test_the_first_error_of_pg_restore_is_told(filled: SealedSet, target: Target) -> None:
    make_database(target, ["CREATE DATABASE rebuilt TEMPLATE template0"])
    script = "CREATE TABLE public.t (a integer); INSERT INTO t VALUES (7)"
    assert target.run("psql", f"--command={script}").returncode == 0
    with pytest.raises(SourceError, match=r'pg_restore 18\.\d+ ended with exit code 1: .*relation "t" already exists'):
        restore_dump(target, filled.directory / "db.dump")
    assert count(target) == 1


def test_a_script_that_makes_another_database_is_refused(filled: SealedSet, target: Target) -> None:
    scripts = replace(beside(filled, target), database="CREATE DATABASE other")
    with pytest.raises(SourceError, match="makes another database than rebuilt"):
        rebuild(filled, target, scripts)
    target.made.databases.append("other")


LACKS = {
    "could not access file": "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '$libdir/nowhere'",
    "tablespace": "CREATE TABLE x (a integer) TABLESPACE nowhere",
    "extension": "CREATE EXTENSION nowhere",
    "collation": 'CREATE TABLE x (a text COLLATE "nowhere")',
}


@pytest.mark.parametrize("words", LACKS)
def test_what_only_this_server_lacks_is_no_fault_of_the_archive(words: str, filled: SealedSet, target: Target) -> None:
    scripts = beside(filled, target)
    with pytest.raises(NotCheckedError, match=f"this server lacks something: .*{words}"):
        rebuild(filled, target, replace(scripts, roles=LACKS[words]))


def test_everything_hard_comes_back_under_another_name(backed_up: BackedUp, tmp_path: Path) -> None:
    """On the source's own server, where all roles are there already."""
    sealed = open_set(backed_up.directory)
    target = target_of(backed_up.cluster, 'beside "it"', tmp_path / "private")
    try:
        assert rebuild(sealed, target, beside(sealed, target)) == Rebuilt((), ())
        with target.on_server() as server:
            attributes = "SELECT rolcanlogin FROM pg_roles WHERE rolname = ANY (%s)"
            assert server.execute(attributes, [[READER, POLICED]]).fetchall() == [(True,), (True,)]
            owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
            assert server.execute(owner, [target.name]).fetchone() == (OWNER,)
    finally:
        discard(target)
