"""Signatures that last night's archive proved: nothing but the signature operation is left out, and never in doubt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import pytest
from fix_damage import Ledger, ledger, relink, vouch_anew
from fix_judged import Night, night, resealed_set
from fix_tamper import UNREGISTERED, Era

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.verification import verify_directory
from borg_vault_plugin.sample import SampleVault, VaultShape

ERAS: tuple[Era, ...] = ("v1", "v2")


@cache
def sample(era: Era) -> SampleVault:
    """A vault of which every other record has a checkpoint; nobody changes it, but takes a copy."""
    return SampleVault(VaultShape(seed=7, era=era, records=6, reads_per_org=6, rotations=1, checkpoint_every=2))


@cache
def older(era: Era) -> SampleVault:
    """The same vault, a day later."""
    vault = copy.deepcopy(sample(era))
    vault.grow(None, entries=12, onto="everywhere")
    return vault


def signatures(found: Night) -> tuple[int, int]:
    return found.judgement.chain.signatures_checked, found.judgement.chain.signatures_carried


@pytest.mark.parametrize("era", ERAS)
def test_of_a_vault_that_did_not_change_only_the_read_log_is_verified_again(era: Era, tmp_path: Path) -> None:
    vault = ledger(sample(era))
    first = night(tmp_path / "1", vault)
    signed = len(vault.rows.audit_vault) + len(vault.rows.vault_checkpoints)
    assert signatures(first)[1] == 0
    second = night(tmp_path / "2", vault, first, number=2)
    assert signatures(second) == (signatures(first)[0] - signed, signed)


@pytest.mark.parametrize("era", ERAS)
def test_what_is_new_is_verified(era: Era, tmp_path: Path) -> None:
    before, after = ledger(sample(era)), ledger(older(era))
    first = night(tmp_path / "1", before)
    second = night(tmp_path / "2", after, first, number=2)
    alone = night(tmp_path / "3", after, number=2)
    carried = len(before.rows.audit_vault) + len(before.rows.vault_checkpoints)
    assert signatures(second) == (signatures(alone)[0] - carried, carried)


@pytest.mark.parametrize("era", ERAS)
def test_on_demand_everything_is_verified(era: Era, tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample(era)))
    second = night(tmp_path / "2", ledger(sample(era)), first, number=2)
    found = verify_directory(second.directory)
    assert (found.signatures_checked, found.signatures_carried) == (sum(signatures(second)), 0)


def bend(vault: Ledger) -> None:
    """Bend what one entry says in the open, and no signature."""
    vault.bend(3, 2, actor_role="nobody")


def spoil(vault: Ledger) -> None:
    """Spoil the signature of one entry, and nothing else: everything after it is linked to it."""
    data = vault.entry(3, 2).cose_sign1
    vault.put_envelope(3, 2, data[:-1] + bytes([data[-1] ^ 1]))
    for position in range(3, vault.length(3) + 1):
        relink(vault, 3, position)
    for place in vault.checkpoints(3):
        vouch_anew(vault, 3, place)


def spoil_checkpoint(vault: Ledger) -> None:
    """Spoil the signature of a checkpoint."""
    (place,) = vault.checkpoints(3)
    data = vault.rows.vault_checkpoints[place].cose_sign1
    vault.bend_row("vault_checkpoints", place, cose_sign1=data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("change", [bend, spoil, spoil_checkpoint])
@pytest.mark.parametrize("era", ERAS)
def test_a_chain_with_an_accepted_finding_is_never_carried_and_shows_it_every_night(
    era: Era, change: Callable[[Ledger], None], tmp_path: Path
) -> None:
    vault = ledger(sample(era))
    change(vault)
    (found,) = night(tmp_path / "0", vault).findings
    accepted = {found.id: "a slip of 2026"}
    before = night(tmp_path / "1", vault, accepted=accepted)
    doubted = vault.length(3) + len(vault.checkpoints(3))
    signed = len(vault.rows.audit_vault) + len(vault.rows.vault_checkpoints)
    for number in (2, 3):
        before = night(tmp_path / str(number), vault, before, accepted=accepted, number=number)
        assert (before.judgement.verdict, before.judgement.chain.accepted) == ("good", 1)
        assert before.findings == (replace(found, accepted="a slip of 2026"),)
        assert signatures(before)[1] == signed - doubted


def forge(vault: Ledger) -> None:
    """Have somebody without the vault's keys rewrite an old entry, and link everything after it."""
    row = vault.entry(2, 2)
    vault.sign_with(2, 2, vault.key(UNREGISTERED))
    vault.bend(2, 2, signing_key_id=row.signing_key_id)
    for position in range(3, vault.length(2) + 1):
        relink(vault, 2, position)


