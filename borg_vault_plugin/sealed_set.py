"""A sealed set in a directory: whether every file of it is what the manifest says, for sets that travelled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from borg_vault_plugin.archive import Archive
from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.source import NotCheckedError, open_regular
from borg_vault_plugin.manifest import FilesManifest, Manifest, read_any_manifest, read_manifest
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Finding
from borg_vault_plugin.staging import CHECKSUMS, INSTRUCTIONS, MANIFEST, OURS, Artifact
from borg_vault_plugin.wording import visible

READ_BYTES = 1 << 20
LARGEST_SUMS_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class SealedSet:
    """A sealed set as it lies in a directory; the digest is that of its manifest, in hex."""

    directory: Path
    manifest: Manifest
    manifest_sha256: str

    @property
    def files(self) -> dict[str, Artifact]:
        """The artifacts by their paths."""
        return {artifact.path: artifact for artifact in self.manifest.artifacts}


@dataclass(frozen=True, slots=True)
class SealedFiles:
    """A sealed set of provisioning files or keys, as it lies in a directory."""

    directory: Path
    manifest: FilesManifest
    manifest_sha256: str

    @property
    def files(self) -> dict[str, Artifact]:
        """The artifacts by their paths."""
        return {artifact.path: artifact for artifact in self.manifest.artifacts}


Sealed = SealedSet | SealedFiles


def open_set(directory: Path) -> SealedSet:
    """Read the manifest of a database set. Raises NotCheckedError, also for one that names files outside."""
    manifest, digest = read_manifest(directory)
    _refuse_outside(manifest.artifacts)
    return SealedSet(directory, manifest, digest)


def open_any_set(directory: Path) -> Sealed:
    """Read the manifest of a set of any kind. Raises NotCheckedError as `open_set` does."""
    manifest, digest = read_any_manifest(directory)
    _refuse_outside(manifest.artifacts)
    if isinstance(manifest, FilesManifest):
        return SealedFiles(directory, manifest, digest)
    return SealedSet(directory, manifest, digest)


def _refuse_outside(artifacts: Iterable[Artifact]) -> None:
    for artifact in artifacts:
        if not _is_inside(artifact.path):
            raise NotCheckedError(f"{MANIFEST} lists {artifact.path!r}, which is no plain path below it")


def is_set(directory: Path) -> bool:
    """Whether there is something like a manifest in a directory."""
    path = directory / MANIFEST
    return path.is_symlink() or path.exists()


def check_files(sealed: Sealed, progress: Progress = unseen) -> Iterator[Finding]:
    """Compare every file of a set with the manifest, and with SHA256SUMS.

    Raises NotCheckedError for what cannot be read, after everything else was compared.
    """
    sums: dict[str, str] = {}
    unread: list[NotCheckedError] = []
    done = 0
    with progress("compare files", sum(artifact.size for artifact in sealed.manifest.artifacts)) as advance:
        for path in (*sealed.files, MANIFEST, INSTRUCTIONS):
            try:
                seen = measured(sealed.directory, path)
            except NotCheckedError as error:
                unread.append(error)
                continue
            if seen is not None:
                sums[path] = seen.sha256
                done += seen.size
            advance(done)
            yield from difference(sealed, path, seen)
    yield from _check_sums(sealed, sums)
    if unread:
        raise unread[0]


def difference(sealed: Sealed, path: str, seen: Artifact | None) -> Iterator[Finding]:
    """Report in what a file is not what the manifest says; instructions and the manifest itself must only be there."""
    listed = sealed.files.get(path)
    if seen is None:
        yield Finding(Code.SET_FILE_MISSING, path, "belongs to the set")
    elif listed is not None and (seen.size, seen.sha256) != (listed.size, listed.sha256):
        detail = f"{seen.size} bytes of SHA-256 {seen.sha256}, the manifest says {listed.size} of {listed.sha256}"
        yield Finding(Code.SET_FILE_CHANGED, path, detail)


def measured(directory: Path, path: str) -> Artifact | None:
    """Give a file with its size and digest; None when there is none. Raises NotCheckedError for no regular file."""
    place = directory / path
    if not place.is_symlink() and not place.exists():
        return None
    digest, size = hashlib.sha256(), 0
    with open_regular(place) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
            size += len(block)
    return Artifact(path, size, digest.hexdigest(), "")


def _check_sums(sealed: Sealed, found: dict[str, str]) -> Iterator[Finding]:
    """Compare SHA256SUMS with the digests that were found; a file that is missing has been reported."""
    if measured(sealed.directory, CHECKSUMS) is None:
        yield Finding(Code.SET_FILE_MISSING, CHECKSUMS, "belongs to the set")
        return
    with open_regular(sealed.directory / CHECKSUMS) as file:
        lines = file.read(LARGEST_SUMS_BYTES).decode("utf-8", "replace").splitlines()
    listed = {path: digest for digest, _, path in (line.partition("  ") for line in lines)}
    for path in sorted(found.keys() | listed.keys()):
        if listed.get(path) != found.get(path, listed.get(path)) or path not in (*sealed.files, MANIFEST, INSTRUCTIONS):
            detail = f"lists {listed.get(path, 'nothing')}, the file has {found.get(path, 'no place in the set')}"
            yield Finding(Code.SET_CHECKSUMS_DIFFER, path, detail)


def demand_manifest_of(archive: Archive, sealed: Sealed) -> None:
    """Check that a set's manifest is the one that its archive's comment names. Raises NotCheckedError."""
    if archive.described.get("manifest") not in (None, f"sha256:{sealed.manifest_sha256}"):
        raise NotCheckedError("the manifest is not the one that the archive's comment names")


def unknown_files(sealed: Sealed) -> Iterator[Finding]:
    """Report what lies in a set's directory and does not belong to it."""
    known = {*sealed.files, *OURS}
    there = (path for path in sealed.directory.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in sorted(path.relative_to(sealed.directory).as_posix() for path in there):
        if path not in known:
            yield Finding(Code.SET_FILE_UNKNOWN, visible(path), "is not listed in the manifest")


def _is_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return str(pure) == path and not pure.is_absolute() and ".." not in pure.parts and path not in OURS and path != "."
