"""Preflight: what would make this run fail is found before its first byte, and told with numbers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg

from borg_vault_plugin.borg import SEGMENT_BYTES, Repository
from borg_vault_plugin.clients import clients_for
from borg_vault_plugin.database import Connection, Source, answering, explain, only_row
from borg_vault_plugin.errors import PreflightError, SourceError
from borg_vault_plugin.session import open_session
from borg_vault_plugin.snapshot import tables_to_dump

# Per byte of table. A dump holds the rows as text, where binary values take two characters a byte; on sample vaults
# 1.42 was measured. The chain stands there once more, in base64: 1.36 was measured.
DUMP_FACTOR, CHAIN_FACTOR, FLOOR_BYTES = 2.1, 1.5, 4 << 20
SHOWN_TABLES = 5

UNREADABLE = """
SELECT format('%%I.%%I', n.nspname, c.relname),
       CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'no USAGE on its schema'
            WHEN row_security_active(c.oid) THEN 'row-level security' ELSE 'no SELECT' END
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE (c.oid = ANY (%s) AND (NOT has_table_privilege(c.oid, 'SELECT') OR row_security_active(c.oid))
        OR c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
           AND NOT has_sequence_privilege(c.oid, 'SELECT')
        OR c.oid = ANY (%s) AND NOT has_schema_privilege(n.oid, 'USAGE'))
 ORDER BY 1"""

# Reading them is a right of each one's owner and grantees; no predefined role has it.
UNREADABLE_OBJECTS = """
SELECT count(*) FROM pg_largeobject_metadata o
 WHERE NOT pg_has_role(o.lomowner, 'USAGE')
   AND NOT EXISTS (SELECT FROM aclexplode(o.lomacl) a WHERE a.privilege_type = 'SELECT'
                      AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))"""
TABLE_SIZES = """
SELECT coalesce(sum(pg_table_size(oid)), 0)::int8,
       coalesce(sum(pg_table_size(oid)) FILTER (WHERE relname ~ '^(audit_vault|vault_|org_admin_reads)'), 0)::int8
  FROM pg_class WHERE relkind IN ('r', 'm') AND relnamespace NOT IN
       ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)"""
SIZES_LOCK_TIMEOUT = timedelta(milliseconds=500)  # pg_table_size waits for locks


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many bytes the dump and the chain will have, at most and roughly."""

    dump: int
    chain: int

    @property
    def staged(self) -> int:
        """Bytes of the whole set."""
        return self.dump + self.chain + FLOOR_BYTES

    def by_path(self) -> dict[str, int]:
        """Give the sizes of the large artifacts, by their paths."""
        return {"db.dump": self.dump, "chain/audit_vault.ndjson": self.chain}


def check_source(source: Source, *, dumps: bool = True) -> Estimate:
    """Check clients and rights on every table; give what the set will take, without a dump if none is made.

    Raises PreflightError, SourceError when the server cannot be asked.
    """
    try:
        with open_session(source, SIZES_LOCK_TIMEOUT) as connection, answering(connection, source):
            if dumps:
                clients_for(source, connection.info.server_version // 10000)
            check_rights(connection)
            return estimate_of(connection, dumps=dumps)
    except psycopg.Error as error:
        raise SourceError(f"database {source.address}: {explain(error)}") from error


def check_space(directory: Path, needed: int, purpose: str) -> None:
    """Check that a directory's file system has room; raises PreflightError with the numbers."""
    place = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise PreflightError(
            f"{purpose} in {directory} needs about {_megabytes(needed)}, but {_megabytes(free)} are free: "
            f"free {_megabytes(needed - free)} there, or choose another place"
        )


def check_repository_space(repository: Repository, estimate: Estimate, *, is_first: bool) -> None:
    """Check that a local repository has room for the set, and for `compact` afterwards; raises PreflightError.

    The first archive is new as a whole, later ones in small part.
    """
    if repository.directory is not None:
        new = estimate.staged if is_first else estimate.staged // 10
        working = min(SEGMENT_BYTES, repository.stored_bytes())
        check_space(repository.directory, new + working, f"repository {repository.name}")


def check_rights(connection: Connection) -> None:
    """Check that the session's role can read everything that is dumped; raises PreflightError that names tables."""
    oids = [table.oid for table in tables_to_dump(connection)]
    refused = connection.execute(UNREADABLE, [oids, oids]).fetchall()
    (objects,) = only_row(connection, UNREADABLE_OBJECTS)
    if objects:
        refused.append((f"{objects} large objects", "no SELECT"))
    if refused:
        shown = ", ".join(f"{table} ({why})" for table, why in refused[:SHOWN_TABLES])
        more = f" and {len(refused) - SHOWN_TABLES} more" if len(refused) > SHOWN_TABLES else ""
        raise PreflightError(
            f"role {connection.info.user} cannot read everything: {shown}{more}: grant it pg_read_all_data,"
            " and BYPASSRLS where row-level security is in the way"
        )


def estimate_of(connection: Connection, *, dumps: bool = True) -> Estimate:
    """Estimate from the sizes of tables or, when a migration holds one, from that of the whole database."""
    try:
        tables, chain = only_row(connection, TABLE_SIZES)
    except psycopg.errors.LockNotAvailable:
        tables, chain = only_row(connection, "SELECT pg_database_size(current_database()), 0")
    return Estimate(int(tables * DUMP_FACTOR) if dumps else 0, int(chain * CHAIN_FACTOR))


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:,.0f} MB"
