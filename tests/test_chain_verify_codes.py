"""Each code has its case: a genuine vault with one thing bent gives exactly that code, once, at that place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cbor2
import pytest
from fix_tamper import (
    ACTOR,
    CHAIN,
    CWT,
    UNREGISTERED,
    Era,
    Tampered,
    codes,
    naming,
    resealed,
    tampered,
    unsupported_key,
)

from borg_vault_plugin.chain.codes import MEANINGS, Code
from borg_vault_plugin.sample.keys import Algorithm

BOTH: tuple[Era, ...] = ("v1", "v2")
V1: tuple[Era, ...] = ("v1",)
V2: tuple[Era, ...] = ("v2",)
HASH = "ab" * 32
UUID = "019d0000-0000-7000-8000-000000000001"

# The last entry of a record without a checkpoint: nothing else depends on it.
LAST = (2, 5)


class Case(NamedTuple):
    """One way to bend a vault."""

    code: Code
    where: str | tuple[int, int]
    """A place, or record and position of an entry."""
    bend: Callable[[Tampered], object]
    eras: tuple[Era, ...] = BOTH
    anchored: bool = False


def bent(**columns: Any) -> Callable[[Tampered], object]:
    return lambda vault: vault.bend(*LAST, **columns)


def payload(**items: Any) -> Callable[[Tampered], object]:
    return lambda vault: vault.bend(*LAST, payload=vault.entry(*LAST).payload | items)


def header(label: Any, value: Any) -> Callable[[Tampered], object]:
    return lambda vault: vault.reseal(*LAST, lambda header, _: header.update({label: value}))


def claim(label: int, value: Any) -> Callable[[Tampered], object]:
    return lambda vault: vault.reseal(*LAST, lambda header, _: header[CHAIN].update({label: value}))


def actor(value: Any) -> Callable[[Tampered], object]:
    return lambda vault: vault.reseal(*LAST, lambda header, _: header[CWT].update({ACTOR: value}))


def envelope(change: Callable[[bytes], bytes]) -> Callable[[Tampered], object]:
    return lambda vault: vault.put_envelope(*LAST, change(vault.entry(*LAST).cose_sign1))


def retagged(data: bytes, tag: int) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(tag, cbor2.loads(data).value))


def with_signature(data: bytes, signature: bytes) -> bytes:
    protected, _, content, _ = cbor2.loads(data).value
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, content, signature]))


def empty(vault: Tampered) -> None:
    vault.rows.audit_vault.clear()


def in_two_pieces(vault: Tampered) -> None:
    last = vault.rows.audit_vault.pop(vault.place(*LAST))
    vault.rows.audit_vault.insert(vault.place(4, 1), last)


def rogue(vault: Tampered, **columns: Any) -> None:
    key = vault.key(UNREGISTERED)
    vault.register(key, **columns)
    vault.sign_with(*LAST, key)


def unsupported(vault: Tampered) -> None:
    key = unsupported_key()
    vault.register(key, algorithm="Ed448")
    vault.sign_with(*LAST, key)


def unparseable(vault: Tampered) -> None:
    key = vault.key(UNREGISTERED)
    vault.register(key, public_key="bm8ga2V5")
    vault.sign_with(*LAST, key)


def other_algorithm(vault: Tampered) -> None:
    other = -7 if vault.algorithm == "Ed25519" else -8
    vault.reseal(*LAST, lambda header, _: header.update({1: other}))


def drift(vault: Tampered) -> None:
    (other,) = {row.key_id for row in vault.rows.vault_signing_keys} - {vault.entry(*LAST).signing_key_id}
    vault.bend(*LAST, signing_key_id=other)


def cut_tail(vault: Tampered) -> None:
    del vault.rows.audit_vault[vault.place(1, 5)]


def lost_chain(vault: Tampered) -> None:
    key = vault.entry(1, 1).chain_key
    vault.rows.audit_vault[:] = [row for row in vault.rows.audit_vault if row.chain_key != key]


def checkpoint(**columns: Any) -> Callable[[Tampered], object]:
    return lambda vault: vault.bend_row("vault_checkpoints", 1, **columns)


def moved_checkpoint(vault: Tampered) -> None:
    vault.bend_row("vault_checkpoints", 1, chain_position=4, payload_hash=vault.entry(1, 4).payload_hash)


def sealed_checkpoint(change: Callable[[Any, Any], object]) -> Callable[[Tampered], object]:
    return lambda vault: vault.reseal_checkpoint(1, change)


def predicate(name: str, value: Any) -> Callable[[Any, Any], object]:
    return lambda _, content: content["predicate"].update({name: value})


def spoilt_checkpoint(vault: Tampered) -> None:
    data = vault.rows.vault_checkpoints[1].cose_sign1
    vault.bend_row("vault_checkpoints", 1, cose_sign1=data[:-1] + bytes([data[-1] ^ 1]))


def rogue_checkpoint(vault: Tampered) -> None:
    key = vault.key(UNREGISTERED)
    vault.register(key)
    vault.sign_checkpoint_with(1, key)


def unsupported_checkpoint(vault: Tampered) -> None:
    key = unsupported_key()
    vault.register(key, algorithm="Ed448")
    vault.sign_checkpoint_with(1, key)


def true_place(vault: Tampered) -> None:
    start = vault.place(2, 1)
    del vault.rows.audit_vault[start + 1 : start + 5]
    vault.reseal(2, 1, lambda header, _: header[CHAIN].update({1: True}))


CHECKPOINT = "vault_checkpoints, chain {record}, position 5"
BINDING = Code.CHAIN_PAYLOAD_BINDING_MISMATCH
CLAIM = Code.CHECKPOINT_CLAIM_MISMATCH
ACTORS = Code.CHAIN_ACTOR_ATTRIBUTION_MISMATCH
PLACE = Code.CHAIN_COSE_HEADER_MISMATCH
NO_COSE = Code.CHAIN_COSE_DECODE_FAILED
INVALID = Code.CHAIN_SIGNATURE_INVALID
UNSIGNED = Code.CHAIN_ENTRY_UNSIGNED
MISSING = Code.CHAIN_SIGNATURE_MISSING_KEY
MALFORMED = Code.CHAIN_MALFORMED_ENTRY

CASES: dict[str, Case] = {
    "no entries": Case(Code.CHAIN_EMPTY, "audit_vault", empty),
    "envelope null": Case(Code.UNSUPPORTED_FORMAT, LAST, bent(cose_sign1=None)),
    "envelope empty": Case(Code.UNSUPPORTED_FORMAT, LAST, bent(cose_sign1=b"")),
    "a chain in two pieces": Case(Code.UNSUPPORTED_FORMAT, "audit_vault, chain {other}", in_two_pieces, V2),
    "position skipped": Case(Code.CHAIN_POSITION_GAP, LAST, bent(chain_position=6)),
    "position as text": Case(Code.CHAIN_POSITION_GAP, LAST, bent(chain_position="5")),
    "position as true": Case(Code.CHAIN_POSITION_GAP, (2, 1), lambda vault: vault.bend(2, 1, chain_position=True)),
    "position as a fraction": Case(Code.CHAIN_POSITION_GAP, LAST, bent(chain_position=5.0)),
    "position null": Case(Code.CHAIN_POSITION_GAP, LAST, bent(chain_position=None)),
    "hash null": Case(MALFORMED, LAST, bent(payload_hash=None)),
    "hash empty": Case(MALFORMED, LAST, bent(payload_hash="")),
    "envelope a number": Case(MALFORMED, LAST, bent(cose_sign1=5)),
    "time unreadable": Case(MALFORMED, LAST, bent(created_at="yesterday"), V2),
    "another hash": Case(Code.CHAIN_HASH_MISMATCH, LAST, bent(payload_hash=HASH)),
    "no base64": Case(Code.CHAIN_HASH_MISMATCH, LAST, bent(cose_sign1="0oRY*")),
    "base64 in lines": Case(Code.CHAIN_HASH_MISMATCH, LAST, lambda vault: vault.bend(*LAST, cose_sign1="0oRY\n1qUB")),
    "another envelope": Case(
        Code.CHAIN_HASH_MISMATCH, LAST, lambda vault: vault.bend(*LAST, cose_sign1=vault.entry(2, 4).cose_sign1)
    ),
    "a predecessor of the first": Case(
        Code.CHAIN_GENESIS_INVALID, (2, 1), lambda vault: vault.bend(2, 1, previous_hash=HASH)
    ),
    "another predecessor": Case(Code.CHAIN_LINK_BROKEN, LAST, bent(previous_hash=HASH)),
    "no predecessor": Case(Code.CHAIN_LINK_BROKEN, LAST, bent(previous_hash=None)),
    "junk for an envelope": Case(NO_COSE, LAST, envelope(lambda _: b"junk")),
    "another tag": Case(NO_COSE, LAST, envelope(lambda data: retagged(data, 17))),
    "no tag": Case(NO_COSE, LAST, envelope(lambda data: data[1:])),
    "a longer tag": Case(NO_COSE, LAST, envelope(lambda data: b"\xd8\x12" + data[1:]), V2),
    "a byte after the envelope": Case(NO_COSE, LAST, envelope(lambda data: data + b"\0")),
    "a truncated envelope": Case(NO_COSE, LAST, envelope(lambda data: data[:-1])),
    "an array of three": Case(NO_COSE, LAST, envelope(lambda _: cbor2.dumps(cbor2.CBORTag(18, [b"", {}, b""])))),
    "a signature that is text": Case(
        NO_COSE, LAST, envelope(lambda _: cbor2.dumps(cbor2.CBORTag(18, [b"", {}, b"", "x"])))
    ),
    "an array of unknown length": Case(NO_COSE, LAST, envelope(lambda data: b"\xd2\x9f" + data[2:] + b"\xff")),
    "a length that lies": Case(NO_COSE, LAST, envelope(lambda _: b"\xd2\x84\x5b" + b"\x7f" * 8)),
    "a deep envelope": Case(NO_COSE, LAST, envelope(lambda _: b"\xd2\x84\x40" + b"\x81" * 100_000)),
    "signed for another position": Case(PLACE, LAST, claim(1, 4)),
    "signed after another": Case(PLACE, LAST, claim(2, bytes(32))),
    "signed after none": Case(PLACE, LAST, claim(2, None)),
    "signed after a short hash": Case(PLACE, LAST, claim(2, b"short")),
    "a place that is true": Case(PLACE, (2, 1), true_place),
    "no place": Case(PLACE, LAST, lambda vault: vault.reseal(*LAST, lambda header, _: header.pop(CHAIN))),
    "a place that is a list": Case(PLACE, LAST, header(CHAIN, [5, None])),
    "a header that is no map": Case(
        PLACE, LAST, envelope(lambda data: cbor2.dumps(cbor2.CBORTag(18, [b"\x80", {}, *cbor2.loads(data).value[2:]])))
    ),
    "another role": Case(ACTORS, LAST, bent(actor_role="platform")),
    "another actor": Case(ACTORS, LAST, bent(actor_key_id=UUID)),
    "another owner": Case(ACTORS, LAST, bent(actor_owner_id=UUID)),
    "an actor in capitals": Case(
        ACTORS, LAST, lambda vault: vault.bend(*LAST, actor_key_id=vault.entry(*LAST).actor_key_id.upper())
    ),
    "an actor that is text": Case(ACTORS, LAST, actor("admin")),
    "an actor of no kind": Case(ACTORS, LAST, actor({})),
    "payload null": Case(BINDING, LAST, bent(payload=None)),
    "payload a text": Case(BINDING, LAST, bent(payload="{}")),
    "payload empty": Case(BINDING, LAST, bent(payload={})),
    "payload with more": Case(BINDING, LAST, payload(more=None)),
    "payload with another value": Case(BINDING, LAST, payload(note="refusé")),
    "payload with another transition": Case(BINDING, LAST, payload(state_transition={"to": "ACTIVE"})),
    "traces that were not signed": Case(BINDING, LAST, payload(traces={})),
    "another type": Case(BINDING, LAST, bent(entry_type="RECORD_CREATED")),
    "a type that is null": Case(BINDING, LAST, bent(entry_type=None)),
    "a type of schemas": Case(BINDING, LAST, bent(entry_type="SCHEMA_REGISTERED")),
    "a record that is a number": Case(BINDING, LAST, bent(record_id=7)),
    "no statement": Case(BINDING, LAST, lambda vault: vault.reseal(*LAST, lambda _, content: content.pop("predicate"))),
    "somebody else's behalf": Case(
        BINDING,
        (1, 4),
        lambda vault: vault.bend(1, 4, payload=vault.entry(1, 4).payload | {"on_behalf_of": {"oidc": {}}}),
    ),
    "another trace": Case(
        BINDING,
        (1, 4),
        lambda vault: vault.bend(
            1, 4, payload=vault.entry(1, 4).payload | {"traceparent": f"00-{'0' * 32}-{'1' * 16}-01"}
        ),
    ),
    "another schema": Case(
        BINDING, (7, 3), lambda vault: vault.bend(7, 3, payload=vault.entry(7, 3).payload | {"version": "9.0.0"})
    ),
    "no schema": Case(
        BINDING, (7, 3), lambda vault: vault.bend(7, 3, payload=vault.entry(7, 3).payload | {"type": None})
    ),
    "another identity": Case(
        Code.CHAIN_OIDC_ACTOR_MISMATCH, (1, 4), lambda vault: vault.bend(1, 4, actor_oidc_sub="user-99")
    ),
    "no identity": Case(Code.CHAIN_OIDC_ACTOR_MISMATCH, (1, 4), lambda vault: vault.bend(1, 4, actor_oidc_iss=None)),
    "an identity of nobody": Case(
        Code.CHAIN_OIDC_ACTOR_MISMATCH, LAST, bent(actor_oidc_iss="https://x.invalid", actor_oidc_sub="me")
    ),
    "an identity said to be real": Case(
        Code.CHAIN_OIDC_ACTOR_MISMATCH, (1, 4), lambda vault: vault.bend(1, 4, actor_oidc_synthesized=False)
    ),
    "an identity perhaps": Case(
        Code.CHAIN_OIDC_ACTOR_MISMATCH, (1, 4), lambda vault: vault.bend(1, 4, actor_oidc_synthesized="yes")
    ),
    "key taken from an entry": Case(UNSIGNED, LAST, bent(signing_key_id=None)),
    "key taken from the first entry": Case(UNSIGNED, (2, 1), lambda vault: vault.bend(2, 1, signing_key_id=None)),
    "key emptied": Case(UNSIGNED, LAST, bent(signing_key_id=""), V1),
    "an entry written without a key": Case(UNSIGNED, LAST, lambda vault: vault.sign_with(*LAST, None)),
    "no key and no time": Case(MALFORMED, (2, 1), lambda vault: vault.bend(2, 1, signing_key_id=None, created_at=None)),
    "an empty key": Case(MISSING, LAST, bent(signing_key_id=""), V2),
    "an unknown key": Case(MISSING, LAST, bent(signing_key_id="0123456789abcdef")),
    "a key that is a list": Case(MISSING, LAST, bent(signing_key_id=[])),
    "another key of the registry": Case(Code.CHAIN_SIGNING_KEY_DRIFT, LAST, drift),
    "key and time taken from an entry": Case(
        Code.CHAIN_SIGNING_KEY_DRIFT,
        (2, 1),
        lambda vault: vault.bend(2, 1, signing_key_id=None, created_at="2020-01-01T00:00:00.000Z"),
    ),
    "a registered key of nobody": Case(Code.CHAIN_SIGNING_KEY_UNANCHORED, LAST, rogue, V2, anchored=True),
    "a kind of key unknown here": Case(Code.CHAIN_UNSUPPORTED_ALGORITHM, LAST, unsupported),
    "a key under a false name": Case(Code.CHAIN_ALG_MISMATCH, LAST, lambda vault: rogue(vault, algorithm="RS256")),
    "a key without an algorithm": Case(Code.CHAIN_ALG_MISMATCH, LAST, lambda vault: rogue(vault, algorithm=None)),
    "a header with another algorithm": Case(Code.CHAIN_ALG_MISMATCH, LAST, other_algorithm),
    "before its key": Case(Code.CHAIN_KEY_NOT_YET_ACTIVE, LAST, bent(created_at="2020-01-01T00:00:00.000Z"), V2),
    "before its key, first era": Case(Code.CHAIN_KEY_EXPIRED, LAST, bent(created_at="2020-01-01T00:00:00.000Z"), V1),
    "after its key": Case(
        Code.CHAIN_KEY_EXPIRED, (2, 1), lambda vault: vault.bend(2, 1, created_at="2036-01-01T00:00:00.000Z")
    ),
    "a bit of the signature": Case(INVALID, LAST, envelope(lambda data: data[:-1] + bytes([data[-1] ^ 1]))),
    "zeros for a signature": Case(INVALID, LAST, envelope(lambda data: data[:-64] + bytes(64))),
    "no signature": Case(INVALID, LAST, envelope(lambda data: with_signature(data, b""))),
    "a long signature": Case(INVALID, LAST, envelope(lambda data: with_signature(data, b"\1" * 65))),
    "a key that is none": Case(INVALID, LAST, unparseable),
    "signed by another": Case(
        INVALID,
        LAST,
        lambda vault: vault.put_envelope(*LAST, resealed(vault.entry(*LAST), lambda *_: None, vault.key(UNREGISTERED))),
    ),
    "a checkpointed tail": Case(Code.CHECKPOINT_ROW_MISSING, CHECKPOINT, cut_tail),
    "a checkpointed chain": Case(Code.CHECKPOINT_ROW_MISSING, CHECKPOINT, lost_chain),
    "a checkpoint ahead": Case(Code.CHECKPOINT_ROW_MISSING, CHECKPOINT.replace("5", "6"), checkpoint(chain_position=6)),
    "a checkpoint nowhere": Case(Code.CHECKPOINT_ROW_MISSING, CHECKPOINT, checkpoint(chain_position="5")),
    "a checkpoint of another chain": Case(
        Code.CHECKPOINT_ROW_MISSING, CHECKPOINT.format(record=UUID), checkpoint(chain_key=UUID), V2
    ),
    "a checkpoint of another entry": Case(Code.CHECKPOINT_HASH_MISMATCH, CHECKPOINT, checkpoint(payload_hash=HASH)),
    "a checkpoint of no entry": Case(Code.CHECKPOINT_HASH_MISMATCH, CHECKPOINT, checkpoint(payload_hash=None)),
    "a checkpoint moved": Case(CLAIM, CHECKPOINT.replace("5", "4"), moved_checkpoint),
    "a checkpoint of another record": Case(CLAIM, CHECKPOINT, checkpoint(record_id=UUID), V2),
    "a checkpoint without its key": Case(CLAIM, CHECKPOINT, checkpoint(signing_key_id=None)),
    "a checkpoint that is junk": Case(CLAIM, CHECKPOINT, checkpoint(cose_sign1=b"junk")),
    "a checkpoint without envelope": Case(CLAIM, CHECKPOINT, checkpoint(cose_sign1=None)),
    "a checkpoint for another hash": Case(
        CLAIM, CHECKPOINT, sealed_checkpoint(predicate("chain_tip_hash", f"sha256:{HASH}"))
    ),
    "a checkpoint for another position": Case(
        CLAIM, CHECKPOINT, sealed_checkpoint(lambda header, _: header[CHAIN].update({1: 4}))
    ),
    "a checkpoint for another subject": Case(
        CLAIM,
        CHECKPOINT,
        sealed_checkpoint(lambda _, content: content["subject"][0]["digest"].update(sha256=bytes(32))),
    ),
    "a checkpoint of no key": Case(
        Code.CHECKPOINT_UNSIGNED, CHECKPOINT, lambda vault: vault.sign_checkpoint_with(1, None)
    ),
    "a checkpoint of an unknown key": Case(
        MISSING, CHECKPOINT, lambda vault: vault.sign_checkpoint_with(1, vault.key(UNREGISTERED))
    ),
    "a checkpoint of nobody's key": Case(
        Code.CHECKPOINT_KEY_UNANCHORED, CHECKPOINT, rogue_checkpoint, V2, anchored=True
    ),
    "a checkpoint of an unknown kind": Case(Code.CHAIN_UNSUPPORTED_ALGORITHM, CHECKPOINT, unsupported_checkpoint),
    "a checkpoint with a spoilt signature": Case(Code.CHECKPOINT_SIGNATURE_INVALID, CHECKPOINT, spoilt_checkpoint),
}

# Not about a chain (others test that each of these has a case), or reported by nobody yet.
ELSEWHERE = {
    *(code for code in Code if code.startswith(("REGISTRY_", "CONTINUITY_", "SET_", "RETENTION_", "TARBALL_"))),
    Code.CHAIN_AGENT_SIGNATURE_INVALID,
}


def place_of(vault: Tampered, where: str | tuple[int, int]) -> str:
    if isinstance(where, str):
        return where.format(record=vault.entry(1, 1).chain_key, other=vault.entry(2, 1).chain_key)
    return f"audit_vault, chain {vault.entry(*where).chain_key}, position {where[1]}"


@pytest.mark.parametrize("algorithm", ["Ed25519", "ES256"])
@pytest.mark.parametrize(("name", "era"), [(name, era) for name, case in CASES.items() for era in case.eras])
def test_one_thing_bent(name: str, era: Era, algorithm: Algorithm, tmp_path: Path) -> None:
    case, vault = CASES[name], tampered(era, algorithm)
    expected = place_of(vault, case.where)
    case.bend(vault)
    found = vault.verify(tmp_path, anchors=[vault.anchor] if case.anchored else [])
    assert codes(found) == [(case.code, expected)]
    assert (found.verdict, found.failure_count, found.anchored) == ("failed", 1, False)
    assert found.findings[0].detail


def test_every_code_has_a_case() -> None:
    read_log_and_keys = {code for code in Code if code.startswith(("TENANT_", "KEY_"))} | {Code.CHAIN_KEY_WINDOW_DRIFT}
    assert {case.code for case in CASES.values()} | read_log_and_keys | ELSEWHERE == set(Code)


def test_every_code_has_a_meaning_of_one_line() -> None:
    assert set(MEANINGS) == set(Code)
    for code, meaning in MEANINGS.items():
        assert code == code.name == str(code)
        assert meaning.means
        assert meaning.next_step.endswith(".")
        assert "\n" not in meaning.means + meaning.next_step


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("algorithm", ["Ed25519", "ES256"])
@pytest.mark.parametrize("era", BOTH)
def test_a_genuine_vault_gives_nothing(era: Era, algorithm: Algorithm, tmp_path: Path, *, anchored: bool) -> None:
    vault = tampered(era, algorithm)
    pins = [vault.anchor] if anchored and era == "v2" else []
    found = vault.verify(tmp_path, anchors=pins)
    assert (found.verdict, found.findings, found.failure_count, found.era) == ("passed", (), 0, era)
    assert found.anchored == bool(pins)
    assert found.counts == {name: len(rows) for name, rows in vault.rows.tables().items()}
    # In the first era nobody verifies leaves: their heads hold them.
    assert found.signatures_checked >= len(vault.rows.audit_vault) + len(vault.rows.vault_checkpoints)
    assert found.chains == len({row.chain_key for row in vault.rows.audit_vault})


@pytest.mark.parametrize("era", BOTH)
def test_entries_from_before_the_first_key_need_none(era: Era, tmp_path: Path) -> None:
    vault = tampered(era, unsigned=8)
    assert sum(row.signing_key_id is None for row in vault.rows.audit_vault) >= 8
    assert codes(vault.verify(tmp_path)) == []


def test_the_alternative_names_of_algorithms_are_accepted(tmp_path: Path) -> None:
    vault = tampered("v2")
    vault.reseal(*LAST, lambda header, _: header.update({1: -19}))
    assert codes(vault.verify(tmp_path)) == []


def test_a_second_signature_of_p256_is_accepted(tmp_path: Path) -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    vault = tampered("v2", "ES256")
    data = vault.entry(*LAST).cose_sign1
    high = (order - int.from_bytes(data[-32:])).to_bytes(32)
    vault.put_envelope(*LAST, data[:-32] + high)
    assert codes(vault.verify(tmp_path)) == []


@pytest.mark.parametrize("era", BOTH)
def test_a_rewritten_entry_breaks_the_chain_after_it(era: Era, tmp_path: Path) -> None:
    vault = tampered(era)
    vault.reseal(2, 3, lambda _, content: content["predicate"].update(payload={}))
    where = [place_of(vault, (2, position)) for position in (3, 4)]
    assert codes(vault.verify(tmp_path)) == [(BINDING, where[0]), (Code.CHAIN_LINK_BROKEN, where[1])]


@pytest.mark.parametrize("era", BOTH)
def test_after_a_gap_every_later_entry_reports_it(era: Era, tmp_path: Path) -> None:
    vault = tampered(era)
    where = [place_of(vault, (2, position)) for position in (2, 3, 4)]
    del vault.rows.audit_vault[vault.place(2, 2)]
    assert codes(vault.verify(tmp_path)) == [(Code.CHAIN_POSITION_GAP, place) for place in where]


def test_naming_a_key_changes_only_the_header() -> None:
    vault = tampered("v2")
    row = vault.entry(*LAST)
    assert resealed(row, naming(vault.signer(row)), vault.signer(row)) == row.cose_sign1
