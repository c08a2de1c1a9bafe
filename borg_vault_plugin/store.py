"""Storing a sealed set in a repository so that a plain archive name always means a whole, good archive.

The set is stored as `<name>.partial`, what Borg lists is compared with what was sealed, and only then does the archive
get the name that its verdict gives it. Intent and result stand in history, so that what a killed run left can be told
from somebody else's archives.
"""

from __future__ import annotations

import logging
import time

from borg_vault_plugin.archive import PARTIAL, SUFFIX, Archive, Series, comment
from borg_vault_plugin.borg import CHECKPOINT, Inventory, Repository, Storing
from borg_vault_plugin.errors import RepositoryError
from borg_vault_plugin.history import History, happened_now
from borg_vault_plugin.manifest import FilesManifest, Manifest, Staged
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Origin, Stored
from borg_vault_plugin.staging import changed, identities
from borg_vault_plugin.stopwatch import seconds_since

logger = logging.getLogger(__name__)


def leftovers(series: Series, inventory: Inventory) -> list[Archive]:
    """Give what killed runs of this series left: archives without a final name, and Borg's checkpoints of them."""

    def is_left(name: str) -> bool:
        whole, partial, rest = name.partition(PARTIAL)
        return bool(partial) and series.owns(whole) and (not rest or CHECKPOINT.fullmatch(rest) is not None)

    return [archive for archive in inventory.archives if is_left(archive.name)]


def sweep(repository: Repository, series: Series, inventory: Inventory, history: History) -> None:
    """Delete what killed runs left of this series; call it only under the run lock. Raises RepositoryError."""
    left = leftovers(series, inventory)
    if not left:
        return
    repository.delete([archive.name for archive in left])
    for archive in left:
        logger.info("removed %s from %s, left by a run that was cut short", archive.name, repository.name)
        history.append(
            happened_now("swept", archive.name, inventory.repository_id, archive_id=archive.id, reason="cut short")
        )


def store(
    repository: Repository,
    repository_id: str,
    staged: Staged[Manifest] | Staged[FilesManifest],
    *,
    options: tuple[str, ...],
    history: History,
    progress: Progress,
) -> tuple[Stored, Inventory | None]:
    """Store a sealed set, and give what is in the repository then; one that fails is in the result: others go on."""
    begun = time.monotonic()
    name = staged.manifest.archive + SUFFIX[staged.manifest.verdict]
    digest, verdict = staged.sealed.manifest_sha256, staged.manifest.verdict
    try:
        history.append(happened_now("intended", name, repository_id, manifest=digest, verdict=verdict))
        stored, inventory = _store_whole(repository, staged, options, progress)
        history.append(
            happened_now("created", name, repository_id, archive_id=stored.archive_id, manifest=digest, verdict=verdict)
        )
    except RepositoryError as error:
        logger.error("%s", error)
        return Stored(repository.name, "failed", seconds=seconds_since(begun), error=str(error)), None
    logger.info("stored %s in %s", name, repository.name)
    return stored, inventory


def _store_whole(
    repository: Repository,
    staged: Staged[Manifest] | Staged[FilesManifest],
    options: tuple[str, ...],
    progress: Progress,
) -> tuple[Stored, Inventory]:
    begun = time.monotonic()
    manifest, expected = staged.manifest, staged.sealed.sizes()
    partial = manifest.archive + PARTIAL
    tarball = manifest.origin.sha256 if isinstance(manifest.origin, Origin) else None
    described = comment(manifest.verdict, staged.sealed.manifest_sha256, manifest.set, tarball)
    storing = Storing(partial, manifest.time, described, staged.directory, tuple(sorted(expected)), options)
    with progress(f"store in {repository.name}", sum(expected.values())) as advance:
        sizes = repository.store(storing, None if progress is unseen else advance)
    meddled = changed(staged.sealed.identities, identities(staged.directory))
    if meddled is not None:
        raise RepositoryError(
            f"repository {repository.name}: {meddled} changed in staging while {partial} was stored: find out what"
            " writes there, and run it again"
        )
    if repository.listing(partial) != expected:
        raise RepositoryError(
            f"repository {repository.name}: {partial} does not hold what was staged: look at its disk"
        )
    name = manifest.archive + SUFFIX[manifest.verdict]
    repository.rename(partial, name)
    inventory = repository.inventory()
    archive_id = next((one.id for one in inventory.archives if one.name == name), None)
    stored = Stored(
        repository.name,
        "stored",
        archive_id,
        sizes.original_size,
        sizes.compressed_size,
        sizes.deduplicated_size,
        seconds_since(begun),
    )
    return stored, inventory
