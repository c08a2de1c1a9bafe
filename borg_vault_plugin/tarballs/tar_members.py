"""Reading a gzip-compressed tar from anybody: member by member, onward only, and nothing is believed.

What the Server's scripts write is regular files in one directory (POSIX.1-1988 ustar, and GNU tar's long names).
Whatever else a tar can hold (links, devices, sparse files, names that lead elsewhere) is refused by its header, before
a byte of it is written; no size is trusted further than the bytes that are there.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from borg_vault_plugin.errors import SourceError

BLOCK_BYTES = 512
PIECE_BYTES = 1 << 20
MOST_MEMBERS = 64
MOST_PADDING_BYTES = 1 << 20  # tar ends with zeros, up to a whole record
MOST_HEADER_BYTES = 64 << 10
# What tars call themselves that we do not take, by their type flags (tar(5), FreeBSD; GNU tar manual, "Basic Tar").
REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
FILES, EXTENDED = (tarfile.REGTYPE, tarfile.AREGTYPE), (tarfile.XHDTYPE, tarfile.XGLTYPE)
# Records of extended headers that would change what a file is; all others (times, attributes) tell us nothing.
TELLING_RECORDS = re.compile(rb"(?:^|\n)\d+ (?:path|size|linkpath|GNU\.sparse\.[^=]*)=")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar; `pieces` gives its bytes, once, and only before the next member is asked for."""

    directory: str
    name: str
    size: int
    pieces: Iterator[bytes]


@contextlib.contextmanager
def open_members(path: Path) -> Iterator[Iterator[Member]]:
    """Open a .tar.gz and give its files one after the other; at their end the whole file has been read and is sound.

    Raises SourceError that says what is wrong with it.
    """
    if not path.is_file():
        raise SourceError(f"{path.name} is no file: name tarballs of the Server's backup script")
    try:
        with gzip.open(path, "rb") as stream:
            yield _members(stream, path.name)
    except gzip.BadGzipFile as error:
        raise SourceError(f"{path.name} is not gzip, or is damaged: {error}: copy it again") from error
    except (EOFError, zlib.error) as error:
        raise SourceError(f"{path.name} is cut short or damaged: {error}: copy it again") from error
    except tarfile.HeaderError as error:
        raise SourceError(f"{path.name} is no tar, or is damaged: {error}: copy it again") from error
    except OSError as error:
        raise SourceError(f"{path.name} cannot be read: {error.strerror}") from error


def _members(stream: gzip.GzipFile, archive: str) -> Iterator[Member]:
    """Give the regular files in a tar, all of one directory."""
    seen: set[str] = set()
    directories: set[str] = set()
    long_name: str | None = None
    for _ in range(MOST_MEMBERS):
        header = _header(stream)
        if header is None:
            _read_to_end(stream, archive)
            return
        if header.type == tarfile.GNUTYPE_LONGNAME:
            long_name = _extension(stream, header, archive).rstrip(b"\0").decode("utf-8", "surrogateescape")
            continue
        if header.type in EXTENDED:
            _refuse_telling(_extension(stream, header, archive), archive)
            continue
        name, long_name = long_name or header.name, None
        parts = _parts(name, header, archive)
        if "/".join(parts) in seen:
            raise SourceError(f"{archive} holds {name!r} twice: it is not to be trusted")
        seen.add("/".join(parts))
        directories.update(parts[:1])
        if len(directories) > 1:
            raise SourceError(
                f"{archive} holds several directories, {', '.join(sorted(directories))}: there must be one"
            )
        pieces = _pieces(stream, header.size, archive)
        if header.type in FILES:
            yield Member(parts[0], parts[1], header.size, pieces)
        for _piece in pieces:
            pass
        _read(stream, -header.size % BLOCK_BYTES, archive)
    raise SourceError(f"{archive} holds more than {MOST_MEMBERS} files: it is none of the Server's backups")


def _header(stream: gzip.GzipFile) -> tarfile.TarInfo | None:
    """Read the next header; None at the end. Raises tarfile.HeaderError."""
    block = stream.read(BLOCK_BYTES)
    if not block.strip(b"\0"):
        return None
    header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    if header.size < 0:
        raise tarfile.HeaderError("a negative size")
    return header


def _extension(stream: gzip.GzipFile, header: tarfile.TarInfo, archive: str) -> bytes:
    """Read what stands in place of a file and is about the next one."""
    if header.size > MOST_HEADER_BYTES:
        raise SourceError(f"{archive} holds a header of {header.size} bytes: it is none of the Server's backups")
    data = _read(stream, header.size, archive)
    _read(stream, -header.size % BLOCK_BYTES, archive)
    return data


def _refuse_telling(records: bytes, archive: str) -> None:
    if TELLING_RECORDS.search(records):
        raise SourceError(f"{archive} gives names or sizes in extended headers: pack it again with GNU tar")


def _parts(name: str, header: tarfile.TarInfo, archive: str) -> list[str]:
    """Give directory and file of a name, or the directory alone; refuse everything else."""
    kind = REFUSED.get(header.type)
    if kind is not None or header.type not in (*FILES, tarfile.DIRTYPE):
        raise SourceError(f"{archive} holds {kind or 'something unknown'}, {name!r}: only plain files are taken")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not name.isprintable():
        raise SourceError(f"{archive} holds {name!r}, which leads out of its directory: it is not to be trusted")
    wanted = (0, 1) if header.type == tarfile.DIRTYPE else (2,)
    if len(parts) not in wanted:
        raise SourceError(f"{archive} holds {name!r}: there must be one directory with files in it")
    return parts


def _pieces(stream: gzip.GzipFile, size: int, archive: str) -> Iterator[bytes]:
    left = size
    while left:
        piece = _read(stream, min(left, PIECE_BYTES), archive)
        left -= len(piece)
        yield piece


def _read(stream: gzip.GzipFile, size: int, archive: str) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise SourceError(f"{archive} ends in the middle of a file: copy it again")
    return data


def _read_to_end(stream: gzip.GzipFile, archive: str) -> None:
    """Read the zeros at the end; gzip checks its own sums there."""
    padding = stream.read(MOST_PADDING_BYTES)
    if padding.strip(b"\0") or stream.read(1):
        raise SourceError(f"{archive} goes on behind its end: it is not to be trusted")
