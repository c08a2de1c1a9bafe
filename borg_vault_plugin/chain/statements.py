"""Signed statements by which keys admit and close each other, and the trust that flows from pinned keys through them.

A statement is one canonical CBOR map (RFC 8949 section 4.2.1) under one or two COSE_Sign1 signatures (RFC 9052
section 4.2): a genesis by its subject; a succession by endorser and subject, in this order, over the same bytes; a
closure by another key than the subject. A key is known by the whole SHA-256 of its SPKI, never by its short id.

A succession lets trust flow from endorser to subject, and back if nothing else admits the subject. A first walk from
the pins finds whose closures count. The first closure of a key voids what flows out of it by later statements, a
forced one everything that flows out of it. What a second walk reaches is anchored. What it would only reach with
statements that cannot be verified here is undecided. No key is trusted because a dump says so.
"""

from __future__ import annotations

import base64
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cbor2

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.context import Standing, Window
from borg_vault_plugin.chain.entries import binary
from borg_vault_plugin.chain.envelope import Envelope, decode, to_be_signed
from borg_vault_plugin.chain.keys import HEADER_ALGORITHMS, KeyKind, RegistryKey, registry_key, verify_signature
from borg_vault_plugin.chain.rows import RegistryRow, StatementRow
from borg_vault_plugin.chain.times import milliseconds
from borg_vault_plugin.report import Finding

CONTENT_TYPE = "application/vnd.agledger.key-statement+cbor"
ANCHOR = re.compile(r"sha256:([0-9a-fA-F]{64})")
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
SIGNED_INSTANT = re.compile(r"(.{19}\.[0-9]{3})([0-9]{3})Z")
# What `alg` may say: a name, or one of the numbers of RFC 9053 and RFC 9864.
ALGORITHM_NAMES: dict[KeyKind, tuple[str, ...]] = {"Ed25519": ("ed25519", "eddsa"), "P-256": ("es256", "esp256")}


class StatementError(ValueError):
    """Why a statement is invalid; it becomes a finding."""


@dataclass(frozen=True, slots=True)
class KeyTrust:
    """What follows from the pins and the statements about the keys of a registry."""

    windows: Mapping[str, Window]
    """The anchored keys, by key id."""
    undecided: frozenset[str] = frozenset()
    """Ids of keys that hang on statements which cannot be verified here."""
    findings: tuple[Finding, ...] = ()

    def standing(self, key_id: str) -> Standing:
        """Tell whether a key is anchored; a key that is not in the registry is not."""
        if key_id in self.windows:
            return "anchored"
        return "undecided" if key_id in self.undecided else "unanchored"

    def window(self, key_id: str) -> Window | None:
        """Give the signed window of an anchored key; None when no statement gives one."""
        window = self.windows.get(key_id)
        return None if window == Window(None, None) else window

    @property
    def signing_since(self) -> int | None:
        """The earliest signed activation of an anchored key, in milliseconds since 1970."""
        return min((one.activated for one in self.windows.values() if one.activated is not None), default=None)


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


@dataclass(frozen=True, slots=True)
class Edge:
    """Trust may flow from one key to another, by the statement of this order."""

    source: str
    target: str
    order: int


def walk(statements: Iterable[StatementRow], registry: Iterable[RegistryRow], anchors: Iterable[str]) -> KeyTrust:
    """Tell which registered keys follow from the pinned ones, and what is wrong with the statements.

    Rows are taken in the order of their files. An anchor is `sha256:` and the SHA-256 of an SPKI in hex.
    Raises ValueError, with one line, if there is no anchor or one is not so.
    """
    pins, rows = pinned(anchors), list(registry)
    keys = [key for key in map(registry_key, rows) if key is not None]
    genuine, findings = _read(statements, keys)
    graph = Graph(pins, genuine)
    windows = {key: graph.window(key) for key in graph.anchored}
    named = _named(keys)
    return KeyTrust(
        {key_id: windows[key] for key_id, key in named.items() if key in windows},
        frozenset(key_id for key_id, key in named.items() if key in graph.undecided),
        (*findings, *_misplaced(graph), *_drifts(rows, windows)),
    )


def pinned(anchors: Iterable[str]) -> frozenset[str]:
    """Give the fingerprints of anchors. Raises ValueError, with one line, if there is none or one cannot be read."""
    matches = {anchor: ANCHOR.fullmatch(anchor) for anchor in anchors}
    if not matches:
        raise ValueError("no anchor was given, and without one no key can be anchored")
    for anchor, match in matches.items():
        if match is None:
            raise ValueError(f"an anchor is sha256: and 64 hex digits, not {anchor!r}")
    return frozenset(match[1].lower() for match in matches.values() if match is not None)


