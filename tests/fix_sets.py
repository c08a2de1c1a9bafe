"""Repositories of several names, each with an id and a passphrase of its own, and the sets that go there.

The repositories are made once and copied for each test. Sets of files need no database.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fix_cli import COMMAND, SECONDS, RunCli, Said, checked
from fix_repository import PlainRepository, initialised

from borg_vault_plugin.archive import Series
from borg_vault_plugin.history import Event, History

WriteConfig = Callable[[str], Path]

NAMES = ("nas", "second", "third", "escrow")
LABEL = "prod"
# A process that is nobody to its own files: no right but the owner's, whoever runs the tests.
UNPRIVILEGED = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Repositories by their names, and the program that is configured with them."""

    repositories: dict[str, PlainRepository]
    write_config: WriteConfig
    run: RunCli
    state: Path

    def __getitem__(self, name: str) -> PlainRepository:
        """Give one repository."""
        return self.repositories[name]

    def configure(self, text: str = "", **repositories: str) -> Path:
        """Write a configuration with these repositories, each with these lines of its own."""
        sections = [self.section(name, lines) for name, lines in repositories.items()]
        return self.write_config("\n".join([f'label = "{LABEL}"', text, *sections]))

    def section(self, name: str, lines: str = "") -> str:
        """Give the section of one repository."""
        return (
            f"[repositories.{name}]\npath = '{self[name].path}'\npassphrase = {{ env = '{variable(name)}' }}\n{lines}\n"
        )

    def history(self) -> History:
        """Give the history of this host."""
        return History(self.state / "history.ndjson")

    def events(self, happening: str) -> list[Event]:
        """Give what happened of one kind, oldest first."""
        return [event for event in self.history().events() if event.event == happening]

    def forget(self) -> None:
        """Take away all that this host remembers."""
        shutil.rmtree(self.state)


def variable(name: str) -> str:
    """Name the environment variable that holds a repository's passphrase."""
    return f"PASSPHRASE_OF_{name.upper()}"


def passphrase(name: str) -> str:
    """Give the passphrase of a repository."""
    return f"open {name}, please"


def files_in(directory: Path) -> dict[str, bytes]:
    """Give the content of every file below a directory by its path."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def archived(repository: PlainRepository, archive: str, directory: Path) -> dict[str, bytes]:
    """Extract an archive with plain borg, have its checksums checked, and give its files."""
    repository.extract(archive, directory)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=directory, check=True, timeout=SECONDS)
    return files_in(directory)


def written_below(directory: Path) -> str:
    """Give all that stands in the files of a directory, and their names."""
    return "\n".join(f"{path}\n{data.decode('latin-1')}" for path, data in files_in(directory).items())


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


@pytest.fixture
def locked() -> Iterator[Callable[[PlainRepository], None]]:
    """Locker of repositories, as a Borg that runs somewhere else would do it."""
    kept: list[subprocess.Popen[bytes]] = []

    def lock(repository: PlainRepository) -> None:
        holder = subprocess.Popen(["sleep", "600"])
        kept.append(holder)
        host = json.loads(repository.borg("info", "--json"))  # the repository is there
        assert host
        (repository.path / "lock.exclusive").mkdir()
        (repository.path / "lock.exclusive" / f"elsewhere@1.{holder.pid}-0").touch()

    yield lock
    for holder in kept:
        holder.kill()
        holder.wait()


def series(set_name: Any = "provisioning") -> Series:
    """Give the archives of a set of the Server that these tests back up."""
    return Series(LABEL, set_name)
