"""vault-public-keys.csv: the signing-key registry, as an operator of the Server knows it."""

from __future__ import annotations

from collections.abc import Iterator

from borg_vault_plugin import (
    Artifact,
    Finding,
    Snapshot,
    Staging,
    check_registry,
    export_registry,
    hookimpl,
    refuse_private_keys,
)

REGISTRY = "vault-public-keys.csv"


@hookimpl
def collect_artifacts(snapshot: Snapshot, staging: Staging) -> Iterator[Artifact]:
    """Write the registry's public columns as CSV, after making sure that none of its columns holds a private key."""
    with snapshot.connection() as connection, staging.write(REGISTRY) as csv:
        refuse_private_keys(connection)
        csv.rows = export_registry(connection, csv.write)
    yield csv.artifact()


@hookimpl
def verify_staging(staging: Staging) -> Iterator[Finding]:
    """Report every registered key that is no public key."""
    with (staging.directory / REGISTRY).open(encoding="utf-8", newline="") as file:
        yield from check_registry(file)
