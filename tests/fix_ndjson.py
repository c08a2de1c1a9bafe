"""The NDJSON of a vault, made a second time in the slowest and most obvious way, to compare the program's with.

Every value is fetched as the text that PostgreSQL prints, and every line is put together here.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from fix_vault import Connection

CHAIN_KEY = "COALESCE(v.record_id::text, 'schema:' || COALESCE(v.payload->>'orgId', '__platform__'))"

# The columns of each file and how they are printed, in their order, and the order of the rows.
COLUMNS: dict[str, dict[str, str]] = {
    "audit_vault": {
        "id": "text", "record_id": "text", "chain_key": "text", "entry_type": "text", "payload": "json",
        "payload_hash": "text", "previous_hash": "text", "chain_position": "number", "cose_sign1": "base64",
        "signing_key_id": "text", "actor_key_id": "text", "actor_role": "text", "actor_owner_id": "text",
        "actor_oidc_iss": "text", "actor_oidc_sub": "text", "actor_oidc_synthesized": "boolean", "created_at": "time",
    },
    "vault_checkpoints": {
        "id": "text", "record_id": "text", "chain_key": "text", "chain_position": "number", "payload_hash": "text",
        "cose_sign1": "base64", "signing_key_id": "text", "created_at": "time",
    },
    "vault_signing_keys": {
        "key_id": "text", "public_key": "text", "algorithm": "text", "status": "text", "activated_at": "time",
        "retired_at": "time", "retired_by": "text",
    },
    "org_admin_reads": {
        "id": "text", "org_id": "text", "caller_key_id": "text", "record_id": "text", "filter_applied": "text",
        "read_context": "text", "export_batch_id": "text", "read_at": "time", "leaf_index": "number",
        "leaf_hash": "text", "cose_sign1": "base64",
    },
    "org_admin_reads_checkpoints": {
        "id": "text", "org_id": "text", "tree_size": "number", "root_hash": "text", "checkpoint_at": "time",
        "log_id": "text", "cose_sign1": "base64", "signing_key_id": "text", "witness_signature": "base64",
        "witness_key_id": "text", "witness_cosigned_at": "time",
    },
    "vault_key_statements": {
        "id": "text", "kind": "text", "subject_key_id": "text", "endorser_key_id": "text", "statement": "base64s",
        "created_at": "time",
    },
}  # fmt: skip
ORDERS = {
    "audit_vault": f'v.record_id ASC NULLS LAST, v.chain_position, {CHAIN_KEY} COLLATE "C", v.id',
    "vault_checkpoints": "v.record_id, v.chain_position, v.id",
    "vault_signing_keys": "v.activated_at, v.key_id",
    "org_admin_reads": "v.org_id, v.leaf_index, v.id",
    "org_admin_reads_checkpoints": "v.org_id, v.tree_size, v.id",
    "vault_key_statements": "v.created_at, v.id",
}
FETCHED = {
    "text": "({})::text",
    "number": "{}::text",
    "boolean": "{}::text",
    "json": "{}::text",
    "base64": "{}",
    "base64s": "{}",
    "time": "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')",
}


def reference(connection: Connection, table: str, *, without: tuple[str, ...] = ()) -> list[bytes]:
    """Give the lines of a table's file."""
    columns = {name: kind for name, kind in COLUMNS[table].items() if name not in without}
    computed = {"chain_key": CHAIN_KEY} if table == "audit_vault" else {}
    fetched = ", ".join(FETCHED[kind].format(computed.get(name, f"v.{name}")) for name, kind in columns.items())
    rows = connection.execute(f"SELECT {fetched} FROM public.{table} v ORDER BY {ORDERS[table]}".encode()).fetchall()
    return [line(columns, row) for row in rows]


def line(columns: dict[str, str], row: tuple[Any, ...]) -> bytes:
    """Put one line together."""
    pairs = zip(columns.items(), row, strict=True)
    return ("{" + ",".join(f'"{name}":{printed(kind, value)}' for (name, kind), value in pairs) + "}\n").encode()


def printed(kind: str, value: Any) -> str:
    """Print one value as JSON."""
    if value is None:
        return "null"
    if kind in ("number", "boolean"):
        return str(value)
    if kind == "json":
        return compacted(value)
    if kind == "base64s":
        return json.dumps([base64.b64encode(item).decode() for item in value], separators=(",", ":"))
    if kind == "base64":
        value = base64.b64encode(value).decode()
    return json.dumps(value[:23] + "Z" if kind == "time" else value, ensure_ascii=False)


def compacted(text: str) -> str:
    """Take the white space out of JSON, except inside its strings: one character after the other."""
    kept: list[str] = []
    in_string = escaped = False
    for character in text:
        if not in_string and character in " \t\r\n":
            continue
        kept.append(character)
        if escaped:
            escaped = False
        elif in_string and character == "\\":
            escaped = True
        elif character == '"':
            in_string = not in_string
    return "".join(kept)
