"""Finding an archive that somebody names, whoever made it, and what is in it: by its name, or as the newest good."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from borg_vault_plugin import preflight
from borg_vault_plugin.archive import Archive, Series, SetName
from borg_vault_plugin.borg import Repository
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import looked_into, recognised
from borg_vault_plugin.errors import RepositoryError, UsageError
from borg_vault_plugin.predecessor import newest_good
from borg_vault_plugin.repositories import open_repositories
from borg_vault_plugin.scratch import private_place, scratch_directory
from borg_vault_plugin.staging import staging_failures

LATEST = "latest"
EXTRACTED = "@extracted"  # no label: another Server's staging is elsewhere


@dataclass(frozen=True, slots=True)
class Stored:
    """One archive, and the repository that it is in."""

    repository: Repository
    repository_id: str
    archive: Archive

    def extract(self, directory: Path, paths: Iterable[str] = ()) -> None:
        """Extract the set in it, or some paths of that, into a directory, wherever it lies. Raises RepositoryError."""
        self.repository.extract(self.archive.name, directory, paths, root=self.archive.root)

    def size(self) -> int:
        """Give the size of the set in it, in bytes. Raises RepositoryError."""
        name, root = self.archive.name, self.archive.root
        if root:
            return sum(self.repository.listing(name, root=root).values())
        return self.repository.described_archives(glob=glob.escape(name)).archives[0].original_size or 0


def find_archive(settings: Settings, target: str, names: tuple[str, ...] = ()) -> Stored:
    """Find an archive by its name, or the newest good one of all repositories as `latest`.

    Raises UsageError when there is none, RepositoryError when a repository cannot be read and no other has it.
    """
    series, history = settings.series(), settings.history()
    found: list[Stored] = []
    errors: list[RepositoryError] = []
    for repository in open_repositories(settings, names or _places_of(settings, target)):
        try:
            inventory = recognised(repository.inventory(), history)
            archive = _chosen(repository, inventory.archives, series, target)
        except RepositoryError as error:
            errors.append(error)
            continue
        if archive is not None:
            found.append(Stored(repository, inventory.repository_id, archive))
    if not found:
        raise errors[0] if errors else UsageError(_absent(target, series))
    return max(found, key=lambda one: (one.archive.time, one.archive.name))


def _chosen(repository: Repository, archives: Iterable[Archive], series: Series, target: str) -> Archive | None:
    if target == LATEST:
        return newest_good(archives, series)
    named = next((archive for archive in archives if archive.name == target), None)
    return None if named is None else looked_into(repository, named, series)


def good_archives(settings: Settings) -> list[Stored]:
    """List the good archives of all repositories, oldest first. Raises UsageError for none, RepositoryError."""
    series = settings.series()
    found: list[Stored] = []
    for repository in open_repositories(settings, settings.repository_names("database")):
        inventory = recognised(repository.inventory(), settings.history())
        good = (archive for archive in inventory.archives if series.is_good(archive))
        found += (Stored(repository, inventory.repository_id, archive) for archive in good)
    if not found:
        raise UsageError(_absent(LATEST, series))
    return sorted(found, key=lambda one: (one.archive.time, one.archive.name))


@contextlib.contextmanager
def extracted(settings: Settings, stored: Stored) -> Iterator[Path]:
    """Extract a whole archive into a private directory, which is gone at the end.

    Raises RepositoryError, PreflightError when it has no room.
    """
    with scratch_place(settings, stored) as directory:
        stored.extract(directory)
        yield directory


@contextlib.contextmanager
def scratch_place(settings: Settings, stored: Stored) -> Iterator[Path]:
    """Make a private directory with room for an archive, which is gone at the end. Raises PreflightError."""
    place = extraction_place(settings)
    preflight.check_space(place, stored.size(), f"{stored.archive.name}, extracted")
    with staging_failures(place), scratch_directory(place) as directory:
        yield directory


def extraction_place(settings: Settings) -> Path:
    """Have the directory in which archives are extracted. Raises PreflightError."""
    return private_place(settings.staging_parent / EXTRACTED)


def _places_of(settings: Settings, target: str) -> tuple[str, ...]:
    """Name the repositories of the set that an archive's name belongs to."""
    sets = settings.sets.configured
    owner: SetName = next(
        (name for name in sets if target != LATEST and settings.series(name).owns(target)), "database"
    )
    return settings.repository_names(owner)


def _absent(target: str, series: Series) -> str:
    if target == LATEST:
        return (
            f"there is no good archive of {series.prefix} yet: make one with `borg-vault create`, or set label when it"
            " was another one that made them"
        )
    return f"there is no archive {target}, nor such a directory: see `borg-vault list`"
