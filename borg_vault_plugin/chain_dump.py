"""`dump-chain`: the NDJSON files alone, in a directory, as the Server's own dump tool would leave them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

from borg_vault_plugin.chain_export import SCHEMA, TABLES, ChainTable, export_table, exported_tables
from borg_vault_plugin.config import Settings
from borg_vault_plugin.database import Connection, explain
from borg_vault_plugin.errors import PreflightError, SourceError
from borg_vault_plugin.registry import refuse_private_keys
from borg_vault_plugin.snapshot import Snapshot, open_snapshot

REGISTRY = "vault_signing_keys"


@dataclass(frozen=True, slots=True)
class ChainDump:
    """The document that `dump-chain` prints."""

    outDir: str  # noqa: N815 - the name that scripts know
    counts: dict[str, int]


def dump_chain(settings: Settings, directory: Path, org: UUID | None) -> ChainDump:
    """Write the vault's NDJSON files into a directory, from one snapshot.

    With `org`, only the records and reads of that organisation, and still the whole key registry. Files of the same
    names are replaced, each when its successor is complete. Raises SourceError, PreflightError for that directory.
    """
    with _writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
    names = [f"{SCHEMA}.{table.name}" for table in TABLES]
    with (
        tempfile.TemporaryDirectory(prefix="borg-vault-") as private,
        open_snapshot(
            settings.source(),
            lock_timeout=settings.database.lock_timeout,
            private=Path(private),
            only_tables=names,
        ) as snapshot,
    ):
        try:
            with _writing_to(directory):
                return ChainDump(str(directory), _write_tables(snapshot, directory, org))
        except psycopg.Error as error:
            raise SourceError(f"database {snapshot.source.address}: {explain(error)}") from error


@contextlib.contextmanager
def _writing_to(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "free space there, or choose another place"
        raise PreflightError(f"{directory} cannot be written: {error.strerror or error}: {advice}") from error


def _write_tables(snapshot: Snapshot, directory: Path, org: UUID | None) -> dict[str, int]:
    with snapshot.connection() as connection:
        tables = exported_tables(connection)
        return {table.name: _write_table(connection, table, directory, org) for table in tables}


def _write_table(connection: Connection, table: ChainTable, directory: Path, org: UUID | None) -> int:
    if table.name == REGISTRY:
        refuse_private_keys(connection)
    temporary = directory / f".{table.name}.ndjson.partial"
    try:
        with temporary.open("wb") as file:
            rows = export_table(connection, table, file.write, org=org)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(directory / f"{table.name}.ndjson")
    finally:
        temporary.unlink(missing_ok=True)
    return rows
