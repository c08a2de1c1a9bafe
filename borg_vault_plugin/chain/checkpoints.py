"""The checks of a vault checkpoint: a signed statement that a chain had this entry at this position.

In this order, each block marked below: (1) there is an entry at that position; (2) it has the hash that the row names;
(3) position, hash and subject that were signed are those of the row, and the header's key is the row's; (4) there is a
key, or there was none yet; (5) the registry knows it; (6) it is trusted; (7) the signature verifies. A checkpoint may
be younger than its key's retirement: nothing is asked about the key's window.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container

import cbor2

from borg_vault_plugin.chain.binding import PREDICATE_LABEL, STATEMENT_START
from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.context import Context
from borg_vault_plugin.chain.entries import (
    Fault,
    Proof,
    binary,
    hash_of,
    is_unnamed,
    known_key,
    shown,
    signature_fault,
    standing_fault,
)
from borg_vault_plugin.chain.envelope import UNSIGNED_KEY_ID, Envelope, decode, to_be_signed
from borg_vault_plugin.chain.keys import verify_signature
from borg_vault_plugin.chain.rows import CheckpointRow, Era
from borg_vault_plugin.chain.times import milliseconds
from borg_vault_plugin.report import Finding

CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
STATEMENT_END = cbor2.dumps("predicateType") + cbor2.dumps("https://agledger.ai/predicates/vault-checkpoint/v1")
NO_ENVELOPES: frozenset[str] = frozenset()


class NoEntry:
    """Stands for the hash of an entry that is not there."""


NO_ENTRY = NoEntry()


def chain_of(row: CheckpointRow, era: Era) -> str:
    """Give the key of the chain that a checkpoint belongs to; the first era knows only record ids."""
    key = row.chain_key if era == "v2" and row.chain_key is not None else row.record_id
    return key if isinstance(key, str) else ""


def check_checkpoint(
    row: CheckpointRow, entry_hash: object, context: Context, proved: Container[str] = NO_ENVELOPES
) -> tuple[Proof | None, Finding | None]:
    """Check a checkpoint against the stored hash of the entry at its position, NO_ENTRY when there is none.

    `proved` holds the SHA-256, in hex, of envelopes whose signatures were verified before.
    """
    judged = _judged(row, entry_hash, context, proved)
    if isinstance(judged, Proof):
        return judged, None
    place = f"vault_checkpoints, chain {shown(chain_of(row, context.era))}, position {shown(row.chain_position)}"
    return None, Finding(judged.code, place, judged.detail, hash_of(row.payload_hash))


def _judged(row: CheckpointRow, entry_hash: object, context: Context, proved: Container[str]) -> Fault | Proof:
    if isinstance(entry_hash, NoEntry):  # (1)
        return Fault(Code.CHECKPOINT_ROW_MISSING, "there is no such entry")
    if not isinstance(row.payload_hash, str) or row.payload_hash != entry_hash:  # (2)
        detail = f"vouches for {shown(row.payload_hash)}, the entry has {shown(entry_hash)}"
        return Fault(Code.CHECKPOINT_HASH_MISMATCH, detail)
    data = binary(row.cose_sign1)
    envelope = None if data is None else decode(data, context.era)
    if data is None or envelope is None:  # (3)
        return Fault(Code.CHECKPOINT_CLAIM_MISMATCH, "cose_sign1 is no tagged COSE_Sign1")
    if (difference := _difference(row, envelope, context)) is not None:
        return Fault(Code.CHECKPOINT_CLAIM_MISMATCH, difference)
    if is_unnamed(row.signing_key_id, context):  # (4)
        return _unsigned(row, context)
    return _signed(row, envelope, context, carried=hashlib.sha256(data).hexdigest() in proved)


def _difference(row: CheckpointRow, envelope: Envelope, context: Context) -> str | None:
    """Say in what the signed statement and the row differ."""
    place = envelope.place
    if row.chain_position.__class__ is not int or place is None or place[0] != row.chain_position:
        return "signed for no position" if place is None else f"signed for position {place[0]}"
    named = UNSIGNED_KEY_ID.hex() if is_unnamed(row.signing_key_id, context) else row.signing_key_id
    if envelope.key_id is None or envelope.key_id.hex() != named:
        return f"the row names key {shown(row.signing_key_id)}, the signed header another"
    digest = uuid_digest(row.record_id)
    if digest is not None and envelope.payload == _statement_bytes(place[0], row.payload_hash, digest):
        return None
    predicate = envelope.predicate
    if predicate is None or predicate.get("chain_tip_hash") != f"sha256:{row.payload_hash}":
        return f"signed for {shown(None if predicate is None else predicate.get('chain_tip_hash'))}"
    return None if digest is not None and envelope.subject_digest == digest else "signed for another record"


def _statement_bytes(position: int, payload_hash: object, digest: bytes) -> bytes:
    """Encode the Statement that an honest writer signs; whoever signed these very bytes need not be decoded."""
    predicate = {
        "count": position,
        "range": {"end": position, "start": 1},
        "chain_tip_hash": f"sha256:{payload_hash}",
    }
    return b"".join((STATEMENT_START, digest, PREDICATE_LABEL, cbor2.dumps(predicate), STATEMENT_END))


def uuid_digest(text: object) -> bytes | None:
    """Give the SHA-256 of a UUID's 16 bytes; None for anything but its canonical text (RFC 9562 section 4)."""
    if not isinstance(text, str) or CANONICAL_UUID.fullmatch(text) is None:
        return None
    return hashlib.sha256(bytes.fromhex(text.replace("-", ""))).digest()


def _unsigned(row: CheckpointRow, context: Context) -> Fault | Proof:
    if context.signing_since is None:
        return Proof.LINK
    created = milliseconds(row.created_at)
    if created is None:
        return Fault(Code.CHECKPOINT_UNSIGNED, f"no key, and created_at is no instant: {shown(row.created_at)}")
    if created >= context.signing_since:
        return Fault(Code.CHECKPOINT_UNSIGNED, f"signing_key_id is null, written at {shown(row.created_at)}")
    return Proof.LINK


def _signed(row: CheckpointRow, envelope: Envelope, context: Context, *, carried: bool) -> Fault | Proof:
    key = known_key(row.signing_key_id, context)
    if key is None:  # (5)
        return Fault(Code.CHAIN_SIGNATURE_MISSING_KEY, f"no key {shown(row.signing_key_id)} in the registry")
    if (fault := standing_fault(key, context, Code.CHECKPOINT_KEY_UNANCHORED)) is not None:  # (6)
        return fault
    if carried and key.names_itself:  # (7)
        return Proof.CARRIED
    outcome = verify_signature(key, envelope.algorithm, to_be_signed(envelope), envelope.signature)
    if outcome == "valid":
        return Proof.SIGNATURE
    return signature_fault(outcome, key, Code.CHECKPOINT_SIGNATURE_INVALID)
