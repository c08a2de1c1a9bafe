"""`verify DIR`: the verdict in words, as a document and as an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest
from fix_cli import RunCli

from borg_vault_plugin.sample import SampleVault, VaultShape, write_rows

pytest_plugins = ("fix_server",)

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
    assert set(document["findings"][0]) == {"code", "where", "detail"}


def test_a_missing_file_is_no_verdict(dump: Path, run_cli: RunCli) -> None:
    (dump / "vault_checkpoints.ndjson").unlink()
    said = run_cli("verify", dump, exit_code=11)
    assert said.stdout.startswith("NOT CHECKED: ")
    assert "vault_checkpoints" in said.stderr


def test_no_directory_is_no_verdict(tmp_path: Path, run_cli: RunCli) -> None:
    assert "there is no audit_vault.ndjson" in run_cli("verify", tmp_path / "nowhere", exit_code=11).stderr


def test_a_pin_that_is_no_fingerprint_is_no_verdict(dump: Path, run_cli: RunCli) -> None:
    run_cli("verify", dump, "--trust-anchor", "sha256:12", exit_code=11)
