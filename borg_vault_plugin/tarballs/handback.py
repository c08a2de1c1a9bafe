"""The way out: an archive as the tarball that the Server's own restore script takes.

Only what that script reads is in it. Every file is what the archive's manifest says, or nothing is written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from borg_vault_plugin import preflight
from borg_vault_plugin.archive import TIME_FORMAT
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.clients import find_clients
from borg_vault_plugin.config import Settings
from borg_vault_plugin.errors import PreflightError
from borg_vault_plugin.lookup import Stored, extraction_place, find_archive
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.recovery.decisions import refuse_without_dump, warn_of
from borg_vault_plugin.report import NOT_CHECKED_EXIT_CODE, SUSPECT_EXIT_CODE, Finding, Origin
from borg_vault_plugin.scratch import scratch_directory
from borg_vault_plugin.sealed_set import SealedSet, difference, measured, open_set
from borg_vault_plugin.staging import MANIFEST
from borg_vault_plugin.tarballs.dump_header import read_header
from borg_vault_plugin.tarballs.dump_properties import database_oid
from borg_vault_plugin.tarballs.tarball import DUMP, METADATA, REGISTRY, metadata_text, new_file, pack, refuse_existing

logger = logging.getLogger(__name__)

# What the script notes of an installation and we do not know; an archive that came from a tarball still has it.
OF_THE_INSTALLATION = ("compose_project", "agledger_version", "agledger_image_pin")
# What names, versions and digests are made of, and no shell acts on: whatever reads the file may be one.
PLAIN = re.compile(r"[A-Za-z0-9 ._:/@+-]*")


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The document of `export --json`: what was written, or why nothing was."""

    archive: str
    file: str
    verdict: Literal["passed", "failed", "not_checked"]
    size: int | None = None
    metadata: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code of the run."""
        return {"passed": 0, "failed": SUSPECT_EXIT_CODE, "not_checked": NOT_CHECKED_EXIT_CODE}[self.verdict]


def hand_back(
    settings: Settings, target: str, file: Path, repositories: tuple[str, ...] = (), progress: Progress = unseen
) -> HandedBack:
    """Write an archive, named or `latest`, as a tarball; whatever is not as its manifest says is not written.

    Raises UsageError when there is no such archive, no dump in it, or such a file already, PreflightError without
    room, RepositoryError, SourceError when what is in the archive is no dump.
    """
    refuse_existing(file)
    stored = find_archive(settings, target, repositories)
    warn_of(settings.series(), stored.archive)
    name = stored.archive.name
    with scratch_directory(extraction_place(settings)) as directory:
        try:
            sealed = _extracted(stored, directory)
            findings = tuple(_differences(sealed))
        except NotCheckedError as error:
            return HandedBack(name, str(file), "not_checked", reasons=(str(error),))
        if findings:
            return HandedBack(name, str(file), "failed", findings=findings)
        metadata = _metadata(sealed)
        _write(file, sealed, metadata, progress)
    return HandedBack(name, str(file), "passed", file.stat().st_size, metadata)


def _extracted(stored: Stored, directory: Path) -> SealedSet:
    """Extract the manifest and, of the files, those that the script reads. Raises NotCheckedError."""
    name = stored.archive.name
    stored.extract(directory, [MANIFEST])
    sealed = open_set(directory)
    if stored.archive.described.get("manifest") not in (None, f"sha256:{sealed.manifest_sha256}"):
        raise NotCheckedError("the manifest is not the one that the archive's comment names")
    refuse_without_dump(name, sealed)
    if DUMP not in sealed.files:
        raise NotCheckedError(f"{MANIFEST} lists no {DUMP}")
    paths = _wanted(sealed)
    preflight.check_space(directory, _size(sealed), f"{name}, extracted")
    stored.extract(directory, paths)
    return sealed


def _wanted(sealed: SealedSet) -> list[str]:
    return [path for path in (DUMP, REGISTRY) if path in sealed.files]


def _size(sealed: SealedSet) -> int:
    return sum(sealed.files[path].size for path in _wanted(sealed))


def _differences(sealed: SealedSet) -> Iterator[Finding]:
    for path in _wanted(sealed):
        yield from difference(sealed, path, measured(sealed.directory, path))


def _write(file: Path, sealed: SealedSet, metadata: dict[str, str], progress: Progress) -> None:
    size, archive = _size(sealed), sealed.manifest.archive
    preflight.check_space(file.parent, size, file.name)
    text = metadata_text(metadata, f"Written by borg-vault from {archive}; read by the Server's restore script.")
    files: list[tuple[str, Path | bytes]] = [(path, sealed.directory / path) for path in _wanted(sealed)]
    with new_file(file) as out, progress(file.name, size) as advance:
        pack(out, sealed.manifest.time, [*files, (METADATA, text.encode())], advance)
    logger.info("wrote %s", file)


def _metadata(sealed: SealedSet) -> dict[str, str]:
    """Give what the script notes, as far as it is known: what was imported keeps its own."""
    snapshot, origin = sealed.manifest.snapshot, sealed.manifest.origin
    told = origin.metadata if isinstance(origin, Origin) else {}
    facts = {
        "created_at": told.get("created_at") or snapshot.time.strftime(TIME_FORMAT),
        "database_token": told.get("database_token") or _token(sealed),
        "wal_lsn": told.get("wal_lsn") or snapshot.wal_lsn or "",
    }
    facts |= {name: told.get(name, "") for name in OF_THE_INSTALLATION}
    return {name: value if PLAIN.fullmatch(value) else "" for name, value in facts.items()}


def _token(sealed: SealedSet) -> str:
    """Name the database as the script does: its server's system identifier, and its number there."""
    dump, identifier = sealed.directory / DUMP, sealed.manifest.snapshot.system_identifier
    header = read_header(dump)
    try:
        number = database_oid(find_clients(header.major), dump)
    except PreflightError as error:
        logger.info("the tarball says nothing of which database it is from: %s", error)
        return ""
    return f"{identifier}:{number}" if identifier and number else ""
