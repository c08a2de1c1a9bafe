"""Borg repositories, and Borg itself to look into them without our program.

A repository is made once and copied for each test, since making one takes longer than most tests.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fix_vault import Vault

from borg_vault_plugin.borg import find_borg
from borg_vault_plugin.process import plain_environment

PASSPHRASE = "correct horse: battery/staple"
SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class PlainRepository:
    """One repository as plain `borg` sees it; `base` is where that Borg keeps its own files."""

    path: Path
    base: Path
    passphrase: str = PASSPHRASE

    def borg(self, *words: object, exit_code: int = 0, cwd: Path | None = None) -> bytes:
        """Run borg on it and give its standard output."""
        command = [str(find_borg().program), *(str(word) for word in words)]
        done = subprocess.run(
            command, check=False, capture_output=True, timeout=SECONDS, cwd=cwd, env=self.environment()
        )
        assert done.returncode == exit_code, done.stderr.decode()
        return done.stdout

    def environment(self) -> Mapping[str, str]:
        """Give what plain borg needs to know."""
        own = {"BORG_REPO": str(self.path), "BORG_PASSPHRASE": self.passphrase, "BORG_BASE_DIR": str(self.base)}
        return plain_environment(own | {"TZ": "UTC", "BORG_EXIT_CODES": "modern"})

    def archives(self) -> list[dict[str, Any]]:
        """List all archives, oldest first, with their comments."""
        document = json.loads(self.borg("list", "--json", "--format={comment}"))
        return [dict(archive) for archive in document["archives"]]

    def names(self) -> list[str]:
        """Give the names of all archives, in alphabetical order."""
        return sorted(archive["name"] for archive in self.archives())

    def add(self, *names: str) -> None:
        """Store archives that are none of ours, whatever they are called; their time is in their name or now."""
        for name in names:
            self.borg("create", "--files-cache=disabled", f"::{name}", "passwd", cwd=Path("/etc"))

    def add_at(self, time: str, name: str, *, comment: str = "") -> None:
        """Store an archive of a given time."""
        options = [f"--timestamp={time}", f"--comment={comment}", "--files-cache=disabled"]
        self.borg("create", *options, f"::{name}", "passwd", cwd=Path("/etc"))

    def read(self, archive: str, path: str) -> bytes:
        """Give the content of one file in an archive."""
        return self.borg("extract", "--stdout", f"::{archive}", path)

    def extract(self, archive: str, directory: Path) -> Path:
        """Extract a whole archive into a new directory."""
        directory.mkdir()
        self.borg("extract", f"::{archive}", cwd=directory)
        return directory


def initialised(
    path: Path, base: Path, *, encryption: str = "repokey", passphrase: str = PASSPHRASE
) -> PlainRepository:
    """Make a repository with plain borg."""
    repository = PlainRepository(path, base, passphrase)
    repository.borg("init", f"--encryption={encryption}")
    return repository


def announce(monkeypatch: pytest.MonkeyPatch, vault: Vault, repository: PlainRepository) -> None:
    """Put database, repository and passphrase into the environment."""
    monkeypatch.setenv("DATABASE_URL", vault.url)
    monkeypatch.setenv("BORG_REPO", str(repository.path))
    monkeypatch.setenv("BORG_PASSPHRASE", repository.passphrase)
