"""`confirm`: an archive that another program made holds exactly the set that is sealed in a directory.

The newest archive in which the sealed manifest lies, to the byte, decides: below its directory there is every file of
the set, of the size that was sealed, and nothing else. History remembers it, so that the archive counts as ours.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from borg_vault_plugin import split
from borg_vault_plugin.archive import Archive, Verdict
from borg_vault_plugin.borg import CHECKPOINT, Repository
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import MANIFESTS, root_of, title_of
from borg_vault_plugin.errors import RepositoryError, UsageError
from borg_vault_plugin.history import Event
from borg_vault_plugin.report import NOT_CHECKED_EXIT_CODE, SUSPECT_EXIT_CODE, Finding
from borg_vault_plugin.repositories import open_repositories, repository_at
from borg_vault_plugin.sealed_set import SealedSet, check_files, is_set, open_set, unknown_files
from borg_vault_plugin.staging import MANIFEST, OURS
from borg_vault_plugin.wording import plural

logger = logging.getLogger(__name__)

MOST_DIFFERENCES = 5


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The document of `confirm --json`: which archive holds the set, or what is wrong with the directory."""

    repository: str
    set: str | None
    """What an archive of ours with it would be called."""
    set_verdict: Verdict | None
    verdict: Literal["passed", "failed", "not_checked"]
    archive: str | None = None
    archive_id: str | None = None
    repository_id: str | None = None
    root: str | None = None
    """The directory in the archive that is the set; empty when the archive is nothing else."""
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code of the run."""
        return {"passed": 0, "failed": SUSPECT_EXIT_CODE, "not_checked": NOT_CHECKED_EXIT_CODE}[self.verdict]


def confirm(settings: Settings, named: str, directory: Path) -> Confirmation:
    """Find the newest archive that holds the set sealed in a directory, and remember it.

    Raises UsageError for a directory without a set, RepositoryError when no archive holds it or the newest one that
    does is not whole, ConfigError for a repository that is not configured or holds encryption keys.
    """
    name = repository_at(settings, named)
    if not is_set(directory):
        raise UsageError(f"{directory} holds no sealed set: stage one there with `borg-vault stage`")
    (repository,) = open_repositories(settings, (name,))
    try:
        sealed = open_set(directory)
        findings = (*check_files(sealed), *unknown_files(sealed))
    except NotCheckedError as error:
        return Confirmation(name, None, None, "not_checked", reasons=(f"the set in {directory}: {error}",))
    told = title_of(sealed.manifest), sealed.manifest.verdict
    if findings:
        return Confirmation(name, *told, "failed", findings=findings)
    found = _found(settings, repository, sealed)
    return Confirmation(name, *told, "passed", found.archive, found.archive_id, found.repository, found.where)


def _found(settings: Settings, repository: Repository, sealed: SealedSet) -> Event:
    inventory = repository.inventory()
    split.refuse_same_repository(settings, "database", repository.name, inventory.repository_id, inventory.archives)
    sizes = {path: (sealed.directory / path).stat().st_size for path in (*sealed.files, *OURS)}
    archive, root = _newest_holder(repository, inventory.archives, sealed, sizes)
    event = Event(
        time=datetime.now(UTC),
        event="confirmed",
        archive=archive.name,
        repository=inventory.repository_id,
        archive_id=archive.id,
        manifest=sealed.manifest_sha256,
        verdict=sealed.manifest.verdict,
        holds=title_of(sealed.manifest),
        where=root,
        snapshot=sealed.manifest.time,
        size=sum(sizes.values()),
    )
    settings.history().append(event)
    return event


def _newest_holder(
    repository: Repository, archives: tuple[Archive, ...], sealed: SealedSet, sizes: Mapping[str, int]
) -> tuple[Archive, str]:
    since = _sealed_at(sealed)
    later = [one for one in archives if one.time >= since and not CHECKPOINT.search(one.name)]
    for archive in sorted(later, key=lambda one: (one.time, one.name), reverse=True):
        root = _root_in(repository, archive, sealed, sizes)
        if root is not None:
            return archive, root
    where = f"repository {repository.name} ({repository.settings.path})"
    if not later:
        raise RepositoryError(
            f"{where} has no archive made since {sealed.directory} was sealed at {since:%Y-%m-%d %H:%M:%S} UTC: "
            "look at what borg create said"
        )
    newest = max(later, key=lambda one: (one.time, one.name)).name
    raise RepositoryError(
        f"{where}: the set of {sealed.directory} is in none of the {plural(len(later), 'archive')} made since it was "
        f"sealed, the newest being {newest}: let borg create store that directory"
    )


def _root_in(repository: Repository, archive: Archive, sealed: SealedSet, sizes: Mapping[str, int]) -> str | None:
    """Give the directory in an archive that is the set, None when there is none. Raises RepositoryError."""
    differing: list[str] = []
    for path, size in repository.listing(archive.name, pattern=MANIFESTS).items():
        if size == sizes[MANIFEST] and _digest(repository.content(archive.name, path)) == sealed.manifest_sha256:
            differences = list(_differences(sizes, repository.listing(archive.name, root=root_of(path))))
            if not differences:
                return root_of(path)
            differing += differences
    if differing:
        more = f"; and {len(differing) - MOST_DIFFERENCES:,} more" if len(differing) > MOST_DIFFERENCES else ""
        raise RepositoryError(
            f"repository {repository.name} ({repository.settings.path}): {archive.name} does not hold the set of "
            f"{sealed.directory}: {'; '.join(differing[:MOST_DIFFERENCES])}{more}: look at what borg create said"
        )
    return None


def _differences(sealed: Mapping[str, int], archived: Mapping[str, int]) -> Iterator[str]:
    for path in sorted(sealed.keys() | archived.keys()):
        if path not in archived:
            yield f"{path} is missing"
        elif path not in sealed:
            yield f"{path} does not belong to it"
        elif archived[path] < 0:
            yield f"{path} is no regular file"
        elif archived[path] != sealed[path]:
            yield f"{path} has {archived[path]:,} bytes instead of {sealed[path]:,}"


def _sealed_at(sealed: SealedSet) -> datetime:
    """Give when a set was sealed: by this host's clock, or the database's where that is behind."""
    written = datetime.fromtimestamp((sealed.directory / MANIFEST).stat().st_mtime, UTC)
    return min(written, sealed.manifest.time).replace(microsecond=0)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
