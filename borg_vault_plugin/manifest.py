"""The manifest and the two files that people without this program read: SHA256SUMS and RESTORE.txt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from borg_vault_plugin.archive import SetName, Verdict
from borg_vault_plugin.report import Chain, Continuity, SnapshotFacts, as_json
from borg_vault_plugin.staging import CHECKSUMS, INSTRUCTIONS, MANIFEST, Artifact, write_sealed
from borg_vault_plugin.survey import Survey

FORMAT = 1
PROGRAM = "borg-vault-plugin"


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


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed set: every file of it, and the manifest's digest in hex."""

    files: tuple[Artifact, ...]
    manifest_sha256: str

    def sizes(self) -> dict[str, int]:
        """Give the size of every file by its path."""
        return {file.path: file.size for file in self.files}


def program_version() -> str:
    """Give this program's name and version."""
    return f"borg-vault {version(PROGRAM)}"


def seal(directory: Path, manifest: Manifest) -> Sealed:
    """Write manifest, instructions and checksums into staging; nothing may be added afterwards."""
    described = write_sealed(directory, MANIFEST, as_json(manifest) + "\n")
    instructions = write_sealed(directory, INSTRUCTIONS, restore_instructions(manifest))
    files = (*manifest.artifacts, described, instructions)
    sums = write_sealed(directory, CHECKSUMS, checksums(files))
    return Sealed((*files, sums), described.sha256)


def checksums(files: Iterable[Artifact]) -> str:
    """Give the lines that `sha256sum -c` reads, in the order of the paths."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))


def restore_instructions(manifest: Manifest) -> str:
    """Tell how to restore this archive with plain borg and PostgreSQL's own programs, and what it does not hold."""
    database, archive, major = (
        manifest.snapshot.database,
        manifest.archive,
        manifest.snapshot.server_version.split(".")[0],
    )
    checked = "" if manifest.chain.verdict == "passed" else "The chain was not verified when this archive was made.\n"
    return f"""\
{archive}

Database {database} of a PostgreSQL {manifest.snapshot.server_version} server, as it was at
{manifest.snapshot.time:%Y-%m-%d %H:%M:%S} UTC. Chain heads: {manifest.chain.chains} chains, {manifest.chain.entries}
entries; chain-heads.ndjson names the last entry of each. {checked} To restore it without borg-vault, with Borg 1.4 and
the programs of PostgreSQL {major}:

    borg extract REPOSITORY::{archive}
    sha256sum -c {CHECKSUMS}
    psql --file=roles.sql postgres
    createdb NEW_DATABASE
    pg_restore --exit-on-error --dbname=NEW_DATABASE db.dump

pg_restore must be of major {major}. Restore into a new database beside the live one, look at it, then rename.
roles.sql makes the roles that are missing, without passwords; with --no-owner none are needed. database.sql tells
the database's own encoding, locale, settings and privileges. Tablespaces must exist first, or add --no-tablespaces.

What this archive does NOT contain, and what a working Server needs as well:
  - the customer-held encryption keys: without them encrypted records stay unreadable;
  - the config-as-code provisioning files (PROVISIONING_CONFIG_PATH);
  - the Server's .env with its signing key and API secret.
"""
