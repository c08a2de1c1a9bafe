"""The signing-key registry as CSV: six columns, newest activation first, public keys only."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator

from borg_vault_plugin.database import Connection
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.private_key import is_public_key, private_key_in
from borg_vault_plugin.report import Finding

COLUMNS = ("key_id", "public_key", "algorithm", "status", "activated_at", "retired_at")

# Instants as PostgreSQL prints them in UTC, ISO: the session is prepared for that.
QUERY = f"""COPY (SELECT {", ".join(COLUMNS)} FROM public.vault_signing_keys
 ORDER BY activated_at DESC, key_id COLLATE "C") TO STDOUT (FORMAT csv, HEADER)"""  # noqa: S608 - constants of this file


def export_registry(connection: Connection, write: Callable[[bytes], object]) -> int:
    """Write the registry as CSV with its header and give the number of keys. Raises psycopg.Error."""
    lines = -1
    with connection.cursor() as cursor, cursor.copy(QUERY.encode()) as copy:
        for line in copy:
            write(bytes(line))
            lines += 1
    return max(lines, 0)


def refuse_private_keys(connection: Connection) -> None:
    """Look for private keys in every column of the registry, exported or not.

    Raises SourceError that names row and column and never shows what is there.
    """
    rows = connection.execute(
        'SELECT to_jsonb(k) FROM public.vault_signing_keys k ORDER BY activated_at DESC, key_id COLLATE "C"'
    )
    for number, (row,) in enumerate(rows, start=1):
        for column, value in row.items():
            kind = private_key_in(value)
            if kind:
                raise SourceError(
                    f"the key registry holds {kind} in row {number}, column {column}: private keys are never backed up:"
                    " take it out of the database and replace that signing key"
                )


def check_registry(lines: Iterable[str]) -> Iterator[Finding]:
    """Report a registry that does not have exactly the six columns, and every key that does not parse as SPKI."""
    csv.field_size_limit(sys.maxsize)  # a value that is too long is a finding, not the end of the run
    reader = csv.reader(lines)
    header = tuple(next(reader, ()))
    if header != COLUMNS:
        yield Finding(
            "REGISTRY_COLUMNS",
            "vault-public-keys.csv",
            f"expected the columns {', '.join(COLUMNS)}, found {', '.join(header)}",
        )
        return
    for number, row in enumerate(reader, start=1):
        if len(row) != len(COLUMNS) or not is_public_key(row[1]):
            yield Finding("REGISTRY_KEY_UNREADABLE", _place(row, number), "public_key is no SPKI in base64")


def _place(row: list[str], number: int) -> str:
    """Name a row by its key, since its number changes with every new key."""
    named = len(row) == len(COLUMNS) and row[0].isprintable() and row[0]
    return f"vault-public-keys.csv, {f'key {row[0]}' if named else f'row {number}'}"
