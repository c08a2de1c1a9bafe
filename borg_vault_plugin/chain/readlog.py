"""The checks of the read log: each org's leaves, one for every read by an administrator, and the signed tree heads.

First come forks: heads of one org that state different roots for one size. Then, org by org, every leaf, in this
order, each block marked below: (1) its index is the next one; (2) the hash is that of the envelope; (3) place, record
and subject that were signed are those of the row, and the leaf before it is named; (4) there is a key, or there was
none yet; (5) the registry knows it; (6) it is trusted; (7) the signature verifies. The first leaf that fails ends its
org. Then the heads: (1) there are that many leaves; (2) they have that root (RFC 9162 section 2.1.1, or the first
era's tree); (3) what was signed is what the row says; (4) to (7) as for leaves. What a witness signed is counted only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from borg_vault_plugin.chain.checkpoints import uuid_digest
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
from borg_vault_plugin.chain.rows import Era, HeadRow, ReadRow
from borg_vault_plugin.chain.times import milliseconds
from borg_vault_plugin.chain.tree import leaf_hash, roots_at
from borg_vault_plugin.report import Finding


@dataclass(frozen=True, slots=True)
class ReadLogCounts:
    """How much a read log holds, and how much of it was verified."""

    orgs: int = 0
    leaves: int = 0
    heads: int = 0
    witnessed: int = 0
    """Heads that carry a witness's signature, which nobody can verify from the dump."""
    checked: int = 0
    """Signatures of leaves and heads that were verified and are valid."""
    trees: tuple[TreeHead, ...] = ()
    """The tree over all leaves of each org as they are stored, whether they pass or not."""


@dataclass(frozen=True, slots=True)
class TreeHead:
    """The tree over the first leaves of one org's read log."""

    org: str
    size: int
    root: str
    """In hex, of the era's own tree."""


