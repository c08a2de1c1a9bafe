"""Running without a configuration file: the environment says where the database and the repository are."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fix_cli import COMMAND, RunCli, RunCommand
from fix_repository import PASSPHRASE, PlainRepository, initialised
from fix_vault import Vault

pytest_plugins = ("fix_server",)


def test_the_default_repository_is_in_the_backup_directory(
    latest_vault: Vault, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", latest_vault.url)
    monkeypatch.setenv("BORG_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("BACKUP_DIR", str(tmp_path / "backups"))
    run_cli("init", exit_code=0)
    archive = run_cli("create", "--json", "--keep", "30", exit_code=0).document["archive"]
    repository = PlainRepository(tmp_path / "backups" / "borg-vault", tmp_path / "plain-borg")
    assert repository.names() == [archive]
    assert re.search(rf"^{archive}  +default  ", run_cli("list", exit_code=0).stdout, re.MULTILINE)
    assert "removed nothing" in run_cli("prune", exit_code=0).stdout


def test_without_any_place_the_repository_is_below_the_current_directory(
    latest_vault: Vault, run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", latest_vault.url)
    monkeypatch.setenv("BORG_PASSPHRASE", PASSPHRASE)
    run_command("init", exit_code=0, cwd=tmp_path)
    assert (tmp_path / "backup" / "borg-vault" / "config").exists()


def by_variables(vault: Vault) -> dict[str, str]:
    """Give libpq's own variables, password included."""
    cluster = vault.cluster
    return {
        "PGHOST": str(cluster.socket_directory),
        "PGPORT": str(cluster.port),
        "PGUSER": cluster.user,
        "PGDATABASE": vault.database,
        "PGPASSWORD": cluster.password,
    }


def by_password_file(vault: Vault) -> dict[str, str]:
    """Give libpq's own variables, with the password in a file."""
    named = {name: value for name, value in by_variables(vault).items() if name != "PGPASSWORD"}
    return named | {"PGPASSFILE": str(vault.cluster.directory / "pgpass")}


