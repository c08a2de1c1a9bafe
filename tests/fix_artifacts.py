"""Artifacts: a database of everything that is hard to back up, and what PostgreSQL's own programs make of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fix_cli import COMMAND, SECONDS
from fix_repository import PASSPHRASE, PlainRepository, initialised
from fix_vault import Vault, connect

from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.process import plain_environment, run
from borg_vault_plugin.session import open_session
from borg_vault_plugin.survey import Survey, count_tables, take_survey

OWNER = 'Owner "of" $all$, ö\'s'
GROUP = "group one"
GROUPS_GROUP = "$$ group of groups"
READER = "reader-é"
POLICED = "policed\\role"
HEIR = "heir of defaults"
STRANGERS = ("stranger", "member of group one")
PASSWORD = "hunter2-is-no-secret"
ROLES = (OWNER, GROUPS_GROUP, GROUP, READER, POLICED, HEIR, *STRANGERS)
COMMENT = 'it\'s the "database" \\ with {braces}, 100 % größer;\nand a second line'

# Tables whose rows, names or types are hard to bring back, or to compare.
HARD_TABLES = r"""
CREATE SCHEMA "Odd ""x"" schema";
CREATE TYPE "Odd ""x"" schema".mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN public.label AS text;
CREATE TYPE public.pair AS (a integer, b text);
CREATE TABLE public.hard (
    id integer GENERATED ALWAYS AS IDENTITY,
    mood "Odd ""x"" schema".mood, moods "Odd ""x"" schema".mood[], place regclass, kind regtype, doc json, docb jsonb,
    exact numeric, single real, double double precision, words text[], grid integer[][], positive public.positive,
    label public.label, raw bytea, seen timestamptz, local timestamp, day date, span interval, pair public.pair,
    pairs public.pair[], point point, box box, bits varbit, address inet, lexemes tsvector, short char(5), name name,
    range int4range, number oid, doubled integer GENERATED ALWAYS AS (coalesce(positive, 0) * 2) STORED
);
INSERT INTO public.hard (mood, moods, place, kind, doc, docb, exact, single, double, words, grid, positive, label, raw,
    seen, local, day, span, pair, pairs, point, box, bits, address, lexemes, short, name, range, number)
VALUES ('happy', '{sad,ok}', 'public.hard', 'public.pair', '{"b" : 1,  "a":1, "a":2}', '{"b": 1.10, "a": null}', 0.10,
    'NaN', -0.0, ARRAY['a,b', NULL, 'quo"te', '', E'new\nline'], '{{1,2},{3,4}}', 7, 'x', '\x00ff5c',
    '2026-05-26 01:33:27.123456+05:45', 'infinity', '0044-03-15 BC', '1 year 2 days 03:04:05.6', '(1,"a b")',
    ARRAY[ROW(1, NULL)::public.pair], '(1.5,-0)', '(1,1),(0,0)', B'1010', '10.0.0.0/8', 'a:1 b:2A', 'x', 'größe',
    '[1,5)', 4294967295),
    (NULL, NULL, 0, NULL, 'null', 'null', 'NaN', '-Infinity', 1e308, '{}', NULL, NULL, '', '', '-infinity', NULL, NULL,
    '-1 mon +1 day', '(,)', NULL, NULL, NULL, '', NULL, '', '', '', 'empty', 0);
INSERT INTO public.hard DEFAULT VALUES;
CREATE TABLE public.quick (
    a boolean, b smallint, c integer, d bigint, e text, f varchar(9), g uuid, h bytea, i date, j timestamp,
    k timestamptz
);
INSERT INTO public.quick VALUES (true, -1, 0, 9007199254740993, '', 'größe', '0190f5fe-7a21-7c3a-8000-000000000000',
    '\x00', 'infinity', '2026-05-26 01:33:27.000001', '-infinity'),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (false, 1, 1, 1, E'\n', ' ', NULL, '', NULL, NULL, NULL);
