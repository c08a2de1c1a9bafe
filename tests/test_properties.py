"""roles.sql and database.sql: with them, plain psql and pg_restore bring back what a dump leaves out."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_artifacts import (
    COMMENT,
    GROUP,
    GROUPS_GROUP,
    HEIR,
    OWNER,
    PASSWORD,
    POLICED,
    READER,
    STRANGERS,
    BackedUp,
    Replayed,
    literal,
    psql,
    quoted,
)
from fix_vault import connect, new_database

from borg_vault_plugin import database_sql, read_properties, roles_sql
from borg_vault_plugin.cluster import Cluster

pytest_plugins = ("fix_server", "fix_backed_up")

role_numbers = itertools.count(1)

DATABASE = """
SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(d)->>'datlocprovider',
       coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), datconnlimit,
       shobj_description(oid, 'pg_database')
  FROM pg_database d WHERE datname = %s"""
PRIVILEGES = """
SELECT coalesce(pg_get_userbyid(nullif(a.grantee, 0)), 'PUBLIC'), a.privilege_type, a.is_grantable
  FROM pg_database, aclexplode(datacl) a WHERE datname = %s ORDER BY 1, 2"""
SETTINGS = """
SELECT pg_get_userbyid(nullif(setrole, 0)), setdatabase <> 0, unnest(setconfig)
  FROM pg_db_role_setting WHERE setdatabase = 0 OR setdatabase = (SELECT oid FROM pg_database WHERE datname = %s)
 ORDER BY 1, 2, 3"""
ROLES = """
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
       rolconnlimit
  FROM pg_roles WHERE rolname = ANY (%s) ORDER BY 1"""
MEMBERSHIPS = """
SELECT pg_get_userbyid(roleid), pg_get_userbyid(member), admin_option
  FROM pg_auth_members WHERE pg_get_userbyid(member) = ANY (%s) ORDER BY 1, 2"""
OBJECTS = """
SELECT format('%I.%I', n.nspname, c.relname), pg_get_userbyid(c.relowner),
       array(SELECT unnest(c.relacl)::text ORDER BY 1)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1"""
POLICIES = "SELECT tablename, policyname, roles::text FROM pg_policies ORDER BY 1, 2"
DEFAULTS = "SELECT pg_get_userbyid(defaclrole), defaclacl::text FROM pg_default_acl ORDER BY 1"
USED = [OWNER, GROUP, GROUPS_GROUP, READER, POLICED, HEIR, "agledger_app"]


def rows(cluster: Cluster, query: str, *parameters: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
    with connect(cluster.conninfo(database)) as connection:
        return connection.execute(query.encode(), parameters or None).fetchall()


def execute(cluster: Cluster, *statements: str) -> None:
    with connect(cluster.conninfo()) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def told(cluster: Cluster, database: str) -> dict[str, list[tuple[Any, ...]]]:
    """Give all that database.sql is to bring back."""
    queries = {"database": DATABASE, "privileges": PRIVILEGES, "settings": SETTINGS}
    return {name: rows(cluster, query, database) for name, query in queries.items()}


def written(cluster: Cluster, database: str, directory: Path, *, name: str | None = None) -> list[Path]:
    """Write roles.sql and database.sql of a database as a run does."""
    with connect(cluster.conninfo(database)) as connection:
        properties = read_properties(connection)
    texts = {"roles.sql": roles_sql(properties), "database.sql": database_sql(properties, name or properties.name)}
    for file, text in texts.items():
        (directory / file).write_text(text, "utf-8")
    return [directory / file for file in texts]


@contextlib.contextmanager
def own_roles(cluster: Cluster, **options: str) -> Iterator[list[str]]:
    """Make roles that only this test knows; drop them on leaving."""
    number = next(role_numbers)
    names = [f"{name} {number}" for name in options]
    with connect(cluster.conninfo()) as connection:
        for name, option in zip(names, options.values(), strict=True):
            connection.execute(f"CREATE ROLE {quoted(name)} {option}".encode())
    yield names
    with connect(cluster.conninfo()) as connection:
        for name in names:
            connection.execute(f"DROP ROLE IF EXISTS {quoted(name)}".encode())


def test_plain_tools_replay_an_archive_without_an_error(replayed: Replayed) -> None:
    assert replayed.said["db.dump"] == ""
    assert "ERROR" not in "".join(replayed.said.values())


def test_the_database_has_its_own_properties_again(replayed: Replayed) -> None:
    name = replayed.source.vault.database
    before, after = told(replayed.source.cluster, name), told(replayed.cluster, name)
    assert after["database"] == before["database"]
    assert before["database"][0][0] == OWNER
    assert before["database"][0][-2:] == (77, COMMENT)


def test_the_database_has_its_privileges_again(replayed: Replayed) -> None:
    name = replayed.source.vault.database
    before, after = told(replayed.source.cluster, name), told(replayed.cluster, name)
    assert after["privileges"] == before["privileges"]
    assert (GROUP, "CREATE", True) in after["privileges"]
    assert "PUBLIC" not in [grantee for grantee, _, _ in after["privileges"]]


def test_settings_of_database_and_roles_are_there_again(replayed: Replayed) -> None:
    name = replayed.source.vault.database
    before, after = told(replayed.source.cluster, name), told(replayed.cluster, name)
    assert after["settings"] == before["settings"]
    search_path = 'search_path=public, "$user", "Odd ""x"" schema", "a, b"'
    assert (None, True, search_path) in after["settings"]
    assert (READER, True, 'search_path="$user", "Odd ""x"" schema"') in after["settings"]


def test_roles_have_their_attributes_and_memberships_again(replayed: Replayed) -> None:
    assert rows(replayed.cluster, ROLES, USED) == rows(replayed.source.cluster, ROLES, USED)
    memberships = rows(replayed.cluster, MEMBERSHIPS, USED)
    assert memberships == rows(replayed.source.cluster, MEMBERSHIPS, USED)
    assert (GROUP, READER, True) in memberships
    assert (GROUPS_GROUP, GROUP, False) in memberships
    assert ("pg_read_all_data", READER, False) in memberships


def test_objects_have_their_owners_and_privileges_again(replayed: Replayed) -> None:
    name = replayed.source.vault.database
    for query in (OBJECTS, POLICIES, DEFAULTS):
        before = rows(replayed.source.cluster, query, database=name)
        assert before
        assert rows(replayed.cluster, query, database=name) == before


def test_roles_that_have_nothing_to_do_with_the_database_stay_out(backed_up: BackedUp) -> None:
    script = (backed_up.directory / "roles.sql").read_text("utf-8")
    for name in STRANGERS:
        assert name not in script
    assert script.count("CREATE ROLE") == len([*USED, "postgres"])


def test_no_password_is_in_any_artifact(backed_up: BackedUp) -> None:
    (secret,) = rows(backed_up.cluster, "SELECT rolpassword FROM pg_authid WHERE rolname = %s", READER)[0]
    assert secret.startswith("SCRAM")
    for path in backed_up.directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert PASSWORD.encode() not in data, path
            assert secret.encode() not in data, path
            assert b"SCRAM-SHA-256$" not in data, path
    assert "PASSWORD" not in (backed_up.directory / "roles.sql").read_text("utf-8")


def test_a_replayed_role_cannot_log_in_before_it_gets_a_password(replayed: Replayed) -> None:
    query = "SELECT count(*) FROM pg_authid WHERE rolpassword IS NOT NULL AND rolname <> 'postgres'"
    assert rows(replayed.cluster, query) == [(0,)]


NAMES = [
    'quo"te', "quo'te", "$$", "$body$", "back\\slash", "größe", "with space", "UPPER", "select", "br{ac}es", "{}",
    "per%cent", "%s", "new\nline", "-- comment", "semi;colon", "ünï" * 10,
]  # fmt: skip


def test_roles_of_any_name_are_made_again(latest_cluster: Cluster, tmp_path: Path) -> None:
    with own_roles(latest_cluster, **dict.fromkeys(NAMES, "NOLOGIN")) as names:
        with new_database(latest_cluster) as database:
            execute(
                latest_cluster, *(f"GRANT CREATE ON DATABASE {quoted(database)} TO {quoted(name)}" for name in names)
            )
            script = written(latest_cluster, database, tmp_path)[0]
        execute(latest_cluster, *(f"DROP ROLE {quoted(name)}" for name in names))
        psql(latest_cluster, script)
        assert len(rows(latest_cluster, ROLES, names)) == len(NAMES)


def test_an_owner_of_any_name_owns_the_database_again(latest_cluster: Cluster, tmp_path: Path) -> None:
    tricky = NAMES[:5] + NAMES[9:15]
    with (
        own_roles(latest_cluster, **dict.fromkeys(tricky, "NOLOGIN")) as names,
        new_database(latest_cluster) as first,
        new_database(latest_cluster) as second,
    ):
        for name in names:
            comment = f"COMMENT ON DATABASE {quoted(first)} IS {literal(name)}"
            execute(latest_cluster, f"ALTER DATABASE {quoted(first)} OWNER TO {quoted(name)}", comment)
            copied_properties(latest_cluster, first, second, tmp_path)
            assert told(latest_cluster, second) == told(latest_cluster, first)
            assert told(latest_cluster, second)["database"][0][0] == name


def copied_properties(cluster: Cluster, first: str, second: str, directory: Path) -> None:
    """Replace the second database by what the script of the first one makes of its name."""
    _, script = written(cluster, first, directory, name=second)
    execute(cluster, f"DROP DATABASE {quoted(second)}")
    psql(cluster, script)


def made_again(cluster: Cluster, options: str, directory: Path) -> tuple[Any, ...]:
    """Make a database with these options, and a second one by the script of the first; they must be alike."""
    with new_database(cluster, options=options) as first, new_database(cluster) as second:
        copied_properties(cluster, first, second, directory)
        (before,), (after,) = (told(cluster, name)["database"] for name in (first, second))
        assert after == before
        return after


def test_a_database_of_another_encoding_is_made_again(cluster: Cluster, tmp_path: Path) -> None:
    database = made_again(cluster, "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'", tmp_path)
    assert database[1:4] == ("LATIN1", "C", "C")


def test_a_database_of_two_locales_is_made_again(latest_cluster: Cluster, tmp_path: Path) -> None:
    database = made_again(latest_cluster, "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'", tmp_path)
    assert database[1:4] == ("UTF8", "C", "C.UTF-8")


def test_a_database_that_nobody_may_connect_to_stays_so(latest_cluster: Cluster, tmp_path: Path) -> None:
    assert made_again(latest_cluster, "CONNECTION LIMIT 0", tmp_path)[6] == 0


@pytest.mark.parametrize("distribution", ["system-15"], indirect=True)  # the only one built with ICU
def test_a_database_that_icu_sorts_is_made_again(cluster: Cluster, tmp_path: Path) -> None:
    database = made_again(cluster, "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'", tmp_path)
    assert database[4:6] == ("i", "de-u-co-phonebk")


def test_a_database_that_the_builtin_provider_sorts_is_made_again(latest_cluster: Cluster, tmp_path: Path) -> None:
    database = made_again(latest_cluster, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'", tmp_path)
    assert database[4:6] == ("b", "C.UTF-8")


def replayed_settings(cluster: Cluster, directory: Path, *changes: str) -> tuple[list[str], list[str]]:
    """Give the settings of a changed database, and those of a second one made by its script."""
    with new_database(cluster) as first, new_database(cluster) as second:
        execute(cluster, *(change.replace("DATABASE it", f"DATABASE {quoted(first)}") for change in changes))
        copied_properties(cluster, first, second, directory)
        both = [[text for _, own, text in told(cluster, name)["settings"] if own] for name in (first, second)]
        return both[0], both[1]


SETTINGS_OF_ANY_SHAPE = [
    """SET search_path = 'a"b', 'c, d', "$user", 'É', 'x y', "UP", public""",
    "SET DateStyle = 'German, DMY'",
    "SET session_preload_libraries = 'plpgsql', 'plpgsql'",
    """SET my.own = E'a\\\\b''c$1 {x} %s "d"'""",
    "SET my.empty = ''",
    """SET "My"."Own_Setting" = 'x'""",
    "SET statement_timeout = 5000",
    "SET bytea_output = escape",
]


def test_settings_of_any_shape_are_made_again(latest_cluster: Cluster, tmp_path: Path) -> None:
    changes = [f"ALTER DATABASE it {change}" for change in SETTINGS_OF_ANY_SHAPE]
    before, after = replayed_settings(latest_cluster, tmp_path, *changes)
    assert len(before) == len(changes)
    assert after == before


@pytest.mark.parametrize(
    "changes",
    [
        ["ALTER DATABASE it SET search_path = ''"],
        ["SELECT set_config('search_path', '', false)", "ALTER DATABASE it SET search_path FROM CURRENT"],
    ],
)
def test_an_empty_search_path_stays_empty(changes: list[str], latest_cluster: Cluster, tmp_path: Path) -> None:
    before, after = replayed_settings(latest_cluster, tmp_path, *changes)
    assert before[0] in ("search_path=", 'search_path=""')  # two ways of saying the same
    assert after == ['search_path=""']


def test_a_role_whose_only_trace_is_a_setting_in_the_database_is_made_again(cluster: Cluster, tmp_path: Path) -> None:
    with own_roles(cluster, tuned="LOGIN") as (name,), new_database(cluster) as database:
        with connect(cluster.conninfo()) as connection:
            connection.execute(
                f"ALTER ROLE {quoted(name)} IN DATABASE {quoted(database)} SET work_mem = '9MB'".encode()
            )
        roles_file, database_file = written(cluster, database, tmp_path)
        assert f'CREATE ROLE "{name}"' in roles_file.read_text("utf-8")
        assert "work_mem" in database_file.read_text("utf-8")


@pytest.mark.parametrize("distribution", ["embedded-16", "embedded-18"], indirect=True)  # 15 has no such options
def test_a_membership_gives_no_more_than_it_gave(cluster: Cluster, tmp_path: Path) -> None:
    options = "SELECT inherit_option, set_option FROM pg_auth_members WHERE member = %s::regrole"
    with own_roles(cluster, group="NOLOGIN", member="LOGIN") as (group, member), new_database(cluster) as database:
        execute(cluster, f"GRANT {quoted(group)} TO {quoted(member)} WITH INHERIT FALSE, SET FALSE")
        execute(cluster, f"GRANT CONNECT ON DATABASE {quoted(database)} TO {quoted(member)}")
        script = written(cluster, database, tmp_path)[0]
        execute(cluster, f"REVOKE {quoted(group)} FROM {quoted(member)}")
        psql(cluster, script)
        assert rows(cluster, options, quoted(member)) == [(False, False)]
        execute(cluster, f"REVOKE CONNECT ON DATABASE {quoted(database)} FROM {quoted(member)}")


def test_a_role_stays_valid_no_longer_than_it_was(latest_cluster: Cluster, tmp_path: Path) -> None:
    limit = "SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = %s"
    with own_roles(latest_cluster, expired="LOGIN VALID UNTIL '2001-01-01Z'") as (name,):
        with new_database(latest_cluster) as database:
            execute(latest_cluster, f"ALTER DATABASE {quoted(database)} OWNER TO {quoted(name)}")
            script = written(latest_cluster, database, tmp_path)[0]
        execute(latest_cluster, f"DROP ROLE {quoted(name)}")
        psql(latest_cluster, script)
        assert rows(latest_cluster, limit, name) == [("2001-01-01 00:00:00+00",)]


def test_the_scripts_say_in_which_encoding_they_are(latest_cluster: Cluster, tmp_path: Path) -> None:
    with own_roles(latest_cluster, größe="NOLOGIN") as (name,), new_database(latest_cluster) as database:
        execute(latest_cluster, f"ALTER DATABASE {quoted(database)} OWNER TO {quoted(name)}")
        execute(latest_cluster, f"COMMENT ON DATABASE {quoted(database)} IS 'größe'")
        before = told(latest_cluster, database)
        scripts = written(latest_cluster, database, tmp_path)
        execute(latest_cluster, f"DROP DATABASE {quoted(database)}")
        execute(latest_cluster, f"DROP ROLE {quoted(name)}")
        script = "SET client_encoding = 'LATIN1';\n" + "".join(f"\\i {file}\n" for file in scripts)
        (tmp_path / "all.sql").write_text(script, "utf-8")
        psql(latest_cluster, tmp_path / "all.sql")
        assert told(latest_cluster, database) == before


def test_a_role_that_is_there_already_keeps_what_it_has(latest_cluster: Cluster, tmp_path: Path) -> None:
    with own_roles(latest_cluster, kept="LOGIN PASSWORD 'x'") as (name,), new_database(latest_cluster) as database:
        execute(latest_cluster, f"GRANT CONNECT ON DATABASE {quoted(database)} TO {quoted(name)}")
        script = written(latest_cluster, database, tmp_path)[0]
        execute(latest_cluster, f"ALTER ROLE {quoted(name)} NOLOGIN")
        psql(latest_cluster, script)
        query = "SELECT rolcanlogin, rolpassword IS NOT NULL FROM pg_authid WHERE rolname = %s"
        assert rows(latest_cluster, query, name) == [(False, True)]
        execute(latest_cluster, f"REVOKE CONNECT ON DATABASE {quoted(database)} FROM {quoted(name)}")


def test_privileges_that_nobody_changed_stay_postgresqls_default(latest_cluster: Cluster, tmp_path: Path) -> None:
    with new_database(latest_cluster) as database:
        script = written(latest_cluster, database, tmp_path)[1].read_text("utf-8")
    assert "GRANT" not in script
    assert "REVOKE" not in script


def test_a_database_that_lost_every_privilege_gets_none(latest_cluster: Cluster, tmp_path: Path) -> None:
    with new_database(latest_cluster) as first, new_database(latest_cluster) as second:
        execute(latest_cluster, f"REVOKE ALL ON DATABASE {quoted(first)} FROM PUBLIC, postgres")
        execute(latest_cluster, f"DROP DATABASE {quoted(second)}")
        psql(latest_cluster, written(latest_cluster, first, tmp_path, name=second)[1])
        assert rows(latest_cluster, "SELECT datacl::text FROM pg_database WHERE datname = %s", second) == [("{}",)]


def test_the_owner_of_a_subscription_is_made_again(latest_cluster: Cluster, tmp_path: Path) -> None:
    with (
        own_roles(latest_cluster, subscriber="SUPERUSER") as (name,),
        new_database(latest_cluster) as database,
        connect(latest_cluster.conninfo(database)) as connection,
    ):
        connection.execute("CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)")
        connection.execute(f"ALTER SUBSCRIPTION s OWNER TO {quoted(name)}".encode())
        script = written(latest_cluster, database, tmp_path)[0].read_text("utf-8")
        connection.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)")
        connection.execute("DROP SUBSCRIPTION s")
    assert f'CREATE ROLE "{name}"' in script
