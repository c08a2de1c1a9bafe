"""The rows of the six files of a dump, as they are read: anything may stand in a column, and nothing may crash.

Columns have no type here: what a column must hold is for the check that looks at it. A row is one JSON object
(RFC 8259) on one line. Absent keys read as null, unknown ones are passed over, and of two equal keys the last counts.
A line that is too long, nested too deeply, or no UTF-8 is not readable, which is not the same as wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

Era = Literal["v1", "v2"]
Row = TypeVar("Row", bound=msgspec.Struct)

MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 200
NULL = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class Real:
    """A number with a fraction or an exponent, as it was written: it never passes through a float."""

    token: str


class UnreadableLineError(ValueError):
    """A line that cannot be read as a row; the message says why, without showing the line."""


class EntryRow(msgspec.Struct, frozen=True, gc=False):
    """One row of audit_vault; its `id` is not signed and not looked at."""

    record_id: object = None
    chain_key: object = None
    entry_type: object = None
    payload: msgspec.Raw = NULL
    payload_hash: object = None
    previous_hash: object = None
    chain_position: object = None
    cose_sign1: object = None
    signing_key_id: object = None
    actor_key_id: object = None
    actor_role: object = None
    actor_owner_id: object = None
    actor_oidc_iss: object = None
    actor_oidc_sub: object = None
    actor_oidc_synthesized: object = None
    created_at: object = None


class CheckpointRow(msgspec.Struct, frozen=True, gc=False):
    """One row of vault_checkpoints."""

    record_id: object = None
    chain_key: object = None
    chain_position: object = None
    payload_hash: object = None
    cose_sign1: object = None
    signing_key_id: object = None
    created_at: object = None


class RegistryRow(msgspec.Struct, frozen=True, gc=False):
    """One row of vault_signing_keys."""

    key_id: object = None
    public_key: object = None
    algorithm: object = None
    status: object = None
    activated_at: object = None
    retired_at: object = None


class ReadRow(msgspec.Struct, frozen=True, gc=False):
    """One row of org_admin_reads: a leaf of an org's read log."""

    org_id: object = None
    caller_key_id: object = None
    record_id: object = None
    filter_applied: object = None
    read_context: object = None
    read_at: object = None
    leaf_index: object = None
    leaf_hash: object = None
    cose_sign1: object = None


class HeadRow(msgspec.Struct, frozen=True, gc=False):
    """One row of org_admin_reads_checkpoints: a signed tree head, perhaps with a witness's signature."""

    org_id: object = None
    tree_size: object = None
    root_hash: object = None
    checkpoint_at: object = None
    log_id: object = None
    cose_sign1: object = None
    signing_key_id: object = None
    witness_signature: object = None
    witness_key_id: object = None
    witness_cosigned_at: object = None


class StatementRow(msgspec.Struct, frozen=True, gc=False):
    """One row of vault_key_statements (second era)."""

    id: object = None
    kind: object = None
    subject_key_id: object = None
    endorser_key_id: object = None
    statement: object = None
    created_at: object = None


_payloads = msgspec.json.Decoder(float_hook=Real)
# A string, closed or not, or a bracket; possessive, so that a hostile line takes linear time.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def row_decoder(row_type: type[Row]) -> msgspec.json.Decoder[Row]:
    """Make the decoder that `read_row` takes, once for each file."""
    return msgspec.json.Decoder(row_type, float_hook=Real)


def read_row(decoder: msgspec.json.Decoder[Row], line: bytes) -> Row:
    """Read one line of a file. Raises UnreadableLineError."""
    _refuse_unreadable(line)
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableLineError(f"not a JSON object: {error}") from error


def read_payload(payload: msgspec.Raw) -> object:
    """Give the value of a payload, its fractions as `Real`. Raises UnreadableLineError."""
    try:
        value: object = _payloads.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableLineError(f"a payload that is not JSON: {error}") from error
    return value


def _refuse_unreadable(line: bytes) -> None:
    if len(line) > MAX_LINE_BYTES:
        raise UnreadableLineError(f"longer than {MAX_LINE_BYTES} bytes")
    # The decoder does not look at the bytes of strings that nobody asks for.
    if not line.isascii():
        try:
            line.decode()
        except UnicodeDecodeError as error:
            raise UnreadableLineError("not UTF-8") from error
    # Without enough brackets it cannot be deep; taking them out is how bytes are counted fastest.
    brackets = 2 * len(line) - len(line.replace(b"[", b"")) - len(line.replace(b"{", b""))
    if brackets > MAX_DEPTH and _depth(line) > MAX_DEPTH:
        raise UnreadableLineError(f"nested deeper than {MAX_DEPTH} levels")


def _depth(line: bytes) -> int:
    """Count how deep arrays and objects are nested; brackets inside strings do not count."""
    depth = deepest = 0
    for token in _TOKEN.finditer(line):
        first = token[0][0]
        depth += (first in b"[{") - (first in b"]}")
        deepest = max(deepest, depth)
    return deepest
