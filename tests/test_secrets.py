"""Secrets stay where they are: in no command line, no child's environment, no log, no archive."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fix_cli import COMMAND, RunCli
from fix_repository import PASSPHRASE, PlainRepository
from fix_vault import Vault

pytest_plugins = ("fix_server",)


def descendants(ancestor: int) -> Iterator[int]:
    """List a process's children, their children, and so on."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text("utf-8").rpartition(")")[2].split()[1])
            except OSError:
                continue
    reached = {ancestor}
    while new := {child for child, parent in parents.items() if parent in reached} - reached:
        reached |= new
        yield from new


class Seen:
    """What was to be seen of the children of a process while it ran."""

    def __init__(self) -> None:
        self.commands: set[bytes] = set()
        self.environments: set[bytes] = set()

    def look(self, ancestor: int) -> None:
        """Look at every child that there is right now."""
        for child in descendants(ancestor):
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                environment = Path(f"/proc/{child}/environ").read_bytes()
            except OSError:
                continue
            # Between fork and exec a child still is its parent, whose environment is the operator's.
            if command.split(b"\0")[1:2] != [str(COMMAND).encode()]:
                self.commands.add(command)
                self.environments.add(environment)


@contextmanager
def watched(ancestor: int, seen: Seen) -> Iterator[None]:
    """Look again and again."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.005):
            seen.look(ancestor)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_no_child_carries_a_secret(server: Vault, repository: PlainRepository) -> None:
    command = [str(COMMAND), "-v", "create", "--keep", "1"]
    seen = Seen()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as running:
        with watched(running.pid, seen):
            stdout, stderr = running.communicate(timeout=120)
        assert running.returncode == 0, stderr
    programs = b"\n".join(seen.commands)
    assert b"pg_dump" in programs
    assert b"borg" in programs
    everything = programs + b"\n".join(seen.environments) + stdout + stderr
    for secret in (server.cluster.password, PASSPHRASE):
        assert secret.encode() not in everything
    for variable in (b"DATABASE_URL=", b"BORG_PASSPHRASE=", b"PGPASSWORD="):
        assert not any(variable in environment for environment in seen.environments)
    assert b"run: " in stdout
    assert len(repository.names()) == 1


def test_no_archive_carries_a_secret(server: Vault, repository: PlainRepository, run_cli: RunCli) -> None:
    said = run_cli("-v", "create", "--json", exit_code=0)
    archive = said.document["archive"]
    whole = repository.borg("export-tar", f"::{archive}", "-") + repository.borg("info", "--json", f"::{archive}")
    for secret in (server.cluster.password, PASSPHRASE):
        assert secret.encode() not in whole
        assert secret not in said.stdout


def test_no_secret_stays_on_disk(server: Vault, run_cli: RunCli, tmp_path: Path) -> None:
    run_cli("create", "--no-prune", exit_code=0)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert server.cluster.password.encode() not in data, path
            assert PASSPHRASE.encode() not in data, path


def test_a_refused_connection_does_not_tell_the_password(
    server: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", server.url.replace(server.cluster.password, "hunter2"))
    said = run_cli("-v", "create", exit_code=4)
    assert "hunter2" not in said.stdout + said.stderr
    assert "password authentication failed" in said.stderr
