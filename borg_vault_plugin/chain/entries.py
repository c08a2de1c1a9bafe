"""The checks of one entry, given what is known of its chain: the first that fails gives the entry's only code.

In this order, each block marked in `_judged`:

 (1) its position is the next one; (2) envelope and hash are there; (3) the hash is that of the envelope; (4) it names
 the hash of the entry before it; (5) the envelope is a COSE_Sign1; (6) its signed place is this place; (7) the actor
 columns are the signed ones; (8) type and payload are the signed ones; (9) so is the OIDC identity; (10) there is a
 key, or there was none yet; (11) the registry knows it, and the header names the same one; (12) it is trusted; (13)
 the registry does not lie about its algorithm; (14) it was valid at that time; (15) the signature verifies.

Both eras are held to the same rules where an honest writer of the first era kept them, too.
"""

from __future__ import annotations

import binascii
import hashlib
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from borg_vault_plugin.chain.binding import Json, Signed, bound_predicate, same
from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.context import Context, Window
from borg_vault_plugin.chain.envelope import Envelope, decode, to_be_signed
from borg_vault_plugin.chain.keys import Outcome, RegistryKey, verify_signature
from borg_vault_plugin.chain.rows import EntryRow, read_payload
from borg_vault_plugin.chain.times import milliseconds
from borg_vault_plugin.report import Finding

LONGEST_SHOWN = 200


class ChainState(msgspec.Struct, frozen=True, gc=False):
    """What the next entry of a chain is checked against, and what has been counted on the way."""

    chain_key: str
    position: int = 0
    """How many entries there were."""
    previous_hash: object = None
    """The stored hash of the last one, right or wrong."""
    key_named: bool = False
    """Whether one of them named a key."""
    carried_to: int = 0
    """Up to this position signatures were verified before, if the hash there turns out to be the proved one."""
    checked: int = 0
    carried: int = 0


class Fault(NamedTuple):
    """Why an entry or a checkpoint fails."""

    code: Code
    detail: str


NO_ENVELOPE = Fault(Code.CHAIN_COSE_DECODE_FAILED, "cose_sign1 is no tagged COSE_Sign1")


class Proof(Enum):
    """By what an entry that passes is held."""

    LINK = "link"
    """No signature of its own: written before there were keys."""
    SIGNATURE = "signature"
    CARRIED = "carried"


def check_entry(row: EntryRow, state: ChainState, context: Context) -> tuple[ChainState, Finding | None]:
    """Check the next entry of a chain. Raises UnreadableLineError for a payload that is no JSON."""
    judged = _judged(row, state, context)
    named = state.key_named or not is_unnamed(row.signing_key_id, context)
    after = ChainState(
        state.chain_key,
        state.position + 1,
        row.payload_hash,
        named,
        state.carried_to,
        state.checked + (judged is Proof.SIGNATURE),
        state.carried + (judged is Proof.CARRIED),
    )
    if isinstance(judged, Proof):
        return after, None
    return after, Finding(judged.code, where(state.chain_key, after.position), judged.detail, hash_of(row.payload_hash))


def where(chain_key: str, position: int) -> str:
    """Name the place of an entry."""
    return f"audit_vault, chain {shown(chain_key)}, position {position}"


def shown(value: object) -> str:
    """Print a value from a dump for people: whatever it holds, on one line, and not without end."""
    text = value if isinstance(value, str) and value.isprintable() and value else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def hash_of(column: object) -> str | msgspec.UnsetType:
    """Give a stored hash for a finding, if it is a text that a report can show."""
    return shown(column) if isinstance(column, str) else msgspec.UNSET


def binary(column: object) -> bytes | None:
    """Give the bytes of a base64 column (RFC 4648 section 4); None when it is none."""
    try:
        # Four times as fast; what it refuses, needless padding above all, is for the other one to judge.
        return msgspec.convert(column, bytes)
    except msgspec.ValidationError:
        pass
    try:
        return binascii.a2b_base64(column, strict_mode=True)  # type: ignore[arg-type]  # anything may stand there
    except (ValueError, TypeError):
        return None


def is_unnamed(key_id: object, context: Context) -> bool:
    """Whether a key column says that there is no key; the first era also wrote an empty text."""
    return key_id is None or (key_id == "" and context.era == "v1")


def _judged(row: EntryRow, state: ChainState, context: Context) -> Fault | Proof:
    envelope = _opened(row, state, context)
    if isinstance(envelope, Fault):
        return envelope
    fault = _place_fault(envelope, state) or _content_fault(row, envelope, context)  # (6) to (9)
    return fault or _signed(row, state, envelope, context)  # (10) to (15)


