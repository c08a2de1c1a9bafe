"""The repositories of a configuration, taken together: open them, create them, list what of ours is in them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from borg_vault_plugin.archive import Archive
from borg_vault_plugin.borg import Repository, open_repository
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import confirmations, recognised
from borg_vault_plugin.errors import ConfigError, RepositoryError, UsageError
from borg_vault_plugin.history import Event
from borg_vault_plugin.split import place_of, refuse_together

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Initialised:
    """A repository that was created, and where its key was exported to."""

    repository: str
    path: str
    id: str
    key_file: Path
    created: bool = True
    """False: it was there, and only its key was exported."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One of our archives, as `list --json` tells it."""

    name: str
    id: str
    repository: str
    time: datetime
    verdict: str | None
    drilled: datetime | None
    original_size: int | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The document of `list --json`: our archives, oldest first."""

    archives: tuple[Listed, ...]


def open_repositories(settings: Settings, names: tuple[str, ...], *, pass_fds: Iterable[int] = ()) -> list[Repository]:
    """Open the named repositories, or all of the configuration; raises ConfigError, PreflightError."""
    chosen = settings.repositories_named(names)
    fds = tuple(pass_fds)
    return [open_repository(name, repository, pass_fds=fds) for name, repository in chosen.items()]


def repository_at(settings: Settings, named: str) -> str:
    """Give the name of a repository by its name or, as other programs know it, its path. Raises ConfigError."""
    if named in settings.repositories or not named:
        return next(iter(settings.repositories_named((named,))))
    for name, repository in settings.repositories.items():
        if repository.path == named or place_of(repository.path) == place_of(named):
            return name
    known = ", ".join(f"{name} ({repository.path})" for name, repository in settings.repositories.items())
    raise ConfigError(f"there is no repository {named!r}, by name or path: the configuration has {known}")


def initialise(settings: Settings, names: tuple[str, ...], encryption: str, key_file: Path | None) -> list[Initialised]:
    """Create repositories and export their keys.

    Raises UsageError when one key file is named for several repositories, RepositoryError when one exists already.
    """
    refuse_together(settings)
    repositories = open_repositories(settings, names)
    if key_file is not None and len(repositories) > 1:
        raise UsageError("--key-out names one file, but there are several repositories: choose one with -r")
    return [_initialise(settings, repository, encryption, key_file) for repository in repositories]


def _initialise(settings: Settings, repository: Repository, encryption: str, key_file: Path | None) -> Initialised:
    if key_file is not None and key_file.exists():
        raise ConfigError(f"key file {key_file} exists already: name another one with --key-out")
    there = key_file is not None and _is_there(repository)
    if not there:  # of a repository that is there, only the key is exported
        repository.create(encryption)
    repository_id = repository.id()
    path = key_file or settings.state_directory / "keys" / f"{repository.name}-{repository_id[:12]}.key"
    repository.export_key(path)
    if repository_id not in path.read_text("utf-8", "replace").partition("\n")[0]:
        raise RepositoryError(
            f"the key exported to {path} is not that of repository {repository.name}: run `borg check`"
        )
    now, place = datetime.now(UTC), str(path.absolute())
    exported = Event(time=now, event="key_exported", repository=repository_id, archive=repository.name, where=place)
    settings.history().append(exported)
    return Initialised(repository.name, repository.settings.path, repository_id, path.absolute(), not there)


def _is_there(repository: Repository) -> bool:
    try:
        repository.id()
    except RepositoryError:
        return False
    return True


def list_archives(settings: Settings, names: tuple[str, ...]) -> Listing:
    """List our archives in the named repositories, or in all, and those of others that hold a set of ours.

    Raises RepositoryError when one cannot be read.
    """
    drills = settings.history().last_drills()
    series = [settings.series(name) for name in settings.sets.configured]
    found: list[Listed] = []
    for repository in open_repositories(settings, names or _used(settings)):
        inventory = repository.described_archives(glob=f"{settings.series().label}-*")
        confirmed = _confirmed(settings, repository, inventory.repository_id)
        others = (archive for archive in inventory.archives if archive.id not in {one.id for one in confirmed})
        ours = [one for one in (*others, *confirmed) if any(of.owns(one.title) for of in series)]
        found += (_listed(repository, one, drills.get((inventory.repository_id, one.id))) for one in ours)
    return Listing(tuple(sorted(found, key=lambda one: (one.time, one.name, one.repository))))


def _confirmed(settings: Settings, repository: Repository, repository_id: str) -> list[Archive]:
    """Give the archives of others that were confirmed and are still there, each with the size of its set."""
    known = confirmations(settings.history(), repository_id)
    if not known:
        return []
    inventory = recognised(repository.inventory(), settings.history())
    return [replace(one, original_size=known[one.id].size) for one in inventory.archives if one.id in known]


def _used(settings: Settings) -> tuple[str, ...]:
    """Name every repository that a set goes to, each once."""
    names = (name for set_name in settings.sets.configured for name in settings.repository_names(set_name))
    return tuple(dict.fromkeys(names))


def _listed(repository: Repository, archive: Archive, drilled: datetime | None) -> Listed:
    return Listed(
        archive.name, archive.id, repository.name, archive.time, archive.verdict, drilled, archive.original_size
    )
