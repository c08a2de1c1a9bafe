"""One signed statement about a key: taken apart, held against its row and itself, and verified.

One canonical CBOR map (RFC 8949 section 4.2.1) under one or two COSE_Sign1 signatures (RFC 9052 section 4.2): a genesis
by its subject; a succession by endorser and subject, in this order, over the same bytes; a closure by another key than
the subject.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cbor2

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.entries import binary
from borg_vault_plugin.chain.envelope import Envelope, decode, to_be_signed
from borg_vault_plugin.chain.keys import HEADER_ALGORITHMS, KeyKind, RegistryKey, registry_key, verify_signature
from borg_vault_plugin.chain.rows import RegistryRow, StatementRow
from borg_vault_plugin.chain.times import milliseconds
from borg_vault_plugin.report import Finding

CONTENT_TYPE = "application/vnd.agledger.key-statement+cbor"
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
SIGNED_INSTANT = re.compile(r"(.{19}\.[0-9]{3})([0-9]{3})Z")
# What `alg` may say: a name, or one of the numbers of RFC 9053 and RFC 9864.
ALGORITHM_NAMES: dict[KeyKind, tuple[str, ...]] = {"Ed25519": ("ed25519", "eddsa"), "P-256": ("es256", "esp256")}


class StatementError(ValueError):
    """Why a statement is invalid; it becomes a finding."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that contradicts neither itself nor its row; keys by fingerprint, instants in microseconds."""

    where: str
    stored: int
    """When the row was written, in milliseconds."""
    kind: str
    endorser: str | None
    key: RegistryKey
    """The subject."""
    activated: int
    retired: int
    """0, except in a closure."""
    forced: bool
    envelopes: Sequence[Envelope]
    order: int = 0
    verified: bool = False
    """False: signed with a kind of key that cannot be verified here."""

    @property
    def subject(self) -> str:
        """Fingerprint of the key that this is about."""
        return self.key.fingerprint

    @property
    def admits(self) -> bool:
        """Whether this is a genesis or a succession."""
        return self.kind != "closure"

    @property
    def signers(self) -> list[str]:
        """Who must have signed, in this order."""
        endorser = [] if self.endorser is None else [self.endorser]
        return [*endorser, self.subject] if self.admits else endorser


def genuine_statements(
    rows: Iterable[StatementRow], keys: Iterable[RegistryKey]
) -> tuple[list[Statement], list[Finding]]:
    """Give the genuine statements in the order of their storing, and what is wrong with the others."""
    findings, parsed = [], []
    for number, row in enumerate(rows, start=1):
        where = f"vault_key_statements, row {number}"
        try:
            parsed.append(_parsed(row, where))
        except StatementError as error:
            findings.append(invalid(where, error))
    known = {key.fingerprint: key for key in (*keys, *(one.key for one in parsed))}
    genuine: dict[bytes, Statement] = {}
    for one in sorted(parsed, key=lambda one: one.stored):
        try:
            verified = _is_verified(one, known)
        except StatementError as error:
            findings.append(invalid(one.where, error))
        else:  # of statements with the same payload only the first one counts
            genuine.setdefault(one.envelopes[0].payload, replace(one, order=len(genuine), verified=verified))
    return list(genuine.values()), findings


def _is_verified(statement: Statement, known: Mapping[str, RegistryKey]) -> bool:
    """Verify all signatures; False if one is by a kind of key that cannot be verified. Raises StatementError."""
    pairs = zip(statement.envelopes, statement.signers, strict=True)
    # Every signature is looked at: what can be verified must be valid even beside what cannot.
    verified = [_is_signed(envelope, signer, known) for envelope, signer in pairs]
    return all(verified)


def _is_signed(envelope: Envelope, signer: str, known: Mapping[str, RegistryKey]) -> bool:
    key, name = known.get(signer), signer[:16]
    if key is None:
        raise StatementError(f"the key {name} that signed is known neither from the registry nor from a statement")
    if envelope.key_id != bytes.fromhex(name):
        raise StatementError(f"where key {name} should have signed, the header names another key")
    outcome = verify_signature(key, envelope.algorithm, to_be_signed(envelope), envelope.signature)
    if outcome in {"invalid", "wrong_algorithm"}:
        raise StatementError(f"the signature of key {name} does not verify")
    return outcome == "valid"