@pytest.mark.parametrize("way", [by_variables, by_password_file])
def test_the_variables_of_libpq_are_enough(
    way: Callable[[Vault], dict[str, str]],
    latest_vault: Vault,
    repository: PlainRepository,
    run_cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in way(latest_vault).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BORG_REPO", str(repository.path))
    monkeypatch.setenv("BORG_PASSPHRASE", PASSPHRASE)
    document = run_cli("create", "--json", "--no-prune", exit_code=0).document
    assert document["snapshot"]["database"] == latest_vault.database


def test_the_url_of_another_driver_is_understood(
    latest_vault: Vault, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{latest_vault.url}&schema=public&connection_limit=5&pgbouncer=true")
    counts = run_cli("dump-chain", tmp_path / "chain", exit_code=0).document["counts"]
    assert counts["audit_vault"] > 0


@pytest.mark.usefixtures("server")
def test_what_a_url_loses_is_told(latest_vault: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{latest_vault.url}&schema=public&connection_limit=5")
    said = run_cli("create", "--dry-run", exit_code=0).stdout
    assert "parameter 'schema' means nothing to PostgreSQL" in said
    assert "parameter 'connection_limit' means nothing to PostgreSQL" in said


@pytest.mark.parametrize("distribution", ["system-15"], indirect=True, scope="session")
def test_a_url_that_does_not_verify_the_server_wants_tls(
    vault: Vault, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{vault.url}&sslmode=no-verify")
    run_cli("dump-chain", tmp_path / "chain", exit_code=0)
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:hidden@127.0.0.1:1/app?sslmode=no-verify")
    said = run_cli("dump-chain", tmp_path / "chain", exit_code=4)
    assert "app on 127.0.0.1:1" in said.stderr
    assert "hidden" not in said.stderr


def test_a_url_without_sense_is_refused_and_not_repeated(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:hidden@[host/app")
    said = run_cli("config", "validate", exit_code=3)
    assert "postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in said.stderr
    assert "hidden" not in said.stdout + said.stderr


@pytest.mark.parametrize("command", [["config", "validate"], ["dump-chain", "chain"], ["create"]])
def test_a_password_that_is_not_percent_encoded_is_not_repeated(
    command: list[str], run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:hid/den@localhost:5432/app")
    said = run_cli(*command, exit_code=3)
    assert "percent-encode" in said.stderr
    assert "hid" not in said.stderr
    assert "den@" not in said.stderr


def test_a_database_must_be_named(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_PASSPHRASE", PASSPHRASE)
    assert "DATABASE_URL" in run_cli("create", exit_code=3).stderr


def test_a_database_whose_name_is_no_label_needs_one(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql:///two%20words")
    assert "'two words' cannot be a label" in run_cli("config", "validate", exit_code=3).stderr


@pytest.mark.parametrize("command", ["init", "create", "list", "prune"])
def test_a_missing_passphrase_is_named(
    command: str, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql:///app")
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "repository"))
    said = run_cli(command, exit_code=3)
    assert "BORG_PASSPHRASE, BORG_PASSCOMMAND or BORG_PASSPHRASE_FD" in said.stderr
    assert not (tmp_path / "repository").exists()


@pytest.mark.usefixtures("server")
def test_a_command_may_give_the_passphrase(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pass phrase").write_text(PASSPHRASE + "\n", "utf-8")
    monkeypatch.delenv("BORG_PASSPHRASE")
    monkeypatch.setenv("BORG_PASSCOMMAND", f"cat '{tmp_path}/pass phrase'")
    run_cli("list", exit_code=0)
    monkeypatch.setenv("BORG_PASSCOMMAND", "false")
    assert "'false' failed with exit code 1" in run_cli("list", exit_code=3).stderr


@contextmanager
def passphrase_in_a_pipe(patch: pytest.MonkeyPatch) -> Iterator[int]:
    """Name a descriptor from which the passphrase can be read, once."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write(PASSPHRASE + "\n")
    patch.setenv("BORG_PASSPHRASE_FD", str(reading))
    try:
        yield reading
    finally:
        os.close(reading)


@pytest.mark.usefixtures("server")
def test_a_descriptor_may_give_the_passphrase(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BORG_PASSPHRASE")
    with passphrase_in_a_pipe(monkeypatch) as descriptor:
        run_command("list", exit_code=0, pass_fds=[descriptor])


@pytest.mark.usefixtures("server")
def test_standard_input_may_give_the_passphrase(
    repository: PlainRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what the repository is made with, too, and not the /dev/null that children have there."""
    monkeypatch.delenv("BORG_PASSPHRASE")
    monkeypatch.setenv("BORG_PASSPHRASE_FD", "0")
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "new"))
    for words in (["init"], ["create"]):
        done = subprocess.run([COMMAND, *words], input=PASSPHRASE.encode(), capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    assert len(PlainRepository(tmp_path / "new", repository.base).names()) == 1


@pytest.mark.parametrize("way", ["BORG_PASSCOMMAND", "BORG_PASSPHRASE_FD"])
@pytest.mark.usefixtures("server")
def test_a_passphrase_that_is_no_text_is_refused_and_not_bent(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(b"long\xffpass\xfephrase")
    monkeypatch.delenv("BORG_PASSPHRASE")
    monkeypatch.setenv(way, f"cat {tmp_path}/key" if way == "BORG_PASSCOMMAND" else "0")
    with (tmp_path / "key").open("rb") as key:
        done = subprocess.run([COMMAND, "list"], stdin=key, capture_output=True, check=False)
    assert done.returncode == 3
    assert done.stderr.endswith(b"is not UTF-8: write it so\n")


@pytest.mark.usefixtures("server")
def test_several_repositories_may_share_a_descriptor(
    repository: PlainRepository,
    run_command: RunCommand,
    write_config: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = initialised(tmp_path / "second", repository.base)
    write_config(f'[repositories]\nfirst.path = "{repository.path}"\nsecond.path = "{second.path}"\n')
    monkeypatch.delenv("BORG_PASSPHRASE")
    with passphrase_in_a_pipe(monkeypatch) as descriptor:
        run_command("list", exit_code=0, pass_fds=[descriptor])


@pytest.mark.usefixtures("server")
def test_a_wrong_passphrase_is_said_in_one_line(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_PASSPHRASE", "wrong")
    said = run_cli("create", exit_code=5)
    assert len(said.stderr.splitlines()) == 1
    assert "give the right passphrase" in said.stderr
