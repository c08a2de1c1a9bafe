"""Archives that another program made, whatever they are called, are first class once they hold a set of ours."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

from fix_cli import RunCli
from fix_wrapped import Wrapped

from borg_vault_plugin.sealed_set import open_set

pytest_plugins = ("fix_server", "fix_nights", "fix_sets", "fix_staged")


def test_a_confirmed_archive_is_listed_verified_and_drilled(wrapped: Wrapped, run_cli: RunCli) -> None:
    wrapped.confirmed("first", wrapped.nights.first)
    archive_id = wrapped.confirmed("daily", wrapped.nights.second)
    verified = run_cli("verify", "--json", exit_code=0).document
    assert (verified["target"], verified["verdict"]) == ("daily", "passed")
    assert verified["files"] > 10
    drilled = run_cli("drill", "--json", exit_code=0).document
    assert (drilled["archive"], drilled["verdict"]) == ("daily", "passed")
    continuity = next(one for one in drilled["checks"] if one["name"] == "continuity")
    assert continuity["verdict"] == "passed"
    first, second = run_cli("list", "--json", exit_code=0).document["archives"]
    assert (first["name"], first["verdict"], first["drilled"]) == ("first", "good", None)
    assert (second["name"], second["id"], second["repository"]) == ("daily", archive_id, "nas")
    assert second["drilled"] is not None
    sealed = open_set(wrapped.nights.second)
    assert second["time"].startswith(f"{sealed.manifest.time:%Y-%m-%dT%H:%M:%S}")
    assert second["original_size"] > sum(one.size for one in sealed.manifest.artifacts)
    happened = [(one.event, one.archive, one.archive_id) for one in wrapped.shelf.history().events()][-2:]
    assert happened == [("verified", "daily", archive_id), ("drilled", "daily", archive_id)]


def test_a_confirmed_archive_is_restored_exported_and_pinned(wrapped: Wrapped, run_cli: RunCli, tmp_path: Path) -> None:
    wrapped.archive("daily", wrapped.staging, "/etc/passwd")
    wrapped.confirm()
    restored = run_cli("restore", "--database", f"restored_{tmp_path.name}", "--json", exit_code=0).document
    assert (restored["archive"], restored["verdict"]) == ("daily", "passed")
    run_cli("restore", "daily", "--only", "chain", tmp_path / "chain", exit_code=0)
    chain = tmp_path / "chain" / "audit_vault.ndjson"
    assert chain.read_bytes() == (wrapped.staging / "chain" / "audit_vault.ndjson").read_bytes()
    run_cli("export", "latest", tmp_path / "out.tar.gz", exit_code=0)
    with tarfile.open(tmp_path / "out.tar.gz") as tar:
        assert any(name.endswith("db.dump") for name in tar.getnames())
    assert run_cli("pin", "daily", "--reason", "audit", exit_code=0).stdout == "nas: daily is pinned\n"


def test_status_takes_it_for_the_last_good_archive(wrapped: Wrapped, run_cli: RunCli) -> None:
    for where in ("nas", "second"):
        wrapped.archive(f"daily-in-{where}", where=where)
        run_cli("confirm", "-r", where, "--from", wrapped.staging, exit_code=0)
    (database, *_) = run_cli("status", "--json", exit_code=13).document["sets"]
    assert database["archive"] in {"daily-in-nas", "daily-in-second"}
    assert (database["repositories"], database["problems"]) == (["nas", "second"], [])


def test_a_later_set_must_extend_it(wrapped: Wrapped, run_cli: RunCli, tmp_path: Path) -> None:
    wrapped.confirmed("daily", wrapped.nights.second)
    document = run_cli("stage", tmp_path / "another", "--json", exit_code=0).document
    assert document["continuity"] == {"previous": wrapped.title, "verdict": "passed", "findings": []}
    created = run_cli("create", "-r", "nas", "--json", "--no-prune", exit_code=0).document
    assert created["continuity"]["previous"] == wrapped.title


def test_our_own_retention_leaves_it_alone(wrapped: Wrapped, run_cli: RunCli) -> None:
    for name, night in (("first", wrapped.nights.first), ("daily", wrapped.nights.second)):
        wrapped.confirmed(name, night)
    document = run_cli("prune", "-r", "nas", "--keep", 1, "--json", exit_code=0).document
    assert (document["plan"], document["pruned"][0]["removed"]) == ([], [])
    assert wrapped.nas.names() == ["daily", "first"]


def test_a_host_without_history_finds_the_set_in_an_archive_that_is_named(wrapped: Wrapped, run_cli: RunCli) -> None:
    wrapped.archive("daily", "/etc/passwd", wrapped.staging)
    assert run_cli("list", "--json", exit_code=0).document["archives"] == []
    assert "there is no good archive" in run_cli("verify", exit_code=2).stderr
    assert run_cli("verify", "daily", "--json", exit_code=0).document["verdict"] == "passed"
    assert run_cli("drill", "daily", "--json", exit_code=0).document["verdict"] == "passed"
    wrapped.shelf.forget()
    run_cli("restore", "daily", "--only", "registry", wrapped.place / "out", exit_code=0)
    assert (wrapped.place / "out" / "vault-public-keys.csv").exists()


def test_a_set_that_was_damaged_on_its_way_fails_whatever_the_archive_is_called(
    wrapped: Wrapped, run_cli: RunCli
) -> None:
    (wrapped.staging / "roles.sql").write_text("-- nothing\n", "utf-8")
    wrapped.archive("daily")
    document = run_cli("verify", "daily", "--json", exit_code=10).document
    assert "SET_FILE_CHANGED" in {one["code"] for one in document["findings"]}


def test_an_archive_of_several_sets_is_refused_unless_one_is_of_this_server(wrapped: Wrapped, run_cli: RunCli) -> None:
    other = Path(shutil.copytree(wrapped.staging, wrapped.place / "other"))
    wrapped.archive("both", "staging", "other")
    said = run_cli("verify", "both", exit_code=2).stderr
    assert "both holds several sets (staging, other)" in said or "both holds several sets (other, staging)" in said
    manifest = json.loads((other / "manifest.json").read_bytes())
    manifest["archive"] = manifest["archive"].replace("night-", "evening-")
    (other / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    wrapped.archive("one-of-ours", "staging", "other")
    assert run_cli("verify", "one-of-ours", "--json", exit_code=0).document["verdict"] == "passed"


def test_an_archive_without_a_set_has_nothing_to_verify(wrapped: Wrapped, run_cli: RunCli) -> None:
    wrapped.archive("daily", "/etc/passwd")
    run_cli("verify", "daily", exit_code=11)


def test_encryption_keys_cannot_be_stored_beside_a_confirmed_set(wrapped: Wrapped, run_cli: RunCli) -> None:
    wrapped.archive("daily")
    wrapped.confirm()
    key = wrapped.place / "a.key"
    key.write_text("secret", "utf-8")
    keys = f'[sets.keys]\npaths = ["{key}"]\nrepositories = ["nas"]\n'
    sections = f"{wrapped.shelf.section('nas')}{wrapped.shelf.section('escrow')}{keys}"
    wrapped.shelf.write_config(f'label = "night"\n{sections}[sets.database]\nrepositories = ["escrow"]\n')
    said = run_cli("create", "--set", "keys", exit_code=3).stderr
    assert f"the sets keys and database share repository nas, which has {wrapped.title}" in said
