"""A rebuilt database is compared with the archived one: what is as it was is not mentioned, all else is named once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fix_definitions import ODD_DEFINITIONS, ODD_ROLES
from fix_drill import plain_set, target_of
from fix_vault import Connection, connect, new_database

from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.recovery.comparison import compare
from borg_vault_plugin.recovery.definitions import Heading, departures, read_definitions
from borg_vault_plugin.recovery.printed import archived_definitions
from borg_vault_plugin.recovery.rebuild import discard, rebuild, scripts_beside
from borg_vault_plugin.recovery.target import Target
from borg_vault_plugin.sealed_set import SealedSet

pytest_plugins = ("fix_server",)

TABLES = """
CREATE TABLE kept (a integer PRIMARY KEY, b text);
CREATE TABLE shorter (a integer);
CREATE TABLE changed (a text);
CREATE TABLE gone (a integer);
CREATE TABLE open (a integer);
CREATE SEQUENCE counting;
CREATE SEQUENCE falling INCREMENT -2;
CREATE SEQUENCE untouched;
CREATE MATERIALIZED VIEW filled AS SELECT 1 AS a;
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS a WITH NO DATA;
CREATE FUNCTION of_rows() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION of_events() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE TRIGGER lost BEFORE UPDATE ON kept FOR EACH ROW EXECUTE FUNCTION of_rows();
CREATE TRIGGER off BEFORE DELETE ON kept FOR EACH ROW EXECUTE FUNCTION of_rows();
CREATE EVENT TRIGGER watching ON sql_drop EXECUTE FUNCTION of_events();
CREATE EVENT TRIGGER sleeping ON sql_drop EXECUTE FUNCTION of_events();
CREATE POLICY own_rows ON open USING (a > 0);
ALTER TABLE open ENABLE ROW LEVEL SECURITY;
ALTER TABLE kept ADD CONSTRAINT short CHECK (length(b) < 9);
CREATE INDEX quick ON kept (b);
CREATE TABLE parted (a integer) PARTITION BY LIST (a);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES IN (1);
GRANT SELECT ON kept TO odd_role;
COMMENT ON TABLE kept IS 'as it was';
SELECT lo_from_bytea(7, '\\x00ff'), lo_from_bytea(8, '\\x01');
INSERT INTO kept VALUES (1, 'one'); INSERT INTO shorter VALUES (1), (2); INSERT INTO changed VALUES ('x'); INSERT INTO
parted VALUES (1); SELECT nextval('counting'), nextval('counting'), nextval('falling'), nextval('falling');
"""

# What somebody does to a rebuilt database, and what is said about it.
TAMPERED = {
    "DELETE FROM shorter WHERE a = 2": ["table public.shorter has 1 rows, had 2"],
    "UPDATE changed SET a = 'y'": ["table public.changed has its 1 rows, but not with the values that they had"],
    "DROP TABLE gone": ["TABLE public.gone is missing", "table public.gone is missing"],
    "SELECT setval('counting', 1)": ["sequence public.counting is at 1, was at 2 already"],
    "SELECT setval('falling', -1)": ["sequence public.falling is at -1, was at -3 already"],
    "SELECT setval('untouched', 100)": [],
    "REFRESH MATERIALIZED VIEW filled WITH NO DATA": ["materialised view public.filled is not filled"],
    "REFRESH MATERIALIZED VIEW unfilled": ["materialised view public.unfilled is filled"],
    "DROP TRIGGER lost ON kept": ["TRIGGER public.kept lost is missing"],
    "ALTER TABLE kept DISABLE TRIGGER off": ["TRIGGER public.kept off is defined otherwise"],
    "DROP EVENT TRIGGER watching": ["EVENT TRIGGER watching is missing"],
    "ALTER EVENT TRIGGER sleeping DISABLE": ["EVENT TRIGGER sleeping is defined otherwise"],
    "ALTER POLICY own_rows ON open USING (true)": ["POLICY public.open own_rows is defined otherwise"],
    "ALTER TABLE open DISABLE ROW LEVEL SECURITY": ["ROW SECURITY public.open is missing"],
    "ALTER TABLE kept DROP CONSTRAINT short": ["TABLE public.kept is defined otherwise"],
    "DROP INDEX quick": ["INDEX public.quick is missing"],
    "ALTER TABLE parted DETACH PARTITION part_1": ["TABLE ATTACH public.part_1 is missing"],
    "REVOKE SELECT ON kept FROM odd_role": ["ACL public.TABLE kept is missing"],
    "GRANT DELETE ON changed TO odd_role": ["ACL public.TABLE changed was not there"],
    "COMMENT ON TABLE kept IS 'as it is'": ["COMMENT public.TABLE kept is defined otherwise"],
    "CREATE TABLE added (a integer)": ["TABLE public.added was not there"],
    "CREATE OR REPLACE FUNCTION of_rows() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'": [
        "FUNCTION public.of_rows() is defined otherwise"
    ],
    'ALTER TABLE shorter OWNER TO "odd owner"': [
        "TABLE public.shorter is missing",
        "TABLE public.shorter was not there",
    ],
    "SELECT lo_put(8, 0, '\\x02')": ["the 2 large objects have not the contents, owners and privileges that they had"],
    "ALTER DATABASE rebuilt SET work_mem = '9MB'": ["setting work_mem of the database is not '5MB' any more"],
    "ALTER DATABASE rebuilt CONNECTION LIMIT 3": ["the database's connection limit is 3, was -1"],
    "COMMENT ON DATABASE rebuilt IS 'mine'": ["the database's comment is 'mine', was None"],
    'ALTER DATABASE rebuilt OWNER TO "odd owner"': ["the database's owner is 'odd owner', was 'postgres'"],
    "GRANT CREATE ON DATABASE rebuilt TO odd_role": [],
    "ALTER ROLE odd_role CREATEDB": ["role odd_role has other attributes than it had"],
    'REVOKE "odd owner" FROM odd_role': ["role odd_role is not the member of odd owner that it was"],
    "ALTER ROLE odd_role RESET search_path": ["setting search_path of role odd_role is not 'public' any more"],
}


@contextlib.contextmanager
def odd_roles(connection: Connection) -> Iterator[None]:
    for name in ODD_ROLES:
        connection.execute(f'CREATE ROLE "{name}"'.encode())
    connection.execute('GRANT "odd owner" TO odd_role; ALTER ROLE odd_role SET search_path = public')
    try:
        yield
    finally:
        for name in ODD_ROLES:
            connection.execute(f'DROP ROLE "{name}"'.encode())


@contextlib.contextmanager
def rebuilt(cluster: Cluster, definitions: str, place: Path) -> Iterator[tuple[SealedSet, Target]]:
    """Make a database, a set of it, and a database of that."""
    target = target_of(cluster, "rebuilt", place / "private", own=True)
    with connect(cluster.conninfo()) as server, odd_roles(server), new_database(cluster) as name:
        with connect(cluster.conninfo(name)) as connection:
            connection.execute(definitions.encode())
            connection.execute(f"ALTER DATABASE \"{name}\" SET work_mem = '5MB'".encode())
        sealed = plain_set(cluster, name, place / "set")
        with connect(cluster.conninfo(name)) as connection:
            connection.execute(FORGET.encode())
        try:
            rebuild(sealed, target, scripts_beside(sealed.manifest.survey.properties, "rebuilt", ODD_ROLES))
            yield sealed, target
        finally:
            discard(target)


# A database with a subscription cannot be dropped.
FORGET = """
DO $$ BEGIN IF EXISTS (SELECT FROM pg_subscription) THEN
  ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub; END IF; END $$"""


def test_what_postgresql_prints_otherwise_after_a_restore_is_no_difference(cluster: Cluster, tmp_path: Path) -> None:
    with rebuilt(cluster, ODD_DEFINITIONS, tmp_path) as (sealed, target):
        again = read_definitions(target.run("pg_dump", "--schema-only").stdout)
        assert len(departures(archived_definitions(sealed, target), again).changed) == 7
        comparison = compare(sealed, target)
        assert comparison.differences == ()
        assert "108 definitions" in comparison.compared
        assert target.made.databases == ["rebuilt"]


def test_each_thing_that_is_not_as_it_was_is_named_once(latest_cluster: Cluster, tmp_path: Path) -> None:
    with rebuilt(latest_cluster, TABLES, tmp_path) as (sealed, target):
        assert compare(sealed, target).differences == ()
        with connect(latest_cluster.conninfo("rebuilt")) as connection:
            for statement in TAMPERED:
                connection.execute(statement.encode())
        found = compare(sealed, target).differences
        expected = [said for sayings in TAMPERED.values() for said in sayings]
        assert sorted(one for one in found if not one.startswith("privileges")) == sorted(expected)
        (privileges,) = (one for one in found if one.startswith("privileges"))
        assert "CREATE to odd_role" in privileges
        assert privileges.endswith("were PostgreSQL's own")


def test_only_roles_on_a_server_of_our_own_are_compared(latest_cluster: Cluster, tmp_path: Path) -> None:
    with rebuilt(latest_cluster, TABLES, tmp_path) as (sealed, target), connect(latest_cluster.conninfo()) as server:
        server.execute("ALTER ROLE odd_role CREATEDB")
        assert len(compare(sealed, target).differences) == 1
        assert compare(sealed, replace(target, own=False)).differences == ()


def test_a_missing_large_object_is_counted(latest_cluster: Cluster, tmp_path: Path) -> None:
    with rebuilt(latest_cluster, TABLES, tmp_path) as (sealed, target):
        with connect(latest_cluster.conninfo("rebuilt")) as connection:
            connection.execute("SELECT lo_unlink(7)")
        assert compare(sealed, target).differences == ("of 2 large objects 1 are there",)


SCRIPT = b"""--
-- PostgreSQL database dump
--