def _parsed(row: StatementRow, where: str) -> Statement:
    """Take a statement apart. Raises StatementError."""
    envelopes, stored = _envelopes(row.statement), milliseconds(row.created_at)
    if stored is None:
        raise StatementError("created_at is no instant")
    content = _content(envelopes)
    subject, endorser, closes = content.get("subject"), content.get("endorser"), content["typ"] == "closure"
    statement = Statement(
        where=where,
        stored=stored,
        kind=str(content["typ"]),
        endorser=None if endorser is None else _fingerprint(endorser),
        key=_key(subject),
        activated=_microseconds(subject, "activatedAt"),
        retired=_microseconds(subject, "retiredAt") if closes else 0,
        forced=content.get("forced") is True,
        envelopes=envelopes,
    )
    if content.get("forced").__class__ is not (bool if closes else type(None)):
        raise StatementError("forced is missing, or stands where it does not belong")
    _refuse_contradictions(row, statement)
    return statement


def _refuse_contradictions(row: StatementRow, statement: Statement) -> None:
    endorser = statement.endorser
    if (endorser is None) != (statement.kind == "genesis") or endorser == statement.subject:
        raise StatementError("the endorser is missing, stands where none belongs, or is the subject itself")
    if len(statement.envelopes) != len(statement.signers):
        raise StatementError(f"{len(statement.envelopes)} signatures, expected {len(statement.signers)}")
    signed = (statement.kind, statement.subject[:16], None if endorser is None else endorser[:16])
    if (row.kind, row.subject_key_id, row.endorser_key_id) != signed:
        raise StatementError(f"the columns differ from the signed values {signed}")


def _envelopes(column: object) -> list[Envelope]:
    texts = column if isinstance(column, list) else []
    decoded = [decode(data, "v2") for text in texts if (data := binary(text)) is not None]
    envelopes = [envelope for envelope in decoded if envelope is not None and envelope.content_type == CONTENT_TYPE]
    if not envelopes or len(envelopes) < len(texts) or len({envelope.payload for envelope in envelopes}) > 1:
        raise StatementError("not envelopes of one statement about a key")
    return envelopes


def _content(envelopes: Sequence[Envelope]) -> dict[object, object]:
    """Give the map that was signed. Raises StatementError when it is not canonical (RFC 8949 section 4.2.1)."""
    content, payload = envelopes[0].content, envelopes[0].payload
    match content:
        case {"typ": "genesis" | "succession" | "closure", "iss": str()} if isinstance(content, dict):
            try:
                canonical = cbor2.dumps(content, canonical=True) == payload
            except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError):
                canonical = False
            if canonical:
                return content
    raise StatementError("the payload is no canonical statement about a key")


def _fingerprint(described: object) -> str:
    """Give a described key's spkiSha256, which its kid must be the beginning of. Raises StatementError."""
    match described:
        case {"spkiSha256": str(fingerprint), "kid": kid} if FINGERPRINT.fullmatch(fingerprint):
            if kid in (fingerprint[:16], bytes.fromhex(fingerprint[:16])):
                return fingerprint
    raise StatementError("a key that does not carry its own id and fingerprint")


def _key(described: object) -> RegistryKey:
    """Give the subject's key. Raises StatementError unless its id, fingerprint and algorithm are its own."""
    match described:
        case {"spki": bytes(spki), "alg": algorithm}:
            fingerprint = _fingerprint(described)
            text = base64.b64encode(spki).decode()
            key = registry_key(RegistryRow(key_id=fingerprint[:16], public_key=text, algorithm=algorithm))
            if key is not None and key.fingerprint == fingerprint and _names_algorithm(key, algorithm):
                return key
    raise StatementError("the subject's key does not fit its id, fingerprint or algorithm, or is none")


def _names_algorithm(key: RegistryKey, algorithm: object) -> bool:
    if key.kind not in HEADER_ALGORITHMS:
        return key.kind == "unsupported"
    name = algorithm.lower() if isinstance(algorithm, str) else algorithm
    return name.__class__ in {str, int} and name in (*ALGORITHM_NAMES[key.kind], *HEADER_ALGORITHMS[key.kind])


def _microseconds(described: object, name: str) -> int:
    """Read a signed instant: RFC 3339 in UTC with exactly six digits of fraction. Raises StatementError."""
    value = described.get(name) if isinstance(described, dict) else None
    match = SIGNED_INSTANT.fullmatch(value) if isinstance(value, str) else None
    whole = None if match is None else milliseconds(match[1] + "Z")
    if match is None or whole is None:
        raise StatementError(f"{name} is no instant with six digits of fraction")
    return whole * 1000 + int(match[2])


def invalid(where: str, fault: object) -> Finding:
    """Report a statement that is broken or out of place."""
    return Finding(Code.KEY_STATEMENT_INVALID, where, str(fault))