class Graph:
    """The two walks over genuine statements, which come in the order of their storing."""

    def __init__(self, pins: frozenset[str], statements: Sequence[Statement]) -> None:
        self.statements = statements
        verified = [one for one in statements if one.verified]
        # Of the admissions that cannot be verified, each walk believes what makes it reach less, or more.
        edges = list(_edges(verified, Counter(one.subject for one in statements if one.admits)))
        possible = list(_edges(statements, Counter(one.subject for one in verified if one.admits)))
        reached, self.reachable = _reached(pins, edges), _reached(pins, possible)
        closures = [one for one in verified if not one.admits and one.endorser in reached]
        suspected = [one for one in statements if not one.admits and one.endorser in self.reachable]
        unsure = {one.subject for one in suspected if not one.verified or one.endorser not in reached}
        self.anchored = _reached(pins, _open(edges, suspected)) - unsure
        self.undecided = _reached(pins, _open(possible, closures)) - self.anchored
        # In each of these the last one counts.
        admissions = sorted((one for one in verified if one.admits), key=lambda one: one.activated)
        self.starts = {one.subject: one.activated for one in admissions}
        self.ends = {one.subject: one.retired for one in sorted(closures, key=lambda one: -one.retired)}
        self.closed = {one.subject: one.order for one in reversed(closures)}
        self.admitted = {one.subject: one.order for one in reversed(statements) if one.admits}

    def window(self, key: str) -> Window:
        """Give the signed window of a key: from its latest admission to its earliest closure."""
        start, end = self.starts.get(key), self.ends.get(key)
        return Window(None if start is None else start // 1000, None if end is None else end // 1000)


def _edges(statements: Iterable[Statement], admissions: Counter[str]) -> Iterator[Edge]:
    for one in statements:
        if one.kind == "succession" and one.endorser is not None:
            yield Edge(one.endorser, one.subject, one.order)
            if admissions[one.subject] <= 1:
                yield Edge(one.subject, one.endorser, one.order)


def _open(edges: Iterable[Edge], closures: Sequence[Statement]) -> list[Edge]:
    """Leave the edges that no closure voids."""
    closed = {one.subject: one.order for one in reversed(closures)}
    forced = {one.subject for one in closures if one.forced}
    return [edge for edge in edges if edge.source not in forced and edge.order <= closed.get(edge.source, edge.order)]


def _reached(pins: Iterable[str], edges: Iterable[Edge]) -> frozenset[str]:
    targets: defaultdict[str, set[str]] = defaultdict(set)
    for edge in edges:
        targets[edge.source].add(edge.target)
    reached, waiting = set(pins), list(pins)
    while waiting:
        fresh = targets[waiting.pop()] - reached
        reached |= fresh
        waiting += fresh
    return frozenset(reached)


def _misplaced(graph: Graph) -> Iterator[Finding]:
    """Report the statements that are genuine and yet must not be there."""
    known = graph.anchored | graph.undecided
    for one in graph.statements:
        fault = None if one.admits else _closure_fault(graph, one)
        keys = {one.subject, one.endorser} - {None}
        if fault is not None:
            yield Finding(Code.KEY_CLOSURE_INVALID, one.where, fault)
        elif not known & keys:
            yield _invalid(one.where, "concerns no key that follows from the pinned ones")
        elif one.admits and graph.admitted[one.subject] < one.order:
            yield _invalid(one.where, f"admits key {one.subject[:16]} a second time")
        elif one.admits and any(graph.closed.get(key or "", one.order) < one.order for key in keys):
            yield _invalid(one.where, "admits a key after one of its keys was closed")


def _closure_fault(graph: Graph, closure: Statement) -> str | None:
    subject, signer = closure.subject, closure.endorser or ""
    if signer not in graph.reachable:
        return f"signed by key {signer[:16]}, which does not follow from the pinned ones"
    if signer in graph.ends and closure.stored > graph.ends[signer] // 1000:
        return f"signed by key {signer[:16]} after its own retirement"
    if closure.retired < max(closure.activated, graph.starts.get(subject, closure.activated)):
        return f"retires key {subject[:16]} before its activation"
    return "retires a key later than it was stored itself" if closure.retired // 1000 > closure.stored else None


def _invalid(where: str, fault: object) -> Finding:
    return Finding(Code.KEY_STATEMENT_INVALID, where, str(fault))


def _drifts(rows: Iterable[RegistryRow], windows: Mapping[str, Window]) -> Iterator[Finding]:
    """Compare the registry's columns with what was signed about the anchored keys."""
    for row in rows:
        key = registry_key(row)
        if key is None or key.fingerprint not in windows or not key.names_itself:
            continue
        where, signed = f"vault_signing_keys, key {key.key_id}", windows[key.fingerprint]
        if row.status == "retired" and signed.retired is None:
            yield Finding(Code.KEY_CLOSURE_INVALID, where, "listed as retired, but no closure of it counts")
        differing = ", ".join(_differing(row, key, signed))
        if differing:
            yield Finding(Code.CHAIN_KEY_WINDOW_DRIFT, where, f"not as signed: {differing}")


def _differing(row: RegistryRow, key: RegistryKey, signed: Window) -> Iterator[str]:
    if signed.activated is not None and key.activated != signed.activated:
        yield "activated_at"
    if row.status == "retired" and signed.retired is None:
        return  # what is missing is the closure
    if key.retired != signed.retired or (key.retired is None) != (row.retired_at is None):
        yield "retired_at"
    if row.status != ("active" if signed.retired is None else "retired"):
        yield "status"


def _named(keys: Iterable[RegistryKey]) -> dict[str, str]:
    """Give the fingerprints of the keys that are called what they are; a name that two keys share is neither's."""
    named: defaultdict[str, set[str]] = defaultdict(set)
    for key in keys:
        named[key.key_id].add(key.fingerprint)
    return {key.key_id: key.fingerprint for key in keys if key.names_itself and len(named[key.key_id]) == 1}


def _read(rows: Iterable[StatementRow], keys: Iterable[RegistryKey]) -> tuple[list[Statement], list[Finding]]:
    """Give the genuine statements in the order of their storing, and what is wrong with the others."""
    findings, parsed = [], []
    for number, row in enumerate(rows, start=1):
        where = f"vault_key_statements, row {number}"
        try:
            parsed.append(_parsed(row, where))
        except StatementError as error:
            findings.append(_invalid(where, error))
    known = {key.fingerprint: key for key in (*keys, *(one.key for one in parsed))}
    genuine: dict[bytes, Statement] = {}
    for one in sorted(parsed, key=lambda one: one.stored):
        try:
            verified = _is_verified(one, known)
        except StatementError as error:
            findings.append(_invalid(one.where, error))
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