@dataclass(frozen=True, slots=True)
class Org:
    """The part of a read log that belongs to one org."""

    leaves: list[ReadRow] = field(default_factory=list)
    heads: list[HeadRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LeafState:
    """What the next leaf of an org is checked against."""

    index: int = 0
    digest: bytes = b""
    """That of the leaf before it; of no meaning to the first one."""
    key_named: bool = False
    """Whether a leaf before it names a key."""


class SignerCodes(NamedTuple):
    """What a leaf or a head is called whose key or signature does not do."""

    unanchored: Code
    invalid: Code


LEAF_CODES = SignerCodes(Code.TENANT_READ_KEY_UNANCHORED, Code.TENANT_READ_SIGNATURE_INVALID)
HEAD_CODES = SignerCodes(Code.TENANT_CHECKPOINT_KEY_UNANCHORED, Code.TENANT_CHECKPOINT_SIGNATURE_INVALID)


def check_read_log(
    leaves: Iterable[ReadRow], heads: Iterable[HeadRow], context: Context
) -> Generator[Finding, None, ReadLogCounts]:
    """Check the read logs of all orgs, in any order of rows, and return the counts when all findings are taken."""
    leaves, heads = list(leaves), list(heads)
    genuine, forks = split_forks(heads)
    yield from forks
    orgs = _orgs(leaves, genuine)
    checked, trees = 0, list[TreeHead]()
    for org in orgs:
        checked += yield from _check_org(org, context, trees)
    witnessed = sum(head.witness_signature is not None for head in heads)
    return ReadLogCounts(len(orgs), len(leaves), len(heads), witnessed, checked, tuple(trees))


def split_forks(heads: Iterable[HeadRow]) -> tuple[list[HeadRow], list[Finding]]:
    """Take out the heads whose root is not that of an earlier head of the same org and size."""
    roots: dict[tuple[str, object], object] = {}
    genuine, forks = [], []
    for head in heads:
        sized = _is_integer(head.tree_size)
        first = roots.setdefault((org_name(head), head.tree_size), head.root_hash) if sized else head.root_hash
        if first == head.root_hash:
            genuine.append(head)
        else:
            detail = f"root {shown(head.root_hash)}, an earlier head of this size has {shown(first)}"
            forks.append(Finding(Code.TENANT_CHECKPOINT_FORK, _head_place(head), detail, hash_of(head.root_hash)))
    return genuine, forks


def _orgs(leaves: Iterable[ReadRow], heads: Iterable[HeadRow]) -> list[Org]:
    orgs: defaultdict[str, Org] = defaultdict(Org)
    for leaf in leaves:
        orgs[org_name(leaf)].leaves.append(leaf)
    for head in heads:
        orgs[org_name(head)].heads.append(head)
    return list(orgs.values())


def _check_org(org: Org, context: Context, trees: list[TreeHead]) -> Generator[Finding, None, int]:
    """Check one org's leaves and, if they all pass, its heads; return how many signatures were verified."""
    state, digests, checked = LeafState(), list[bytes](), 0
    for row in sorted(org.leaves, key=_leaf_order):
        judged = _judged_leaf(row, state, context)
        if isinstance(judged, Fault):
            place = f"org_admin_reads, org {shown(row.org_id)}, leaf_index {state.index}"
            yield Finding(judged.code, place, judged.detail, hash_of(row.leaf_hash))
            trees += _stored_trees(org, context.era)
            return checked
        state, proof = judged
        digests.append(state.digest)
        checked += proof is Proof.SIGNATURE
    sizes = [size for head in org.heads if isinstance(size := head.tree_size, int)]
    roots = roots_at(context.era, digests, sizes)
    trees += _stored_trees(org, context.era)
    return checked + (yield from _check_heads(org.heads, roots, context))


def _stored_trees(org: Org, era: Era) -> Iterator[TreeHead]:
    if org.leaves:
        digests = stored_digests(org.leaves, era)
        yield TreeHead(
            org_name(org.leaves[0]), len(digests), roots_at(era, digests, [len(digests)])[len(digests)].hex()
        )


def stored_digests(leaves: Iterable[ReadRow], era: Era) -> list[bytes]:
    """Give the digests of the stored leaves of one org, by their index; of one that is no base64, nothing's digest."""
    return [leaf_hash(era, binary(row.cose_sign1) or b"") for row in sorted(leaves, key=_leaf_order)]


def _leaf_order(row: ReadRow) -> tuple[bool, int]:
    """Sort by index; whatever is none comes last, where it leaves a gap."""
    return (False, row.leaf_index) if isinstance(row.leaf_index, int) else (True, 0)


def _judged_leaf(row: ReadRow, state: LeafState, context: Context) -> Fault | tuple[LeafState, Proof]:
    if not _is_integer(row.leaf_index) or row.leaf_index != state.index:  # (1)
        detail = f"expected leaf_index {state.index}, found {shown(row.leaf_index)}"
        return Fault(Code.TENANT_READ_LEAF_INDEX_GAP, detail)
    data = binary(row.cose_sign1)
    digest = None if data is None else leaf_hash(context.era, data)
    if data is None or digest is None or digest.hex() != row.leaf_hash:  # (2)
        found = "no base64" if digest is None else digest.hex()
        return Fault(
            Code.TENANT_READ_LEAF_HASH_MISMATCH, f"leaf_hash is {shown(row.leaf_hash)}, cose_sign1 has {found}"
        )
    envelope = decode(data, context.era)
    if envelope is None:  # (3)
        return Fault(Code.TENANT_READ_CLAIM_MISMATCH, "cose_sign1 is no tagged COSE_Sign1")
    if (difference := _leaf_difference(row, envelope, state)) is not None:
        return Fault(Code.TENANT_READ_CLAIM_MISMATCH, difference)
    proof = _proved_leaf(row, envelope, state, context)
    if isinstance(proof, Fault):
        return proof
    named = state.key_named or envelope.key_id != UNSIGNED_KEY_ID
    return LeafState(state.index + 1, digest, named), proof


def _leaf_difference(row: ReadRow, envelope: Envelope, state: LeafState) -> str | None:
    """Say in what the signed statement and the row differ."""
    if not isinstance(row.org_id, str):
        return f"org_id is no text: {shown(row.org_id)}"
    for column in (row.caller_key_id, row.filter_applied, row.read_at):  # covered by no signature
        if not isinstance(column, str | None):
            return f"neither text nor null: {shown(column)}"
    if envelope.place != (state.index + 1, state.digest if state.index else None):
        return "signed for another place in the log, or after another leaf"
    if envelope.predicate is None or envelope.predicate.get("record_id") != row.record_id:
        return "signed for another record"
    digest = uuid_digest(row.record_id)
    return "its subject is another record" if digest is None or envelope.subject_digest != digest else None


def _proved_leaf(row: ReadRow, envelope: Envelope, state: LeafState, context: Context) -> Fault | Proof:
    if envelope.key_id == UNSIGNED_KEY_ID:  # (4)
        if state.key_named:
            return Fault(Code.TENANT_READ_LEAF_UNSIGNED, "no key, after a leaf that names one")
        return _unsigned(row.read_at, context, Code.TENANT_READ_LEAF_UNSIGNED)
    named = None if envelope.key_id is None else envelope.key_id.hex()
    return _signed(named, envelope, context, LEAF_CODES)


def _check_heads(
    heads: Sequence[HeadRow], roots: Mapping[int, bytes], context: Context
) -> Generator[Finding, None, int]:
    """Check heads against the roots of their sizes; return how many signatures were verified."""
    checked = 0
    for head in heads:
        judged = _judged_head(head, roots, context)
        if isinstance(judged, Fault):
            yield Finding(judged.code, _head_place(head), judged.detail, hash_of(head.root_hash))
        checked += judged is Proof.SIGNATURE
    return checked


def _judged_head(row: HeadRow, roots: Mapping[int, bytes], context: Context) -> Fault | Proof:
    size = row.tree_size if isinstance(row.tree_size, int) and _is_integer(row.tree_size) else -1
    root = roots.get(size)
    if root is None:  # (1)
        return Fault(Code.TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH, f"there are no {shown(row.tree_size)} leaves")
    if row.root_hash != root.hex():  # (2)
        detail = f"root_hash is {shown(row.root_hash)}, the leaves have {root.hex()}"
        return Fault(Code.TENANT_CHECKPOINT_ROOT_MISMATCH, detail)
    data = binary(row.cose_sign1)
    envelope = None if data is None else decode(data, context.era)
    if envelope is None:  # (3)
        return Fault(Code.TENANT_CHECKPOINT_CLAIM_MISMATCH, "cose_sign1 is no tagged COSE_Sign1")
    if (difference := _head_difference(row, envelope, size, root, context)) is not None:
        return Fault(Code.TENANT_CHECKPOINT_CLAIM_MISMATCH, difference)
    if is_unnamed(row.signing_key_id, context):  # (4)
        return _unsigned(row.checkpoint_at, context, Code.TENANT_CHECKPOINT_UNSIGNED)
    return _signed(row.signing_key_id, envelope, context, HEAD_CODES)


def _head_difference(row: HeadRow, envelope: Envelope, size: int, root: bytes, context: Context) -> str | None:
    """Say in what the signed statement and the row differ."""
    place, predicate = envelope.place, envelope.predicate
    if not isinstance(row.org_id, str):
        return f"org_id is no text: {shown(row.org_id)}"
    if place is None or predicate is None:
        return "the envelope holds no complete claim"
    if place[0] != size or not (_is_integer(predicate.get("count")) and predicate["count"] == size):
        return f"signed for {place[0]} leaves, counting {shown(predicate.get('count'))}"
    if predicate.get("chain_tip_hash") != f"sha256:{root.hex()}" or envelope.subject_digest != root:
        return f"signed for {shown(predicate.get('chain_tip_hash'))}"
    named = UNSIGNED_KEY_ID.hex() if is_unnamed(row.signing_key_id, context) else row.signing_key_id
    if envelope.key_id is None or envelope.key_id.hex() != named:
        return f"the row names key {shown(row.signing_key_id)}, the signed header another"
    return None


def _unsigned(time: object, context: Context, code: Code) -> Fault | Proof:
    """Accept what was written before there were keys."""
    if context.signing_since is None:
        return Proof.LINK
    written = milliseconds(time)
    if written is None or written >= context.signing_since:
        return Fault(code, f"no key, written at {shown(time)}")
    return Proof.LINK


def _signed(key_id: object, envelope: Envelope, context: Context, codes: SignerCodes) -> Fault | Proof:
    key = known_key(key_id, context)
    if key is None:  # (5)
        return Fault(Code.CHAIN_SIGNATURE_MISSING_KEY, f"no key {shown(key_id)} in the registry")
    if (fault := standing_fault(key, context, codes.unanchored)) is not None:  # (6)
        return fault
    outcome = verify_signature(key, envelope.algorithm, to_be_signed(envelope), envelope.signature)  # (7)
    return Proof.SIGNATURE if outcome == "valid" else signature_fault(outcome, key, codes.invalid)


def _is_integer(value: object) -> bool:
    # A bool is no number, though Python counts it among the integers.
    return value.__class__ is int


def org_name(row: ReadRow | HeadRow) -> str:
    """Give the org that a row belongs to, as a text whatever stands there."""
    return row.org_id if isinstance(row.org_id, str) else repr(row.org_id)


def _head_place(head: HeadRow) -> str:
    return f"org_admin_reads_checkpoints, org {shown(head.org_id)}, tree_size {shown(head.tree_size)}"
