"""The signing-key registry as CSV: six columns, newest activation first, public keys only."""

from __future__ import annotations

from collections.abc import Callable

from borg_vault_plugin.database import Connection

COLUMNS = ("key_id", "public_key", "algorithm", "status", "activated_at", "retired_at")

# Instants as PostgreSQL prints them in UTC, ISO: the session is prepared for that.
QUERY = f"""COPY (SELECT {", ".join(COLUMNS)} FROM public.vault_signing_keys
 ORDER BY activated_at DESC, key_id COLLATE "C") TO STDOUT (FORMAT csv, HEADER)"""


def export_registry(connection: Connection, write: Callable[[bytes], object]) -> int:
    """Write the registry as CSV with its header and give the number of keys. Raises psycopg.Error."""
    lines = -1
    with connection.cursor() as cursor, cursor.copy(QUERY.encode()) as copy:
        for line in copy:
            write(bytes(line))
            lines += 1
    return max(lines, 0)
