"""The gate: what a staged set is called, and for what; none of this needs a Server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from fix_damage import Ledger, cut, forget_reads, ledger
from fix_judged import Night, night, staged
from fix_tamper import UNREGISTERED, Era, Tampered, tampered

from borg_vault_plugin import text
from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.gate import Rules, judge
from borg_vault_plugin.predecessor import Predecessors
from borg_vault_plugin.progress import unseen
from borg_vault_plugin.report import Chain, Finding
from borg_vault_plugin.sample import SampleVault, VaultShape

ERAS: tuple[Era, ...] = ("v1", "v2")
COMPLAINT = Finding("BADGE_MISSING", "badge.txt", "nobody wears one")


def sample(era: Era = "v2") -> SampleVault:
    return SampleVault(VaultShape(seed=7, era=era, records=4, reads_per_org=3, rotations=1))


def outcome(found: Night) -> tuple[str, str, str]:
    judged = found.judgement
    return judged.verdict, judged.chain.verdict, judged.continuity.verdict


@pytest.mark.parametrize("era", ERAS)
def test_the_first_set_of_a_healthy_vault_is_good(era: Era, tmp_path: Path) -> None:
    found = night(tmp_path, ledger(sample(era)))
    assert outcome(found) == ("good", "passed", "not_applicable")
    assert found.judgement.chain.reason is found.judgement.chain.failure_count is msgspec.UNSET
    assert found.judgement.chain.signatures_checked > found.judgement.chain.entries


def test_what_a_plugin_finds_makes_a_set_suspect(tmp_path: Path) -> None:
    found = night(tmp_path, ledger(sample()), others=[COMPLAINT])
    assert outcome(found) == ("suspect", "failed", "not_applicable")
    assert found.findings == (COMPLAINT,)
    assert found.judgement.chain.failure_count == 1


def test_what_a_plugin_finds_can_be_accepted(tmp_path: Path) -> None:
    found = night(tmp_path, ledger(sample()), others=[COMPLAINT], accepted={COMPLAINT.id: "they are on order"})
    assert outcome(found) == ("good", "passed", "not_applicable")
    assert (found.judgement.chain.accepted, found.findings[0].accepted) == (1, "they are on order")


def test_pinned_keys_lead_to_a_good_set(tmp_path: Path) -> None:
    vault = ledger(sample())
    assert outcome(night(tmp_path, vault, anchors=[vault.anchor])) == ("good", "passed", "not_applicable")


def test_a_key_that_no_pinned_one_vouches_for_makes_a_set_suspect(tmp_path: Path) -> None:
    vault = ledger(sample())
    stranger = vault.key(UNREGISTERED)
    vault.register(stranger)
    vault.sign_with(1, vault.length(1), stranger)
    place = vault.checkpoints(1)[-1]
    vault.bend_row("vault_checkpoints", place, payload_hash=vault.entry(1, vault.length(1)).payload_hash)
    tip = vault.rows.vault_checkpoints[place].payload_hash
    vault.reseal_checkpoint(place, lambda _, content: content["predicate"].update(chain_tip_hash=f"sha256:{tip}"))
    assert outcome(night(tmp_path / "1", vault)) == ("good", "passed", "not_applicable")
    pinned = night(tmp_path / "2", vault, anchors=[vault.anchor])
    assert (pinned.judgement.verdict, pinned.codes) == ("suspect", [Code.CHAIN_SIGNING_KEY_UNANCHORED])


def test_keys_cannot_be_pinned_where_there_are_no_statements(tmp_path: Path) -> None:
    vault = ledger(sample("v1"))
    found = night(tmp_path, vault, anchors=[vault.anchor])
    assert outcome(found) == ("unverified", "not_checked", "not_applicable")
    assert found.judgement.chain.reason == "keys cannot be pinned: the first era has no signed statements about keys"


def unlink(path: Path) -> None:
    path.unlink()


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def link(path: Path) -> None:
    path.rename(path.with_suffix(".away"))
    path.symlink_to(path.with_suffix(".away"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [unlink, tear, link, pipe])
@pytest.mark.parametrize("name", ["audit_vault", "vault_checkpoints", "vault_signing_keys", "org_admin_reads"])
def test_what_cannot_be_read_is_unverified_and_says_why(
    name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    artifacts = staged(tmp_path, ledger(sample()).rows)
    damage(tmp_path / "chain" / f"{name}.ndjson")
    found = judge(tmp_path, artifacts, (), Rules(Predecessors(), {}), unseen)
    assert (found.verdict, found.chain.verdict, found.chain.findings) == ("unverified", "not_checked", ())
    assert name in str(found.chain.reason)


def test_what_a_plugin_finds_in_what_cannot_be_read_makes_it_suspect(tmp_path: Path) -> None:
    artifacts = staged(tmp_path, ledger(sample()).rows)
    unlink(tmp_path / "chain" / "audit_vault.ndjson")
    found = judge(tmp_path, artifacts, [COMPLAINT], Rules(Predecessors(), {}), unseen)
    assert (found.verdict, found.chain.verdict) == ("suspect", "failed")
    assert found.chain.reason


def test_a_predecessor_that_could_not_be_looked_at_makes_a_set_unverified(tmp_path: Path) -> None:
    artifacts = staged(tmp_path, ledger(sample()).rows)
    rules = Rules(Predecessors(reasons=("the archive before: its disk is gone",)), {})
    found = judge(tmp_path, artifacts, (), rules, unseen)
    assert (found.verdict, found.chain.verdict, found.continuity.verdict) == ("unverified", "passed", "not_checked")
    assert found.continuity.reason == "the archive before: its disk is gone"


def test_findings_weigh_more_than_what_could_not_be_checked(tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample()))
    vault = ledger(sample())
    forget_reads(vault, kept=1)
    artifacts = staged(tmp_path / "2", vault.rows)
    rules = Rules(Predecessors((first.sealed,), ("in nas: its disk is gone",)), {})
    found = judge(tmp_path / "2", artifacts, (), rules, unseen)
    assert (found.verdict, found.continuity.verdict) == ("suspect", "failed")
    accepted = {one.id: "we know" for one in found.continuity.findings}
    rules = Rules(Predecessors((first.sealed,), ("in nas: its disk is gone",)), accepted)
    found = judge(tmp_path / "2", artifacts, (), rules, unseen)
    assert (found.verdict, found.continuity.verdict) == ("unverified", "not_checked")


def emptied(vault: Ledger) -> Ledger:
    """Take everything out of a vault but its keys."""
    for rows in (vault.rows.audit_vault, vault.rows.vault_checkpoints):
        rows.clear()
    return vault


def test_the_first_set_of_an_empty_vault_is_suspect(tmp_path: Path) -> None:
    found = night(tmp_path, emptied(ledger(sample())))
    assert outcome(found) == ("suspect", "failed", "not_applicable")
    assert found.codes == [Code.CHAIN_EMPTY]


def test_a_vault_that_is_still_empty_is_good_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = night(tmp_path, emptied(ledger(sample())), empty_before=True)
    assert outcome(found) == ("good", "not_applicable", "not_applicable")
    assert found.codes == [Code.CHAIN_EMPTY]
    assert "the vault is still empty: nothing in it could be verified" in caplog.messages
    again = night(tmp_path / "2", emptied(ledger(sample())), found, empty_before=True, number=2)
    assert outcome(again) == ("good", "not_applicable", "passed")


def test_an_empty_vault_in_which_something_else_is_found_is_suspect(tmp_path: Path) -> None:
    vault = emptied(ledger(sample()))
    assert outcome(night(tmp_path / "1", vault, empty_before=True, others=[COMPLAINT]))[0] == "suspect"
    leaf = vault.leaves(0)[1]
    vault.rows.org_admin_reads[leaf] = msgspec.structs.replace(vault.rows.org_admin_reads[leaf], leaf_hash="")
    assert outcome(night(tmp_path / "2", vault, empty_before=True))[0] == "suspect"


def test_a_vault_that_was_emptied_is_suspect_every_night(tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample()))
    for number in (2, 3):
        found = night(tmp_path / str(number), emptied(ledger(sample())), first, number=number)
        assert found.judgement.verdict == "suspect"
        assert found.codes[0] == Code.CHAIN_EMPTY
        assert set(found.codes) == {
            Code.CHAIN_EMPTY, Code.CONTINUITY_CHAIN_MISSING, Code.CONTINUITY_COUNT_FELL
        }  # fmt: skip


def test_an_accepted_row_without_an_envelope_proves_nothing_that_comes_after_it(tmp_path: Path) -> None:
    vault = ledger(sample())
    vault.bend(1, 1, cose_sign1=b"")
    known = night(tmp_path / "1", vault)
    assert (known.judgement.verdict, known.codes) == ("suspect", [Code.UNSUPPORTED_FORMAT])
    accepted = {one.id: "so it was imported" for one in known.findings}
    found = night(tmp_path / "2", vault, accepted=accepted)
    assert outcome(found) == ("unverified", "not_checked", "not_applicable")
    assert found.judgement.chain.reason == "the walk had to stop before its end"


def many_faults() -> Tampered:
    """Bend the actor of more entries than are listed."""
    vault = ledger(SampleVault(VaultShape(records=300, entries_per_record=4, reads_per_org=1, rotations=0)))
    rows = vault.rows.audit_vault
    rows[:] = [msgspec.structs.replace(row, actor_role="nobody") for row in rows]
    return vault


def test_findings_beyond_those_that_are_listed_cannot_be_accepted(tmp_path: Path) -> None:
    vault = many_faults()
    first = night(tmp_path / "1", vault)
    assert (len(first.findings), first.judgement.chain.failure_count) == (1_000, len(vault.rows.audit_vault))
    accepted = {one.id: "all of them" for one in first.findings}
    second = night(tmp_path / "2", vault, accepted=accepted)
    assert outcome(second)[:2] == ("suspect", "failed")
    assert second.judgement.chain.accepted == 1_000
    assert second.judgement.chain.failure_count == len(vault.rows.audit_vault) - 1_000


def accepted_by(found: Night) -> dict[str, str]:
    return {one.id: "a slip of 2026" for one in found.findings}


def bent(role: str = "nobody", *, position: int = 2) -> Tampered:
    vault = tampered("v2")
    vault.bend(2, position, actor_role=role)
    return vault


def test_an_accepted_finding_stays_in_the_report_with_its_reason(tmp_path: Path) -> None:
    accepted = accepted_by(night(tmp_path / "1", bent()))
    found = night(tmp_path / "2", bent(), accepted=accepted)
    assert outcome(found)[:2] == ("good", "passed")
    (finding,) = found.findings
    assert (finding.code, finding.accepted) == (Code.CHAIN_ACTOR_ATTRIBUTION_MISMATCH, "a slip of 2026")
    assert (found.judgement.chain.accepted, found.judgement.chain.failure_count) == (1, msgspec.UNSET)
    assert found.sealed.manifest.chain == found.judgement.chain


def test_a_new_finding_beside_an_accepted_one_makes_the_set_suspect(tmp_path: Path) -> None:
    accepted = accepted_by(night(tmp_path / "1", bent()))
    vault = bent()
    vault.bend(3, 2, actor_role="nobody")
    found = night(tmp_path / "2", vault, accepted=accepted)
    assert outcome(found)[:2] == ("suspect", "failed")
    chain: Chain = found.judgement.chain
    assert (chain.accepted, chain.failure_count, len(chain.findings)) == (1, 1, 2)


def test_another_entry_at_an_accepted_place_is_a_new_finding(tmp_path: Path) -> None:
    accepted = accepted_by(night(tmp_path / "1", bent(position=5)))
    vault = tampered("v2")
    vault.reseal(2, 5, lambda _, content: content["predicate"].update(payload={"gate": "open"}))
    vault.bend(2, 5, actor_role="nobody")
    found = night(tmp_path / "2", vault, accepted=accepted)
    assert outcome(found)[:2] == ("suspect", "failed")
    assert (found.judgement.chain.accepted, found.codes) == (0, [Code.CHAIN_ACTOR_ATTRIBUTION_MISMATCH])


def test_an_accepted_cut_is_no_word_for_a_deeper_one(tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample()))
    vault = ledger(sample())
    cut(vault, 3, to=4)
    second = night(tmp_path / "2", vault, first, number=2)
    accepted = accepted_by(second)
    assert outcome(night(tmp_path / "3", vault, first, accepted=accepted, number=3)) == ("good", "passed", "passed")
    cut(vault, 3, to=2)
    deeper = night(tmp_path / "4", vault, first, accepted=accepted, number=4)
    assert outcome(deeper) == ("suspect", "passed", "failed")
    assert not any(finding.accepted for finding in deeper.findings if finding.code.startswith("CONTINUITY_CHAIN"))


def test_a_night_is_told_in_words(tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample()))
    assert list(text.continuity_lines(first.judgement.continuity)) == [
        "  continuity: there is no earlier archive to compare with"
    ]
    second = night(tmp_path / "2", ledger(sample()), first, number=2).judgement
    chain = second.chain
    assert list(text.chain_lines(chain)) == [
        f"  chain passed: {chain.signatures_checked} signatures verified, {chain.signatures_carried} more proved before"
    ]
    assert list(text.continuity_lines(second.continuity)) == [
        "  continuity passed: everything in prod-2026-05-26T01:33:27Z is still there"
    ]
    vault = ledger(sample())
    cut(vault, 2)
    third = night(tmp_path / "3", vault, first, number=3)
    said = list(text.continuity_lines(third.judgement.continuity))
    assert said[0] == "  continuity FAILED: this is not what prod-2026-05-26T01:33:27Z holds, grown"
    for line, finding in zip(said[1:], third.findings, strict=True):
        assert line == f"  {finding.code} at {finding.where}: {finding.detail} [id {finding.id}]"


def test_more_findings_than_are_listed_are_counted_in_words(tmp_path: Path) -> None:
    vault = many_faults()
    said = list(text.chain_lines(night(tmp_path, vault).judgement.chain))
    assert said[0].startswith("  chain failed: ")
    assert (len(said), said[-1]) == (1_002, f"  ... {len(vault.rows.audit_vault):,} in all")
