"""Reading the files of a dump: where they are, what may stand in their place, and their rows one by one.

Only a regular file is read, under its own name: a link, a pipe, a device or a directory in its place says nothing
about a chain and could make a reader wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic

from borg_vault_plugin.chain.rows import MAX_LINE_BYTES, Era, Row, UnreadableLineError, read_row, row_decoder

STATEMENTS = "vault_key_statements"
FILES = (
    "audit_vault",
    "vault_checkpoints",
    "vault_signing_keys",
    "org_admin_reads",
    "org_admin_reads_checkpoints",
)


class NotCheckedError(Exception):
    """Why there can be no verdict: one line for the operator."""


@dataclass(frozen=True, slots=True)
class DumpFile:
    """One file of a dump, recognised again by its identity when another process opens it."""

    name: str
    path: Path
    identity: tuple[int, int, int, int]
    """Device, inode, size in bytes, time of last change."""

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.identity[2]


class RowSource(Generic[Row]):
    """The rows of one file between two offsets; the present one with the offset where its line begins."""

    def __init__(self, name: str, file: BinaryIO, row_type: type[Row], end: int) -> None:
        self._name = name
        self._file = file
        self._decoder = row_decoder(row_type)
        self._end = end
        self._next = 0
        self.offset = 0
        self.present: Row | None = None
        """The row that was read last; None at the end."""

    def seek(self, offset: int) -> Row | None:
        """Go to the line that begins at an offset and give its row."""
        self._file.seek(offset)
        self._next = offset
        return self.advance()

    def advance(self) -> Row | None:
        """Give the next row, None at the end. Raises NotCheckedError when it is not readable."""
        self.present = self._following()
        return self.present

    def rest(self) -> Iterator[Row]:
        """Give all rows from the next one on."""
        while (row := self.advance()) is not None:
            yield row

    def skip_line(self, offset: int) -> int:
        """Give the offset of the first line that begins at or after an offset, however long the line before it is."""
        self._file.seek(max(offset - 1, 0))
        while offset and (piece := self._file.readline(1 << 20)) and not piece.endswith(b"\n"):
            pass
        return min(self._file.tell(), self._end)

    def unreadable(self, reason: object) -> NotCheckedError:
        """Give the error that names the present line."""
        return NotCheckedError(f"{self._name}.ndjson, line at byte {self.offset}: {reason}")

    def _following(self) -> Row | None:
        while self._next < self._end:
            line = self._file.readline(MAX_LINE_BYTES + 1)
            self.offset = self._next
            self._next += len(line)
            if not line:
                break
            if line.isspace():
                continue
            try:
                return read_row(self._decoder, line)
            except UnreadableLineError as error:
                raise self.unreadable(error) from error
        return None


@contextlib.contextmanager
def open_rows(dump_file: DumpFile, row_type: type[Row], end: int | None = None) -> Iterator[RowSource[Row]]:
    """Open a file to read its rows, from the beginning. Raises NotCheckedError when it is not what it was."""
    with open_regular(dump_file.path) as file:
        if _identity(file) != dump_file.identity:
            raise NotCheckedError(f"{dump_file.name}.ndjson changed while it was read")
        yield RowSource(dump_file.name, file, row_type, dump_file.size if end is None else end)


def dump_files(directory: Path, era: Era | None) -> tuple[Era, dict[str, DumpFile]]:
    """Find the files of a dump and its era: the second if there are key statements, unless the caller knows better.

    The files are in the directory itself, or all of them below `chain/`. Raises NotCheckedError.
    """
    place = _place(directory)
    known: Era = "v2" if os.path.lexists(place / f"{STATEMENTS}.ndjson") else "v1"
    chosen = era or known
    names = (*FILES, STATEMENTS) if chosen == "v2" else FILES
    return chosen, {name: _dump_file(name, place / f"{name}.ndjson") for name in names}


def _place(directory: Path) -> Path:
    below = directory / "chain"
    there = os.path.lexists(directory / "audit_vault.ndjson")
    if os.path.lexists(below / "audit_vault.ndjson"):
        if there:
            raise NotCheckedError("audit_vault.ndjson is there twice, also below chain: which of them counts?")
        if below.is_symlink():
            raise NotCheckedError("chain is a symbolic link")
        return below
    if not there:
        raise NotCheckedError("there is no audit_vault.ndjson, neither here nor below chain")
    return directory


def _dump_file(name: str, path: Path) -> DumpFile:
    with open_regular(path) as file:
        return DumpFile(name, path, _identity(file))


def _identity(file: BinaryIO) -> tuple[int, int, int, int]:
    facts = os.fstat(file.fileno())
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file, and nothing else, to read it. Raises NotCheckedError, also when reading fails inside."""
    try:
        # Without O_NONBLOCK opening a pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotCheckedError(_refusal(path, error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotCheckedError(f"{path.name} is no regular file")
    with open(descriptor, "rb", buffering=1 << 17) as file:  # noqa: PTH123 - a descriptor has no path
        try:
            yield file
        except OSError as error:
            raise NotCheckedError(f"{path.name} cannot be read: {error.strerror}") from error


def _refusal(path: Path, error: OSError) -> str:
    if path.is_symlink():
        return f"{path.name} is a symbolic link"
    return f"{path.name} cannot be read: {error.strerror}"
