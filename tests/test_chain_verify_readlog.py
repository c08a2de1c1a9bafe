"""The read log's checks: genuine logs pass, and each way of bending one gives its code, once, at its place."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.context import Context, context_of, registry_keys
from borg_vault_plugin.chain.readlog import ReadLogCounts, check_read_log
from borg_vault_plugin.chain.rows import HeadRow, ReadRow, RegistryRow, StatementRow, read_row, row_decoder
from borg_vault_plugin.chain.statements import KeyTrust, walk
from borg_vault_plugin.chain.tree import leaf_hash, roots_at
from borg_vault_plugin.report import Finding
from borg_vault_plugin.sample import SampleVault, VaultShape
from borg_vault_plugin.sample.envelope import sealed
from borg_vault_plugin.sample.keys import Algorithm, SigningKey, fingerprint, signing_key
from borg_vault_plugin.sample.rows import ndjson_line

Era = Literal["v1", "v2"]
Line = dict[str, Any]
Change = Callable[["Log"], object]

ERAS: tuple[Era, ...] = ("v1", "v2")
ALGORITHMS: tuple[Algorithm, ...] = ("Ed25519", "ES256")
HEADER = {"alg": 1, "kid": 4, "chain": -65537}
OTHER_RECORD = "01940000-0000-7000-8000-000000000001"
BEFORE = "2025-01-01T00:00:00.000Z"


@dataclass
class Log:
    """A read log as JSON, which a test may bend, and what it is checked with."""

    era: Era
    leaves: list[Line]
    heads: list[Line]
    registry: list[Line]
    statements: list[Line]
    keys: list[SigningKey]
    rogue: SigningKey
    anchored: bool = False

    def leaf(self, index: int) -> Line:
        """Give a leaf of the first org."""
        return self.leaves[index]

    def head(self, number: int) -> Line:
        """Give a head of the first org."""
        return self.heads[number]

    def key_of(self, row: Line) -> SigningKey:
        """Give the key that signed a row."""
        named = decoded(row)[0][HEADER["kid"]].hex()
        return next(key for key in self.keys if key.key_id == named)

    def context(self) -> Context:
        """Give what the checks need; with trust when keys are pinned."""
        registry = read(RegistryRow, self.registry)
        trust = None
        if self.anchored:
            trust = walk(read(StatementRow, self.statements), registry, [f"sha256:{fingerprint(self.keys[0].spki)}"])
        return context_of(self.era, registry_keys(registry), trust)

    def check(self) -> tuple[list[Finding], ReadLogCounts]:
        """Check the log."""
        return drained(read(ReadRow, self.leaves), read(HeadRow, self.heads), self.context())


def drained(
    leaves: Iterable[ReadRow], heads: Iterable[HeadRow], context: Context
) -> tuple[list[Finding], ReadLogCounts]:
    check, findings = check_read_log(leaves, heads, context), []
    while True:
        try:
            findings.append(next(check))
        except StopIteration as end:
            return findings, end.value


def read(row_type: Any, lines: Iterable[Line]) -> list[Any]:
    return [read_row(row_decoder(row_type), json.dumps(line).encode()) for line in lines]


def lines(rows: Iterable[Any] | None) -> list[Line]:
    return [json.loads(ndjson_line(row)) for row in rows or []]


def log(era: Era, algorithm: Algorithm = "Ed25519", **changes: Any) -> Log:
    settings = {"records": 6, "reads_per_org": 7, "rotations": 2, "algorithms": (algorithm,), "seed": 11, **changes}
    vault = SampleVault(VaultShape(era=era, **settings))
    rows = vault.rows()
    return Log(
        era,
        lines(rows.org_admin_reads),
        lines(rows.org_admin_reads_checkpoints),
        lines(rows.vault_signing_keys),
        lines(rows.vault_key_statements),
        [vault.plan.key(index) for index in range(len(rows.vault_signing_keys))],
        signing_key(99, 0, algorithm),
    )


def decoded(row: Line) -> tuple[dict[Any, Any], dict[str, Any]]:
    parts = cbor2.loads(base64.b64decode(row["cose_sign1"])).value
    return cbor2.loads(parts[0]), cbor2.loads(parts[2])


def seal(log: Log, row: Line, key: SigningKey | None, header: dict[Any, Any], content: object) -> None:
    """Put another envelope into a row, with the leaf hash that belongs to it."""
    protected, payload = cbor2.dumps(header, canonical=True), cbor2.dumps(content, canonical=True)
    store(log, row, sealed(key, protected, payload))


def store(log: Log, row: Line, envelope: bytes) -> None:
    row["cose_sign1"] = base64.b64encode(envelope).decode()
    if "leaf_hash" in row:
        row["leaf_hash"] = leaf_hash(log.era, envelope).hex()


def resign(log: Log, row: Line, change: Callable[[dict[Any, Any], dict[str, Any]], object]) -> None:
    """Sign a row again, with the same key, after a change of header or content."""
    key, (header, content) = log.key_of(row), decoded(row)
    change(header, content)
    seal(log, row, key, header, content)


def sign_with(log: Log, row: Line, key: SigningKey | None) -> None:
    """Sign a row with another key, or with none."""
    header, content = decoded(row)
    header |= {
        HEADER["kid"]: bytes(8) if key is None else bytes.fromhex(key.key_id),
        HEADER["alg"]: -8 if key is None else key.cose_algorithm,
    }
    seal(log, row, key, header, content)
    if "signing_key_id" in row:
        row["signing_key_id"] = None if key is None else key.key_id


def register(log: Log, key: SigningKey, **columns: Any) -> None:
    """Put another key into the registry."""
    public = base64.b64encode(key.spki).decode()
    log.registry.append(log.registry[-1] | {"key_id": key.key_id, "public_key": public} | columns)


def spoil_signature(log: Log, row: Line, signature: bytes | None = None) -> None:
    envelope = base64.b64decode(row["cose_sign1"])
    last = bytes([envelope[-1] ^ 1])
    store(log, row, envelope[:-64] + (envelope[-64:-1] + last if signature is None else signature))


def unsupported_key() -> SigningKey:
    public = Ed448PrivateKey.from_private_bytes(bytes(57)).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SigningKey(fingerprint(spki)[:16], "Ed25519", -8, spki, lambda _message: bytes(64))


def sign_with_registered(log: Log, row: Line, key: SigningKey) -> None:
    register(log, key)
    sign_with(log, row, key)


def set_predicate(name: str, value: object) -> Callable[[dict[Any, Any], dict[str, Any]], object]:
    return lambda _header, content: content["predicate"].update({name: value})


def set_place(label: int, value: object) -> Callable[[dict[Any, Any], dict[str, Any]], object]:
    return lambda header, _content: header[HEADER["chain"]].update({label: value})


def set_digest(value: object) -> Callable[[dict[Any, Any], dict[str, Any]], object]:
    return lambda _header, content: content["subject"][0]["digest"].update({"sha256": value})


def fork(log: Log) -> None:
    """Let a second head state another root for a size; it is genuinely signed."""
    head = dict(log.head(0)) | {"root_hash": "ab" * 32}
    resign(log, head, set_predicate("chain_tip_hash", "sha256:" + "ab" * 32))
    log.heads.append(head)


def unsigned(log: Log, row: Line, **columns: Any) -> None:
    """Write a row as a process without a key would, and bend some columns."""
    sign_with(log, row, None)
    row.update(columns)


# What is bent in the first org's log; for a leaf the index where it is found, for a head its number.
LEAVES: dict[str, tuple[Code, int, Change]] = {
    "a leaf is missing": (Code.TENANT_READ_LEAF_INDEX_GAP, 2, lambda log: log.leaves.pop(2)),
    "a leaf is there twice": (Code.TENANT_READ_LEAF_INDEX_GAP, 3, lambda log: log.leaves.append(log.leaf(2))),
    "the first leaf is missing": (Code.TENANT_READ_LEAF_INDEX_GAP, 0, lambda log: log.leaves.pop(0)),
    "true for an index": (Code.TENANT_READ_LEAF_INDEX_GAP, 1, lambda log: log.leaf(1).update(leaf_index=True)),
    "another hash": (Code.TENANT_READ_LEAF_HASH_MISMATCH, 3, lambda log: log.leaf(3).update(leaf_hash="ab" * 32)),
    "another case": (
        Code.TENANT_READ_LEAF_HASH_MISMATCH,
        3,
        lambda log: log.leaf(3).update(leaf_hash=log.leaf(3)["leaf_hash"].upper()),
    ),
    "no base64": (Code.TENANT_READ_LEAF_HASH_MISMATCH, 1, lambda log: log.leaf(1).update(cose_sign1="*")),
    "another leaf's envelope": (
        Code.TENANT_READ_LEAF_HASH_MISMATCH,
        1,
        lambda log: log.leaf(1).update(cose_sign1=log.leaf(0)["cose_sign1"]),
    ),
    "no envelope": (Code.TENANT_READ_CLAIM_MISMATCH, 1, lambda log: store(log, log.leaf(1), b"no envelope")),
    "another record": (Code.TENANT_READ_CLAIM_MISMATCH, 4, lambda log: log.leaf(4).update(record_id=OTHER_RECORD)),
    "another signed record": (
        Code.TENANT_READ_CLAIM_MISMATCH,
        4,
        lambda log: resign(log, log.leaf(4), set_predicate("record_id", OTHER_RECORD)),
    ),
    "another signed subject": (
        Code.TENANT_READ_CLAIM_MISMATCH,
        4,
        lambda log: resign(log, log.leaf(4), set_digest(bytes(32))),
    ),
    "another signed position": (
        Code.TENANT_READ_CLAIM_MISMATCH,
        4,
        lambda log: resign(log, log.leaf(4), set_place(1, 4)),
    ),
    "another signed predecessor": (
        Code.TENANT_READ_CLAIM_MISMATCH,
        4,
        lambda log: resign(log, log.leaf(4), set_place(2, bytes(32))),
    ),
    "no signed predecessor": (
        Code.TENANT_READ_CLAIM_MISMATCH,
        4,
        lambda log: resign(log, log.leaf(4), set_place(2, None)),
    ),
    "a first leaf with a predecessor": (
        Code.TENANT_READ_CLAIM_MISMATCH,
        0,
        lambda log: resign(log, log.leaf(0), set_place(2, bytes(32))),
    ),
    "no claim": (
        Code.TENANT_READ_CLAIM_MISMATCH,
        0,
        lambda log: resign(log, log.leaf(0), lambda header, _content: header.pop(HEADER["chain"])),
    ),
    "a caller that is a number": (Code.TENANT_READ_CLAIM_MISMATCH, 5, lambda log: log.leaf(5).update(caller_key_id=5)),
    "a filter that is a list": (Code.TENANT_READ_CLAIM_MISMATCH, 5, lambda log: log.leaf(5).update(filter_applied=[])),
    "a leaf without a key": (Code.TENANT_READ_LEAF_UNSIGNED, 3, lambda log: unsigned(log, log.leaf(3))),
    "an early leaf after a signed one": (
        Code.TENANT_READ_LEAF_UNSIGNED,
        3,
        lambda log: unsigned(log, log.leaf(3), read_at=BEFORE),
    ),
    "a first leaf without a key": (Code.TENANT_READ_LEAF_UNSIGNED, 0, lambda log: unsigned(log, log.leaf(0))),
    "a first leaf of no time": (
        Code.TENANT_READ_LEAF_UNSIGNED,
        0,
        lambda log: unsigned(log, log.leaf(0), read_at=None),
    ),
    "an unknown key": (Code.CHAIN_SIGNATURE_MISSING_KEY, 3, lambda log: sign_with(log, log.leaf(3), log.rogue)),
    "no key id": (
        Code.CHAIN_SIGNATURE_MISSING_KEY,
        3,
        lambda log: resign(log, log.leaf(3), lambda header, _content: header.pop(HEADER["kid"])),
    ),
    "another algorithm": (
        Code.CHAIN_ALG_MISMATCH,
        3,
        lambda log: resign(log, log.leaf(3), lambda header, _content: header.update({HEADER["alg"]: -35})),
    ),
    "a key of another kind": (
        Code.CHAIN_UNSUPPORTED_ALGORITHM,
        3,
        lambda log: sign_with_registered(log, log.leaf(3), unsupported_key()),
    ),
    "a wrong signature": (Code.TENANT_READ_SIGNATURE_INVALID, 6, lambda log: spoil_signature(log, log.leaf(6))),
    "a zero signature": (
        Code.TENANT_READ_SIGNATURE_INVALID,
        6,
        lambda log: spoil_signature(log, log.leaf(6), bytes(64)),
    ),
    "a short signature": (Code.TENANT_READ_CLAIM_MISMATCH, 6, lambda log: spoil_signature(log, log.leaf(6), b"")),
}
HEADS: dict[str, tuple[Code, int, Change]] = {
    "a second root": (Code.TENANT_CHECKPOINT_FORK, 0, fork),
    "the last leaf is missing": (Code.TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH, 2, lambda log: log.leaves.pop(6)),
    "a size that is text": (
        Code.TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH,
        2,
        lambda log: log.head(2).update(tree_size="7"),
    ),
    "a size below zero": (Code.TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH, 0, lambda log: log.head(0).update(tree_size=-1)),
    "another size": (Code.TENANT_CHECKPOINT_ROOT_MISMATCH, 1, lambda log: log.head(1).update(tree_size=4)),
    "another root": (Code.TENANT_CHECKPOINT_ROOT_MISMATCH, 1, lambda log: log.head(1).update(root_hash="ab" * 32)),
    "no root": (Code.TENANT_CHECKPOINT_ROOT_MISMATCH, 1, lambda log: log.head(1).update(root_hash=None)),
    "no envelope": (Code.TENANT_CHECKPOINT_CLAIM_MISMATCH, 1, lambda log: store(log, log.head(1), b"no envelope")),
    "another head's envelope": (
        Code.TENANT_CHECKPOINT_CLAIM_MISMATCH,
        1,
        lambda log: log.head(1).update(cose_sign1=log.head(0)["cose_sign1"]),
    ),
    "another signed size": (
        Code.TENANT_CHECKPOINT_CLAIM_MISMATCH,
        1,
        lambda log: resign(log, log.head(1), set_place(1, 4)),
    ),
    "another signed count": (
        Code.TENANT_CHECKPOINT_CLAIM_MISMATCH,
        1,
        lambda log: resign(log, log.head(1), set_predicate("count", 4)),
    ),
    "another signed root": (
        Code.TENANT_CHECKPOINT_CLAIM_MISMATCH,
        1,
        lambda log: resign(log, log.head(1), set_predicate("chain_tip_hash", "sha256:" + "ab" * 32)),
    ),
    "another signed subject": (
        Code.TENANT_CHECKPOINT_CLAIM_MISMATCH,
        1,
        lambda log: resign(log, log.head(1), set_digest(bytes(32))),
    ),
    "another key's id": (
        Code.TENANT_CHECKPOINT_CLAIM_MISMATCH,
        1,
        lambda log: log.head(1).update(signing_key_id=log.rogue.key_id),
    ),
    "key id taken out": (Code.TENANT_CHECKPOINT_CLAIM_MISMATCH, 1, lambda log: log.head(1).update(signing_key_id=None)),
    "key id emptied": (Code.TENANT_CHECKPOINT_CLAIM_MISMATCH, 1, lambda log: log.head(1).update(signing_key_id="")),
    "a head without a key": (Code.TENANT_CHECKPOINT_UNSIGNED, 1, lambda log: unsigned(log, log.head(1))),
    "a head of no time without a key": (
        Code.TENANT_CHECKPOINT_UNSIGNED,
        1,
        lambda log: unsigned(log, log.head(1), checkpoint_at="then"),
    ),
    "an unknown key": (Code.CHAIN_SIGNATURE_MISSING_KEY, 1, lambda log: sign_with(log, log.head(1), log.rogue)),
    "a wrong signature": (Code.TENANT_CHECKPOINT_SIGNATURE_INVALID, 1, lambda log: spoil_signature(log, log.head(1))),
    "a zero signature": (
        Code.TENANT_CHECKPOINT_SIGNATURE_INVALID,
        1,
        lambda log: spoil_signature(log, log.head(1), bytes(64)),
    ),
    "another algorithm": (
        Code.CHAIN_ALG_MISMATCH,
        1,
        lambda log: resign(log, log.head(1), lambda header, _content: header.update({HEADER["alg"]: -35})),
    ),
    "a key of another kind": (
        Code.CHAIN_UNSUPPORTED_ALGORITHM,
        1,
        lambda log: sign_with_registered(log, log.head(1), unsupported_key()),
    ),
}
ANCHORED_LEAVES: dict[str, tuple[Code, int, Change]] = {
    "a key that nothing admits": (
        Code.TENANT_READ_KEY_UNANCHORED,
        3,
        lambda log: sign_with_registered(log, log.leaf(3), log.rogue),
    ),
}
ANCHORED_HEADS: dict[str, tuple[Code, int, Change]] = {
    "a key that nothing admits": (
        Code.TENANT_CHECKPOINT_KEY_UNANCHORED,
        1,
        lambda log: sign_with_registered(log, log.head(1), log.rogue),
    ),
}
COVERED = {code for table in (LEAVES, HEADS, ANCHORED_LEAVES, ANCHORED_HEADS) for code, _, _ in table.values()}


def leaf_place(log: Log, index: int) -> str:
    return f"org_admin_reads, org {log.leaves[0]['org_id']}, leaf_index {index}"


def head_place(head: Line) -> str:
    return f"org_admin_reads_checkpoints, org {head['org_id']}, tree_size {head['tree_size']}"


def found(log: Log) -> list[tuple[str, str]]:
    return [(finding.code, finding.where) for finding in log.check()[0]]


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("era", ERAS)
def test_a_genuine_log_passes(era: Era, algorithm: Algorithm, *, anchored: bool) -> None:
    genuine = log(era, algorithm, reads_per_org=40)
    genuine.anchored = anchored and era == "v2"
    findings, counts = genuine.check()
    assert findings == []
    witnessed = sum(head["witness_signature"] is not None for head in genuine.heads)
    assert witnessed
    assert replace(counts, trees=()) == ReadLogCounts(2, 80, 6, witnessed, 86)
    whole = {str(head["org_id"]): head["root_hash"] for head in genuine.heads if head["tree_size"] == 40}
    assert [(tree.org, tree.size, tree.root) for tree in counts.trees] == [
        (org, 40, whole[org]) for org in dict.fromkeys(str(leaf["org_id"]) for leaf in genuine.leaves)
    ]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("reads", [0, 1, 2, 3])
def test_a_short_log_passes(era: Era, reads: int) -> None:
    genuine = log(era, reads_per_org=reads)
    findings, counts = genuine.check()
    assert (findings, counts.leaves, counts.heads) == ([], 2 * reads, len(genuine.heads))


@pytest.mark.parametrize("era", ERAS)
def test_the_order_of_rows_does_not_matter(era: Era) -> None:
    genuine = log(era)
    genuine.leaves.reverse()
    genuine.heads.reverse()
    assert found(genuine) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("case", LEAVES)
def test_a_bent_leaf(case: str, era: Era, algorithm: Algorithm) -> None:
    code, index, change = LEAVES[case]
    bent = log(era, algorithm)
    place = leaf_place(bent, index)
    change(bent)
    assert found(bent) == [(code, place)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("case", HEADS)
def test_a_bent_head(case: str, era: Era, algorithm: Algorithm) -> None:
    code, number, change = HEADS[case]
    bent = log(era, algorithm)
    change(bent)
    assert found(bent) == [(code, head_place(bent.head(number)))]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_keys_that_nothing_admits(algorithm: Algorithm) -> None:
    code, index, change = ANCHORED_LEAVES["a key that nothing admits"]
    bent = log("v2", algorithm)
    bent.anchored = True
    change(bent)
    assert found(bent) == [(code, leaf_place(bent, index))]
    code, number, change = ANCHORED_HEADS["a key that nothing admits"]
    bent = log("v2", algorithm)
    bent.anchored = True
    change(bent)
    assert found(bent) == [(code, head_place(bent.head(number)))]


def test_a_registered_rogue_key_passes_where_nothing_is_pinned() -> None:
    bent = log("v2")
    ANCHORED_HEADS["a key that nothing admits"][2](bent)
    assert found(bent) == []


def test_keys_of_which_nothing_can_be_known() -> None:
    genuine = log("v2", orgs=1)
    trust = KeyTrust({}, frozenset(key.key_id for key in genuine.keys))
    findings, counts = drained(
        read(ReadRow, genuine.leaves), read(HeadRow, genuine.heads), replace(genuine.context(), trust=trust)
    )
    assert [finding.code for finding in findings] == [Code.CHAIN_UNSUPPORTED_ALGORITHM]
    assert counts.checked == 0


@pytest.mark.parametrize("era", ERAS)
def test_reads_from_before_the_first_key(era: Era) -> None:
    early = log(era, unsigned_entries=8)
    unsigned = [row for row in early.leaves if decoded(row)[0][HEADER["kid"]] == bytes(8)]
    findings, counts = early.check()
    assert unsigned
    assert (findings, counts.checked) == ([], len(early.leaves) + len(early.heads) - len(unsigned))


@pytest.mark.parametrize("era", ERAS)
def test_an_early_head_without_a_key(era: Era) -> None:
    early = log(era)
    sign_with(early, early.head(0), None)
    early.head(0)["checkpoint_at"] = BEFORE
    assert found(early) == []


def test_a_vault_that_never_had_a_key_has_nothing_to_sign_with() -> None:
    bare = log("v2", reads_per_org=1)
    for row in (*bare.leaves, *bare.heads):
        sign_with(bare, row, None)
    for leaf, head in zip(bare.leaves, bare.heads, strict=True):
        root = roots_at("v2", [bytes.fromhex(leaf["leaf_hash"])], [1])[1]
        header, content = decoded(head)
        content["subject"][0]["digest"]["sha256"] = root
        content["predicate"]["chain_tip_hash"] = f"sha256:{root.hex()}"
        seal(bare, head, None, header, content)
        head["root_hash"] = root.hex()
    bare.registry.clear()
    assert found(bare) == []


@pytest.mark.parametrize(("made", "read_as"), [("v1", "v2"), ("v2", "v1")])
def test_the_eras_do_not_mix(made: Era, read_as: Era) -> None:
    mistaken = log(made, orgs=1)
    mistaken.era = read_as
    assert found(mistaken) == [(Code.TENANT_READ_LEAF_HASH_MISMATCH, leaf_place(mistaken, 0))]


def test_a_broken_leaf_ends_its_org_and_no_other() -> None:
    bent = log("v2")
    for row in bent.heads:
        row["root_hash"] = "ab" * 32
    bent.leaves.pop(2)
    codes = [finding.code for finding in bent.check()[0]]
    assert codes == [Code.TENANT_READ_LEAF_INDEX_GAP] + [Code.TENANT_CHECKPOINT_ROOT_MISMATCH] * 3


def test_forks_come_first_and_count_once() -> None:
    bent = log("v2")
    fork(bent)
    fork(bent)
    bent.leaves.pop(2)
    codes = [finding.code for finding in bent.check()[0]]
    assert codes == [Code.TENANT_CHECKPOINT_FORK] * 2 + [Code.TENANT_READ_LEAF_INDEX_GAP]


def test_the_same_head_twice_is_no_fork() -> None:
    repeated = log("v2")
    repeated.heads.append(repeated.head(0))
    assert found(repeated) == []


def test_heads_of_an_org_without_leaves() -> None:
    bent = log("v2", orgs=1)
    bent.leaves.clear()
    assert [code for code, _ in found(bent)] == [Code.TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH] * 3


@pytest.mark.parametrize("era", ERAS)
def test_a_log_of_no_org(era: Era) -> None:
    nobodys = log(era, orgs=1)
    for row in nobodys.leaves:
        row["org_id"] = None
    assert [code for code, _ in found(nobodys)] == [
        Code.TENANT_READ_CLAIM_MISMATCH,
        *[Code.TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH] * 3,
    ]


@pytest.mark.parametrize("era", ERAS)
def test_a_head_over_no_leaves(era: Era) -> None:
    empty = log(era, orgs=1)
    empty.leaves.clear()
    head, root = empty.head(0), roots_at(era, [], [0])[0]
    del empty.heads[1:]
    header, content = decoded(head)
    set_digest(root)(header, content)
    content["predicate"] |= {"count": 0, "chain_tip_hash": f"sha256:{root.hex()}"}
    header[HEADER["chain"]][1] = 0
    seal(empty, head, empty.key_of(head), header, content)
    head |= {"tree_size": 0, "root_hash": root.hex()}
    assert found(empty) == []
    head["org_id"] = None
    assert found(empty) == [(Code.TENANT_CHECKPOINT_CLAIM_MISMATCH, head_place(head))]


@pytest.mark.parametrize("value", ["2", 2.0, None, True, [], {}, 2**70])
def test_an_index_that_is_none(value: object) -> None:
    bent = log("v2", orgs=1)
    bent.leaf(2)["leaf_index"] = value
    assert found(bent) == [(Code.TENANT_READ_LEAF_INDEX_GAP, leaf_place(bent, 2))]


@pytest.mark.parametrize("value", ["3", 3.0, None, True, [], {}, 2**70])
def test_a_size_that_is_none(value: object) -> None:
    bent = log("v2", orgs=1)
    bent.head(0)["tree_size"] = value
    code = Code.TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH
    assert [finding.code for finding in bent.check()[0]] == [code]


def test_true_is_no_size() -> None:
    bent = log("v2", orgs=1, reads_per_org=1)
    bent.head(0)["tree_size"] = True
    assert [finding.code for finding in bent.check()[0]] == [Code.TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CBOR = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers() | st.binary(), inner, max_size=3)
    ),
    max_leaves=6,
)
HOSTILE = {era: log(era, orgs=1) for era in ERAS}


@pytest.mark.parametrize("era", ERAS)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_value_makes_it_crash(era: Era, data: st.DataObject) -> None:
    healthy = HOSTILE[era]
    bent = replace(healthy, leaves=[dict(row) for row in healthy.leaves], heads=[dict(row) for row in healthy.heads])
    row = data.draw(st.sampled_from([*bent.leaves, *bent.heads]))
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(JSON)
    bent.check()


@pytest.mark.parametrize("era", ERAS)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_envelope_makes_it_crash(era: Era, data: st.DataObject) -> None:
    healthy = HOSTILE[era]
    bent = replace(healthy, leaves=[dict(row) for row in healthy.leaves], heads=[dict(row) for row in healthy.heads])
    row = data.draw(st.sampled_from([*bent.leaves, *bent.heads]))
    header, content = decoded(row)
    target: dict[Any, Any] = data.draw(
        st.sampled_from([header, header[HEADER["chain"]], content, content["predicate"], content["subject"][0]])
    )
    target[data.draw(st.sampled_from(sorted(target, key=repr)))] = data.draw(CBOR)
    seal(bent, row, healthy.key_of(row), header, content)
    bent.check()


def test_codes_are_those_of_the_read_log() -> None:
    assert {code for code in Code if code.startswith("TENANT_")} <= COVERED
