"""A drill: silent on a healthy set; on each broken one exactly the check fails whose business it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fix_artifacts import BackedUp
from fix_drill import (
    Nights,
    Rehearse,
    after,
    by_name,
    manifest_of,
    reseal,
    staged,
    with_verdict,
)
from fix_vault import Vault

from borg_vault_plugin.archive import Archive
from borg_vault_plugin.evidence.drill import drill_page
from borg_vault_plugin.recovery.drill import Drill, Extraction, Rehearsal, drill
from borg_vault_plugin.recovery.drill_evidence import PHASES, PROVES, drill_evidence
from borg_vault_plugin.recovery.drill_report import CHECKS
from borg_vault_plugin.report import as_json
from borg_vault_plugin.survey import Collation, Extension

pytest_plugins = ("fix_server", "fix_backed_up", "fix_nights")

Bend = Callable[[Path, Nights], None]

KEYS = [
    "archive", "verdict", "checks", "rpo_seconds", "rto_seconds", "head", "time", "snapshot", "phases", "versions",
    "findings",
]  # fmt: skip
NEEDS_A_DATABASE = ["database", "registry", "export", "collations"]


def healthy(done: Drill, *, not_applicable: tuple[str, ...] = ()) -> None:
    assert [(check.name, check.detail) for check in done.checks if check.verdict in ("failed", "not_checked")] == []
    assert with_verdict(done, "not_applicable") == list(not_applicable)
    assert (done.verdict, done.exit_code, done.findings) == ("passed", 0, ())


def test_everything_that_is_hard_to_restore_is_restored_and_proven(
    backed_up: BackedUp, rehearse: Rehearse, capfd: pytest.CaptureFixture[str]
) -> None:
    done = rehearse(backed_up.directory)
    healthy(done, not_applicable=("continuity",))
    assert capfd.readouterr().err == ""
    told = by_name(done)["database"].detail
    assert "3 large objects" in told
    for kind in ("13 TRIGGER", "1 EVENT TRIGGER", "2 POLICY", "FK CONSTRAINT", "INDEX", "ACL"):
        assert kind in told
    assert "7 roles made, unable to log in" in by_name(done)["restore"].detail
    assert "remarked" not in by_name(done)["restore"].detail


def test_its_document_says_when_how_long_and_what(nights: Nights, rehearse: Rehearse) -> None:
    done = rehearse(nights.second, predecessors=after(nights.first))
    healthy(done)
    document = json.loads(as_json(done))
    assert list(document) == KEYS
    assert [check["name"] for check in document["checks"]] == list(CHECKS)
    assert [list(check) for check in document["checks"]] == [["name", "verdict", "detail", "seconds"]] * len(CHECKS)
    assert list(document["phases"]) == list(PHASES)
    assert document["phases"]["extract"] == 0.5
    assert sum(document["phases"].values()) == pytest.approx(document["rto_seconds"], abs=0.5)
    assert 0 <= document["rpo_seconds"] < 3600
    manifest = manifest_of(nights.second)
    heads = next(one.sha256 for one in manifest.artifacts if one.path == "chain-heads.ndjson")
    entries = f"{manifest.chain.chains} chains, {manifest.chain.entries} entries"
    assert document["head"] == f"{entries}; chain-heads.ndjson sha256:{heads}"
    assert document["versions"]["drill server"] == document["versions"]["source server"]


def test_an_older_archive_is_drilled_without_the_newer_one(nights: Nights, rehearse: Rehearse) -> None:
    healthy(rehearse(nights.first), not_applicable=("continuity",))


def test_a_vault_of_the_first_era_is_drilled_too(latest_older_vault: Vault, rehearse: Rehearse, tmp_path: Path) -> None:
    directory = staged(latest_older_vault, tmp_path / "first era")
    done = rehearse(directory)
    healthy(done, not_applicable=("continuity",))
    assert "in 5 files" in by_name(done)["export"].detail
    pinned = rehearse(directory, anchors=[f"sha256:{'0' * 64}"])
    assert with_verdict(pinned, "failed", "not_checked") == ["chain"]
    assert "keys cannot be pinned" in by_name(pinned)["chain"].detail


def test_another_manifest_than_the_archives_comment_names_is_no_verdict(nights: Nights, staging: Path) -> None:
    comment = f"verdict=good manifest=sha256:{'0' * 64} set=database"
    archive = Archive("night-1", "0" * 64, datetime.now(UTC), comment)
    done = drill(Extraction("night-1", nights.second, archive=archive), Rehearsal(staging))
    assert with_verdict(done, "failed", "not_checked") == ["files"]
    assert (done.verdict, done.head) == ("not_checked", None)


def flip(path: str) -> Bend:
    """Flip a byte in the middle of a file, and leave manifest and sums as they are."""

    def bend(directory: Path, _: Nights) -> None:
        data = bytearray((directory / path).read_bytes())
        data[len(data) // 2] ^= 1
        (directory / path).write_bytes(data)

    return bend


def cut_dump(directory: Path, _: Nights) -> None:
    data = (directory / "db.dump").read_bytes()
    (directory / "db.dump").write_bytes(data[: len(data) // 2])
    reseal(directory)


def without_role(directory: Path, _: Nights) -> None:
    lines = (directory / "roles.sql").read_text("utf-8").splitlines(keepends=True)
    (directory / "roles.sql").write_text("".join(line for line in lines if "agledger_app" not in line), "utf-8")
    reseal(directory)


def of_another_night(*paths: str) -> Bend:
    """Take files of the night before."""

    def bend(directory: Path, nights: Nights) -> None:
        for path in paths:
            (directory / path).write_bytes((nights.first / path).read_bytes())
        reseal(directory)

    return bend


def redumped(*statements: str) -> Bend:
    """Dump a database that is not quite the one that was counted and exported."""

    def bend(directory: Path, nights: Nights) -> None:
        nights.redump(directory, *statements)
        reseal(directory)

    return bend


# A view that is filled when everything else is there, by a function that takes a trigger away.
THIEF = (
    """CREATE FUNCTION public.thief() RETURNS integer LANGUAGE plpgsql AS
       'BEGIN DROP TRIGGER audit_table_stays ON public.vault_checkpoints; RETURN 1; END'""",
    "CREATE MATERIALIZED VIEW public.stolen AS SELECT public.thief()",
    """CREATE TRIGGER audit_table_stays BEFORE TRUNCATE ON public.vault_checkpoints
       FOR EACH STATEMENT EXECUTE FUNCTION public.audit_append_only()""",
)
CHAIN_FILES = ("audit_vault", "vault_checkpoints", "vault_signing_keys", "org_admin_reads",
               "org_admin_reads_checkpoints", "vault_key_statements")  # fmt: skip

# What is bent, the check that must fail (and no other), and words of its detail.
BROKEN: dict[str, tuple[Bend, str, str]] = {
    "a flipped byte": (flip("chain-heads.ndjson"), "files", "chain-heads.ndjson: SET_FILE_CHANGED"),
    "a flipped byte in the key registry": (flip("vault-public-keys.csv"), "files", "SET_FILE_CHANGED"),
    "a missing file": (lambda directory, _: (directory / "RESTORE.txt").unlink(), "files", "SET_FILE_MISSING"),
    "a dump cut in half": (cut_dump, "dump", "db.dump is not whole"),
    "a missing role": (without_role, "restore", 'role "agledger_app" does not exist'),
    "a row removed": (
        redumped("DELETE FROM pgboss.job WHERE id = (SELECT min(id::text)::uuid FROM pgboss.job)"),
        "database",
        "table pgboss.job has",
    ),
    "a value changed": (
        redumped("UPDATE public.orgs SET name = name || ' '"),
        "database",
        "but not with the values that they had",
    ),
    "a sequence set back": (
        redumped("SELECT setval('public.record_reference_seq', 1)"),
        "database",
        "sequence public.record_reference_seq is at 1, was at",
    ),
    "a lost trigger": (redumped(*THIEF), "database", "TRIGGER public.vault_checkpoints audit_table_stays is missing"),
    "a CSV of another night": (
        of_another_night("vault-public-keys.csv"),
        "registry",
        "vault-public-keys.csv: ",
    ),
    "a chain of another night": (
        of_another_night("chain-heads.ndjson", *(f"chain/{name}.ndjson" for name in CHAIN_FILES)),
        "export",
        "chain/audit_vault.ndjson: ",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_exactly_the_check_fails_whose_business_it_is(
    what: str, nights: Nights, second_night: Path, rehearse: Rehearse
) -> None:
    bend, check, words = BROKEN[what]
    bend(second_night, nights)
    done = rehearse(second_night)
    assert with_verdict(done, "failed") == [check], by_name(done)
    assert words in by_name(done)[check].detail
    assert (done.verdict, done.exit_code) == ("failed", 10)
    unproven = {"dump": ["restore", *NEEDS_A_DATABASE], "restore": NEEDS_A_DATABASE}.get(check, [])
    assert with_verdict(done, "not_checked") == unproven
    assert (done.head is None) == (check not in ("database", "registry"))
    assert (done.rto_seconds is None) == bool(unproven)


def test_a_missing_key_fails_the_chain_and_nothing_else(nights: Nights, rehearse: Rehearse, tmp_path: Path) -> None:
    with nights.changed("DELETE FROM vault_signing_keys WHERE status = 'retired'") as vault:
        directory = staged(vault, tmp_path / "without a key", allow=("suspect",))
    done = rehearse(directory)
    assert with_verdict(done, "failed") == ["chain"]
    assert "CHAIN_SIGNATURE_MISSING_KEY at audit_vault" in by_name(done)["chain"].detail
    assert done.head is None
    assert {one.code for one in done.findings} == {"CHAIN_SIGNATURE_MISSING_KEY"} | {
        one.code for one in manifest_of(directory).chain.findings
    }


def test_what_an_operator_has_accepted_does_not_fail(nights: Nights, rehearse: Rehearse, tmp_path: Path) -> None:
    with nights.changed("DELETE FROM vault_signing_keys WHERE status = 'retired'") as vault:
        directory = staged(vault, tmp_path / "without a key", allow=("suspect",))
    findings = rehearse(directory).findings
    done = rehearse(directory, accepted={one.id: "known" for one in findings})
    assert (done.verdict, with_verdict(done, "failed")) == ("passed", [])
    assert f"{len(findings)} accepted findings" in by_name(done)["chain"].detail
    but_one = rehearse(directory, accepted={one.id: "known" for one in findings[1:]})
    assert with_verdict(but_one, "failed") == ["chain"]


# The last entry of one record, and the checkpoint over it.
LAST = """
WHERE (record_id, chain_position) = (SELECT record_id, max(chain_position) FROM audit_vault
                                      WHERE record_id IS NOT NULL GROUP BY 1 ORDER BY 1 DESC LIMIT 1)"""
SHORTENED = f"WITH gone AS (DELETE FROM vault_checkpoints {LAST}) DELETE FROM audit_vault {LAST}"


def test_a_shortened_chain_fails_continuity_and_nothing_else(
    nights: Nights, rehearse: Rehearse, tmp_path: Path
) -> None:
    with nights.changed(SHORTENED) as vault:
        directory = staged(vault, tmp_path / "shortened")
    done = rehearse(directory, predecessors=after(nights.second))
    assert with_verdict(done, "failed") == ["continuity"]
    assert "CONTINUITY_CHAIN_SHORTENED" in by_name(done)["continuity"].detail
    healthy(rehearse(directory), not_applicable=("continuity",))


def test_a_predecessor_that_cannot_be_read_is_no_continuity(nights: Nights, rehearse: Rehearse) -> None:
    done = rehearse(nights.second, predecessors=replace(after(nights.first), reasons=("nas: connection refused",)))
    assert with_verdict(done, "not_checked") == ["continuity"]
    assert by_name(done)["continuity"].detail == "nas: connection refused"
    assert (done.verdict, done.exit_code) == ("not_checked", 11)


FIRST_KEY = """
SELECT encode(sha256(decode(public_key, 'base64')), 'hex') FROM vault_signing_keys ORDER BY activated_at LIMIT 1"""


def test_pinned_keys_are_walked_and_others_refused(nights: Nights, rehearse: Rehearse) -> None:
    fingerprint = nights.vault.value(FIRST_KEY)
    done = rehearse(nights.second, anchors=[f"sha256:{fingerprint}"])
    healthy(done, not_applicable=("continuity",))
    assert by_name(done)["chain"].detail.endswith("under keys that were pinned")
    wrong = rehearse(nights.second, anchors=[f"sha256:{'0' * 64}"])
    assert with_verdict(wrong, "failed", "not_checked") == ["chain"]
    assert wrong.head is None


def of_major(major: str) -> Callable[[Path], None]:
    def bend(directory: Path) -> None:
        snapshot = manifest_of(directory).snapshot
        reseal(directory, snapshot=replace(snapshot, server_version=f"{major}.1"))

    return bend


def with_extension(directory: Path) -> None:
    survey = manifest_of(directory).survey
    reseal(directory, survey=replace(survey, extensions=(*survey.extensions, Extension("pg_nowhere", "1.7"))))


def with_locale(directory: Path) -> None:
    script = (directory / "database.sql").read_text("utf-8")
    assert script.count("C.UTF-8") == 2
    (directory / "database.sql").write_text(script.replace("C.UTF-8", "xx_YY.UTF-8"), "utf-8")
    reseal(directory)


LACKING: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "a server of the right major": (of_major("14"), ["dump", "restore", *NEEDS_A_DATABASE], "no pg_restore 14 here"),
    "an extension": (with_extension, ["restore", *NEEDS_A_DATABASE], "this server lacks extension pg_nowhere 1.7"),
    "a locale": (with_locale, ["restore", *NEEDS_A_DATABASE], "xx_YY.UTF-8"),
}


@pytest.mark.parametrize("what", LACKING)
def test_what_is_missing_here_is_named_and_neither_passed_nor_failed(
    what: str, second_night: Path, rehearse: Rehearse
) -> None:
    bend, checks, words = LACKING[what]
    bend(second_night)
    done = rehearse(second_night)
    assert with_verdict(done, "not_checked") == checks
    assert with_verdict(done, "failed") == []
    assert words in by_name(done)[checks[0]].detail
    assert (done.verdict, done.exit_code) == ("not_checked", 11)


def test_other_versions_of_collations_are_a_warning(second_night: Path, rehearse: Rehearse) -> None:
    survey = manifest_of(second_night).survey
    reseal(second_night, survey=replace(survey, collations=(Collation("de_DE", "2.31"),)))
    done = rehearse(second_night)
    healthy(done, not_applicable=("continuity",))
    assert by_name(done)["collations"].detail == ("warning: versions differ: collation de_DE is not here, was 2.31")


def test_tables_that_nobody_counted_are_no_proof(second_night: Path, rehearse: Rehearse) -> None:
    survey = manifest_of(second_night).survey
    uncounted = tuple(replace(table, rows=None, digest=None) for table in survey.tables)
    reseal(second_night, survey=replace(survey, tables=uncounted))
    done = rehearse(second_night)
    assert with_verdict(done, "not_checked", "failed") == ["database"]
    assert "database.table_digests" in by_name(done)["database"].detail


def test_a_table_that_a_standby_could_not_count_is_named(second_night: Path, rehearse: Rehearse) -> None:
    survey = manifest_of(second_night).survey
    tables = (replace(survey.tables[0], rows=None, digest=None), *survey.tables[1:])
    reseal(second_night, survey=replace(survey, tables=tables))
    done = rehearse(second_night)
    healthy(done, not_applicable=("continuity",))
    name = f"{survey.tables[0].schema}.{survey.tables[0].name}"
    assert by_name(done)["database"].detail.endswith(f"; rows not counted in {name}")


@pytest.mark.parametrize("damage", ["", "{", '{"format": 1}'])
def test_a_manifest_that_says_nothing_is_no_verdict(damage: str, second_night: Path, rehearse: Rehearse) -> None:
    (second_night / "manifest.json").write_text(damage, "utf-8")
    done = rehearse(second_night)
    assert with_verdict(done, "not_checked") == list(CHECKS)
    assert "manifest.json cannot be read" in by_name(done)["files"].detail
    assert (done.verdict, done.rpo_seconds, done.rto_seconds, done.head) == ("not_checked", None, None, None)


def test_an_archive_that_cannot_be_extracted_has_failed(staging: Path, tmp_path: Path) -> None:
    done = drill(Extraction("night-1", tmp_path, 3.0, problem="borg: data integrity error"), Rehearsal(staging))
    assert (done.archive, done.verdict, with_verdict(done, "failed")) == ("night-1", "failed", ["files"])
    assert by_name(done)["files"].detail == "borg: data integrity error"


def test_its_page_tells_what_is_proven_and_what_is_not(nights: Nights, second_night: Path, rehearse: Rehearse) -> None:
    good = drill_evidence(rehearse(nights.second))
    page = drill_page(good)
    assert "Passed: restore drill" in page
    assert good.head
    assert good.head in page
    assert PROVES["chain"] in good.proven
    assert not any(one.startswith("Not shown") for one in good.not_proven)
    cut_dump(second_night, nights)
    bad = drill_evidence(rehearse(second_night))
    assert "Failed: restore drill" in drill_page(bad)
    assert PROVES["files"] in bad.proven
    assert f"Not shown: {PROVES['database']}" in bad.not_proven
    assert (bad.head, bad.rto_seconds) == ("", None)


def test_every_detail_is_one_line_without_secrets(backed_up: BackedUp, rehearse: Rehearse) -> None:
    text = as_json(rehearse(backed_up.directory))
    assert backed_up.cluster.password not in text
    assert not re.search(r"postgresql://|SCRAM-SHA-256", text)
    assert all("\n" not in check["detail"] for check in json.loads(text)["checks"])
