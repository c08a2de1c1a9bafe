"""A shelf of repositories, each with an id and a passphrase of its own, and the program that is told of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fix_cli import SECONDS, RunCli
from fix_repository import PlainRepository

from borg_vault_plugin.archive import Series, SetName
from borg_vault_plugin.history import Event, History

WriteConfig = Callable[[str], Path]

NAMES = ("nas", "second", "third", "escrow")
LABEL = "prod"


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


@dataclass(frozen=True, slots=True)
class Sshd:
    """An sshd that serves repositories, and how to reach it."""

    port: int
    served: Path
    """The directory below which repositories may be."""
    shell: str
    """What Borg runs instead of ssh."""
    log: Path

    def url(self, path: Path) -> str:
        """Give the URL of a repository."""
        return f"ssh://127.0.0.1:{self.port}{path}"


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


def series(set_name: SetName = "provisioning") -> Series:
    """Give the archives of a set of the Server that these tests back up."""
    return Series(LABEL, set_name)


def id_of(repository: PlainRepository) -> str:
    """Give a repository's id, as its config file has it."""
    config = (repository.path / "config").read_text("utf-8")
    return next(line.partition(" = ")[2] for line in config.splitlines() if line.startswith("id = "))
