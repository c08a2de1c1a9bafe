"""Signed envelopes: COSE_Sign1 (RFC 9052 section 4.2) around an in-toto v1 Statement in deterministic CBOR.

The parts whose shape never changes are assembled by hand, in the order of RFC 8949 section 4.2.1; what a
payload brings is left to cbor2. An envelope written by a process without a key has a zero key id, names
EdDSA, and carries 64 zero bytes where the signature would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cbor2

from borg_vault_plugin.sample.keys import SigningKey

SERVER_URL = "https://vault.sample.invalid"
ZERO_UUID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who caused an entry: a key, its owner, and the role it acted in."""

    key_id: str
    role: str
    owner_id: str


PLATFORM = Actor(ZERO_UUID, "platform", ZERO_UUID)


@dataclass(frozen=True, slots=True)
class Claim:
    """What the protected header says about an envelope (CWT claims of RFC 9597, and the place in the chain)."""

    subject: str
    issued_at: int
    """Whole seconds since 1970."""
    actor: Actor
    position: int
    previous: bytes | None
    """Digest of the entry before this one, 32 bytes."""


def cbor_head(major: int, value: int) -> bytes:
    """Give the shortest head of a CBOR item (RFC 8949 section 4.2.1) for a value below 2^32."""
    if value < 24:
        return bytes((major << 5 | value,))
    if value < 0x100:
        return bytes((major << 5 | 24, value))
    if value < 0x10000:
        return bytes((major << 5 | 25,)) + value.to_bytes(2)
    return bytes((major << 5 | 26,)) + value.to_bytes(4)


def byte_string(value: bytes) -> bytes:
    """Encode bytes."""
    return cbor_head(2, len(value)) + value


def text_string(value: str) -> bytes:
    """Encode text."""
    encoded = value.encode()
    return cbor_head(3, len(encoded)) + encoded


STATEMENT_START = b"\xa4" + text_string("_type") + text_string("https://in-toto.io/Statement/v1")
SUBJECT_START = text_string("subject") + b"\x81\xa2" + text_string("name")
DIGEST_START = text_string("digest") + b"\xa1" + text_string("sha256") + b"\x58\x20"
PREDICATE_START = text_string("predicate")
PREDICATE_TYPE_START = text_string("predicateType")
CONTENT_TYPE = text_string("application/vnd.in-toto+cbor")
KEY_STATEMENT_TYPE = text_string("application/vnd.agledger.key-statement+cbor")
CLAIMS_START = b"\x0f\xa4\x01" + text_string(SERVER_URL) + b"\x02"
ACTOR_LABEL = cbor2.dumps(-65539)
CHAIN_LABEL = cbor2.dumps(-65537)
SIGNATURE_CONTEXT = b"\x84" + text_string("Signature1")


def statement(kind: str, name: str, digest: bytes, predicate: dict[str, object]) -> bytes:
    """Encode an in-toto Statement about one subject; `digest` is its SHA-256, 32 bytes."""
    return b"".join((
        STATEMENT_START, SUBJECT_START, text_string(name), DIGEST_START, digest,
        PREDICATE_START, cbor2.dumps(predicate, canonical=True),
        PREDICATE_TYPE_START, text_string(f"https://agledger.ai/predicates/{kind}/v1"),
    ))  # fmt: skip


def sealed_claim(key: SigningKey | None, claim: Claim, payload: bytes) -> bytes:
    """Give the envelope of a Statement: one place in one chain, signed unless there is no key."""
    return sealed(key, protected_header(key, claim), payload)


def sealed_key_statement(key: SigningKey, payload: bytes) -> bytes:
    """Give the envelope of a statement about a signing key."""
    return sealed(key, b"\xa3" + key_labels(key, KEY_STATEMENT_TYPE), payload)


def sealed(key: SigningKey | None, protected: bytes, payload: bytes) -> bytes:
    """Give the tagged COSE_Sign1; the signed bytes are the Sig_structure of RFC 9052 section 4.4."""
    header, body = byte_string(protected), byte_string(payload)
    signature = bytes(64) if key is None else key.sign(SIGNATURE_CONTEXT + header + b"\x40" + body)
    return b"\xd2\x84" + header + b"\xa0" + body + b"\x58\x40" + signature


def protected_header(key: SigningKey | None, claim: Claim) -> bytes:
    """Encode the protected map of an entry, checkpoint, leaf or tree head."""
    previous = b"\xf6" if claim.previous is None else byte_string(claim.previous)
    return b"".join((
        b"\xa5", key_labels(key, CONTENT_TYPE),
        CLAIMS_START, text_string(claim.subject), b"\x06", cbor_head(0, claim.issued_at),
        ACTOR_LABEL, actor_claim(claim.actor),
        CHAIN_LABEL, b"\xa2\x01", cbor_head(0, claim.position), b"\x02", previous,
    ))  # fmt: skip


def key_labels(key: SigningKey | None, content_type: bytes) -> bytes:
    """Encode labels 1, 3 and 4: algorithm, content type, key id."""
    algorithm = -8 if key is None else key.cose_algorithm
    key_id = bytes(8) if key is None else bytes.fromhex(key.key_id)
    return b"\x01" + cbor_head(1, -1 - algorithm) + b"\x03" + content_type + b"\x04" + byte_string(key_id)


@lru_cache(maxsize=1024)
def actor_claim(actor: Actor) -> bytes:
    """Encode an actor: identifiers as 16 bytes, the role as text."""
    return cbor2.dumps({1: uuid_bytes(actor.key_id), 2: actor.role, 3: uuid_bytes(actor.owner_id)}, canonical=True)


def uuid_bytes(text: str) -> bytes:
    """Give the 16 bytes of a UUID's text."""
    return bytes.fromhex(text.replace("-", ""))


def canonical(value: dict[str, object]) -> bytes:
    """Encode a text-keyed map deterministically."""
    return cbor2.dumps(value, canonical=True)


def record_state_predicate(record_id: str, entry_type: str, payload: dict[str, object]) -> dict[str, object]:
    """Give what is signed for an entry of a record: its columns, its transition, and the rest of its payload."""
    transition = payload.get("state_transition") or payload
    rest = {name: value for name, value in payload.items() if name not in LIFTED}
    predicate: dict[str, object] = {"record_id": record_id, "entry_type": entry_type}
    if isinstance(transition, dict) and isinstance(transition.get("to"), str):
        predicate["state_transition"] = {"from": transition.get("from"), "to": transition["to"]}
    if rest:
        predicate["payload"] = rest
    return predicate | {name: payload[name] for name in CARRIED if name in payload}


LIFTED: Sequence[str] = ("from", "to", "state_transition", "traces", "on_behalf_of", "traceparent")
CARRIED: Sequence[str] = ("traces", "on_behalf_of", "traceparent")


def schema_event_predicate(payload: dict[str, object], outcome: str) -> dict[str, object]:
    """Give what is signed for an entry of a schema chain."""
    return {
        "org_id": payload.get("orgId"),
        "schema_type": payload["type"],
        "schema_version": str(payload["version"]),
        "manifest_digest": payload["manifestDigest"],
        "outcome": outcome,
    } | ({"source": payload["source"]} if "source" in payload else {})
