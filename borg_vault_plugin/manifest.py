"""The manifest and the two files that people without this program read: SHA256SUMS and RESTORE.txt."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from borg_vault_plugin.archive import SUFFIX, SetName, Verdict
from borg_vault_plugin.chain.readlog import TreeHead
from borg_vault_plugin.chain.source import NotCheckedError, open_regular
from borg_vault_plugin.foreign import UNREADABLE, Instant
from borg_vault_plugin.report import Backup, Chain, Continuity, Finding, Origin, Pruned, SnapshotFacts, Stored, as_json
from borg_vault_plugin.staging import CHECKSUMS, INSTRUCTIONS, MANIFEST, Artifact, Identities, identities, write_sealed
from borg_vault_plugin.survey import Survey

FORMAT = 1
PROGRAM = "borg-vault-plugin"
DUMP = "db.dump"
LARGEST_BYTES = 256 << 20
VERDICTS: dict[Verdict, str] = {
    "good": "When this archive was made, every chain verified and extended the\narchive before it.",
    "suspect": "SUSPECT: when this archive was made, something in it contradicted\nitself or the archive before it; "
    "manifest.json lists what.",
    "unverified": "NOT VERIFIED: when this archive was made, something could not be\nchecked; manifest.json says why.",
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The list of artifacts and what is known about them, archived with them."""

    format: int
    program: str
    label: str
    set: SetName
    archive: str
    verdict: Verdict
    snapshot: SnapshotFacts
    clients: str
    artifacts: tuple[Artifact, ...]
    counts: dict[str, int]
    chain: Chain
    continuity: Continuity
    survey: Survey
    read_logs: tuple[TreeHead, ...] = ()
    """The tree over all leaves of each read log, in the era's own hashing."""
    origin: Origin | msgspec.UnsetType = msgspec.UNSET
    """Where an imported set comes from."""

    @property
    def time(self) -> datetime:
        """The instant of the snapshot."""
        return self.snapshot.time

    @property
    def database_elsewhere(self) -> str | None:
        """Where the database itself is, when something else stands in for its dump."""
        if any(artifact.path == DUMP for artifact in self.artifacts):
            return None
        return next((one.database_in for one in self.artifacts if one.database_in is not msgspec.UNSET), None)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found in the chain and against history, accepted or not."""
        return (*self.chain.findings, *self.continuity.findings)

    def report(
        self, seconds: dict[str, float], stored: tuple[Stored, ...] = (), pruned: tuple[Pruned, ...] = ()
    ) -> Backup:
        """Report on this set and on what became of it."""
        return Backup(
            archive=self.archive,
            verdict=self.verdict,
            repositories=stored,
            artifacts=self.artifacts,
            counts=self.counts,
            chain=self.chain,
            continuity=self.continuity,
            snapshot=self.snapshot,
            pruned=pruned,
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True)
class FilesManifest:
    """The manifest of a set that is files: provisioning, or keys."""

    format: int
    program: str
    label: str
    set: SetName
    archive: str
    verdict: Verdict
    time: Instant
    origin: str
    """Where the files come from."""
    revision: str | None
    """Of a checkout."""
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed set: every file of it, and the manifest's digest in hex."""

    files: tuple[Artifact, ...]
    manifest_sha256: str
    identities: Identities
    """Of every file, at that moment."""

    def sizes(self) -> dict[str, int]:
        """Give the size of every file by its path."""
        return {file.path: file.size for file in self.files}


AnyManifest = TypeVar("AnyManifest", Manifest, FilesManifest)
Readable = TypeVar("Readable")


@dataclass(frozen=True, slots=True)
class Staged(Generic[AnyManifest]):
    """What a run staged: the manifest and every file, sealed."""

    manifest: AnyManifest
    sealed: Sealed
    directory: Path


def program_version() -> str:
    """Give this program's name and version."""
    return f"borg-vault {version(PROGRAM)}"


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """Read the manifest of a sealed database set; give it with its SHA-256 in hex. Raises NotCheckedError."""
    return _read(directory, Manifest)


def read_any_manifest(directory: Path) -> tuple[Manifest | FilesManifest, str]:
    """Read the manifest of a set of any kind; give it with its SHA-256 in hex. Raises NotCheckedError."""
    kind, _ = _read(directory, _Kind)
    return _read(directory, Manifest) if kind.set == "database" else _read(directory, FilesManifest)


def manifest_in(data: bytes) -> Manifest | FilesManifest:
    """Read the manifest of a set of any kind from its bytes. Raises NotCheckedError."""
    kind = _decoded(data, _Kind)
    return _decoded(data, Manifest) if kind.set == "database" else _decoded(data, FilesManifest)


@dataclass(frozen=True, slots=True)
class _Kind:
    set: SetName


