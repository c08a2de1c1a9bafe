"""Continuity, night after night: what no verifier can see in one dump is found by comparing it with an earlier one.

Nothing here needs a Server. Whoever damages these vaults has their keys, so that every signature verifies.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fix_damage import (
    Ledger,
    add_retired_key,
    add_spare_key,
    change_key,
    cut,
    cut_schemas,
    delete,
    exchange_key,
    forget_every_read,
    forget_reads,
    forget_statement,
    ledger,
    remove_key,
    rewrite,
    rewrite_reads,
)
from fix_judged import Night, night
from fix_tamper import Era
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.proved import archived_heads
from borg_vault_plugin.chain.ranges import RANGE_BYTES
from borg_vault_plugin.chain.verification import Past, verify_directory
from borg_vault_plugin.sample import SampleVault, VaultShape
from borg_vault_plugin.sample.plan import Onto

ERAS: tuple[Era, ...] = ("v1", "v2")
SHORTENED, MISSING, REWRITTEN = (
    Code.CONTINUITY_CHAIN_SHORTENED,
    Code.CONTINUITY_CHAIN_MISSING,
    Code.CONTINUITY_CHAIN_REWRITTEN,
)
READS, FELL = Code.CONTINUITY_READ_LOG_REWRITTEN, Code.CONTINUITY_COUNT_FELL
KEY_MISSING, KEY_CHANGED, KEY_REVIVED = (
    Code.CONTINUITY_KEY_MISSING,
    Code.CONTINUITY_KEY_CHANGED,
    Code.CONTINUITY_KEY_REVIVED,
)
SECRET = bytes(16)


def untouched(_: Ledger) -> None:
    """Leave a vault as it is."""


def rewrite_two(vault: Ledger) -> None:
    """Rewrite two chains."""
    rewrite(vault, 2)
    rewrite(vault, 5)


@dataclass(frozen=True, slots=True)
class Case:
    """What was there, what somebody does to it, and what is found; `fell` lose rows, unless the vault has grown."""

    damage: Callable[[Ledger], None]
    found: tuple[Code, ...]
    fell: tuple[str, ...] = ()
    before: Callable[[Ledger], None] = untouched
    eras: tuple[Era, ...] = ERAS


CASES = {
    "a tail is cut": Case(cut, (SHORTENED,), ("audit_vault", "vault_checkpoints")),
    "all but the first entry is cut": Case(
        lambda vault: cut(vault, to=1), (SHORTENED,), ("audit_vault", "vault_checkpoints")
    ),
    "a tail without a checkpoint is cut": Case(lambda vault: cut(vault, 2), (SHORTENED,), ("audit_vault",)),
    "the platform's tail is cut": Case(
        lambda vault: cut(vault, 0, to=1), (SHORTENED,), ("audit_vault", "vault_checkpoints")
    ),
    "a chain of schemas is cut": Case(cut_schemas, (SHORTENED,), ("audit_vault", "vault_checkpoints"), eras=("v2",)),
    "a chain is gone": Case(delete, (MISSING,), ("audit_vault",)),
    "a chain with its checkpoint is gone": Case(
        lambda vault: delete(vault, 3), (MISSING,), ("audit_vault", "vault_checkpoints")
    ),
    "the first chain of all is gone": Case(
        lambda vault: delete(vault, 0), (MISSING,), ("audit_vault", "vault_checkpoints")
    ),
    "an old entry is rewritten": Case(rewrite, (REWRITTEN,)),
    "the first entry is rewritten": Case(lambda vault: rewrite(vault, 3), (REWRITTEN,)),
    "two chains are rewritten": Case(rewrite_two, (REWRITTEN, REWRITTEN)),
    "the last reads are gone": Case(forget_reads, (READS,), ("org_admin_reads", "org_admin_reads_checkpoints")),
    "all reads of an org are gone": Case(
        forget_every_read, (READS,), ("org_admin_reads", "org_admin_reads_checkpoints")
    ),
    "a read is rewritten": Case(rewrite_reads, (READS,)),
    "the first read is rewritten": Case(lambda vault: rewrite_reads(vault, leaf=0), (READS,)),
    "a key is gone": Case(remove_key, (KEY_MISSING,), ("vault_signing_keys",), add_spare_key),
    "a key is another": Case(exchange_key, (KEY_CHANGED,), (), add_spare_key),
    "a key is of another kind": Case(change_key(algorithm="Ed25519"), (KEY_CHANGED,), (), add_spare_key),
    "a key was activated at another time": Case(
        change_key(activated_at="2026-04-01T00:00:00.000000Z"), (KEY_CHANGED,), (), add_spare_key
    ),
    "a key is back from retirement": Case(
        change_key(status="active", retired_at=None), (KEY_REVIVED, KEY_REVIVED), (), add_retired_key
    ),
    "a key is called active again": Case(change_key(status="active"), (KEY_REVIVED,), (), add_retired_key),
    "a key retires later than it did": Case(
        change_key(retired_at="2036-05-01T00:00:00.000000Z"), (KEY_REVIVED,), (), add_retired_key
    ),
    "a statement is gone": Case(forget_statement, (FELL,), (), eras=("v2",)),
}
# Days on which nothing of the kind is added, so that its count falls all the same.
ALWAYS_FALLS = {"a key is gone"}


@cache
def sample(era: Era) -> SampleVault:
    """A vault of which every other record has a checkpoint; nobody changes it, but takes a copy."""
    shape = VaultShape(seed=7, era=era, records=6, reads_per_org=6, rotations=1, checkpoint_every=2)
    return SampleVault(shape)


@cache
def older(era: Era) -> SampleVault:
    """The same vault, some days later."""
    vault = copy.deepcopy(sample(era))
    vault.grow(None, entries=12, onto="everywhere")
    vault.grow(None, entries=8)
    return vault


@cache
def rotated(era: Era) -> SampleVault:
    """The same vault, and another key has taken the place of the last one."""
    vault = copy.deepcopy(sample(era))
    vault.grow(None, entries=12, onto="everywhere", rotate=True)
    return vault


def damaged(vault: SampleVault, *damages: Callable[[Ledger], object]) -> Ledger:
    rows = ledger(vault)
    for damage in damages:
        damage(rows)
    return rows


@pytest.mark.parametrize("grown", [False, True], ids=["the same vault", "grown"])
@pytest.mark.parametrize(("name", "era"), [(name, era) for name, case in CASES.items() for era in case.eras])
def test_what_only_history_tells_is_found_the_same_night_and_every_night_until_it_is_mended(
    name: str, era: Era, tmp_path: Path, *, grown: bool
) -> None:
    case, now = CASES[name], older(era) if grown else sample(era)
    first = night(tmp_path / "1", damaged(sample(era), case.before))
    assert (first.judgement.verdict, first.judgement.continuity.verdict) == ("good", "not_applicable")
    second = night(tmp_path / "2", damaged(now, case.before, case.damage), first, number=2)
    third = night(tmp_path / "3", damaged(now, case.before, case.damage), first, number=3)
    for found in (second, third):
        assert (found.judgement.verdict, found.judgement.chain.verdict) == ("suspect", "passed")
        assert found.codes[: len(case.found)] == [*case.found]
        assert_fell(found, () if grown and name not in ALWAYS_FALLS else case.fell, case)
    mended = night(tmp_path / "4", damaged(now, case.before), first, number=4)
    assert (mended.judgement.verdict, mended.codes) == ("good", [])


def assert_fell(found: Night, tables: tuple[str, ...], case: Case) -> None:
    rest = found.findings[len(case.found) :]
    assert {finding.code for finding in rest} <= {FELL}
    # What the vault grew by may make up for what is gone, but never for more of it.
    assert [finding.where for finding in rest if finding.where in tables] == [*tables]


def test_every_code_of_continuity_has_a_case() -> None:
    found = {code for case in CASES.values() for code in case.found}
    assert found == {code for code in Code if code.startswith("CONTINUITY_")}


@pytest.mark.parametrize("era", ERAS)
def test_a_finding_tells_what_was_there_and_what_is_now(era: Era, tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample(era)))
    vault = damaged(older(era), cut)
    key, head = vault.entry(3, 1).chain_key, ledger(sample(era)).entry(3, 5).payload_hash
    (finding,) = night(tmp_path / "2", vault, first, number=2).judgement.continuity.findings
    assert finding.where == f"audit_vault, chain {key}, position 5"
    assert finding.detail == f"prod-2026-05-26T01:33:27Z holds {head} there; the chain now ends at position 4"


@pytest.mark.parametrize("vault", [sample, older, rotated], ids=["the same", "grown", "with a new key"])
@pytest.mark.parametrize("era", ERAS)
def test_what_only_grew_is_good(era: Era, vault: Callable[[Era], SampleVault], tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample(era)))
    second = night(tmp_path / "2", ledger(vault(era)), first, number=2).judgement
    assert (second.verdict, second.continuity.verdict) == ("good", "passed")
    assert second.continuity.previous == "prod-2026-05-26T01:33:27Z"
    assert second.chain.signatures_carried > 0


@pytest.mark.parametrize("era", ERAS)
def test_an_older_state_of_the_whole_vault_is_found(era: Era, tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(rotated(era)))
    back = night(tmp_path / "2", ledger(sample(era)), first, number=2)
    assert (back.judgement.verdict, back.judgement.chain.verdict) == ("suspect", "passed")
    assert set(back.codes) == {SHORTENED, READS, KEY_MISSING, KEY_REVIVED, FELL}
    forward = night(tmp_path / "3", ledger(rotated(era)), first, number=3)
    assert forward.judgement.verdict == "good"


def test_a_vault_whose_damage_is_signed_anew_passes_every_verifier(tmp_path: Path) -> None:
    vault = damaged(sample("v2"), cut, lambda rows: delete(rows, 1), rewrite, rewrite_reads)
    assert vault.verify(tmp_path, anchors=[vault.anchor]).verdict == "passed"


def test_it_is_compared_with_every_predecessor(tmp_path: Path) -> None:
    oldest = night(tmp_path / "1", ledger(sample("v2")))
    newest = night(tmp_path / "2", ledger(older("v2")), oldest, number=2)
    forked = night(tmp_path / "3", damaged(sample("v2"), rewrite), number=2)
    now = night(tmp_path / "4", ledger(older("v2")), newest, forked, number=3)
    assert (now.judgement.verdict, now.codes) == ("suspect", [REWRITTEN])
    assert now.judgement.continuity.previous == "prod-2026-05-27T01:33:27Z"
    other = night(tmp_path / "6", damaged(sample("v2"), add_spare_key, rewrite_reads), number=2)
    now = night(tmp_path / "7", ledger(older("v2")), newest, other, number=3)
    assert (now.judgement.verdict, now.codes) == ("suspect", [READS, KEY_MISSING, FELL])
    assert night(tmp_path / "5", ledger(older("v2")), newest, oldest, number=3).judgement.verdict == "good"


def test_a_predecessor_of_an_empty_vault_is_extended_by_anything(tmp_path: Path) -> None:
    empty = ledger(sample("v2"))
    for rows in (empty.rows.audit_vault, empty.rows.vault_checkpoints):
        rows.clear()
    first = night(tmp_path / "1", empty, empty_before=True)
    assert night(tmp_path / "2", ledger(sample("v2")), first, number=2).judgement.verdict == "good"


def test_a_vault_that_cannot_be_read_is_compared_as_far_as_possible_and_never_good(tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample("v2")))
    vault = damaged(sample("v2"), forget_reads)
    place = vault.place(2, 2)
    vault.bend_row("audit_vault", place, cose_sign1=None)
    second = night(tmp_path / "2", vault, first, number=2)
    assert second.judgement.continuity.verdict == "failed"
    assert second.judgement.continuity.reason == "the chains could not be followed to their ends"
    assert {READS, FELL} < set(second.codes)
    assert not {SHORTENED, MISSING, REWRITTEN} & set(second.codes)


@pytest.mark.parametrize("era", ERAS)
def test_a_read_log_with_an_accepted_finding_is_still_compared(era: Era, tmp_path: Path) -> None:
    known = night(tmp_path / "0", damaged(sample(era), bend_leaf))
    accepted = {finding.id: "a disk that failed in May" for finding in known.findings}
    first = night(tmp_path / "1", damaged(sample(era), bend_leaf), accepted=accepted)
    assert (first.judgement.verdict, first.judgement.chain.accepted) == ("good", 1)
    same = night(tmp_path / "2", damaged(older(era), bend_leaf), first, accepted=accepted, number=2)
    assert (same.judgement.verdict, same.judgement.chain.accepted) == ("good", 1)
    vault = damaged(older(era), lambda rows: rewrite_reads(rows, leaf=4), bend_leaf)
    third = night(tmp_path / "3", vault, first, accepted=accepted, number=3)
    assert (third.judgement.verdict, third.codes[1:]) == ("suspect", [READS])


def bend_leaf(vault: Ledger) -> None:
    """Bend the stored hash of an early leaf, which ends every check of that log."""
    reads, place = vault.rows.org_admin_reads, vault.leaves(0)[2]
    reads[place] = msgspec.structs.replace(reads[place], leaf_hash="0" * 64)


def test_more_findings_than_are_kept_are_cut_and_fail(tmp_path: Path) -> None:
    many = SampleVault(VaultShape(records=1_050, entries_per_record=2, reads_per_org=1, rotations=0))
    first = night(tmp_path / "1", ledger(many))
    vault = ledger(many)
    heads = {row.chain_key: row.payload_hash for row in vault.rows.audit_vault}
    vault.rows.audit_vault[:] = [row for row in vault.rows.audit_vault if row.payload_hash != heads[row.chain_key]]
    vault.rows.vault_checkpoints.clear()
    second = night(tmp_path / "2", vault, first, number=2)
    assert len(second.judgement.continuity.findings) == 1_000
    assert second.judgement.verdict == "suspect"
    accepted = {finding.id: "all known" for finding in second.findings}
    assert night(tmp_path / "3", vault, first, accepted=accepted, number=3).judgement.verdict == "suspect"


def test_the_order_in_which_a_chain_lies_in_the_file_does_not_matter(tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample("v2")))
    vault = ledger(older("v2"))
    places = [vault.place(4, position) for position in range(1, vault.length(4) + 1)]
    rows = [vault.rows.audit_vault[place] for place in places]
    for place, row in zip(places, reversed(rows), strict=True):
        vault.rows.audit_vault[place] = row
    second = night(tmp_path / "2", vault, first, number=2).judgement
    assert (second.verdict, second.continuity.verdict) == ("good", "passed")


def test_an_entry_that_is_gone_from_the_middle_of_a_chain_is_no_shorter_chain(tmp_path: Path) -> None:
    first = night(tmp_path / "1", ledger(sample("v2")))
    vault = ledger(sample("v2"))
    gone = vault.entry(2, 3)
    vault.rows.audit_vault.remove(gone)
    second = night(tmp_path / "2", vault, first, number=2)
    assert second.codes == [Code.CHAIN_POSITION_GAP, Code.CHAIN_POSITION_GAP, FELL]


@pytest.mark.parametrize("digest", ["", "Ab" * 32, "ab", "zz" * 32])
def test_a_head_whose_hash_is_none_only_has_to_be_there(digest: str, tmp_path: Path) -> None:
    vault = ledger(sample("v2"))
    vault.bend(2, 5, payload_hash=digest)
    accepted = {one.id: "a slip of 2026" for one in night(tmp_path / "0", vault).findings}
    first = night(tmp_path / "1", vault, accepted=accepted)
    assert first.judgement.verdict == "good"
    assert night(tmp_path / "2", vault, first, accepted=accepted, number=2).judgement.verdict == "good"
    cut(vault, 2)
    second = night(tmp_path / "3", vault, first, accepted=accepted, number=3)
    assert second.codes == [SHORTENED, FELL]


def heads_of(vault: Ledger) -> dict[str, tuple[int, str]]:
    return {row.chain_key: (row.chain_position, row.payload_hash) for row in vault.rows.audit_vault}


def breaks(before: Ledger, after: Ledger) -> set[tuple[str, str]]:
    """Say in the slowest and most obvious way which chains do not lead through their archived heads."""
    found: set[tuple[str, str]] = set()
    for key, (position, digest) in heads_of(before).items():
        rows = {row.chain_position: row.payload_hash for row in after.rows.audit_vault if row.chain_key == key}
        if not rows:
            found.add((MISSING, f"audit_vault, chain {key}, position {position}"))
        elif position not in rows:
            found.add((SHORTENED, f"audit_vault, chain {key}, position {position}"))
        elif rows[position] != digest:
            found.add((REWRITTEN, f"audit_vault, chain {key}, position {position}"))
    return found


def chain_findings(found: Night) -> set[tuple[str, str]]:
    wanted = {SHORTENED, MISSING, REWRITTEN}
    return {(one.code, one.where) for one in found.judgement.continuity.findings if one.code in wanted}


days = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["youngest", "everywhere"]), st.booleans()), min_size=1, max_size=3
)
harm = st.lists(
    st.one_of(
        st.tuples(st.just(cut), st.integers(0, 6), st.integers(1, 6)),
        st.tuples(st.just(rewrite), st.integers(2, 6), st.sampled_from([3])),
    ),
    min_size=1,
    max_size=4,
)
ANY_PLACE = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY_PLACE
@given(days=days, era=st.sampled_from(ERAS))
def test_however_a_vault_grows_it_is_good(
    days: list[tuple[int, Onto, bool]], era: Era, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place, vault = tmp_path_factory.mktemp("growing"), copy.deepcopy(sample(era))
    before = night(place / "0", ledger(vault))
    for number, (entries, onto, rotate) in enumerate(days, start=1):
        vault.grow(None, entries=entries, onto=onto, rotate=rotate)
        before = night(place / str(number), ledger(vault), before, number=number + 1)
        assert (before.judgement.verdict, before.codes) == ("good", [])


@ANY_PLACE
@given(harm=harm, grown=st.booleans())
def test_whatever_is_cut_and_rewritten_is_found_and_nothing_else(
    harm: list[tuple[Callable[..., None], int, int]], tmp_path_factory: pytest.TempPathFactory, *, grown: bool
) -> None:
    place, before = tmp_path_factory.mktemp("harmed"), ledger(sample("v2"))
    vault = ledger(older("v2") if grown else sample("v2"))
    for damage, record, argument in harm:
        if damage is cut and argument < vault.length(record):
            cut(vault, record, to=argument)
        elif damage is rewrite and vault.length(record) >= argument:
            rewrite(vault, record, position=argument)
    first = night(place / "1", before)
    second = night(place / "2", vault, first, number=2)
    assert chain_findings(second) == breaks(before, vault)
    assert (second.judgement.continuity.verdict == "failed") == bool(second.judgement.continuity.findings)
    assert second.judgement.chain.verdict == "passed"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Past]:
    """A vault of several ranges in which many chains are cut, deleted or rewritten, and what was archived of it."""
    directory = tmp_path_factory.mktemp("large")
    SampleVault(VaultShape(seed=7, records=900, filler_bytes=200)).write_ndjson(directory)
    lines = (directory / "audit_vault.ndjson").read_bytes().splitlines(keepends=True)
    rows = [msgspec.json.decode(line) for line in lines]
    heads = {row["chain_key"]: (row["chain_position"], row["payload_hash"]) for row in rows}
    archived = [(key, *head) for key, head in heads.items()]
    fates = dict(zip(heads, itertools.cycle(["stay"] * 9 + ["cut", "gone", "bent"]), strict=False))
    kept = [line for line, row in zip(lines, rows, strict=True) if stays(row, fates[row["chain_key"]])]
    (directory / "audit_vault.ndjson").write_bytes(b"".join(kept))
    bent = [(key, position, "ab" * 32 if fates[key] == "bent" else digest) for key, position, digest in archived]
    return directory, Past(
        SECRET, (archived_heads("the first", bent, SECRET), archived_heads("same", archived, SECRET))
    )


def stays(row: Any, fate: str) -> bool:
    return fate in {"stay", "bent"} or (fate == "cut" and row["chain_position"] == 1)


def test_the_number_of_processes_changes_nothing(large: tuple[Path, Past]) -> None:
    directory, past = large
    assert (directory / "audit_vault.ndjson").stat().st_size > 3 * RANGE_BYTES
    alone, *together = [verify_directory(directory, jobs=jobs, past=past) for jobs in (1, 2, 5)]
    assert alone.extension is not None
    assert alone.extension.breaks == len(alone.extension.broken) > 100
    assert len(alone.extension.absent[0]) == len(alone.extension.absent[1]) > 10
    assert {finding.code for finding in alone.extension.broken} == {SHORTENED, REWRITTEN}
    assert together == [alone, alone]
