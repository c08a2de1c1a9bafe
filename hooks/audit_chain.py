"""chain/*.ndjson and chain-heads.ndjson: the audit vault as offline verifiers read it."""

from __future__ import annotations

from collections.abc import Iterator

from borg_vault_plugin import (
    Artifact,
    ChainTable,
    Connection,
    Heads,
    Snapshot,
    Staging,
    export_table,
    exported_tables,
    hookimpl,
)


@hookimpl
def collect_artifacts(snapshot: Snapshot, staging: Staging) -> Iterator[Artifact]:
    """Write one file per table of the vault and, beside the chain, the head of every chain in it."""
    with snapshot.connection() as connection:
        for table in exported_tables(connection):
            if table.name == "audit_vault":
                yield from _chain_and_heads(connection, table, staging)
            else:
                yield _table(connection, table, staging)


def _table(connection: Connection, table: ChainTable, staging: Staging) -> Artifact:
    with staging.write(f"chain/{table.name}.ndjson") as ndjson:
        ndjson.rows = export_table(connection, table, ndjson.write)
    return ndjson.artifact()


def _chain_and_heads(connection: Connection, table: ChainTable, staging: Staging) -> tuple[Artifact, Artifact]:
    with staging.write(f"chain/{table.name}.ndjson") as ndjson, staging.write("chain-heads.ndjson") as heads_file:
        heads = Heads(heads_file.write)

        def write(line: bytes) -> None:
            ndjson.write(line)
            heads.follow(line)

        ndjson.rows = export_table(connection, table, write)
        heads.finish()
        heads_file.rows = heads.chains
    return ndjson.artifact(), heads_file.artifact()
