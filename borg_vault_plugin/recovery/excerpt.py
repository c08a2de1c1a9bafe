"""Parts of an archive as plain files: the key registry, the chain or the dump, each as the manifest has it.

They are extracted inside the directory that they are for, compared with the manifest, written to disk, and only then
given their names; so whatever has a name there is whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from borg_vault_plugin import preflight
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.config import Settings
from borg_vault_plugin.errors import PreflightError, UsageError
from borg_vault_plugin.lookup import Stored, find_archive
from borg_vault_plugin.recovery.decisions import refuse_other_sets, refuse_without_dump, warn_of
from borg_vault_plugin.report import NOT_CHECKED_EXIT_CODE, SUSPECT_EXIT_CODE, Finding
from borg_vault_plugin.scratch import PREFIX, scratch_directory
from borg_vault_plugin.sealed_set import SealedSet, difference, measured, open_set
from borg_vault_plugin.staging import MANIFEST, Artifact

Part = Literal["registry", "chain", "dump"]
PATHS: dict[Part, str] = {"registry": "vault-public-keys.csv", "chain": "chain", "dump": "db.dump"}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The document of `restore --only --json`: what was written, or why nothing was."""

    archive: str
    directory: str
    verdict: Literal["passed", "failed", "not_checked"]
    files: tuple[Artifact, ...] = ()
    """With their paths in the directory."""
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code of the run."""
        return {"passed": 0, "failed": SUSPECT_EXIT_CODE, "not_checked": NOT_CHECKED_EXIT_CODE}[self.verdict]


def write_excerpt(settings: Settings, archive: str, part: Part, directory: Path) -> Excerpt:
    """Write one part of an archive into a directory that is new or empty.

    Raises UsageError for a directory in use, PreflightError without room for it, RepositoryError.
    """
    _refuse_unfit(directory)
    stored = find_archive(settings, archive)
    refuse_other_sets(stored.archive)
    warn_of(settings.series(), stored.archive)
    name = stored.archive.name
    with _made(directory) as place:
        try:
            sealed = _manifest(stored, place)
            files = _chosen(name, sealed, part)
            preflight.check_space(place, sum(file.size for file in files), f"the {part} of {name}")
            stored.extract(place, [PATHS[part]])
            findings = list(_differences(sealed, files))
        except NotCheckedError as error:
            return Excerpt(name, str(directory), "not_checked", reasons=(str(error),))
        if findings:
            return Excerpt(name, str(directory), "failed", findings=tuple(findings))
        return Excerpt(name, str(directory), "passed", tuple(_put(place, directory, files)))


def _refuse_unfit(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is no directory: name a new or an empty one")
    if directory.is_dir() and any(not path.name.startswith(PREFIX) for path in directory.iterdir()):
        raise UsageError(f"{directory} holds something already: name a new or an empty directory")


@contextlib.contextmanager
def _made(directory: Path) -> Iterator[Path]:
    """Make the directory and, inside it, one that is gone at the end; a directory that stays empty is gone, too."""
    new = not directory.exists()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PreflightError(f"{directory} cannot be made: {error.strerror}: choose another place") from error
    try:
        with scratch_directory(directory) as place:
            yield place
    finally:
        if new and not any(directory.iterdir()):
            directory.rmdir()


def _manifest(stored: Stored, place: Path) -> SealedSet:
    stored.extract(place, [MANIFEST])
    sealed = open_set(place)
    described = stored.archive.described.get("manifest")
    if described not in (None, f"sha256:{sealed.manifest_sha256}"):
        raise NotCheckedError("the manifest is not the one that the archive's comment names")
    return sealed


def _chosen(archive: str, sealed: SealedSet, part: Part) -> list[Artifact]:
    wanted = PATHS[part]
    if part == "dump":
        refuse_without_dump(archive, sealed)
    files = [file for file in sealed.manifest.artifacts if wanted in (file.path, str(PurePosixPath(file.path).parent))]
    if not files:
        raise NotCheckedError(f"{MANIFEST} lists no {PATHS[part]}")
    return files


def _differences(sealed: SealedSet, files: list[Artifact]) -> Iterator[Finding]:
    for file in files:
        if (sealed.directory / file.path).parent.is_symlink():
            raise NotCheckedError(f"{PurePosixPath(file.path).parent} is a symbolic link")
        yield from difference(sealed, file.path, measured(sealed.directory, file.path))


def _put(place: Path, directory: Path, files: list[Artifact]) -> Iterator[Artifact]:
    """Give files their names, once they are on disk."""
    for file in files:
        _make_ours(place / file.path)
        name = PurePosixPath(file.path).name
        (place / file.path).rename(directory / name)
        yield replace(file, path=name)
    _write_to_disk(directory)


def _make_ours(path: Path) -> None:
    """Take from a file the owner and the rights that the archive gives it, and write it to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, os.geteuid(), os.getegid())
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