def _read(directory: Path, kind: type[Readable]) -> tuple[Readable, str]:
    with open_regular(directory / MANIFEST) as file:
        data = file.read(LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        raise NotCheckedError(f"{MANIFEST} is longer than {LARGEST_BYTES} bytes")
    return _decoded(data, kind), hashlib.sha256(data).hexdigest()


def _decoded(data: bytes, kind: type[Readable]) -> Readable:
    try:
        found = msgspec.json.decode(data, type=kind)
        if isinstance(found, Manifest | FilesManifest):
            found.time.astimezone(UTC)  # in its own zone an instant can be the last of the calendar
    except (*UNREADABLE, OverflowError) as error:
        raise NotCheckedError(f"{MANIFEST} cannot be read: {error}") from error
    return found


def seal(directory: Path, manifest: Manifest | FilesManifest) -> Sealed:
    """Write manifest, instructions and checksums into staging; nothing may be added afterwards."""
    described = write_sealed(directory, MANIFEST, as_json(manifest) + "\n")
    told = restore_instructions(manifest) if isinstance(manifest, Manifest) else files_instructions(manifest)
    instructions = write_sealed(directory, INSTRUCTIONS, told)
    files = (*manifest.artifacts, described, instructions)
    sums = write_sealed(directory, CHECKSUMS, checksums(files))
    return Sealed((*files, sums), described.sha256, identities(directory))


def checksums(files: Iterable[Artifact]) -> str:
    """Give the lines that `sha256sum -c` reads, in the order of the paths."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))


def files_instructions(manifest: FilesManifest) -> str:
    """Tell how to get at the files of a set with plain borg."""
    revision = f"Revision: {manifest.revision}\n" if manifest.revision else ""
    return f"""\
{manifest.archive}

The set {manifest.set} of {manifest.label}, as it was at {manifest.time:%Y-%m-%d %H:%M:%S} UTC.
From: {manifest.origin}
{revision}
To get it without borg-vault:

    borg extract REPOSITORY::{manifest.archive}
    sha256sum -c {CHECKSUMS}

A working Server needs three things, each with a backup of its own: its database, the customer-held encryption keys
with the Server's .env, and the provisioning files.
"""


def restore_instructions(manifest: Manifest) -> str:
    """Tell how to restore this archive with plain borg and PostgreSQL's own programs, and what it does not hold."""
    snapshot, paths = manifest.snapshot, {artifact.path for artifact in manifest.artifacts}
    heads = "; chain-heads.ndjson names the last entry of each" if "chain-heads.ndjson" in paths else ""
    elsewhere = manifest.database_elsewhere
    return f"""\
{manifest.archive}

Database {snapshot.database} of a PostgreSQL {snapshot.server_version} server, as it was at
{snapshot.time:%Y-%m-%d %H:%M:%S} UTC. Chain heads: {manifest.chain.chains} chains, {manifest.chain.entries}
entries{heads}. {VERDICTS[manifest.verdict]}

{_from_dump(manifest, paths) if elsewhere is None else _from_provider(manifest, elsewhere)}
What this archive does NOT contain, and what a working Server needs as well:
  - the customer-held encryption keys: without them encrypted records stay unreadable;
  - the config-as-code provisioning files (PROVISIONING_CONFIG_PATH);
  - the Server's .env with its signing key and API secret.
"""


def _from_dump(manifest: Manifest, paths: Collection[str]) -> str:
    major = manifest.snapshot.server_version.split(".")[0]
    roles = "    psql --file=roles.sql postgres\n" if "roles.sql" in paths else ""
    return f"""\
To restore it without borg-vault, with Borg 1.4 and the programs of PostgreSQL {major}:

    borg extract REPOSITORY::{manifest.archive}{SUFFIX[manifest.verdict]}
    sha256sum -c {CHECKSUMS}
{roles}    createdb NEW_DATABASE
    pg_restore --exit-on-error --dbname=NEW_DATABASE {DUMP}

pg_restore must be of major {major}. Restore into a new database beside the live one, look at it, then rename.
roles.sql makes the roles that are missing, without passwords; with --no-owner none are needed. psql can be told to
start programs: where others can write to the repository, read roles.sql before you run it. database.sql tells the
database's own encoding, locale, settings and privileges. Tablespaces must exist first, or add --no-tablespaces.
"""


def _from_provider(manifest: Manifest, elsewhere: str) -> str:
    return f"""\
The database itself is NOT in this archive. It is in:

    {elsewhere}

Restore that with its provider's own means, beside the live database. Then compare what came back with this archive:

    borg extract REPOSITORY::{manifest.archive}{SUFFIX[manifest.verdict]}
    sha256sum -c {CHECKSUMS}
    DATABASE_URL=the restored one borg-vault dump-chain NEW_DIRECTORY
    diff -r chain NEW_DIRECTORY

The two instants differ by minutes: the newer side may have more lines, and no line may have changed. From then on
`borg-vault create` compares the restored database with this archive by itself, chain by chain.
"""
