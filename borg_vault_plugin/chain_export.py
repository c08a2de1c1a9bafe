"""The audit vault as NDJSON: which columns, in which order, printed how. Two exports of one state are the same bytes.

One compact JSON object per line. Binary columns become base64 on one line, digests lowercase hex, instants
`YYYY-MM-DDTHH:MM:SS.mmmZ` truncated to milliseconds; everything else stands as PostgreSQL's row_to_json prints it,
numbers included, and never passes through a float. Columns that this program does not know yet follow the known ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import msgspec
from psycopg import sql

from borg_vault_plugin.database import Connection
from borg_vault_plugin.errors import SourceError

SCHEMA = "public"
# The chain a row belongs to: its record, or for schema events (no record) the organisation in its payload.
CHAIN_KEY = "coalesce(v.record_id::text, 'schema:' || coalesce(v.payload->>'orgId', '__platform__'))"
JSON_PIECE = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]|[^"\[\]{}]+')
JSON_TOKEN = re.compile(rb'("(?:[^"\\]|\\.)*+")|[ \t\r\n]+')


@dataclass(frozen=True, slots=True)
class ChainTable:
    """One table of the vault: its known columns in the order of the format, its total order, its scope for --org."""

    name: str
    columns: tuple[str, ...]
    order: str
    scope: str | None = None


_RECORDS_OF_ORG = "SELECT r.id FROM public.records r WHERE r.org_id = {org}"

TABLES = (
    ChainTable(
        "audit_vault",
        ("id", "record_id", "chain_key", "entry_type", "payload", "payload_hash", "previous_hash", "chain_position",
         "cose_sign1", "signing_key_id", "actor_key_id", "actor_role", "actor_owner_id", "actor_oidc_iss",
         "actor_oidc_sub", "actor_oidc_synthesized", "created_at"),
        'v.record_id, v.chain_position, {chain_key} COLLATE "C", v.id',
        f"v.record_id IN ({_RECORDS_OF_ORG}) OR (v.record_id IS NULL AND v.payload->>'orgId' = {{org}}::text)",
    ),
    ChainTable(
        "vault_checkpoints",
        ("id", "record_id", "chain_key", "chain_position", "payload_hash", "cose_sign1", "signing_key_id",
         "created_at"),
        "v.record_id, v.chain_position, v.id",
        f"v.record_id IN ({_RECORDS_OF_ORG}){{schema_checkpoints}}",
    ),
    ChainTable(
        "vault_signing_keys",
        ("key_id", "public_key", "algorithm", "status", "activated_at", "retired_at", "retired_by"),
        'v.activated_at, v.key_id COLLATE "C"',
    ),
    ChainTable(
        "org_admin_reads",
        ("id", "org_id", "caller_key_id", "record_id", "filter_applied", "read_context", "export_batch_id", "read_at",
         "leaf_index", "leaf_hash", "cose_sign1"),
        "v.org_id, v.leaf_index, v.id",
        "v.org_id = {org}",
    ),
    ChainTable(
        "org_admin_reads_checkpoints",
        ("id", "org_id", "tree_size", "root_hash", "checkpoint_at", "log_id", "cose_sign1", "signing_key_id",
         "witness_signature", "witness_key_id", "witness_cosigned_at"),
        "v.org_id, v.tree_size, v.id",
        "v.org_id = {org}",
    ),
    ChainTable(
        "vault_key_statements",
        ("id", "kind", "subject_key_id", "endorser_key_id", "statement", "created_at"),
        "v.created_at, v.id",
    ),
)  # fmt: skip
NEWER_TABLES = ("vault_key_statements",)
DIGESTS = ("payload_hash", "previous_hash", "leaf_hash", "root_hash")

Kind = Literal["bytes", "bytes[]", "digest", "time", "plain"]
PRINTED: dict[Kind, str] = {
    "bytes": r"replace(encode(v.{column}, 'base64'), E'\n', '')",
    "bytes[]": r"CASE WHEN v.{column} IS NOT NULL THEN"
    r" coalesce((SELECT json_agg(replace(encode(b, 'base64'), E'\n', '') ORDER BY n)"
    r" FROM unnest(v.{column}) WITH ORDINALITY AS u(b, n)), '[]') END",
    "digest": "encode(v.{column}, 'hex')",
    "time": """to_char(v.{column}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""",
    "plain": "v.{column}",
}


def exported_tables(connection: Connection) -> list[ChainTable]:
    """List the tables to export: the five of every vault, the sixth where the Server has it."""
    return [table for table in TABLES if table.name not in NEWER_TABLES or _column_types(connection, table.name)]


def export_table(
    connection: Connection, table: ChainTable, write: Callable[[bytes], object], *, org: UUID | None = None
) -> int:
    """Write one table as NDJSON and give the number of rows.

    The connection's session must be prepared (UTC, no search path, no row-level security). A table that this Server
    does not have yet gives no rows, except the chain itself. Raises psycopg.Error, SourceError.
    """
    types = _column_types(connection, table.name)
    if not types:
        if table.name == "audit_vault":
            raise SourceError("there is no table public.audit_vault: this is not a Server's database, or not its role")
        return 0
    rows = 0
    for line in _lines(connection, _query(table, types, org)):
        write(line)
        rows += 1
    return rows


class HeadRow(msgspec.Struct, frozen=True):
    """What a chain's head needs of one entry."""

    chain_key: str
    chain_position: int
    payload_hash: str | None


class Heads:
    """Follows an export of audit_vault and writes the head, the last (position, hash), of every chain.

    Chains of records come one after another; schema chains may interleave and stay open to the end.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._decoder = msgspec.json.Decoder(HeadRow)
        self._schema_chains: dict[str, HeadRow] = {}
        self._current: HeadRow | None = None
        self.chains = 0

    def follow(self, line: bytes) -> None:
        """Take the next entry, and write the head of the chain that it closes."""
        row = self._read(line)
        if row.chain_key.startswith("schema:"):
            self._schema_chains[row.chain_key] = row
            return
        if self._current is not None and self._current.chain_key != row.chain_key:
            self._close(self._current)
        self._current = row

    def finish(self) -> None:
        """Write the heads of the chains that were still open at the end."""
        if self._current is not None:
            self._close(self._current)
        for key in sorted(self._schema_chains):
            self._close(self._schema_chains[key])

    def _read(self, line: bytes) -> HeadRow:
        try:
            return self._decoder.decode(line)
        except RecursionError:
            return self._decoder.decode(without_nested(line))

    def _close(self, row: HeadRow) -> None:
        head = {"chain_key": row.chain_key, "position": row.chain_position, "hash": row.payload_hash}
        self._write(msgspec.json.encode(head) + b"\n")
        self.chains += 1


def compact(line: bytes) -> bytes:
    """Take the white space between JSON tokens out of one row; every token stays as PostgreSQL printed it."""
    try:
        return msgspec.json.format(line, indent=-1)
    except RecursionError:  # nested deeper than the formatter goes
        return JSON_TOKEN.sub(rb"\1", line)


def without_nested(line: bytes) -> bytes:
    """Empty every object and array inside a row, however deep they are nested."""
    kept: list[bytes] = []
    depth = 0
    for token in JSON_PIECE.findall(line):
        depth -= token in b"]}"
        if depth <= 1:
            kept.append(token)
        depth += token in b"[{"
    return b"".join(kept)


def _lines(connection: Connection, query: sql.Composed) -> Iterator[bytes]:
    # Binary COPY of bytea gives the text as it is: COPY's text format would double backslashes, its CSV format would
    # quote rows in which a json column holds a line break.
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        copy.set_types(["bytea"])
        for (line,) in copy.rows():
            yield compact(line) + b"\n"


def _query(table: ChainTable, types: dict[str, str], org: UUID | None) -> sql.Composed:
    known = [name for name in table.columns if name in types or (table.name, name) == ("audit_vault", "chain_key")]
    columns = [sql.SQL("{} AS {}").format(_printed(name, types), sql.Identifier(name)) for name in known]
    columns += [sql.SQL("v.{}").format(sql.Identifier(name)) for name in types if name not in known]
    chain_key = sql.SQL("v.chain_key" if "chain_key" in types else CHAIN_KEY)
    where = sql.SQL("true") if org is None or table.scope is None else _scope(table.scope, types, org)
    return sql.SQL(
        "COPY (SELECT convert_to(row_to_json(x)::text, 'UTF8') FROM (SELECT {columns} FROM {table} v"
        " WHERE {where} ORDER BY {order}) x) TO STDOUT (FORMAT binary)"
    ).format(
        columns=sql.SQL(", ").join(columns),
        table=sql.Identifier(SCHEMA, table.name),
        where=where,
        order=sql.SQL(table.order).format(chain_key=chain_key),
    )


def _printed(name: str, types: dict[str, str]) -> sql.Composable:
    if name not in types:
        return sql.SQL(CHAIN_KEY)
    return sql.SQL(PRINTED[_kind(name, types[name])]).format(column=sql.Identifier(name))


def _kind(name: str, type_name: str) -> Kind:
    if type_name == "bytea":
        return "digest" if name in DIGESTS else "bytes"
    if type_name == "bytea[]":
        return "bytes[]"
    return "time" if type_name.startswith("timestamp") else "plain"


def _scope(scope: str, types: dict[str, str], org: UUID) -> sql.Composed:
    by_key = " OR v.chain_key = 'schema:' || {org}::text" if "chain_key" in types else ""
    text = scope.replace("{schema_checkpoints}", by_key)
    return sql.SQL(text).format(org=sql.Literal(org))


def _column_types(connection: Connection, table: str) -> dict[str, str]:
    """Give a table's columns in their order with their types; empty when there is no such table."""
    return dict(
        connection.execute(
            "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"
            " AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            [SCHEMA, table],
        ).fetchall()
    )