CREATE TABLE "Odd ""x"" schema"."we ""quote"", and space" ("a ""b"" c" text, "select" integer, "größe" numeric);
INSERT INTO "Odd ""x"" schema"."we ""quote"", and space" VALUES ('x', 1, 1.50);
CREATE TABLE public."line
break" (a text);
CREATE TABLE public."größe" (a text);
CREATE TABLE public."select" (a numeric);
INSERT INTO public."select" VALUES (0.10), (0.1), (-0.0);
CREATE TABLE public.empty (a integer);
CREATE TABLE public.columnless ();
INSERT INTO public.columnless DEFAULT VALUES;
CREATE TABLE public.parent (a integer);
CREATE TABLE public.child (b text) INHERITS (public.parent);
INSERT INTO public.parent VALUES (1);
INSERT INTO public.child VALUES (2, 'two'), (3, 'three');
CREATE TABLE public.parted (a integer, b text) PARTITION BY LIST (a);
CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES IN (1);
CREATE TABLE public.parted_rest PARTITION OF public.parted DEFAULT PARTITION BY RANGE (a);
CREATE TABLE public.parted_many PARTITION OF public.parted_rest DEFAULT;
INSERT INTO public.parted VALUES (1, 'one'), (2, 'two'), (3, 'three');
CREATE UNLOGGED TABLE public.unlogged AS SELECT 1 AS a;
CREATE MATERIALIZED VIEW public.filled AS SELECT count(*) FROM public.parted;
CREATE MATERIALIZED VIEW public.unfilled AS SELECT 1 AS a WITH NO DATA;
CREATE SEQUENCE public.untouched START 5;
CREATE SEQUENCE "Odd ""x"" schema"."odd one" INCREMENT 10;
SELECT nextval('"Odd ""x"" schema"."odd one"') FROM generate_series(1, 3);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE public.elsewhere (a integer) SERVER nowhere;
CREATE TEMPORARY TABLE passing (a integer);
CREATE TABLE public.large (doc jsonb);
INSERT INTO public.large SELECT jsonb_object_agg(n::text, md5(n::text)) FROM generate_series(1, 110000) n;
SELECT lo_from_bytea(4711, '\x00ff'), lo_from_bytea(4712, convert_to(repeat('größe', 10000), 'UTF8')), lo_create(4713);
COMMENT ON LARGE OBJECT 4712 IS E'two\nlines';
"""
XML_TABLE = "CREATE TABLE public.papers (paper xml); INSERT INTO public.papers VALUES ('<a b=\"c\"/>'), ('<x>é</x>')"
EXTENSIONS = ("hstore", "citext", "vector")


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A database, and the files of the archive that one run of the program made of it."""

    vault: Vault
    directory: Path
    document: Any

    @property
    def manifest(self) -> Any:
        """The archived manifest."""
        return json.loads((self.directory / "manifest.json").read_bytes())

    @property
    def cluster(self) -> Cluster:
        """Where the database is."""
        return self.vault.cluster


@dataclass(frozen=True, slots=True)
class Replayed:
    """The same database on a fresh cluster, made by psql and pg_restore alone; `said` is what they wrote to stderr."""

    source: BackedUp
    cluster: Cluster
    said: dict[str, str]


def client(cluster: Cluster, program: str, *words: str | Path, exit_code: int = 0) -> tuple[bytes, str]:
    """Run one of a cluster's own client programs; give what it wrote to stdout and to stderr."""
    done = run([cluster.programs / program, *words], env=cluster.environment(), timeout=SECONDS)
    assert done.returncode == exit_code, done.stderr.decode()
    return done.stdout, done.stderr.decode()


def psql(cluster: Cluster, script: Path, *, database: str = "postgres") -> str:
    """Run a script with plain psql up to its end, and give what it wrote to stderr."""
    return client(cluster, "psql", "-X", "-q", "--set=ON_ERROR_STOP=1", f"--dbname={database}", f"--file={script}")[1]


def dump(cluster: Cluster, database: str, path: Path, *options: str) -> Path:
    """Dump a database as the program does: through a pipe, uncompressed."""
    words = ["--format=custom", "--compress=0", f"--dbname={database}", *options]
    path.write_bytes(client(cluster, "pg_dump", *words)[0])
    return path


