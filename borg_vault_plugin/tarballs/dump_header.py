"""What the head of a dump in PostgreSQL's custom format says, read without any of PostgreSQL's programs.

    "PGDMP"                                         magic
    major, minor, revision      one byte each       of the archive format: 1.16 is that of PostgreSQL 17
    size of an integer, size of an offset, format   one byte each; format 1 is the custom one
    compression                                     one byte since 1.15, an integer before
    second, minute, hour, day, month, year, dst     integers: local time, in a zone that nobody noted
    database, version of its server, of pg_dump     texts

An integer is a byte for its sign and its bytes, the least significant first; a text is its length and its bytes
(PostgreSQL source, pg_backup_archiver.c: ReadHead).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from borg_vault_plugin.dump import MAGIC
from borg_vault_plugin.errors import SourceError

CUSTOM = 1
OLDEST, BYTE_FOR_COMPRESSION, NEWEST = (1, 12), (1, 15), (1, 16)
TIME_FIELDS = 7
LONGEST_TEXT_BYTES = 4096
VERSION = re.compile(r"\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class DumpHeader:
    """Whose dump it is: the database, the versions of its server and of the pg_dump that wrote it."""

    database: str
    server_version: str
    pg_dump: str
    compressed: bool

    @property
    def major(self) -> int:
        """The major version of pg_dump: a server of that one restores the dump, an older one may not."""
        return int(VERSION.findall(self.pg_dump)[0])


def read_header(path: Path) -> DumpHeader:
    """Read the head of a dump. Raises SourceError when it is none that is known here."""
    with path.open("rb") as file:
        try:
            return _header(file)
        except ValueError as error:
            raise SourceError(f"{path.name} is no dump that is known here: {error}") from error


def _header(file: IO[bytes]) -> DumpHeader:
    magic, *version = file.read(len(MAGIC)), *_bytes(file, 3)
    known = (version[0], version[1])
    if magic != MAGIC or not OLDEST <= known <= NEWEST:
        raise ValueError(f"it begins with {magic!r}, format {version[0]}.{version[1]}")
    integer_size, _, archive_format = _bytes(file, 3)
    if archive_format != CUSTOM or not 1 <= integer_size <= 8:
        raise ValueError(f"it is of format {archive_format}, not of pg_dump's custom format")
    compression = _bytes(file, 1)[0] if known >= BYTE_FOR_COMPRESSION else _integer(file, integer_size)
    for _ in range(TIME_FIELDS):
        _integer(file, integer_size)
    database, server, client = (_text(file, integer_size) for _ in range(3))
    return DumpHeader(database, _version(server), _version(client), compression != 0)


def _bytes(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ValueError("it is cut short")
    return data


def _integer(file: IO[bytes], size: int) -> int:
    sign, *rest = _bytes(file, size + 1)
    value = int.from_bytes(bytes(rest), "little")
    return -value if sign else value


def _text(file: IO[bytes], integer_size: int) -> str:
    length = _integer(file, integer_size)
    if not 0 <= length <= LONGEST_TEXT_BYTES:
        raise ValueError(f"a text in its head has {length} bytes")
    return _bytes(file, length).decode("utf-8", "replace")


def _version(text: str) -> str:
    """Give a version without what distributors add to it."""
    found = re.match(r"\d+(?:\.\d+|devel|beta\d+|rc\d+)?", text, re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is no version of PostgreSQL")
    return found[0]