def repaint(vault: Ledger) -> None:
    """Change what an old entry says in the open."""
    vault.bend(2, 2, payload={"to": "FULFILLED"})


def strip(vault: Ledger) -> None:
    """Take the key off an old entry."""
    vault.bend(2, 2, signing_key_id=None)


def unseal(vault: Ledger) -> None:
    """Zero the signature of an old entry, and store the hash of that."""
    vault.put_envelope(2, 2, vault.entry(2, 2).cose_sign1[:-64] + bytes(64))


def expire(vault: Ledger) -> None:
    """Have an old entry's key retire before the entry was written."""
    rows = vault.rows.vault_signing_keys
    rows[0] = msgspec.structs.replace(rows[0], retired_at=rows[0].activated_at)


@pytest.mark.parametrize("change", [forge, repaint, strip, unseal, expire])
@pytest.mark.parametrize("era", ERAS)
def test_what_changes_below_a_proved_head_is_found_as_if_nothing_were_carried(
    era: Era, change: Callable[[Ledger], None], tmp_path: Path
) -> None:
    first = night(tmp_path / "1", ledger(sample(era)))
    vault = ledger(older(era))
    change(vault)
    second = night(tmp_path / "2", vault, first, number=2)
    alone = night(tmp_path / "3", vault, number=2)
    assert alone.judgement.chain.findings
    assert second.judgement.chain.findings == alone.judgement.chain.findings
    assert second.judgement.verdict == "suspect"


def test_keys_that_are_pinned_later_are_asked_about_everything_that_is_carried(tmp_path: Path) -> None:
    vault = ledger(sample("v2"))
    first = night(tmp_path / "1", vault)
    stranger = f"sha256:{'ab' * 32}"
    doubted = night(tmp_path / "2", vault, first, anchors=[stranger], number=2)
    assert doubted.judgement.verdict == "suspect"
    assert {finding.code for finding in doubted.findings} >= {Code.CHAIN_SIGNING_KEY_UNANCHORED}
    anchored = night(tmp_path / "3", vault, first, anchors=[vault.anchor], number=3)
    assert (anchored.judgement.verdict, anchored.codes) == ("good", [])
    assert signatures(anchored)[1] > 0


BROKEN_HEADS = {
    "no JSON": b"{\n",
    "a head of another shape": b'{"chain_key": 1}\n',
    "a position that is none": b'{"chain_key":"a","position":0,"hash":null}\n',
    "a position beyond 64 bits": b'{"chain_key":"a","position":9223372036854775808,"hash":null}\n',
}


@pytest.mark.parametrize("name", BROKEN_HEADS)
def test_where_heads_cannot_be_read_everything_is_verified_and_nothing_is_good(name: str, tmp_path: Path) -> None:
    first = resealed_set(night(tmp_path / "1", ledger(sample("v2"))), "chain-heads.ndjson", BROKEN_HEADS[name])
    second = night(tmp_path / "2", ledger(sample("v2")), first, number=2)
    assert signatures(second) == signatures(first)
    assert second.judgement.chain.verdict == "passed"
    assert (second.judgement.verdict, second.judgement.continuity.verdict) == ("unverified", "not_checked")
    assert second.judgement.continuity.reason


def test_where_checkpoints_cannot_be_read_everything_is_verified_and_nothing_is_good(tmp_path: Path) -> None:
    first = resealed_set(night(tmp_path / "1", ledger(sample("v2"))), "chain/vault_checkpoints.ndjson", b"{\n")
    second = night(tmp_path / "2", ledger(sample("v2")), first, number=2)
    assert signatures(second) == signatures(first)
    assert second.judgement.verdict == "unverified"


def test_a_suspect_set_that_was_accepted_as_it_is_carries_nothing(tmp_path: Path) -> None:
    vault = ledger(sample("v2"))
    bend(vault)
    first = night(tmp_path / "1", vault)
    accepted = {one.id: "known" for one in first.findings}
    assert first.judgement.verdict == "suspect"
    second = night(tmp_path / "2", vault, first, accepted=accepted, number=2)
    assert (second.judgement.verdict, signatures(second)[1]) == ("good", 0)