SET row_security = off;

--
-- Name: t; Type: TABLE; Schema: public; Owner: me; Tablespace: fast disk
--

CREATE TABLE public.t (
);

SET default_table_access_method = heap;

--
-- Name: TABLE t; Type: COMMENT; Schema: public; Owner: me
--

COMMENT ON TABLE public.t IS 'a
--
-- Name: x; Type: TRIGGER; Schema: public; Owner: me
--
b';


--
-- Name: v; Type: MATERIALIZED VIEW DATA; Schema: public; Owner: me
--

REFRESH MATERIALIZED VIEW public.v;


--
-- PostgreSQL database dump complete
--

"""


def test_a_script_is_taken_apart_by_its_headings() -> None:
    definitions = read_definitions(SCRIPT)
    table = Heading("t", "TABLE", "public", "me", "fast disk")
    assert list(definitions.entries) == [
        table,
        Heading("TABLE t", "COMMENT", "public", "me"),
        Heading("x", "TRIGGER", "public", "me"),
    ]
    assert (definitions.owners(), definitions.tablespaces()) == ({"me"}, {"fast disk"})
    assert str(table) == "TABLE public.t"
    other = read_definitions(SCRIPT.replace(b"SET default_table_access_method = heap;\n", b""))
    assert list(departures(definitions, other)) == []
    assert list(departures(definitions, read_definitions(SCRIPT.replace(b"b';", b"c';")))) == [
        "TRIGGER public.x is defined otherwise"
    ]
    assert read_definitions(b"").entries == {}
