"""vault-public-keys.csv: the signing-key registry, as an operator of the Server knows it."""

from __future__ import annotations

from collections.abc import Iterator

from borg_vault_plugin import Artifact, Snapshot, Staging, export_registry, hookimpl


@hookimpl
def collect_artifacts(snapshot: Snapshot, staging: Staging) -> Iterator[Artifact]:
    """Write the registry's public columns as CSV."""
    with staging.write("vault-public-keys.csv") as csv, snapshot.connection() as connection:
        csv.rows = export_registry(connection, csv.write)
    yield csv.artifact()
