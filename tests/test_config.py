"""The configuration file: what it may say, who may have written it, where it is looked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from fix_cli import RunCli, RunCommand
from fix_repository import PASSPHRASE, PlainRepository
from fix_vault import Vault

from borg_vault_plugin.config import Settings
from borg_vault_plugin.secret import SecretReference
from borg_vault_plugin.sections import DatabaseSettings

pytest_plugins = ("fix_server",)

WriteConfig = Callable[[str], Path]

FULL = """\
label = "prod"
plugins = ["badge"]
[database]
url = { env = "SERVER_URL" }
lock_timeout = "5s"
[repositories.nas]
path = "ssh://backup@nas/./vault.borg"
passphrase = { command = "systemd-creds cat borg.pass" }
[repositories.disk]
path = "/mnt/vault.borg"
passphrase = { file = "/etc/borg-vault/passphrase" }
[sets.database]
repositories = ["nas", "disk"]
keep_daily = 7
keep_monthly = 12
max_age = "26h"
"""

# What is wrong, and the words that name it.
REFUSED = {
    "an unknown key": ("lable = 'prod'", "lable is not a setting: remove it, or see `borg-vault config schema`"),
    "an unknown key inside": ("[sets.database]\nkeep_houry = 3", "sets.database.keep_houry is not a setting"),
    "an unknown section": ("[webhooks]\nurl = 'x'", "webhooks is not a setting"),
    "a label with a slash": ("label = 'a/b'", "label"),
    "keep 0": ("[sets.database]\nkeep = 0", "sets.database.keep: Input should be greater than or equal to 1"),
    "a negative keep": ("[sets.database]\nkeep_weekly = -1", "sets.database.keep_weekly"),
    "a number as a duration": ("[database]\nlock_timeout = 60", "database.lock_timeout: a duration is a number and a"),
    "an unknown unit": ("[sets.database]\nmax_age = '26 hours'", "sets.database.max_age: a duration"),
    "a passphrase": (
        "[repositories.nas]\npath = 'x'\npassphrase = 'hunter2'",
        'repositories.nas.passphrase: write a reference such as { env = "NAME" }',
    ),
    "two references": (
        "[repositories.nas]\npath = 'x'\npassphrase = { env = 'A', file = '/b' }",
        "repositories.nas.passphrase: a secret needs exactly one of env, file, command",
    ),
    "a URL with a password": (
        "[database]\nurl = 'postgresql://app:hunter2@db/app'",
        'database.url: a URL with a password does not belong in the file: write url = { env = "DATABASE_URL" }',
    ),
    "a conninfo with a password": ("[database]\nurl = 'host=db password=hunter2'", "a URL with a password"),
    "a repository of no name": ("[sets.database]\nrepositories = ['nas']", "no repository is named 'nas'"),
    "a repository without a path": ("[repositories.nas]\npath = ''", "repositories.nas.path"),
    "no TOML": ("label = ", "cannot be read"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_wrong_file_is_refused_in_one_line(wrong: str, run_cli: RunCli, write_config: WriteConfig) -> None:
    text, words = REFUSED[wrong]
    path = write_config(text)
    said = run_cli("config", "validate", exit_code=3).stderr
    assert len(said.splitlines()) == 1
    assert f"configuration {path}" in said
    assert words in said
    assert "hunter2" not in said


def test_show_gives_references_and_no_secrets(
    run_cli: RunCli, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_URL", "postgresql://app:hunter2@db/app")
    write_config(FULL)
    said = run_cli("config", "show", exit_code=0)
    shown = said.document
    assert "hunter2" not in said.stdout
    assert shown["label"] == "prod"
    assert shown["database"]["url"] == {"env": "SERVER_URL"}
    assert shown["repositories"]["nas"]["passphrase"] == {"command": "systemd-creds cat borg.pass"}
    assert shown["repositories"]["disk"]["passphrase"] == {"file": "/etc/borg-vault/passphrase"}
    assert (shown["sets"]["database"]["keep_daily"], shown["sets"]["database"]["keep_monthly"]) == (7, 12)
    run_cli("config", "validate", exit_code=0)


def test_show_without_a_file_tells_where_the_secrets_come_from(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:hunter2@db/app")
    monkeypatch.setenv("BORG_PASSPHRASE", "hunter2")
    monkeypatch.setenv("BORG_REPO", "/mnt/vault.borg")
    said = run_cli("config", "show", exit_code=0)
    assert "hunter2" not in said.stdout
    assert said.document["database"]["url"] == {"env": "DATABASE_URL"}
    default = said.document["repositories"]["default"]
    assert (default["path"], default["passphrase"]) == ("/mnt/vault.borg", {"env": "BORG_PASSPHRASE"})


def test_the_schema_accepts_what_the_program_accepts(run_cli: RunCli) -> None:
    import tomllib  # noqa: PLC0415 (the only use)

    schema = run_cli("config", "schema", exit_code=0).document
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(tomllib.loads(FULL))
    for text in ("lable = 'prod'", "[sets.database]\nkeep = 0", "[database]\nlock_timeout = 60"):
        assert not validator.is_valid(tomllib.loads(text)), text


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(mode: int, run_cli: RunCli, write_config: WriteConfig) -> None:
    path = write_config("label = 'prod'")
    path.chmod(mode)
    assert f"chmod go-w {path}" in run_cli("config", "show", exit_code=3).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(run_cli: RunCli, write_config: WriteConfig) -> None:
    path = write_config("label = 'prod'")
    os.chown(path, 12345, -1)
    assert "belongs to user 12345" in run_cli("config", "show", exit_code=3).stderr


def test_a_secret_file_that_others_may_write_is_refused(
    server: Vault, repository: PlainRepository, run_cli: RunCli, write_config: WriteConfig, tmp_path: Path
) -> None:
    assert server.database
    secret = tmp_path / "secret"
    secret.write_text(PASSPHRASE + "\n", "utf-8")
    secret.chmod(0o600)
    write_config(f"[repositories.disk]\npath = '{repository.path}'\npassphrase = {{ file = '{secret}' }}")
    run_cli("list", exit_code=0)
    secret.chmod(0o622)
    said = run_cli("list", exit_code=3).stderr
    assert "passphrase of repository disk" in said
    assert f"chmod go-w {secret}" in said


def test_the_nearest_file_wins(
    run_cli: RunCli, write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def label(*words: str) -> object:
        return run_cli(*words, "config", "show", exit_code=0).document.get("label")

    assert label() is None
    ours = tmp_path / "xdg_config_home" / "borg-vault" / "config.toml"
    ours.parent.mkdir()
    ours.write_text("label = 'of-the-user'", "utf-8")
    assert label() == "of-the-user"
    write_config("label = 'of-the-environment'")
    assert label() == "of-the-environment"
    named = tmp_path / "named.toml"
    named.write_text("label = 'of-the-command-line'", "utf-8")
    assert label("--config", str(named)) == "of-the-command-line"
    monkeypatch.delenv("BORG_VAULT_CONFIG")
    assert label("-c", str(named)) == "of-the-command-line"


def test_a_named_file_must_exist(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing.toml"
    assert str(missing) in run_cli("--config", missing, "config", "show", exit_code=3).stderr
    monkeypatch.setenv("BORG_VAULT_CONFIG", str(missing))
    assert str(missing) in run_cli("config", "show", exit_code=3).stderr


def test_the_current_directory_is_never_looked_into(run_command: RunCommand, tmp_path: Path) -> None:
    directory = tmp_path / "anywhere"
    for name in ("config.toml", "borg-vault.toml", ".borg-vault.toml", "borg-vault/config.toml", ".config/config.toml"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("label = 'planted'", "utf-8")
    shown = run_command("config", "show", exit_code=0, cwd=directory)
    assert "planted" not in shown.stdout


def test_a_file_gives_label_repositories_and_retention(
    latest_vault: Vault,
    repository: PlainRepository,
    run_cli: RunCli,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVER_URL", latest_vault.url)
    monkeypatch.setenv("PASS_OF_DISK", PASSPHRASE)
    write_config(
        'label = "prod"\n[database]\nurl = { env = "SERVER_URL" }\n'
        f'[repositories.disk]\npath = "{repository.path}"\ncompression = "lz4"\n'
        'passphrase = { env = "PASS_OF_DISK" }\n'
        "[sets.database]\nkeep = 1\n"
    )
    repository.add_at("2026-05-01T00:00:00", "prod-2026-05-01T00:00:00Z")
    document = run_cli("create", "--json", exit_code=0).document
    assert document["archive"].startswith("prod-20")
    assert document["pruned"][0]["repository"] == "disk"
    assert repository.names() == [document["archive"]]
    command = json.loads(repository.borg("info", "--json", f"::{document['archive']}"))["archives"][0]["command_line"]
    assert "--compression=lz4" in command


def test_a_repository_that_is_not_configured_is_named(
    run_cli: RunCli, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_URL", "postgresql:///app")
    write_config(FULL)
    assert "the configuration has nas, disk" in run_cli("list", "-r", "tape", exit_code=3).stderr


def test_the_database_is_asked_for_once(tmp_path: Path) -> None:
    """A command that gives the URL is run no second time in one run: it may ask for a password store."""
    asked = tmp_path / "asked"
    script = tmp_path / "url"
    script.write_text(f"#!/bin/sh\necho >>{asked}\necho postgresql://reader@db.example/prod\n", "utf-8")
    script.chmod(0o700)
    settings = Settings(database=DatabaseSettings(url=SecretReference(command=str(script))))
    assert settings.series().label == "prod"
    assert settings.source() == settings.source()
    assert settings.source().timeout == settings.database.timeout
    assert asked.read_text("utf-8") == "\n"
