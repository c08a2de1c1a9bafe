"""Sets to drill: staged without Borg, bent and sealed again; and what became of them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fix_artifacts import dump, survey_of
from fix_vault import Vault, connect, new_database

from borg_vault_plugin.archive import Verdict
from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.config import Settings
from borg_vault_plugin.handover import stage_into
from borg_vault_plugin.manifest import FORMAT, Manifest, read_manifest, seal
from borg_vault_plugin.predecessor import Predecessors, read_evidence
from borg_vault_plugin.properties import database_sql, roles_sql
from borg_vault_plugin.recovery.drill import Check, Drill
from borg_vault_plugin.recovery.ground import source_of
from borg_vault_plugin.recovery.target import Target, exact_clients, target_on
from borg_vault_plugin.report import Continuity, SnapshotFacts, staged_chain
from borg_vault_plugin.sealed_set import SealedSet, measured, open_set
from borg_vault_plugin.secret import SecretReference
from borg_vault_plugin.sections import DatabaseSettings
from borg_vault_plugin.staging import OURS, Artifact

Bend = Callable[[Path], None]
Rehearse = Callable[..., Drill]


@dataclass(frozen=True, slots=True)
class Nights:
    """Two sealed sets of one vault, between which it grew and changed its key; `vault` is as the second saw it."""

    vault: Vault
    first: Path
    second: Path

    @contextlib.contextmanager
    def changed(self, *statements: str) -> Iterator[Vault]:
        """Copy the database and change it behind the back of its triggers."""
        with new_database(self.vault.cluster, template=f'"{self.vault.database}"') as name:
            with connect(self.vault.cluster.conninfo(name)) as connection:
                connection.execute("SET session_replication_role = replica")
                for statement in statements:
                    connection.execute(statement.encode())
            yield Vault(self.vault.cluster, name, self.vault.sample)

    def redump(self, directory: Path, *statements: str) -> None:
        """Put the dump of a changed database in the place of a set's own."""
        with self.changed(*statements) as vault:
            dump(vault.cluster, vault.database, directory / "db.dump")


def staged(vault: Vault, directory: Path, *, allow: tuple[Verdict, ...] = ()) -> Path:
    """Stage a set as `borg-vault stage` does."""
    private = Path(tempfile.mkdtemp(dir=directory.parent))
    (private / "url").write_text(vault.url, "utf-8")
    (private / "url").chmod(0o600)
    database = DatabaseSettings(url=SecretReference(file=private / "url"))
    stage_into(Settings(label="night", state_directory=private, database=database), directory, allow)
    return directory


def plain_set(cluster: Cluster, database: str, directory: Path) -> SealedSet:
    """Make a set of a database that holds no vault: its dump, what that leaves out, and what there is to compare."""
    directory.mkdir()
    dump(cluster, database, directory / "db.dump")
    survey = survey_of(cluster.conninfo(database))
    (directory / "roles.sql").write_text(roles_sql(survey.properties), "utf-8")
    (directory / "database.sql").write_text(database_sql(survey.properties, database), "utf-8")
    version = f"{cluster.distribution.major}.0"
    manifest = Manifest(
        format=FORMAT,
        program="test",
        label="plain",
        set="database",
        archive="plain-1",
        verdict="unverified",
        snapshot=SnapshotFacts("1", datetime.now(UTC), version, None, database, None),
        clients="pg_dump",
        artifacts=tuple(Artifact(path.name, 0, "", "test") for path in directory.iterdir()),
        counts={},
        chain=staged_chain(()),
        continuity=Continuity(),
        survey=survey,
    )
    seal(directory, manifest)
    reseal(directory)
    return open_set(directory)


def target_of(cluster: Cluster, name: str, private: Path, *, own: bool = False) -> Target:
    """Give a new database on a running cluster as a target."""
    private.mkdir(exist_ok=True)
    return target_on(source_of(cluster), name, exact_clients(cluster.distribution.major), private, own=own)


def reseal(directory: Path, **changes: Any) -> None:
    """Seal a set once more, with the sizes and digests that its files have now and with changes to its manifest."""
    manifest = replace(read_manifest(directory)[0], **changes)
    artifacts = [replace(one, **sizes(directory, one.path)) for one in manifest.artifacts]
    for name in OURS:
        (directory / name).unlink()
    seal(directory, replace(manifest, artifacts=tuple(artifacts)))


def sizes(directory: Path, path: str) -> dict[str, Any]:
    """Give size and digest of a file as an artifact has them."""
    found = measured(directory, path)
    assert found is not None
    return {"size": found.size, "sha256": found.sha256}


def manifest_of(directory: Path) -> Manifest:
    """Read the manifest of a set."""
    return read_manifest(directory)[0]


def after(directory: Path) -> Predecessors:
    """Give a set as the one before."""
    return Predecessors((read_evidence(directory),))


def by_name(done: Drill) -> dict[str, Check]:
    """Give the checks of a drill by their names."""
    return {check.name: check for check in done.checks}


def with_verdict(done: Drill, *verdicts: str) -> list[str]:
    """Name the checks that came out so."""
    return [check.name for check in done.checks if check.verdict in verdicts]
