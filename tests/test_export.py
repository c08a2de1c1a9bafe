"""The way out: what is written is what the Server's restore script takes, and comes back in as the same set."""

from __future__ import annotations

import json
import re
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_artifacts import BackedUp, client
from fix_cli import RunCli
from fix_repository import PASSPHRASE, PlainRepository, initialised
from fix_tarball import PIN, PROJECT, TOKEN, VERSION, Operator, unpacked
from fix_vault import digests, new_database

pytest_plugins = ("fix_server", "fix_backed_up", "fix_script_nights")

FILES = {"db.dump", "vault-public-keys.csv", "backup-metadata"}
HEADER = "key_id,public_key,algorithm,status,activated_at,retired_at"
# What the restore script demands of a value before it uses it.
CREATED, TOKENS, LSN = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", r"\d+:\d+", r"[0-9A-F]+/[0-9A-F]+"


def metadata(directory: Path) -> dict[str, str]:
    """Read backup-metadata as the restore script does: what stands behind the first = of a key's line."""
    lines = (directory / "backup-metadata").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_an_archive_of_ours_is_written_as_the_restore_script_takes_it(convert: Operator, tmp_path: Path) -> None:
    archive = convert.run("create", "--json", "--no-prune", exit_code=0).document
    tarball, vault = tmp_path / "out.tar.gz", convert.script.vault
    report = convert.run("export", "--json", "latest", tarball, exit_code=0).document
    assert (report["archive"], report["verdict"]) == (archive["archive"], "passed")
    directory = unpacked(tarball, tmp_path / "unpacked")
    assert directory.name == re.sub(r"prod-(.*)T(\d\d):(\d\d):(\d\d)Z", r"\1-\2\3\4", archive["archive"])
    assert {path.name for path in directory.iterdir()} == FILES
    assert (directory / "db.dump").read_bytes().startswith(b"PGDMP")
    assert client(vault.cluster, "pg_restore", "--list", directory / "db.dump")[0]
    assert (directory / "vault-public-keys.csv").read_text("utf-8").splitlines()[0] == HEADER
    facts = metadata(directory)
    assert facts["created_at"] == archive["snapshot"]["time"].partition(".")[0].removesuffix("Z") + "Z"
    assert facts["database_token"] == vault.value(TOKEN)
    assert all(re.fullmatch(pattern, facts[name]) for name, pattern in
               (("created_at", CREATED), ("database_token", TOKENS), ("wal_lsn", LSN)))  # fmt: skip
    assert facts["agledger_version"] == facts["compose_project"] == ""


def test_plain_pg_restore_as_the_script_runs_it_gives_the_database_of_that_night(
    convert: Operator, tmp_path: Path
) -> None:
    night, cluster = convert.nights[1], convert.script.vault.cluster
    convert.run("export", night.archive, tmp_path / "out.tar.gz", exit_code=0)
    dump = unpacked(tmp_path / "out.tar.gz", tmp_path / "unpacked") / "db.dump"
    with new_database(cluster) as name:
        client(cluster, "pg_restore", "--no-owner", f"--dbname={name}", dump)
        assert digests(cluster.conninfo(name)) == night.digests


def test_an_imported_archive_gets_back_what_the_script_had_noted(convert: Operator, tmp_path: Path) -> None:
    night = convert.nights[2]
    was = metadata(unpacked(night.tarball, tmp_path / "was"))
    said = convert.run("export", night.archive, tmp_path / "out.tar.gz", exit_code=0)
    directory = unpacked(tmp_path / "out.tar.gz", tmp_path / "is")
    assert metadata(directory) == was
    assert was.items() >= {"compose_project": PROJECT, "agledger_version": VERSION, "agledger_image_pin": PIN}.items()
    assert "not known" not in said.stdout


def test_what_a_tarball_cannot_tell_is_said(convert: Operator, tmp_path: Path) -> None:
    said = convert.run("export", convert.nights[0].archive, tmp_path / "out.tar.gz", exit_code=0)
    assert "the Server's version is not known" in said.stdout
    assert "which database it is from is not known" in said.stdout


def test_a_tarball_is_for_us_alone_and_the_same_bytes_every_time(convert: Operator, tmp_path: Path) -> None:
    archive = convert.nights[0].archive
    for name in ("one.tar.gz", "two.tar.gz"):
        convert.run("export", archive, tmp_path / name, exit_code=0)
    one, two = tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"
    assert one.read_bytes() == two.read_bytes()
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    with tarfile.open(one) as archive_file:
        assert {(member.mode, member.uid, member.uname) for member in archive_file if member.isfile()} == {
            (0o600, 0, "")
        }
    assert not list(tmp_path.glob(".*"))


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Path]:
    """A file that is there already."""
    path = tmp_path / "taken.tar.gz"
    path.write_text("precious", "utf-8")
    yield path
    assert path.read_text("utf-8") == "precious"


