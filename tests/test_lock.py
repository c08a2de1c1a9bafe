"""One run per set at a time: the second one is told who holds the lock, and leaves everything as it is."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository
from fix_vault import Vault

from borg_vault_plugin.lock import run_lock

pytest_plugins = ("fix_server",)

WriteConfig = Callable[[str], Path]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where runs of the test keep their locks."""
    return tmp_path / "xdg_state_home" / "borg-vault"


@pytest.mark.parametrize("command", [["create"], ["create", "--dry-run"], ["prune"]])
def test_a_second_run_names_the_holder_and_changes_nothing(
    command: list[str], server: Vault, repository: PlainRepository, run_cli: RunCli, state: Path
) -> None:
    with run_lock(state, server.database):
        said = run_cli(*command, exit_code=6).stderr
        assert re.search(rf"another run holds {state}/{server.database}\.lock: process {os.getpid()} since 20", said)
    assert repository.names() == []


@pytest.mark.usefixtures("repository")
def test_a_run_holds_the_lock_from_before_its_snapshot(
    server: Vault, run_cli: RunCli, install_plugin: InstallPlugin, write_config: WriteConfig, state: Path
) -> None:
    install_plugin(
        "import subprocess, sys, os\n@hookimpl\ndef collect_artifacts(snapshot, staging):\n"
        "    command = [os.path.join(os.path.dirname(sys.executable), 'borg-vault'), 'prune']\n"
        "    second = subprocess.run(command, capture_output=True)\n"
        "    with staging.write('second.txt') as file:\n"
        "        file.write(f'{second.returncode} {os.getpid()} {second.stderr.decode()}'.encode())\n"
        "    raise SourceError(' '.join((staging.directory / 'second.txt').read_text().split()))\n"
    )
    write_config('plugins = ["badge"]')
    said = run_cli("create", exit_code=4).stderr
    assert f"hook badge: 6 {os.getpid()} borg-vault: another run holds {state}/{server.database}.lock" in said
    assert f"process {os.getpid()} since" in said


def test_the_lock_is_free_after_a_failure(server: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_REPO", "/nowhere/repository")
    run_cli("create", exit_code=5)
    monkeypatch.setenv("DATABASE_URL", server.cluster.url("no-such-database"))
    run_cli("create", exit_code=4)
    run_cli("prune", exit_code=5)


def test_two_servers_do_not_wait_for_each_other(state: Path) -> None:
    entered = threading.Event()
    with run_lock(state, "prod"), run_lock(state, "prod-eu"):
        entered.set()
    assert entered.is_set()


@pytest.mark.usefixtures("server")
def test_listing_and_dumping_need_no_lock(server: Vault, run_cli: RunCli, state: Path, tmp_path: Path) -> None:
    with run_lock(state, server.database):
        run_cli("list", exit_code=0)
        run_cli("dump-chain", tmp_path / "chain", exit_code=0)


def test_a_state_directory_that_cannot_be_made_is_named(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("DATABASE_URL", "postgresql:///app")
    monkeypatch.setenv("BORG_PASSPHRASE", "x")
    assert "set state_directory" in run_cli("create", exit_code=3).stderr
