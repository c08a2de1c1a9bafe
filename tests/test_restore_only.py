"""Parts of an archive as files: exactly what the manifest has, or nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_restore import Rescue

pytest_plugins = ("fix_server", "fix_rescue")

CHAIN = {
    "audit_vault.ndjson", "vault_checkpoints.ndjson", "vault_signing_keys.ndjson", "org_admin_reads.ndjson",
    "org_admin_reads_checkpoints.ndjson", "vault_key_statements.ndjson",
}  # fmt: skip
PARTS = {"registry": {"vault-public-keys.csv"}, "dump": {"db.dump"}, "chain": CHAIN}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_written_as_the_manifest_has_it(rescue: Rescue, run_cli: RunCli, tmp_path: Path, part: str) -> None:
    directory = tmp_path / "out" / part
    document = run_cli("restore", "--only", part, directory, "--json", exit_code=0).document
    assert (document["archive"], document["verdict"]) == (rescue.nights.newer, "passed")
    assert {path.name for path in directory.iterdir()} == PARTS[part] == {file["path"] for file in document["files"]}
    archived = {Path(file["path"]).name: file["sha256"] for file in manifest(rescue)["artifacts"]}
    for path in directory.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == archived[path.name]
        assert path.stat().st_mode & 0o077 == 0
    assert rescue.databases() == {rescue.live}


def test_the_chain_alone_can_be_verified(rescue: Rescue, run_cli: RunCli, tmp_path: Path) -> None:
    directory = tmp_path / "empty already"
    directory.mkdir()
    said = run_cli("restore", rescue.nights.older, "--only", "chain", directory, exit_code=0).stdout
    assert f"{directory} holds, of {rescue.nights.older}" in said
    assert "PASSED" in run_cli("verify", directory, exit_code=0).stdout


def test_a_directory_in_use_is_left_as_it_is(rescue: Rescue, run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "something").touch()
    assert "holds something already" in run_cli("restore", "--only", "dump", tmp_path / "used", exit_code=2).stderr
    said = run_cli("restore", "--only", "dump", tmp_path / "used" / "something", exit_code=2)
    assert "is no directory" in said.stderr
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["something"]
    assert rescue.databases() == {rescue.live}


def test_what_a_killed_run_has_left_is_no_obstacle(rescue: Rescue, run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "out" / "bv-leftover").mkdir(parents=True)
    said = run_cli("restore", "--only", "registry", tmp_path / "out", exit_code=0)
    assert rescue.nights.newer in said.stdout


def test_a_file_that_was_changed_is_not_written(rescue: Rescue, run_cli: RunCli, tmp_path: Path) -> None:
    def alter(directory: Path) -> None:
        (directory / "chain" / "org_admin_reads.ndjson").write_text("{}\n")

    rescue.store_altered(alter, sealed=False)
    document = run_cli("restore", "--only", "chain", tmp_path / "out", "--json", exit_code=10).document
    assert [finding["code"] for finding in document["findings"]] == ["SET_FILE_CHANGED"]
    assert document["files"] == []
    assert not (tmp_path / "out").exists()
    said = run_cli("restore", "--only", "chain", tmp_path / "out", exit_code=10).stdout
    assert "nothing of" in said
    assert "SET_FILE_CHANGED at chain/org_admin_reads.ndjson" in said
    run_cli("restore", "--only", "registry", tmp_path / "out", exit_code=0)


def test_a_link_in_place_of_the_chain_is_not_followed(rescue: Rescue, run_cli: RunCli, tmp_path: Path) -> None:
    def alter(directory: Path) -> None:
        (directory / "chain").rename(tmp_path / "elsewhere")
        (directory / "chain").symlink_to(tmp_path / "elsewhere")

    rescue.store_altered(alter, sealed=False)
    said = run_cli("restore", "--only", "chain", tmp_path / "out", exit_code=5)
    assert "is not extracted: it holds a symbolic link ('chain')" in said.stderr
    assert len(list((tmp_path / "elsewhere").iterdir())) == len(CHAIN)


def test_a_suspect_archive_is_written_with_a_warning(rescue: Rescue, run_cli: RunCli, tmp_path: Path) -> None:
    words = ("restore", rescue.nights.suspect, "--only", "registry", tmp_path / "out")
    run_cli(*words, exit_code=0, warning="is suspect: its manifest.json says why")


def test_an_archive_without_a_manifest_is_no_verdict(rescue: Rescue, run_cli: RunCli, tmp_path: Path) -> None:
    rescue.repository.add("holiday-pictures")
    run_cli("restore", "holiday-pictures", "--only", "chain", tmp_path / "out", exit_code=5)
    assert not (tmp_path / "out").exists()


def manifest(rescue: Rescue) -> dict[str, list[dict[str, str]]]:
    document: dict[str, list[dict[str, str]]] = json.loads(rescue.repository.read(rescue.nights.newer, "manifest.json"))
    return document
