"""`create`: one archive of one instant, and what the program says about it."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fix_cli import RunCli, RunCommand
from fix_repository import PlainRepository, announce
from fix_vault import Vault

pytest_plugins = ("fix_server",)

CHAIN_FILES = [
    "audit_vault", "vault_checkpoints", "vault_signing_keys", "org_admin_reads", "org_admin_reads_checkpoints",
    "vault_key_statements",
]  # fmt: skip
PATHS = [
    "db.dump",
    "roles.sql",
    "database.sql",
    "vault-public-keys.csv",
    "chain-heads.ndjson",
    *[f"chain/{name}.ndjson" for name in CHAIN_FILES],
]
SEALING = ["manifest.json", "SHA256SUMS", "RESTORE.txt"]


def listing(repository: PlainRepository, archive: str) -> list[dict[str, Any]]:
    lines = repository.borg("list", "--json-lines", f"::{archive}").splitlines()
    return [json.loads(line) for line in lines]


def test_an_archive_says_what_it_is(server: Vault, repository: PlainRepository, run_cli: RunCli) -> None:
    before = datetime.now(UTC)
    document = run_cli("create", "--json", exit_code=0).document
    (archive,) = repository.archives()
    time = datetime.fromisoformat(document["snapshot"]["time"])
    assert before <= time <= datetime.now(UTC)
    assert archive["name"] == document["archive"] == f"{server.database}-{time:%Y-%m-%dT%H:%M:%SZ}"
    assert archive["id"] == document["repositories"][0]["archive_id"]
    assert archive["start"] == f"{time:%Y-%m-%dT%H:%M:%S}.000000"
    manifest = repository.read(archive["name"], "manifest.json")
    assert archive["comment"] == (
        f"verdict={document['verdict']} manifest=sha256:{hashlib.sha256(manifest).hexdigest()} set=database"
    )
    told = json.loads(manifest)
    for key in ("archive", "verdict", "artifacts", "counts", "chain", "continuity", "snapshot"):
        assert told[key] == document[key], key
    assert (told["label"], told["set"]) == (server.database, "database")


def test_an_archive_holds_exactly_the_documented_files(
    server: Vault, repository: PlainRepository, run_cli: RunCli
) -> None:
    document = run_cli("create", "--json", "--no-prune", exit_code=0).document
    found = listing(repository, document["archive"])
    assert sorted(entry["path"] for entry in found) == sorted(PATHS + SEALING)
    assert {(entry["type"], entry["mode"]) for entry in found} == {("-", "-rw-------")}
    assert document["pruned"] == []
    for artifact in document["artifacts"]:
        data = repository.read(document["archive"], artifact["path"])
        assert (artifact["size"], artifact["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    rows = {artifact["path"]: artifact["rows"] for artifact in document["artifacts"]}
    assert sorted(rows) == sorted(PATHS)
    assert document["counts"] == {name: rows[f"chain/{name}.ndjson"] for name in CHAIN_FILES}
    assert document["counts"] == {name: server.value(f"SELECT count(*) FROM {name}") for name in CHAIN_FILES}


def test_a_dump_is_not_compressed_inside(server: Vault, repository: PlainRepository, run_cli: RunCli) -> None:
    server.execute("CREATE TABLE notes AS SELECT repeat('deduplicate me ', 100) AS words")
    archive = run_cli("create", "--json", exit_code=0).document["archive"]
    assert b"deduplicate me " * 100 in repository.read(archive, "db.dump")


def test_a_success_is_told_on_standard_output_alone(server: Vault, run_command: RunCommand) -> None:
    said = run_command("create", exit_code=0).stdout
    assert re.search(rf"^{server.database}-\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ: GOOD$", said, re.MULTILINE)
    assert re.search(r"^  default: .* stored, .* of it new", said, re.MULTILINE)
    assert "era v2" in said


def test_quiet_leaves_out_the_narration(server: Vault, run_cli: RunCli) -> None:
    said = run_cli("-q", "create", "--dry-run", exit_code=0).stdout
    assert "snapshot of" not in said
    assert server.database in said


def test_a_dry_run_stores_and_removes_nothing(server: Vault, repository: PlainRepository, run_cli: RunCli) -> None:
    old = [f"{server.database}-2026-05-0{day}T00:00:00Z" for day in (1, 2)]
    repository.add(*old)
    document = run_cli("create", "--dry-run", "--keep", "1", "--json", exit_code=0).document
    assert document["repositories"][0]["status"] == "would_store"
    assert document["archive"].startswith(f"{server.database}-20")
    assert repository.names() == old


def test_a_server_without_key_statements_is_of_the_first_era(
    latest_older_vault: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(monkeypatch, latest_older_vault, repository)
    document = run_cli("create", "--json", "--no-prune", exit_code=0).document
    assert (document["chain"]["era"], document["verdict"]) == ("v1", "good")
    assert list(document["counts"]) == CHAIN_FILES[:5]
    assert len(document["artifacts"]) == len(PATHS) - 1


@pytest.mark.usefixtures("server")
def test_heads_name_the_last_entry_of_every_chain(repository: PlainRepository, run_cli: RunCli) -> None:
    document = run_cli("create", "--json", exit_code=0).document
    heads = [json.loads(line) for line in repository.read(document["archive"], "chain-heads.ndjson").splitlines()]
    expected: dict[str, dict[str, Any]] = {}
    for line in repository.read(document["archive"], "chain/audit_vault.ndjson").splitlines():
        entry = json.loads(line)
        expected[entry["chain_key"]] = {
            "chain_key": entry["chain_key"], "position": entry["chain_position"], "hash": entry["payload_hash"]
        }  # fmt: skip
    assert len(heads) == document["chain"]["chains"] == len(expected)
    assert sorted(heads, key=lambda head: head["chain_key"]) == [expected[key] for key in sorted(expected)]


@pytest.mark.usefixtures("server")
def test_nothing_is_left_in_staging(run_cli: RunCli, tmp_path: Path) -> None:
    run_cli("create", "--no-prune", exit_code=0)
    staging = tmp_path / "xdg_state_home" / "borg-vault" / "staging"
    assert [path for path in staging.rglob("*") if not path.is_dir()] == []


def test_an_entry_nested_a_thousand_levels_deep_is_stored_though_nobody_can_verify_it(
    server: Vault, repository: PlainRepository, run_cli: RunCli
) -> None:
    deep = "(repeat('{\"a\":', 1500) || '1' || repeat('}', 1500))::jsonb"
    server.execute(
        "INSERT INTO audit_vault (id, record_id, entry_type, payload, payload_hash, chain_position, cose_sign1,"
        f" actor_key_id, actor_role, actor_owner_id, created_at) SELECT gen_random_uuid(), gen_random_uuid(), 'DEEP',"
        f" {deep}, repeat('0', 64), 1, 'x', gen_random_uuid(), 'agent', gen_random_uuid(), '2026-05-02Z'"
    )
    document = run_cli("create", "--no-prune", "--json", exit_code=11).document
    assert "nested deeper than 200 levels" in document["chain"]["reason"]
    assert repository.names() == [document["archive"] + ".unverified"]