def test_nothing_is_overwritten(convert: Operator, taken: Path, tmp_path: Path) -> None:
    said = convert.run("export", "latest", taken, exit_code=2)
    assert f"{taken} exists already" in said.stderr
    (tmp_path / "link.tar.gz").symlink_to(tmp_path / "nowhere")
    assert "exists already" in convert.run("export", "latest", tmp_path / "link.tar.gz", exit_code=2).stderr
    said = convert.run("export", "latest", tmp_path / "no" / "out.tar.gz", exit_code=2)
    assert "is no directory: make it first" in said.stderr


def test_an_archive_that_is_not_what_its_manifest_says_is_not_written(convert: Operator, tmp_path: Path) -> None:
    night = convert.nights[0]
    directory = convert.repository.extract(night.archive, tmp_path / "extracted")
    with (directory / "db.dump").open("r+b") as dump:
        dump.seek(5000)
        dump.write(b"somebody was here")
    (one,) = (one for one in convert.repository.archives() if one["name"] == night.archive)
    convert.repository.borg("delete", f"::{night.archive}")
    options = [f"--comment={one['comment']}", f"--timestamp={one['start'].partition('.')[0]}", "--files-cache=disabled"]
    convert.repository.borg("create", *options, f"::{night.archive}", ".", cwd=directory)
    report = convert.run("export", "--json", night.archive, tmp_path / "out.tar.gz", exit_code=10).document
    assert [(one["code"], one["where"]) for one in report["findings"]] == [("SET_FILE_CHANGED", "db.dump")]
    assert not (tmp_path / "out.tar.gz").exists()


def test_a_foreign_archive_is_not_written(convert: Operator, tmp_path: Path) -> None:
    convert.repository.add("prod-2026-01-01T00:00:00Z")
    said = convert.run("export", "prod-2026-01-01T00:00:00Z", tmp_path / "out.tar.gz", exit_code=5)
    assert "cannot extract prod-2026-01-01T00:00:00Z" in said.stderr
    assert not (tmp_path / "out.tar.gz").exists()
    assert convert.run("export", "prod-1999", tmp_path / "out.tar.gz", exit_code=2).stderr


def lasting(manifest: Any) -> Any:
    """Give what must be the same in the manifest of a set that went out and came in again."""
    artifacts = {
        one["path"]: (one["size"], one["sha256"], one["rows"], one["producer"]) for one in manifest["artifacts"]
    }
    survey, properties = manifest["survey"], manifest["survey"]["properties"]
    settings = [one for one in properties["settings"] if one["in_database"]]
    told = {key: properties[key] for key in properties.keys() - {"roles", "memberships", "settings"}}
    counted = {
        key: survey[key] for key in ("tables", "materialised_views", "foreign_tables", "extensions", "collations")
    }
    snapshot = {
        key: manifest["snapshot"][key] for key in ("server_version", "system_identifier", "database", "wal_lsn")
    }
    rest = {key: manifest[key] for key in ("label", "verdict", "clients", "counts", "read_logs")}
    files = {path: one for path, one in artifacts.items() if path not in ("roles.sql", "database.sql")}
    return (
        {"files": files, "settings": settings, "rows": counted}
        | told
        | snapshot
        | rest
        | {"era": manifest["chain"]["era"]}
    )


@pytest.fixture
def elsewhere(backed_up: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlainRepository:
    """An empty repository; the program is told of another, which has a database of everything that is hard."""
    place = backed_up.directory.parent
    for name, value in {"DATABASE_URL": backed_up.vault.url, "BORG_PASSPHRASE": PASSPHRASE}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BORG_REPO", str(place / "repository"))
    return initialised(tmp_path / "elsewhere", tmp_path / "plain-borg")


def test_what_goes_out_comes_in_as_an_equal_set(
    backed_up: BackedUp, elsewhere: PlainRepository, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = backed_up.manifest
    run_cli("export", "latest", tmp_path / "out.tar.gz", exit_code=0)
    monkeypatch.setenv("BORG_REPO", str(elsewhere.path))
    (imported,) = run_cli("import", "--json", tmp_path / "out.tar.gz", exit_code=0).document["files"]
    assert (imported["archive"], imported["backup"]["verdict"]) == (was["archive"], "good")
    manifest = json.loads(elsewhere.read(was["archive"], "manifest.json"))
    assert lasting(manifest) == lasting(was)
    made, wanted = ({one["name"] for one in one["survey"]["properties"]["roles"]} for one in (manifest, was))
    assert made <= wanted
    drilled = run_cli("drill", "--json", exit_code=0).document
    assert {check["verdict"] for check in drilled["checks"]} <= {"passed", "not_applicable"}


def test_a_tarball_that_cannot_be_written_leaves_nothing(convert: Operator, tmp_path: Path) -> None:
    said = convert.run("export", "latest", tmp_path / ("x" * 250), exit_code=7)
    assert "cannot be written: File name too long" in said.stderr
    assert not list(tmp_path.glob(".*"))
