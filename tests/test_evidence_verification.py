"""The page about a verification: its verdict first, nothing claimed that was not shown, and nothing that can run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from fix_page import HOSTILE, Page, read_page
from fix_tamper import tampered
from hypothesis import given
from hypothesis import strategies as st

from borg_vault_plugin.chain.codes import MEANINGS, Code
from borg_vault_plugin.chain.profile import KeyUse, Profile, profile_of
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.chain.verification import verify_directory
from borg_vault_plugin.evidence.coverage import KINDS, PLUGINS, kind_of
from borg_vault_plugin.evidence.verification import verification_page
from borg_vault_plugin.report import Finding, Verified
from borg_vault_plugin.sample import SampleVault, VaultShape, write_rows
from borg_vault_plugin.sample.keys import fingerprint

Era = Literal["v1", "v2"]
MADE = datetime(2026, 7, 1, 3, 12, 8, tzinfo=UTC)
COUNTS = {"audit_vault": 5, "vault_checkpoints": 2, "vault_signing_keys": 1, "org_admin_reads": 0}
PASSED = Verified("dump", "passed", "v1", anchored=False, counts=COUNTS, signatures_checked=7, signatures_carried=0,
                  failure_count=0, findings=())  # fmt: skip
KEY = KeyUse("a8204c47d170787a", "Ed25519", "active", 0, None, 5, 0, 9)
PROFILE = Profile(5, ((date(2026, 5, 1), 5),), 0, 0, 0, 9, (KEY,), 0, 0, 0)
TEXT = st.text(st.characters() | st.sampled_from("<>&\"'\0\u202e"), max_size=60)


def page_of(report: Verified, *reasons: str, profile: Profile | None = PROFILE) -> Page:
    return read_page(verification_page(report, reasons, profile, made=MADE, program="borg-vault 1.2.3"))


def verified_page(directory: Path, *anchors: str) -> Page:
    """Verify a dump, and give the page about that."""
    found = verify_directory(directory, anchors=anchors, jobs=1)
    report = Verified(str(directory), found.verdict, found.era, found.anchored, found.counts, found.signatures_checked,
                      found.signatures_carried, found.failure_count, found.findings)  # fmt: skip
    profile = None
    with suppress(NotCheckedError):
        profile = profile_of(directory, None)
    return page_of(report, *found.reasons, profile=profile)


def failed(*findings: Finding, count: int | None = None) -> Verified:
    return replace(PASSED, verdict="failed", findings=findings, failure_count=len(findings) if count is None else count)


def outcomes(page: Page) -> dict[str, str]:
    """Give the outcome of each kind of check."""
    names = [kind.name for kind in (*KINDS, PLUGINS)]
    texts = [text for _, text in page.texts]
    begin = texts.index("What was checked")
    end = texts.index("What no verification of one dump can see")
    rows: dict[str, list[str]] = {}
    for text in texts[begin:end]:
        if text in names:
            rows[text] = []
        elif rows:
            rows[list(rows)[-1]].append(text)
    return {name: cells[-1] for name, cells in rows.items()}


@pytest.mark.parametrize("era", ["v1", "v2"])
def test_a_genuine_vault_without_pins(era: Era, tmp_path: Path) -> None:
    SampleVault(VaultShape(records=8, era=era, rotations=2)).write_ndjson(tmp_path)
    page = verified_page(tmp_path)
    assert page.inside("title")[0] == "Passed: verification of an audit chain"
    assert page.all("div", "banner") == [{"class": "banner passed"}]
    assert "The keys were taken from the dump itself" in page.text
    assert "does not show that these are the Server's keys" in page.text
    assert ("no key can be pinned" in page.text) == (era == "v1")
    assert str(tmp_path) in page.text
    statements = {"v1": None, "v2": "Not checked: no key is pinned"}[era]
    assert outcomes(page).pop("Key statements", None) == statements
    assert {outcome for name, outcome in outcomes(page).items() if name != "Key statements"} == {"Passed"}
    assert "2 rotations" in page.text
    assert "Each bar is one day" in page.text


def test_a_genuine_vault_with_a_pinned_key(tmp_path: Path) -> None:
    vault = SampleVault(VaultShape(records=8, rotations=2))
    vault.write_ndjson(tmp_path)
    page = verified_page(tmp_path, f"sha256:{fingerprint(vault.plan.key(0).spki)}")
    assert "lead back to a key that was pinned from outside this dump" in page.text
    assert "taken from the dump itself" not in page.text
    assert set(outcomes(page).values()) == {"Passed"}


def test_an_edited_entry(tmp_path: Path) -> None:
    vault = tampered("v2")
    vault.bend(2, 3, actor_role="agent-no-more")
    write_rows(tmp_path, vault.rows)
    page = verified_page(tmp_path)
    assert page.all("div", "banner") == [{"class": "banner failed"}]
    assert "1 finding: not all in this dump is what was signed" in page.text
    assert "CHAIN_ACTOR_ATTRIBUTION_MISMATCH" in page.text
    assert MEANINGS[Code.CHAIN_ACTOR_ATTRIBUTION_MISMATCH].means[1:] in page.text
    assert MEANINGS[Code.CHAIN_ACTOR_ATTRIBUTION_MISMATCH].next_step in page.text
    assert vault.entry(2, 3).record_id in page.text
    assert outcomes(page)["Payloads and actors"] == "1 finding"
    assert outcomes(page)["Checkpoints"] == "No finding"


def test_a_missing_file(tmp_path: Path) -> None:
    SampleVault(VaultShape(records=3)).write_ndjson(tmp_path)
    (tmp_path / "vault_checkpoints.ndjson").unlink()
    page = verified_page(tmp_path)
    assert page.all("div", "banner") == [{"class": "banner not_checked"}]
    assert "vault_checkpoints.ndjson cannot be read" in page.text
    assert "no evidence of tampering. It is no pass, either" in page.text
    assert page.inside("h2")[:2] == ["Why there is no verdict", "What was not checked"]
    assert "What was checked" not in page.inside("h2")


@pytest.mark.parametrize("verdict", ["failed", "not_checked"])
def test_only_passed_is_green(verdict: Literal["failed", "not_checked"]) -> None:
    finding = Finding(Code.CHAIN_LINK_BROKEN, "audit_vault", "x")
    report = replace(PASSED, verdict=verdict, findings=(finding,) if verdict == "failed" else ())
    assert "passed" not in page_of(report, "why").classes()
    assert "passed" in page_of(PASSED).classes()


def test_nothing_to_verify_is_not_passed() -> None:
    page = page_of(replace(PASSED, counts={**COUNTS, "org_admin_reads": 0}))
    assert outcomes(page)["Leaves of the read log"] == "Nothing to check"


def test_unsigned_entries_are_not_called_signed() -> None:
    page = page_of(replace(PASSED, signatures_checked=0), profile=replace(PROFILE, unnamed=5))
    assert "though none of it is signed" in page.text
    assert outcomes(page)["Signatures"] == "Nothing to check"
    assert "5 entries without a key: only links hold them." in page.text


def test_carried_signatures_are_counted_apart() -> None:
    page = page_of(replace(PASSED, signatures_checked=1_200, signatures_carried=34_000))
    assert "1,200 verified, 34,000 more carried over" in page.text
    assert "35,200" in page.inside("td")
    assert "A signature is carried over when" in page.text


def test_the_first_thousand_findings_are_shown_and_all_are_counted() -> None:
    findings = tuple(Finding(Code.CHAIN_POSITION_GAP, f"position {number}", "gap") for number in range(1_200))
    page = page_of(failed(*findings, count=462_002))
    assert "462,002 findings" in page.text
    assert "The first 1,000 are shown." in page.text
    assert "position 999" in page.text
    assert "position 1000" not in page.text
    assert outcomes(page)["Hashes, links, positions"] == "at least 1,200 findings"


def test_codes_of_plugins_are_shown_though_nobody_here_knows_them() -> None:
    page = page_of(failed(Finding("ACME_RETENTION", "settings.json", "30 days, should be 90")))
    assert "Reported by a plugin; what it means is not known here." in page.text
    assert outcomes(page)["Checks of plugins"] == "1 finding"


def test_accepted_findings_stay_and_say_why() -> None:
    finding = Finding(Code.CHAIN_KEY_EXPIRED, "audit_vault", "late", accepted="the clock of node 2, OPS-311")
    page = page_of(replace(PASSED, findings=(finding,)))
    assert "but for 1 finding that an operator has accepted" in page.text
    assert "0 findings, besides 1 accepted." in page.text
    assert "Accepted by an operator: the clock of node 2, OPS-311" in page.text
    assert outcomes(page)["Signatures"] == "1 accepted"
    assert "taken from the dump itself" not in page.text
    assert "That is shown only by a verification that has no finding at all" in page.text
    assert "Accepted" not in page_of(failed(Finding(Code.CHAIN_KEY_EXPIRED, "audit_vault", "late"))).text


@pytest.mark.parametrize("code", list(Code))
def test_every_code_belongs_to_a_kind_of_check(code: Code) -> None:
    kind = kind_of(Finding(code, "", ""))
    assert kind is not PLUGINS
    assert outcomes(page_of(failed(Finding(code, "somewhere", "x"))))[kind.name] == "1 finding"


def test_a_verification_that_failed_can_have_been_incomplete_too() -> None:
    page = page_of(failed(Finding(Code.SET_FILE_CHANGED, "db.dump", "x")), "the walk had to stop before its end")
    assert "Why not everything was checked" in page.inside("h2")
    assert "Why there is no verdict" not in page.inside("h2")
    assert outcomes(page)["Files of the set"] == "1 finding"


def test_what_ended_the_walk_is_explained() -> None:
    assert "end the walk" in page_of(failed(Finding(Code.CHAIN_EMPTY, "audit_vault", "none"))).text
    assert "end the walk" not in page_of(failed(Finding(Code.CHAIN_LINK_BROKEN, "audit_vault", "x"))).text


def test_without_a_profile_there_are_no_charts_and_all_else() -> None:
    page = page_of(PASSED, profile=None)
    assert page.all("figure") == []
    assert outcomes(page)["Checkpoints"] == "Passed"


def test_what_a_profile_could_not_hold_is_said() -> None:
    profile = replace(PROFILE, other_days=1, undated=2, other_keys=3, unknown=4)
    text = page_of(PASSED, profile=profile).text
    assert "1 entry of yet other days: not drawn." in text
    assert "2 entries without a readable time: not drawn." in text
    assert "3 more rows of the registry: not shown here." in text
    assert "4 entries with a key that is not among these." in text


def test_many_keys_and_reasons_have_an_end() -> None:
    profile = replace(PROFILE, keys=tuple(replace(KEY, key_id=f"{number:016}") for number in range(1_000)))
    page = page_of(replace(PASSED, verdict="not_checked"), *(f"reason {n}." for n in range(1_000)), profile=profile)
    assert "800 more rows of the registry" in page.text
    assert "900 more reasons not shown." in page.text
    assert "reason 100." not in page.text


def test_the_page_says_when_and_by_what_it_was_made_and_how_to_do_without_it() -> None:
    text = page_of(replace(PASSED, era="v2")).text
    assert "Made 2026-07-01 03:12:08 UTC by borg-vault 1.2.3." in text
    assert "This page proves nothing by itself" in text
    assert "borg-vault verify DIR --trust-anchor sha256:" in text
    assert "What the words mean" in text
    assert "--trust-anchor" not in page_of(replace(PASSED, era="v1")).text


def hostile_report(text: str, verdict: Any) -> tuple[Verified, Profile]:
    """Put a text wherever a text can be."""
    finding = Finding(text, text, text, accepted=text)
    report = Verified(text, verdict, text, anchored=False, counts={text: 1, **COUNTS}, signatures_checked=1,
                      signatures_carried=1, failure_count=2, findings=(finding, Finding(text, text, text)))  # fmt: skip
    return report, replace(PROFILE, keys=(KeyUse(text, text, text, 0, 1, 1, 0, 1), KEY))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("verdict", ["passed", "failed", "not_checked"])
def test_hostile_values_are_shown_and_do_nothing(text: str, verdict: str) -> None:
    report, profile = hostile_report(text, verdict)
    html = verification_page(report, (text, text), profile, made=MADE, program=text)
    page = read_page(html)
    plain_report, plain_profile = hostile_report("plain", verdict)
    plain = read_page(verification_page(plain_report, ("plain",) * 2, plain_profile, made=MADE, program="plain"))
    assert [tag for tag, _ in page.elements if tag != "wbr"] == [tag for tag, _ in plain.elements if tag != "wbr"]
    assert page.classes() == plain.classes()
    assert len(html) < 100_000


@given(TEXT)
def test_any_value_in_any_place_is_only_text(text: str) -> None:
    report, profile = hostile_report(text, "failed")
    read_page(verification_page(report, (text,), profile, made=MADE, program=text))
