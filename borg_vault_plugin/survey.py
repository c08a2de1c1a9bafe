"""What the snapshot holds, written down so that a restored database can be compared with it.

A table's digest is the sum of its rows' hashes, so it does not depend on their order. It finds damage, not tampering.
Rows are hashed as text with pinned output settings; PostgreSQL's hash_record_extended is five times faster, but it
takes 0.10 for 0.1 and -0 for 0, hashes enums and reg-types by numbers that a restore changes, and fails on json, xml
and geometric types. So it serves only tables whose columns all have a type of a short list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from borg_vault_plugin.database import Connection, only_row
from borg_vault_plugin.properties import Properties, read_properties

# Types whose hash depends on nothing but the value that is printed.
EXACTLY_HASHED = (
    "boolean", "smallint", "integer", "bigint", "text", "character varying", "uuid", "bytea", "date",
    "timestamp without time zone", "timestamp with time zone",
)  # fmt: skip
HASH_RECORD_MAJOR = 14
ROW = sql.Identifier("t")

OWN_RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relispopulated,
       CASE WHEN c.relkind = 'S' AND has_sequence_privilege(c.oid, 'SELECT, USAGE')
            THEN pg_sequence_last_value(c.oid) END,
       (SELECT bool_and(format_type(a.atttypid, NULL) = ANY (%s)
                        AND coalesce((SELECT l.collisdeterministic FROM pg_collation l WHERE l.oid = a.attcollation),
                                     true))
          FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'S', 'm', 'f') AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                      AND d.refclassid = 'pg_extension'::regclass AND NOT coalesce(c.oid = ANY (e.extconfig), false))
 ORDER BY 1, 2"""

EXTENSIONS = "SELECT extname, extversion FROM pg_extension ORDER BY 1"
# The database's own is called default there as well; before PostgreSQL 15 nobody noted its version.
COLLATIONS = """
SELECT collname, collversion FROM pg_collation WHERE collversion IS NOT NULL
   AND (oid >= 16384 OR EXISTS (SELECT FROM pg_attribute WHERE attcollation = pg_collation.oid AND attrelid >= 16384))
 UNION ALL
SELECT 'default', to_jsonb(d)->>'datcollversion' FROM pg_database d
 WHERE datname = current_database() AND to_jsonb(d)->>'datcollversion' IS NOT NULL
 ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, how its rows are hashed, and its rows and digest once they are counted."""

    schema: str
    name: str
    method: str
    rows: int | None = None
    digest: str | None = None
    unlogged: bool = False
    """The data of an unlogged table is not in a standby's dump."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence and the value that was seen; sequences are in no snapshot, so the dump holds at least this value."""

    schema: str
    name: str
    value: int | None


@dataclass(frozen=True, slots=True)
class MaterialisedView:
    """A materialised view; a restore refreshes it when it was populated, so its contents are not compared."""

    schema: str
    name: str
    populated: bool


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension that a restore needs."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Collation:
    """A collation's version in the source; another one in a restored server can reorder indexes."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Server:
    """What the database itself knows about the Server that uses it."""

    instance: str | None
    migration: str | None


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that a restored database is compared with."""

    tables: tuple[Table, ...]
    sequences: tuple[Sequence, ...]
    materialised_views: tuple[MaterialisedView, ...]
    foreign_tables: tuple[str, ...]
    extensions: tuple[Extension, ...]
    collations: tuple[Collation, ...]
    properties: Properties
    server: Server


@dataclass(frozen=True, slots=True)
class _Relation:
    schema: str
    name: str
    kind: str
    persistence: str
    populated: bool
    value: int | None
    exactly_hashed: bool | None


def take_survey(connection: Connection, *, major: int) -> Survey:
    """Note all that a restore must bring back, nothing counted yet. Raises psycopg.Error.

    Take it before the dump begins: sequences are in no snapshot, so what is seen here the dump has at least.
    """
    relations = [_Relation(*row) for row in connection.execute(OWN_RELATIONS, [list(EXACTLY_HASHED)]).fetchall()]
    kinds = {kind: [one for one in relations if one.kind == kind] for kind in "rSmf"}
    return Survey(
        tables=tuple(_table(one, major) for one in kinds["r"]),
        sequences=tuple(Sequence(one.schema, one.name, one.value) for one in kinds["S"]),
        materialised_views=tuple(MaterialisedView(one.schema, one.name, one.populated) for one in kinds["m"]),
        foreign_tables=tuple(f"{one.schema}.{one.name}" for one in kinds["f"]),
        extensions=tuple(Extension(*row) for row in connection.execute(EXTENSIONS).fetchall()),
        collations=tuple(Collation(*row) for row in connection.execute(COLLATIONS).fetchall()),
        properties=read_properties(connection),
        server=_server(connection),
    )


def count_tables(connection: Connection, survey: Survey, *, in_recovery: bool) -> Survey:
    """Count and hash every table; a standby has no data of unlogged ones. Raises psycopg.Error."""
    skipped = [table for table in survey.tables if table.unlogged and in_recovery]
    return replace(
        survey,
        tables=tuple(table if table in skipped else _counted(connection, table) for table in survey.tables),
    )


def digest_query(schema: str, name: str, *, by_record: bool) -> sql.Composed:
    """Give the query for a table's rows and digest: sum of hashes, each of 64 bits."""
    # A record's hash is a sum over its columns: mixed once more, so that values which change places are noticed.
    by_columns = "hashint8extended(hash_record_extended(ROW({row}.*), 0), 0)"
    hashed = by_columns if by_record else "hashtextextended(ROW({row}.*)::text, 0)"
    # S608: nothing here but the two texts above
    query = f"SELECT count(*), coalesce(sum({hashed}::numeric), 0)::text FROM ONLY {{table}} AS {{row}}"  # noqa: S608
    return sql.SQL(query).format(row=ROW, table=sql.Identifier(schema, name))


def _table(relation: _Relation, major: int) -> Table:
    by_record = bool(relation.exactly_hashed) and major >= HASH_RECORD_MAJOR
    return Table(
        relation.schema, relation.name, "record" if by_record else "text", unlogged=relation.persistence == "u"
    )


def _counted(connection: Connection, table: Table) -> Table:
    query = digest_query(table.schema, table.name, by_record=table.method == "record")
    rows, digest = only_row(connection, query)
    return replace(table, rows=rows, digest=digest)


def _server(connection: Connection) -> Server:
    return Server(
        _told(connection, "public.server_identity", "instance_id", "1"),
        _told(connection, "public._migrations", "name", "id DESC"),
    )


def _told(connection: Connection, table: str, column: str, order: str) -> str | None:
    """Ask for a column of a table that this Server may not have, or not have so."""
    try:
        with connection.transaction():
            query = f"SELECT {column}::text FROM {table} ORDER BY {order} LIMIT 1"  # noqa: S608 - constants of this file
            row = connection.execute(query.encode()).fetchone()
    except psycopg.Error:
        return None
    return None if row is None else row[0]
