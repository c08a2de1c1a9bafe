"""Sets that were staged for other programs, and what those made of them: two repositories, and plain `borg create`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fix_drill import Nights
from fix_repository import PlainRepository
from fix_shelf import Shelf

from borg_vault_plugin.sealed_set import open_set


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A staged set, two repositories for whoever archives it, and the program that knows them."""

    place: Path
    """Where `staging` is."""
    shelf: Shelf
    nights: Nights

    @property
    def staging(self) -> Path:
        """The directory with the sealed set."""
        return self.place / "staging"

    @property
    def nas(self) -> PlainRepository:
        """The first repository."""
        return self.shelf["nas"]

    @property
    def title(self) -> str:
        """What an archive of ours with the staged set would be called."""
        return open_set(self.staging).manifest.archive

    def stage(self, night: Path) -> None:
        """Put another set in the place of the staged one, as `stage` does."""
        shutil.rmtree(self.staging, ignore_errors=True)
        shutil.copytree(night, self.staging)

    def archive(self, name: str, *paths: object, time: str | None = None, where: str = "nas") -> str:
        """Archive the staged set (or these paths) with plain borg, and give the archive's id."""
        options = ["--files-cache=disabled", *([f"--timestamp={time}"] if time else [])]
        repository = self.shelf[where]
        repository.borg("create", *options, f"::{name}", *(paths or ["staging"]), cwd=self.place)
        return next(str(one["id"]) for one in repository.archives() if one["name"] == name)

    def confirm(self, *words: object, exit_code: int = 0) -> str:
        """Confirm what was archived, and give what is told: results when that goes well, errors when it does not."""
        said = self.shelf.run("confirm", "-r", "nas", "--from", self.staging, *words, exit_code=exit_code)
        return said.stderr if exit_code else said.stdout

    def confirmed(self, name: str, night: Path, *, time: str | None = None) -> str:
        """Stage a night, archive it under this name, confirm it, and give the archive's id."""
        self.stage(night)
        archive_id = self.archive(name, time=time)
        self.confirm()
        return archive_id