def _opened(row: EntryRow, state: ChainState, context: Context) -> Fault | Envelope:
    """Give the envelope of the entry that belongs here."""
    stored, text = row.payload_hash, row.cose_sign1
    if row.chain_position.__class__ is not int or row.chain_position != state.position + 1:  # (1)
        detail = f"expected position {state.position + 1}, found {shown(row.chain_position)}"
        return Fault(Code.CHAIN_POSITION_GAP, detail)
    if not (text.__class__ is str and stored.__class__ is str and text and stored):  # (2)
        return Fault(Code.CHAIN_MALFORMED_ENTRY, "cose_sign1 or payload_hash is no text, or empty")
    data = binary(text)
    if data is None or hashlib.sha256(data).hexdigest() != stored:  # (3)
        return _hash_fault(data, stored)
    if row.previous_hash != state.previous_hash or (row.previous_hash is None) != (state.position == 0):  # (4)
        return _link_fault(row, state)
    return decode(data, context.era) or NO_ENVELOPE  # (5)


def _hash_fault(data: bytes | None, stored: object) -> Fault:
    found = "no base64" if data is None else hashlib.sha256(data).hexdigest()
    return Fault(Code.CHAIN_HASH_MISMATCH, f"payload_hash is {shown(stored)}, cose_sign1 has {found}")


def _link_fault(row: EntryRow, state: ChainState) -> Fault:
    if state.position == 0:
        return Fault(Code.CHAIN_GENESIS_INVALID, f"previous_hash of the first entry is {shown(row.previous_hash)}")
    expected, found = shown(state.previous_hash), shown(row.previous_hash)
    return Fault(Code.CHAIN_LINK_BROKEN, f"previous_hash should be {expected}, found {found}")


def _place_fault(envelope: Envelope, state: ChainState) -> Fault | None:
    place = envelope.place
    if place is None:
        return Fault(Code.CHAIN_COSE_HEADER_MISMATCH, "the signed header has no well-formed place in a chain")
    position, previous = place[0], None if place[1] is None else place[1].hex()
    if position == state.position + 1 and previous == state.previous_hash:
        return None
    return Fault(Code.CHAIN_COSE_HEADER_MISMATCH, f"signed for position {position}, after {previous}")


def _content_fault(row: EntryRow, envelope: Envelope, context: Context) -> Fault | None:
    """Compare the readable columns with what was signed."""
    if not _same_actor(row, envelope.actor):  # (7)
        return Fault(Code.CHAIN_ACTOR_ATTRIBUTION_MISMATCH, "actor columns are not those of the signed header")
    predicate = bound_predicate(row, read_payload(row.payload), envelope, context.era)
    if predicate is None:  # (8)
        return Fault(Code.CHAIN_PAYLOAD_BINDING_MISMATCH, "record id, entry type or payload are not the signed ones")
    if not _same_oidc(row, predicate):  # (9)
        return Fault(Code.CHAIN_OIDC_ACTOR_MISMATCH, "the OIDC columns are not the signed identity")
    return None


def _same_actor(row: EntryRow, actor: object) -> bool:
    if actor is None:
        return True
    if not isinstance(actor, dict):
        return row.actor_key_id is None and row.actor_role is None and row.actor_owner_id is None
    return (
        (row.actor_key_id is None or row.actor_key_id == _uuid_text(actor.get(1)))
        and (row.actor_owner_id is None or row.actor_owner_id == _uuid_text(actor.get(3)))
        and (row.actor_role is None or (row.actor_role == actor.get(2) and isinstance(row.actor_role, str)))
    )


def _uuid_text(value: object) -> str | None:
    return _uuid_of(value) if isinstance(value, bytes) and len(value) == 16 else None


@lru_cache(maxsize=4096)
def _uuid_of(value: bytes) -> str:
    """Write 16 bytes as a UUID (RFC 9562 section 4)."""
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _same_oidc(row: EntryRow, predicate: Signed) -> bool:
    synthesized = row.actor_oidc_synthesized
    if synthesized is False or (synthesized is None and row.actor_oidc_iss is None and row.actor_oidc_sub is None):
        return row.actor_oidc_iss is None and row.actor_oidc_sub is None
    if synthesized is not True and synthesized is not None:
        return False
    behalf = predicate.get("on_behalf_of")
    identity = behalf.get("oidc") if isinstance(behalf, dict) else None
    signed: Json = identity if isinstance(identity, dict) else {}
    return same(signed.get("iss"), row.actor_oidc_iss) and same(signed.get("sub"), row.actor_oidc_sub)


