"""Nights of the Server's own backup script: tarballs made with pg_dump and tar, as old and newer ones make them."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from fix_artifacts import client
from fix_cli import RunCli
from fix_repository import PlainRepository
from fix_vault import Vault

from borg_vault_plugin.process import plain_environment

Form = Literal["old", "chart", "new"]
Digests = dict[str, tuple[Any, ...]]
Bend = Callable[[Path], object]

PROJECT, VERSION, PIN = "ledger-prod", "2.1.4", "registry.example/server@sha256:" + "ab" * 32
REGISTRY = (
    "COPY (SELECT key_id, public_key, algorithm, status, activated_at, retired_at"
    " FROM vault_signing_keys ORDER BY activated_at DESC) TO STDOUT WITH CSV HEADER"
)
TOKEN = (
    "SELECT (pg_control_system()).system_identifier::text || ':' || oid::text"
    " FROM pg_database WHERE datname = current_database()"
)
numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class ScriptNight:
    """One night of the script, and the database as it was then."""

    tarball: Path
    time: datetime
    digests: Digests

    @property
    def archive(self) -> str:
        """What its archive is called, under the label prod."""
        return f"prod-{self.time:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True)
class ScriptNights:
    """A week of the script; `vault` is as the last night saw it, and may be copied but not changed."""

    vault: Vault
    nights: tuple[ScriptNight, ...]

    @property
    def tarballs(self) -> list[Path]:
        """All tarballs, oldest first."""
        return [night.tarball for night in self.nights]


@dataclass(frozen=True, slots=True)
class ImportedNights:
    """What the import of some nights left behind: repository, state, and the document of `import --json`."""

    script: ScriptNights
    nights: tuple[ScriptNight, ...]
    repository: Path
    state: Path
    document: Any


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of a Server that has a week of tarballs; `nights` are in already, `document` says how."""

    script: ScriptNights
    nights: tuple[ScriptNight, ...]
    repository: PlainRepository
    document: Any
    run: RunCli

    def bring_in(self, *words: object, exit_code: int = 0, warning: str | None = None) -> list[Any]:
        """Import tarballs and give what became of each."""
        document = self.run("import", "--json", *words, exit_code=exit_code, warning=warning).document
        return list(document["files"])

    def manifest(self, archive: str) -> Any:
        """Read the manifest in an archive."""
        return json.loads(self.repository.read(archive, "manifest.json"))


def script_backup(
    vault: Vault, place: Path, time: datetime, *, form: Form = "new", project: str = PROJECT, bend: Bend | None = None
) -> Path:
    """Make a tarball as the script does; `bend` may change the directory before it is packed."""
    stamp = f"{time:%Y-%m-%d-%H%M%S}"
    named = f"{project}-{stamp}" if form == "new" else stamp
    directory = place / named
    directory.mkdir(parents=True)
    token, created = vault.value(TOKEN), f"{time + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    (directory / "db.dump").write_bytes(client(vault.cluster, "pg_dump", "-Fc", f"--dbname={vault.database}")[0])
    metadata = {"created_at": created, "database_token": token, "wal_lsn": vault.value("SELECT pg_current_wal_lsn()")}
    (directory / "vault-public-keys.csv").write_bytes(registry_csv(vault))
    if form == "new":
        metadata |= {"compose_project": project, "agledger_version": VERSION, "agledger_image_pin": PIN}
    if form != "old":
        write_metadata(directory, metadata)
    if bend is not None:
        bend(directory)
    return packed(directory, place / f"backup-{named}.tar.gz")


def registry_csv(vault: Vault) -> bytes:
    """Export the registry as the script does, which leaves an empty file when there is none."""
    if vault.value("SELECT to_regclass('public.vault_signing_keys')") is None:
        return b""
    return client(vault.cluster, "psql", f"--dbname={vault.database}", "--command", REGISTRY)[0]


def write_metadata(directory: Path, facts: Mapping[str, str]) -> None:
    """Write backup-metadata as the script does."""
    lines = ["# Backup metadata. Written by backup.sh, read by restore.sh.", *(f"{k}={v}" for k, v in facts.items())]
    (directory / "backup-metadata").write_text("\n".join(lines) + "\n", "utf-8")


def packed(directory: Path, tarball: Path) -> Path:
    """Pack a directory as the script does, and remove it."""
    run_tar("-czf", tarball, "-C", directory.parent, f"{directory.name}/")
    shutil.rmtree(directory)
    return tarball


def unpacked(tarball: Path, place: Path) -> Path:
    """Unpack a tarball as the restore script does, and give the one directory in it."""
    place.mkdir(exist_ok=True)
    run_tar("-xzf", tarball, "-C", place)
    (directory,) = (path for path in place.iterdir() if path.is_dir())
    return directory


def bent(tarball: Path, place: Path, bend: Bend, *, name: str | None = None) -> Path:
    """Pack a copy of a tarball whose directory was changed."""
    directory = unpacked(tarball, place / f"bent-{next(numbers)}")
    bend(directory)
    return packed(directory, place / (name or tarball.name))


def run_tar(*words: object) -> None:
    """Run tar."""
    command = ["tar", *(str(word) for word in words)]
    subprocess.run(command, check=True, timeout=60, env=plain_environment())
