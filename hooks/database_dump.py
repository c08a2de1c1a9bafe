"""db.dump: the whole database, as `pg_dump -Fc` writes it; roles.sql and database.sql: what that leaves out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from borg_vault_plugin import (
    Artifact,
    Snapshot,
    Staging,
    check_dump,
    export_properties,
    hookimpl,
)

READ_BYTES = 1 << 20


@hookimpl
def collect_artifacts(snapshot: Snapshot, staging: Staging) -> Iterator[Artifact]:
    """Write db.dump through a pipe, hashing it on the way, then read it to its end; and what it leaves out."""
    yield from export_properties(snapshot, staging)
    with staging.write("db.dump") as dump, snapshot.client_output("pg_dump", arguments(snapshot)) as output:
        shutil.copyfileobj(output, dump, READ_BYTES)
    check_dump(staging.directory / "db.dump", snapshot.clients, snapshot.tables, kept=snapshot.keeping)
    yield dump.artifact()


def arguments(snapshot: Snapshot) -> list[str]:
    """Give pg_dump's arguments: the shared snapshot; no compression, since Borg deduplicates before it compresses."""
    milliseconds = int(snapshot.joining_lock_timeout.total_seconds() * 1000)
    # PostgreSQL documentation, pg_dump: the data of unlogged tables cannot be read on a standby.
    on_standby = ["--no-unlogged-table-data"] if snapshot.facts.in_recovery else []
    return [
        "--format=custom",
        "--compress=0",
        f"--snapshot={snapshot.facts.id}",
        f"--lock-wait-timeout={milliseconds}",
        *on_standby,
    ]