def _signed(row: EntryRow, state: ChainState, envelope: Envelope, context: Context) -> Fault | Proof:
    if is_unnamed(row.signing_key_id, context):  # (10)
        return _unsigned(row, state, envelope, context)
    key = known_key(row.signing_key_id, context)
    if key is None:  # (11)
        return Fault(Code.CHAIN_SIGNATURE_MISSING_KEY, f"no key {shown(row.signing_key_id)} in the registry")
    if envelope.key_id is None or envelope.key_id.hex() != key.key_id:
        return _drift(row, envelope)
    if (fault := _key_fault(row, key, context)) is not None:  # (12) (13) (14)
        return fault
    if state.position < state.carried_to and key.names_itself:  # (15)
        return Proof.CARRIED
    outcome = verify_signature(key, envelope.algorithm, to_be_signed(envelope), envelope.signature)
    return Proof.SIGNATURE if outcome == "valid" else signature_fault(outcome, key, Code.CHAIN_SIGNATURE_INVALID)


def _unsigned(row: EntryRow, state: ChainState, envelope: Envelope, context: Context) -> Fault | Proof:
    if state.key_named:
        return Fault(Code.CHAIN_ENTRY_UNSIGNED, "signing_key_id is null after an entry that names a key")
    if context.signing_since is not None:
        created = milliseconds(row.created_at)
        if created is None:
            return Fault(Code.CHAIN_MALFORMED_ENTRY, f"created_at is no instant: {shown(row.created_at)}")
        if created >= context.signing_since:
            return Fault(Code.CHAIN_ENTRY_UNSIGNED, f"signing_key_id is null, written at {shown(row.created_at)}")
    # A process without a key writes a key id of zeros, if any: another one is that of a row robbed of its key.
    return _drift(row, envelope) if any(envelope.key_id or b"") else Proof.LINK


def _drift(row: EntryRow, envelope: Envelope) -> Fault:
    header = "none" if envelope.key_id is None else envelope.key_id.hex()
    return Fault(Code.CHAIN_SIGNING_KEY_DRIFT, f"the row names {shown(row.signing_key_id)}, the signed header {header}")


def known_key(key_id: object, context: Context) -> RegistryKey | None:
    """Find a key in the registry by a column."""
    return context.keys.get(key_id) if isinstance(key_id, str) else None


def _key_fault(row: EntryRow, key: RegistryKey, context: Context) -> Fault | None:
    if context.trust is not None:
        fault = standing_fault(key, context, Code.CHAIN_SIGNING_KEY_UNANCHORED)
        if fault is not None:
            return fault
    if not key.algorithm_agrees:
        detail = f"the registry calls key {key.key_id} {shown(key.algorithm)}, it is {key.kind}"
        return Fault(Code.CHAIN_ALG_MISMATCH, detail)
    return _window_fault(row, key, context)


def standing_fault(key: RegistryKey, context: Context, unanchored: Code) -> Fault | None:
    """Say why a key is not trusted, when keys are pinned."""
    standing = "anchored" if context.trust is None else context.trust.standing(key.key_id)
    if standing == "anchored":
        return None
    code = unanchored if standing == "unanchored" else Code.CHAIN_UNSUPPORTED_ALGORITHM
    return Fault(code, f"key {key.key_id} is {standing}")


def _window_fault(row: EntryRow, key: RegistryKey, context: Context) -> Fault | None:
    signed = None if context.trust is None else context.trust.window(key.key_id)
    window = signed or Window(key.activated, key.retired)
    created = milliseconds(row.created_at)
    if created is None or not (key.window_readable or signed):
        if context.era == "v2":
            return Fault(Code.CHAIN_MALFORMED_ENTRY, f"created_at or the window of key {key.key_id} is unreadable")
        if created is None:
            return None
    if window.activated is not None and created < window.activated:
        early = Code.CHAIN_KEY_NOT_YET_ACTIVE if context.era == "v2" else Code.CHAIN_KEY_EXPIRED
        return Fault(early, f"written at {row.created_at}, before key {key.key_id} was activated")
    if window.retired is not None and created > window.retired:
        return Fault(Code.CHAIN_KEY_EXPIRED, f"written at {row.created_at}, after key {key.key_id} was retired")
    return None


def signature_fault(outcome: Outcome, key: RegistryKey, invalid: Code) -> Fault:
    """Say why a signature does not count."""
    if outcome == "wrong_algorithm":
        return Fault(Code.CHAIN_ALG_MISMATCH, f"the header's algorithm is none of {key.kind}, the kind of {key.key_id}")
    if outcome == "unsupported":
        return Fault(Code.CHAIN_UNSUPPORTED_ALGORITHM, f"key {key.key_id} is of a kind that is not supported")
    return Fault(invalid, f"does not verify with key {key.key_id}")
