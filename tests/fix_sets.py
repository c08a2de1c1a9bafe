"""Repositories of several names, made once and copied for each test, and directories of files that are backed up there.

Sets of files need no database.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import COMMAND, SECONDS, RunCli, Said, checked
from fix_repository import PlainRepository, initialised
from fix_shelf import NAMES, Shelf, WriteConfig, passphrase, variable

# A process that is nobody to its own files: no right but the owner's, whoever runs the tests.
UNPRIVILEGED = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty encrypted repositories, to be copied."""
    place = tmp_path_factory.mktemp("pool")
    for name in NAMES:
        initialised(place / name, place / "base", passphrase=passphrase(name))
    return place


@pytest.fixture
def shelf(
    pool: Path, tmp_path: Path, write_config: WriteConfig, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> Shelf:
    """Empty repositories, the test's own, and a program that knows one of them."""
    repositories = {}
    for name in NAMES:
        shutil.copytree(pool / name, tmp_path / name)
        repositories[name] = PlainRepository(tmp_path / name, tmp_path / "plain-borg", passphrase(name))
        monkeypatch.setenv(variable(name), passphrase(name))
    if "DATABASE_URL" not in os.environ:
        monkeypatch.setenv("DATABASE_URL", "postgresql:///app")
    return Shelf(repositories, write_config, run_cli, tmp_path / "xdg_state_home" / "borg-vault")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of provisioning files."""
    directory = tmp_path / "provisioning"
    (directory / "rules" / "eu").mkdir(parents=True)
    (directory / "organisations.yaml").write_text("organisations: [{name: ACME}]\n", "utf-8")
    (directory / "rules" / "eu" / "limits.yaml").write_text("limit: 100\n", "utf-8")
    return directory


@pytest.fixture
def provisioned(shelf: Shelf, tree: Path) -> Shelf:
    """A shelf whose configuration has these files go to `nas`."""
    shelf.configure(f"[sets.provisioning]\npath = '{tree}'", nas="")
    return shelf


@pytest.fixture
def run_unprivileged() -> Callable[..., Said]:
    """The installed command, without root's right to read everything."""

    def run(*words: object, exit_code: int) -> Said:
        prefix = UNPRIVILEGED if os.geteuid() == 0 else ()
        if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
            pytest.skip("no user namespace can be made here")
        command = [*prefix, str(COMMAND), *map(str, words)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
        return checked(Said(done.stdout, done.stderr), done.returncode, exit_code)

    return run
