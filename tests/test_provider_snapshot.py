"""A provider's snapshot in place of the dump: which it is stands in the archive, and all that needs a dump says so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fix_cli import RunCli
from fix_history import WriteConfig
from fix_installation import installed
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository
from fix_vault import Vault

pytest_plugins = ("fix_server",)

EXAMPLE = Path(__file__).parent.parent / "examples" / "provider_snapshot"
CONFIG = 'label = "prod"\nplugins = ["provider-snapshot"]\n[database]\ndump = "provider-snapshot"\n'
# What a command may print, and the words that refuse it.
UNIDENTIFIED = {
    "": "printed no JSON",
    "An error occurred\n": "printed no JSON",
    "[]": "something else than one JSON object of texts",
    '{"provider": "x", "id": 1, "created": "2026-01-01T00:00:00Z"}': "something else than one JSON object of texts",
    '{"provider": "x", "created": "2026-01-01T00:00:00Z"}': "the snapshot has no id",
    '{"provider": "x", "id": "", "created": ""}': "the snapshot has no id, created",
    '{"provider": "x", "id": "1", "created": "yesterday"}': "the snapshot's time cannot be read",
    '{"provider": "x", "id": "1", "created": "2026-01-01T00:00:00"}': "has no zone: print it as RFC 3339 has it",
    '{"provider": "x", "id": "1", "created": "2026-01-01T00:00:00Z"}': "must print the snapshot of this run",
}
ARN = "arn:aws:rds:eu-west-1:1:snapshot:vault-42"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed as its reader would install it, in a directory of its own."""
    place = tmp_path_factory.mktemp("provider-snapshot")
    shutil.copytree(EXAMPLE, place / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", place / "site", place / "source"], check=True, timeout=120)
    return place / "site"


@dataclass(frozen=True, slots=True)
class Provider:
    """A stand-in for the provider: a command that prints what a test tells it to."""

    place: Path
    repository: PlainRepository
    vault: Vault
    run: RunCli

    def says(self, output: str, *, ending: int = 0) -> None:
        """Have the command print this, and end with this exit code."""
        (self.place / "output").write_text(output, "utf-8")
        (self.place / "command").write_text(f'#!/bin/sh\ncat "{self.place}/output"\nexit {ending}\n', "utf-8")
        (self.place / "command").chmod(0o755)

    def has_taken(self, age: timedelta = timedelta(), **others: str) -> dict[str, str]:
        """Have it name a snapshot of this age."""
        created = (datetime.now(UTC) - age).isoformat(timespec="seconds")
        identity = {"provider": "aws-rds", "id": "vault-42", "created": created, "arn": ARN} | others
        self.says(json.dumps(identity))
        return identity

    def night(self) -> Any:
        """Back up once, and give the document."""
        return self.run("create", "--json", exit_code=0).document

    def refused(self) -> str:
        """Give what a run says that stores nothing."""
        said = self.run("create", exit_code=4).stderr
        assert (self.repository.names(), len(said.splitlines())) == ([], 1)
        return said


@pytest.fixture
def command(site: Path, write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in's command is; the program is told of it."""
    place = tmp_path / "provider"
    place.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PROVIDER_SNAPSHOT_COMMAND", str(place / "command"))
    write_config(CONFIG)
    return place


@pytest.fixture
def provider(command: Path, server: Vault, repository: PlainRepository, run_cli: RunCli) -> Provider:
    """A Server whose database its provider backs up."""
    return Provider(command, repository, server, run_cli)


def test_its_identity_is_archived_in_place_of_the_dump_and_the_chain_with_it(
    provider: Provider, tmp_path: Path
) -> None:
    identity = provider.has_taken(lsn="0/1A2B3C4D")
    document = provider.night()
    artifacts = {one["path"]: one for one in document["artifacts"]}
    assert document["verdict"] == "good"
    assert "db.dump" not in artifacts
    assert {"chain/audit_vault.ndjson", "vault-public-keys.csv", "roles.sql", "database.sql"} < set(artifacts)
    told = f"aws-rds snapshot vault-42, created {identity['created']}"
    assert artifacts["provider-snapshot.json"]["database_in"] == told
    assert all("database_in" not in one for path, one in artifacts.items() if path != "provider-snapshot.json")
    extracted = provider.repository.extract(document["archive"], tmp_path / "extracted")
    assert json.loads((extracted / "provider-snapshot.json").read_bytes()) == identity
    instructions = (extracted / "RESTORE.txt").read_text("utf-8")
    assert f"\n    {told}\n" in instructions
    assert "diff -r chain NEW_DIRECTORY" in instructions
    assert "pg_restore" not in instructions
    assert json.loads((extracted / "manifest.json").read_bytes())["clients"] == "no pg_dump"


def test_a_night_tells_people_where_the_database_is(provider: Provider) -> None:
    identity = provider.has_taken()
    said = provider.run("create", exit_code=0).stdout
    assert "provider-snapshot for a dump" in said
    assert f"  the database is in aws-rds snapshot vault-42, created {identity['created']}\n" in said


def test_the_next_night_is_compared_with_it(provider: Provider) -> None:
    provider.has_taken()
    first = provider.night()["archive"]
    with provider.vault.connect() as connection:
        provider.vault.sample.grow(connection, entries=5)
    second = provider.night()
    assert (second["verdict"], second["continuity"]["previous"]) == ("good", first)


def test_no_client_program_of_the_servers_version_is_asked_for(
    provider: Provider, site: Path, tmp_path: Path, write_config: WriteConfig
) -> None:
    provider.has_taken()
    one = installed(tmp_path / "installation")
    (one.path / "cat").symlink_to("/bin/cat")
    environment = {"PYTHONPATH": str(site)}
    assert json.loads(one.run("create", "--json", exit_code=0, env=environment).stdout)["verdict"] == "good"
    write_config('label = "prod"\n')
    assert "no pg_dump that fits a PostgreSQL 18 server" in one.run("create", exit_code=7, env=environment).stderr


def test_what_needs_no_dump_works_as_always(provider: Provider, tmp_path: Path) -> None:
    provider.has_taken()
    name = provider.night()["archive"]
    assert "PASSED" in provider.run("verify", exit_code=0).stdout
    provider.run("restore", "--only", "chain", tmp_path / "chain", exit_code=0)
    provider.run("restore", "--only", "registry", tmp_path / "registry", exit_code=0)
    database = provider.run("status", "--json", exit_code=13).document["sets"][0]
    assert (database["archive"], database["problems"]) == (name, [])


def test_a_drill_of_it_is_not_checked_and_says_why(provider: Provider) -> None:
    identity = provider.has_taken()
    provider.night()
    document = provider.run("drill", "--json", exit_code=11).document
    checks = {one["name"]: (one["verdict"], one["detail"]) for one in document["checks"]}
    why = f"its provider holds the database, in aws-rds snapshot vault-42, created {identity['created']}"
    assert document["verdict"] == "not_checked"
    assert {name for name, check in checks.items() if check == ("not_checked", why)} == {
        "dump", "restore", "database", "registry", "export", "collations",
    }  # fmt: skip
    assert (checks["files"][0], checks["chain"][0], checks["continuity"][0]) == ("passed", "passed", "not_applicable")
    assert document["rto_seconds"] is None


def test_restore_and_export_say_where_the_database_is(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = provider.has_taken()
    name = provider.night()["archive"]
    told = (
        f"borg-vault: {name} holds no dump: the database is in aws-rds snapshot vault-42, created"
        f" {identity['created']}: restore it there, see RESTORE.txt\n"
    )
    assert provider.run("restore", "--only", "dump", tmp_path / "dump", exit_code=2).stderr == told
    assert provider.run("export", "latest", tmp_path / "out.tar.gz", exit_code=2).stderr == told
    assert not (tmp_path / "dump").exists()
    assert not (tmp_path / "out.tar.gz").exists()
    assert provider.run("restore", exit_code=2).stderr == told
    # On the bad day the server may be what was lost.
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/gone")
    assert provider.run("restore", exit_code=2).stderr == told


def test_a_command_that_fails_stores_nothing(provider: Provider) -> None:
    provider.has_taken()
    provider.says((provider.place / "output").read_text(), ending=3)
    said = provider.refused()
    assert f"hook provider-snapshot: the command for a snapshot, '{provider.place}/command', failed with exit" in said


def test_a_command_that_is_not_named_or_not_there_stores_nothing(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot be run: " in provider.refused() or "failed with exit code 127" in provider.refused()
    monkeypatch.delenv("PROVIDER_SNAPSHOT_COMMAND")
    assert "no command is named: set PROVIDER_SNAPSHOT_COMMAND" in provider.refused()


def test_what_identifies_no_snapshot_of_this_run_stores_nothing(provider: Provider) -> None:
    for output, told in UNIDENTIFIED.items():
        provider.says(output)
        assert told in provider.refused()


def test_a_snapshot_may_be_an_hour_old_and_never_of_the_future(provider: Provider) -> None:
    provider.has_taken(timedelta(minutes=62))
    assert "snapshot vault-42 was created at" in provider.refused()
    provider.has_taken(-timedelta(minutes=12))
    assert "the command must print the snapshot of this run" in provider.refused()
    provider.has_taken(timedelta(minutes=58))
    assert provider.night()["verdict"] == "good"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ('[database]\ndump = "badge"', "database.dump is 'badge', which is none of plugins"),
        ('plugins = ["key-registry"]\n[database]\ndump = "key-registry"', "database.dump is 'key-registry'"),
        ('plugins = ["badge"]\n[database]\ndump = "badge"', "plugin badge cannot be database.dump"),
    ],
    ids=["not named", "built in", "no artifacts"],
)
def test_what_cannot_stand_in_for_the_dump_is_refused(
    provider: Provider, write_config: WriteConfig, install_plugin: InstallPlugin, config: str, told: str
) -> None:
    install_plugin("@hookimpl\ndef verify_staging(staging): return []")
    write_config(config)
    assert told in provider.run("create", exit_code=3).stderr
    assert provider.repository.names() == []


def test_a_plugin_that_does_not_say_where_the_database_is_stores_nothing(
    provider: Provider, write_config: WriteConfig, install_plugin: InstallPlugin
) -> None:
    install_plugin("""
@hookimpl
def collect_artifacts(snapshot, staging):
    with staging.write("note.txt") as file: file.write(b"x")
    return [file.artifact()]
""")
    write_config(CONFIG.replace("provider-snapshot", "badge"))
    assert "hook badge is database.dump, but no artifact of it says where the database is" in provider.refused()


def test_a_plugin_that_writes_the_dump_itself_is_as_good(
    provider: Provider, write_config: WriteConfig, install_plugin: InstallPlugin
) -> None:
    install_plugin("from borg_vault_plugin.hooks.database_dump import collect_artifacts")
    write_config(CONFIG.replace("provider-snapshot", "badge"))
    artifacts = {one["path"]: one["producer"] for one in provider.night()["artifacts"]}
    assert artifacts["db.dump"] == "badge"
    assert provider.run("drill", "--json", exit_code=0).document["verdict"] == "passed"