def survey_of(conninfo: str, *, in_recovery: bool = False) -> Survey:
    """Survey a database outside of any run, and count its tables."""
    with open_session(source_from_url(conninfo)) as connection:
        survey = take_survey(connection, major=connection.info.server_version // 10000)
        return count_tables(connection, survey, in_recovery=in_recovery)


def has_xml(vault: Vault) -> bool:
    """Say whether this server was built with XML."""
    return vault.cluster.distribution.major == 15


def available(vault: Vault) -> list[str]:
    """List the extensions that this server brings along, of those that matter here."""
    with vault.connect() as connection:
        query = "SELECT name FROM pg_available_extensions WHERE name = ANY (%s) ORDER BY 1"
        return [name for (name,) in connection.execute(query, [list(EXTENSIONS)]).fetchall()]


def harden(vault: Vault) -> None:
    """Fill a database with what is hard to back up, and give it properties of its own."""
    vault.execute(HARD_TABLES, *(f"CREATE EXTENSION {name}" for name in available(vault)))
    if has_xml(vault):
        vault.execute(XML_TABLE)
    vault.execute(*grants(vault.database), *properties(vault.database))


@contextlib.contextmanager
def roles(vault: Vault) -> Iterator[None]:
    """Make the roles; drop them, and the database that they own, on leaving."""
    attributes = {
        OWNER: "NOLOGIN CREATEDB",
        GROUP: "NOLOGIN",
        GROUPS_GROUP: "NOLOGIN CREATEROLE",
        READER: f"LOGIN CONNECTION LIMIT 3 PASSWORD '{PASSWORD}'",
        POLICED: "LOGIN NOINHERIT REPLICATION BYPASSRLS",
        HEIR: "NOLOGIN",
    }
    vault.execute(*(f"CREATE ROLE {quoted(name)} {attributes.get(name, 'LOGIN')}" for name in ROLES))
    try:
        yield
    finally:
        with connect(vault.cluster.conninfo()) as connection:
            connection.execute(f"DROP DATABASE {quoted(vault.database)} WITH (FORCE)".encode())
            connection.execute(f"CREATE DATABASE {quoted(vault.database)}".encode())
            for name in ROLES:
                connection.execute(f"DROP ROLE {quoted(name)}".encode())


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string that holds any character."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def grants(database: str) -> list[str]:
    """Give what makes the roles matter in the database, in every way in which one can."""
    return [
        f"GRANT {quoted(GROUPS_GROUP)} TO {quoted(GROUP)}",
        f"GRANT {quoted(GROUP)} TO {quoted(READER)} WITH ADMIN OPTION",
        f'GRANT {quoted(GROUP)} TO "member of group one"',
        f"GRANT pg_read_all_data TO {quoted(READER)}",
        f"ALTER TABLE public.quick OWNER TO {quoted(OWNER)}",
        f"GRANT SELECT ON public.quick TO {quoted(READER)} WITH GRANT OPTION",
        f"CREATE POLICY few ON public.hard TO {quoted(POLICED)} USING (true)",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(OWNER)} GRANT SELECT ON TABLES TO {quoted(HEIR)}",
        f"REVOKE ALL ON DATABASE {quoted(database)} FROM PUBLIC",
        f"GRANT CONNECT, TEMPORARY ON DATABASE {quoted(database)} TO {quoted(READER)}",
        f"GRANT CREATE ON DATABASE {quoted(database)} TO {quoted(GROUP)} WITH GRANT OPTION",
        f"GRANT SELECT ON LARGE OBJECT 4711 TO {quoted(READER)}",
        f"ALTER LARGE OBJECT 4713 OWNER TO {quoted(OWNER)}",
    ]


def properties(database: str) -> list[str]:
    """Give the database properties of its own."""
    on_database = [
        "OWNER TO " + quoted(OWNER),
        "CONNECTION LIMIT 77",
        'SET search_path = public, "$user", "Odd ""x"" schema", "a, b"',
        "SET \"agledger.org_id\" = 'it''s \\ one'",
        "SET DateStyle = 'German, DMY'",
        "SET work_mem = '5MB'",
    ]
    on_reader = [
        "SET TimeZone = 'Asia/Kathmandu'",
        f'IN DATABASE {quoted(database)} SET search_path = "$user", \'Odd "x" schema\'',
        f"IN DATABASE {quoted(database)} SET statement_timeout = '5s'",
    ]
    return [
        f"COMMENT ON DATABASE {quoted(database)} IS {literal(COMMENT)}",
        *(f"ALTER DATABASE {quoted(database)} {change}" for change in on_database),
        *(f"ALTER ROLE {quoted(READER)} {change}" for change in on_reader),
    ]


def back_up(vault: Vault, place: Path) -> BackedUp:
    """Run the installed command on a database, and extract what it stored with plain borg."""
    repository = initialised(place / "repository", place / "plain-borg")
    said = create(vault, repository, place)
    document = json.loads(said.stdout)
    return BackedUp(vault, repository.extract(document["archive"], place / "extracted"), document)


def create(vault: Vault, repository: PlainRepository, place: Path) -> subprocess.CompletedProcess[str]:
    """Run `create` with an environment of its own; it must succeed in silence."""
    own = {
        "DATABASE_URL": vault.url,
        "BORG_REPO": str(repository.path),
        "BORG_PASSPHRASE": PASSPHRASE,
        "BORG_BASE_DIR": str(place / "borg"),
        "XDG_STATE_HOME": str(place / "state"),
        "XDG_CONFIG_HOME": str(place / "config"),
    }
    command = [str(COMMAND), "create", "--json", "--no-prune"]
    done = subprocess.run(
        command, env=plain_environment(own), check=False, capture_output=True, text=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done
