"""The repositories of a configuration, taken together: open them, create them, list what of ours is in them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from borg_vault_plugin.archive import Series
from borg_vault_plugin.borg import Repository, open_repository
from borg_vault_plugin.config import Settings
from borg_vault_plugin.errors import ConfigError, UsageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Initialised:
    """A repository that was created, and where its key was exported to."""

    repository: str
    path: str
    id: str
    key_file: Path


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
    """Open the named repositories, or all that the database set goes to; raises ConfigError, PreflightError."""
    chosen = settings.repositories_named(names or settings.sets.database.repositories)
    fds = tuple(pass_fds)
    return [open_repository(name, repository, pass_fds=fds) for name, repository in chosen.items()]


def initialise(settings: Settings, names: tuple[str, ...], encryption: str, key_file: Path | None) -> list[Initialised]:
    """Create repositories and export their keys.

    Raises UsageError when one key file is named for several repositories, RepositoryError when one exists already.
    """
    repositories = open_repositories(settings, names)
    if key_file is not None and len(repositories) > 1:
        raise UsageError("--key-out names one file, but there are several repositories: choose one with -r")
    return [_initialise(settings, repository, encryption, key_file) for repository in repositories]


def _initialise(settings: Settings, repository: Repository, encryption: str, key_file: Path | None) -> Initialised:
    if key_file is not None and key_file.exists():
        raise ConfigError(f"key file {key_file} exists already: name another one with --key-out")
    repository.create(encryption)
    repository_id = repository.id()
    path = key_file or settings.state_directory / "keys" / f"{repository.name}-{repository_id[:12]}.key"
    repository.export_key(path)
    return Initialised(repository.name, repository.settings.path, repository_id, path.absolute())


def list_archives(settings: Settings, names: tuple[str, ...]) -> Listing:
    """List our archives in the named repositories, or in all; raises RepositoryError when one cannot be read."""
    series = Series(settings.label_for(settings.source()), "database")
    found = [
        Listed(archive.name, archive.id, repository.name, archive.time, archive.verdict, None, archive.original_size)
        for repository in open_repositories(settings, names)
        for archive in repository.described_archives(glob=f"{series.prefix}-*")
        if series.owns(archive.name)
    ]
    return Listing(tuple(sorted(found, key=lambda one: (one.time, one.name, one.repository))))
