"""The rows of a vault's tables, and the two ways they are written: a line of NDJSON, a line of COPY.

A struct's fields are a table's columns in the order in which a dump writes them. Times are kept as UTC text
with microseconds, as the database has them; a dump truncates them to milliseconds. `chain_key` of an entry
is in dumps only: it is computed, no column holds it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import msgspec
from msgspec import UNSET, UnsetType

Json = dict[str, object]


class Entry(msgspec.Struct, frozen=True):
    """One row of audit_vault."""

    id: str
    record_id: str | None
    chain_key: str
    entry_type: str
    payload: Json
    payload_hash: str
    previous_hash: str | None
    chain_position: int
    cose_sign1: bytes
    signing_key_id: str | None
    actor_key_id: str
    actor_role: str
    actor_owner_id: str
    actor_oidc_iss: str | None
    actor_oidc_sub: str | None
    actor_oidc_synthesized: bool
    created_at: str


class Checkpoint(msgspec.Struct, frozen=True):
    """One row of vault_checkpoints; `chain_key` is unset in the first era."""

    id: str
    record_id: str
    chain_key: str | UnsetType
    chain_position: int
    payload_hash: str
    cose_sign1: bytes
    signing_key_id: str | None
    created_at: str


class RegisteredKey(msgspec.Struct, frozen=True):
    """One row of vault_signing_keys; the public key is base64 of its SPKI."""

    key_id: str
    public_key: str
    algorithm: str
    status: str
    activated_at: str
    retired_at: str | None
    retired_by: str | None


class Read(msgspec.Struct, frozen=True):
    """One row of org_admin_reads: a leaf of an org's read log."""

    id: str
    org_id: str
    caller_key_id: str
    record_id: str
    filter_applied: str
    read_context: str
    export_batch_id: str | None
    read_at: str
    leaf_index: int
    leaf_hash: str
    cose_sign1: bytes


class TreeHead(msgspec.Struct, frozen=True):
    """One row of org_admin_reads_checkpoints."""

    id: str
    org_id: str
    tree_size: int
    root_hash: str
    checkpoint_at: str
    log_id: str
    cose_sign1: bytes
    signing_key_id: str | None
    witness_signature: bytes | None
    witness_key_id: str | None
    witness_cosigned_at: str | None


class KeyStatement(msgspec.Struct, frozen=True):
    """One row of vault_key_statements (second era)."""

    id: str
    kind: str
    subject_key_id: str
    endorser_key_id: str | None
    statement: list[bytes]
    created_at: str


AUDIT_TABLES: dict[str, type[msgspec.Struct]] = {
    "audit_vault": Entry,
    "vault_checkpoints": Checkpoint,
    "vault_signing_keys": RegisteredKey,
    "org_admin_reads": Read,
    "org_admin_reads_checkpoints": TreeHead,
    "vault_key_statements": KeyStatement,
}
# What a dump truncates; all other values are written as they are.
TIMES = ("created_at", "activated_at", "retired_at", "read_at", "checkpoint_at", "witness_cosigned_at")
MICROSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ENCODE_JSON = msgspec.json.Encoder().encode
COPY_SPECIAL = re.compile(r"[\\\t\n\r]")
COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def ndjson_line(row: msgspec.Struct) -> bytes:
    """Give a row as one line of a dump: compact JSON, bytes in base64, times cut to milliseconds."""
    times = {name: cut for name in TIMES if (cut := milliseconds(getattr(row, name, None))) is not None}
    return ENCODE_JSON(msgspec.structs.replace(row, **times)) + b"\n"


def milliseconds(value: object) -> str | None:
    """Cut a time's text to milliseconds; None for anything else, which a test may have put in its place."""
    return value[:23] + "Z" if isinstance(value, str) and MICROSECONDS.fullmatch(value) else None


def stored_columns(row_type: type[msgspec.Struct], *, chain_key: bool) -> list[str]:
    """Give the columns that COPY loads; `chain_key` says whether checkpoints have that column."""
    hidden = row_type is Entry or (row_type is Checkpoint and not chain_key)
    return [name for name in row_type.__struct_fields__ if not (hidden and name == "chain_key")]


def copy_line(row: msgspec.Struct) -> bytes:
    """Give a row of an audit table as one line of COPY's text format."""
    hidden = "chain_key" if type(row) is Entry else ""
    values = [getattr(row, name) for name in row.__struct_fields__ if name != hidden]
    return copy_values(value for value in values if value is not UNSET)


def copy_values(values: Iterable[object]) -> bytes:
    """Give the values of one row as one line of COPY's text format."""
    return ("\t".join([copy_value(value) for value in values]) + "\n").encode()


def copy_value(value: object) -> str:
    """Give one value in COPY's text format; bytes as hex, maps as JSON, lists of bytes as arrays."""
    match value:
        case None:
            text = "\\N"
        case str():
            text = value.translate(COPY_ESCAPES) if COPY_SPECIAL.search(value) else value
        case bool():
            text = "t" if value else "f"
        case bytes():
            text = "\\\\x" + value.hex()
        case dict():
            text = ENCODE_JSON(value).decode().replace("\\", "\\\\")
        case list():
            text = "{" + ",".join(f'"\\\\\\\\x{item.hex()}"' for item in value) + "}"
        case _:
            text = str(value)
    return text


def jsonb_ordered(value: object) -> object:
    """Give a JSON value with its keys as jsonb keeps them: the shorter first, then bytewise."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: (len(name.encode()), name.encode()))
        return {name: jsonb_ordered(value[name]) for name in names}
    return [jsonb_ordered(item) for item in value] if isinstance(value, list) else value


def noise(*labels: object) -> bytes:
    """Give 16 bytes that look random and depend on nothing but the labels."""
    return hashlib.blake2b(repr(labels).encode(), digest_size=16).digest()


def uuid_text(value: bytes) -> str:
    """Write 16 bytes as a UUID."""
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid7(instant: int, *labels: object) -> str:
    """Make the UUIDv7 of an instant in microseconds since 1970 (RFC 9562 sections 5.7 and 6.2, method 3).

    The microseconds are in rand_a, so identifiers of different instants are in the order of time.
    """
    whole, fraction = divmod(instant, 1000)
    high = whole << 80 | 7 << 76 | (fraction * 4096 // 1000) << 64
    return uuid_text((high | 2 << 62 | int.from_bytes(noise(*labels)[:8]) >> 2).to_bytes(16))


def uuid8(text: str) -> str:
    """Derive the UUIDv8 of a name (RFC 9562 section 5.8); its first bit is set, so it sorts after every UUIDv7."""
    value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])
    value = value & ~(0xF << 76) & ~(0x3 << 62) | 8 << 76 | 2 << 62 | 1 << 127
    return uuid_text(value.to_bytes(16))
