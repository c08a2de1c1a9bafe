"""Archives that other programs made, under whatever name, and that hold a set of ours somewhere inside.

History knows those that `confirm` found whole. One that somebody names can also show it itself, by the manifest in it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from hashlib import sha256

from borg_vault_plugin.archive import PARTIAL, SUFFIX, Archive, Series, SetName, Verdict, comment, time_of
from borg_vault_plugin.borg import CHECKPOINT, Inventory, Repository
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.errors import UsageError
from borg_vault_plugin.history import Event, History
from borg_vault_plugin.manifest import LARGEST_BYTES, FilesManifest, Manifest, manifest_in
from borg_vault_plugin.staging import MANIFEST

MANIFESTS = f"sh:**/{MANIFEST}"


def confirmations(history: History, repository_id: str) -> dict[str, Event]:
    """Give what was confirmed in a repository, by the ids of the archives."""
    return {
        event.archive_id: event
        for event in history.events()
        if event.event == "confirmed" and event.repository == repository_id and event.archive_id and event.snapshot
    }


def recognised(inventory: Inventory, history: History) -> Inventory:
    """Give an inventory in which archives that were confirmed tell what they hold; their time is the snapshot's."""
    known = confirmations(history, inventory.repository_id)
    archives = (_told(one, known[one.id]) if one.id in known else one for one in inventory.archives)
    return replace(inventory, archives=tuple(archives)) if known else inventory


def root_of(path: str) -> str:
    """Give the directory of a manifest in an archive; empty for the archive itself."""
    return path.removesuffix(MANIFEST).rstrip("/")


def title_of(manifest: Manifest | FilesManifest) -> str:
    """Give what an archive of ours with this set is called."""
    return manifest.archive + SUFFIX[manifest.verdict]


def looked_into(repository: Repository, archive: Archive, series: Series) -> Archive:
    """Look for a set in an archive that does not tell of one; give the archive as it was when there is none.

    Raises UsageError when there are several and none, or more than one, is of this series; RepositoryError.
    """
    if archive.holds or "manifest" in archive.described or _is_unfinished(archive.name):
        return archive
    found: list[Archive] = []
    for path, size in repository.listing(archive.name, pattern=MANIFESTS).items():
        if 0 < size <= LARGEST_BYTES:
            found += _held(archive, path, repository.content(archive.name, path))
    ours = [one for one in found if series.owns(one.title)]
    chosen = ours if len(found) > 1 else found
    if found and len(chosen) != 1:
        told = ", ".join(one.root or "." for one in found)
        raise UsageError(f"{archive.name} holds several sets ({told}): extract the one that you mean, and name that")
    return chosen[0] if chosen else archive


def _held(archive: Archive, path: str, data: bytes) -> list[Archive]:
    """Give the archive as one that holds the set of this manifest, if it is one."""
    try:
        manifest = manifest_in(data)
        time_of(manifest.archive)  # what is called otherwise was not made by us
    except (NotCheckedError, ValueError):
        return []
    root = root_of(path)
    digest = sha256(data).hexdigest()
    return [_holding(archive, title_of(manifest), root, manifest.time, comment(manifest.verdict, digest, manifest.set))]


def _told(archive: Archive, event: Event) -> Archive:
    title = event.holds or archive.name
    verdict = _verdict(title)
    told = comment(verdict, event.manifest or "", _SET)
    return _holding(archive, title, event.where or "", event.snapshot or archive.time, told)


def _holding(archive: Archive, title: str, root: str, time: datetime, told: str) -> Archive:
    return replace(archive, holds=title, root=root, time=time, comment=told)


_SET: SetName = "database"  # only that set is staged for others


def _verdict(title: str) -> Verdict:
    return next((verdict for verdict, suffix in SUFFIX.items() if suffix and title.endswith(suffix)), "good")


def _is_unfinished(name: str) -> bool:
    return name.endswith(PARTIAL) or CHECKPOINT.search(name) is not None
