"""Exporting once more, from a rebuilt database, what an archive holds: it must be the same bytes.

What an archive holds is what its manifest says, by size and digest. The file beside it only serves to tell where the
first difference is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from borg_vault_plugin.chain.source import NotCheckedError, open_regular
from borg_vault_plugin.chain_export import NEWER_TABLES, TABLES, ChainTable, Heads, export_table, exported_tables
from borg_vault_plugin.database import Connection
from borg_vault_plugin.predecessor import HEADS, REGISTRY
from borg_vault_plugin.registry import export_registry
from borg_vault_plugin.sealed_set import SealedSet

CHAIN = {f"chain/{table.name}.ndjson": table for table in TABLES}
LINE_FEED = b"\n"


@dataclass(slots=True)
class Echo:
    """What is exported once more, held against an archived file while it comes."""

    archived: BinaryIO
    size: int = 0
    lines: int = 0
    departed: tuple[int, int] | None = None
    """Offset of the first piece that is not what the file holds there, and the number of its line."""
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        if self.departed is None and self.archived.read(len(data)) != data:
            self.departed = (self.size, self.lines + 1)
        self._digest.update(data)
        self.size += len(data)
        self.lines += data.count(LINE_FEED)

    def is_artifact(self, size: int, sha256: str) -> bool:
        """Whether all of it is what the manifest names."""
        return (self.size, self._digest.hexdigest()) == (size, sha256)


def registry_differences(connection: Connection, sealed: SealedSet) -> Iterator[str]:
    """Export the key registry and say in what it is not the archived CSV. Raises psycopg.Error, NotCheckedError."""
    _demand(sealed, REGISTRY)
    with open_regular(sealed.directory / REGISTRY) as file:
        echo = Echo(file)
        export_registry(connection, echo.write)
        yield from _differences(sealed, REGISTRY, echo)


def chain_differences(connection: Connection, sealed: SealedSet) -> Iterator[str]:
    """Export the chain and its heads and say in what they are not the archived files. Raises as the registry does."""
    archived = {path: table for path, table in CHAIN.items() if path in sealed.files}
    for table in exported_tables(connection):
        if table not in archived.values():
            yield f"the database has a table {table.name}, of which the archive holds no file"
    for path in (*(path for path, table in CHAIN.items() if table.name not in NEWER_TABLES), HEADS):
        _demand(sealed, path)
    for path, table in archived.items():
        if table.name == "audit_vault":
            yield from _chain_and_heads(connection, sealed, path, table)
        else:
            yield from _table(connection, sealed, path, table)


def _table(connection: Connection, sealed: SealedSet, path: str, table: ChainTable) -> Iterator[str]:
    with open_regular(sealed.directory / path) as file:
        echo = Echo(file)
        export_table(connection, table, echo.write)
        yield from _differences(sealed, path, echo)


def _chain_and_heads(connection: Connection, sealed: SealedSet, path: str, table: ChainTable) -> Iterator[str]:
    with open_regular(sealed.directory / path) as file, open_regular(sealed.directory / HEADS) as heads_file:
        echo, heads_echo = Echo(file), Echo(heads_file)
        heads = Heads(heads_echo.write)

        def write(line: bytes) -> None:
            echo.write(line)
            heads.follow(line)

        export_table(connection, table, write)
        heads.finish()
        yield from _differences(sealed, path, echo)
        yield from _differences(sealed, HEADS, heads_echo)


def _demand(sealed: SealedSet, path: str) -> None:
    if path not in sealed.files:
        raise NotCheckedError(f"the manifest lists no {path}")


def _differences(sealed: SealedSet, path: str, echo: Echo) -> Iterator[str]:
    artifact = sealed.files[path]
    if echo.is_artifact(artifact.size, artifact.sha256):
        return
    where = f"line {echo.departed[1]}, byte {echo.departed[0]}" if echo.departed else "its end"
    yield f"{path}: {echo.size} bytes come out of the database, {artifact.size} are archived; they part at {where}"
