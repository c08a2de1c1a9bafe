"""An archive is ordinary: plain borg, sha256sum and pg_restore give the database back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_repository import PlainRepository, announce
from fix_vault import Vault, digests, new_database

from borg_vault_plugin.borg import find_borg
from borg_vault_plugin.process import run

pytest_plugins = ("fix_server",)


def test_an_archive_restores_without_this_program(
    vault: Vault, repository: PlainRepository, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(monkeypatch, vault, repository)
    archive = run_cli("create", "--json", "--no-prune", exit_code=0).document["archive"]
    extracted = repository.extract(archive, tmp_path / "extracted")
    sums = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=extracted, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    files = {path.relative_to(extracted).as_posix() for path in extracted.rglob("*") if path.is_file()}
    assert sums == [f"{path}: OK" for path in sorted(files - {"SHA256SUMS"})]
    source = digests(vault.cluster.conninfo(vault.database))
    with new_database(vault.cluster) as name:
        for words in (["--file=/dev/null"], ["--exit-on-error", "--no-owner", f"--dbname={name}"]):
            command: list[str | Path] = [vault.cluster.programs / "pg_restore", *words, extracted / "db.dump"]
            done = run(command, env=vault.cluster.environment(name), timeout=120)
            assert (done.returncode, done.stderr) == (0, b"")
        assert digests(vault.cluster.conninfo(name)) == source
        restored = Vault(vault.cluster, name, vault.sample)
        sequence = "SELECT last_value FROM record_reference_seq"
        assert restored.value(sequence) == vault.value(sequence)
    assert source["public.records"][0] > 0


def test_the_instructions_say_what_is_missing_and_are_true(
    server: Vault, repository: PlainRepository, run_cli: RunCli, tmp_path: Path
) -> None:
    archive = run_cli("create", "--json", "--no-prune", exit_code=0).document["archive"]
    text = repository.read(archive, "RESTORE.txt").decode()
    for words in ("encryption keys", "PROVISIONING_CONFIG_PATH", f"borg extract REPOSITORY::{archive}"):
        assert words in text
    assert "not verified" not in text
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    with new_database(server.cluster) as name:
        directory = tmp_path / "by hand"
        directory.mkdir()
        programs = find_borg().program.parent
        environment = {**repository.environment(), **server.cluster.environment(name)}
        environment["PATH"] = f"{server.cluster.programs}:{programs}:{environment['PATH']}"
        for command in commands:
            if command.startswith("createdb"):
                continue  # made already, so that it is dropped afterwards
            words = command.replace("REPOSITORY", str(repository.path)).replace("NEW_DATABASE", name)
            subprocess.run(words, shell=True, cwd=directory, env=environment, check=True)  # noqa: S602
        source = digests(server.cluster.conninfo(server.database))
        assert digests(server.cluster.conninfo(name)) == source
