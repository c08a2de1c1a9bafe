"""The Server's own backups, as its scripts write and restore them: a gzip-compressed tar of one directory.

    backup-<project>-<timestamp>.tar.gz     older scripts, and the Helm chart: backup-<timestamp>.tar.gz
        <project>-<timestamp>/              <timestamp>/
            db.dump                         pg_dump -Fc
            vault-public-keys.csv           not there when it could not be exported
            backup-metadata                 newer scripts: lines of key=value

A timestamp is UTC, as in 2026-05-26-013327. Names are given by people, so whatever can be taken for a timestamp is one:
that of the directory first, which the script noted before it began, then the metadata's, then the file's own.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import os
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from borg_vault_plugin.dump import MAGIC
from borg_vault_plugin.errors import PreflightError, SourceError, UsageError
from borg_vault_plugin.preflight import check_space
from borg_vault_plugin.progress import Advance, Progress
from borg_vault_plugin.staging import Artifact, Staging
from borg_vault_plugin.tarballs.tar_members import Member, open_members

logger = logging.getLogger(__name__)

DUMP, REGISTRY, METADATA = "db.dump", "vault-public-keys.csv", "backup-metadata"
TIMESTAMP_FORMAT = "%Y-%m-%d-%H%M%S"
TIMESTAMP = re.compile(r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)[-T_](\d\d)[:-]?(\d\d)[:-]?(\d\d)(?!\d)", re.ASCII)
LARGEST_BYTES = {REGISTRY: 64 << 20, METADATA: 64 << 10}
LARGEST_OTHER_BYTES = 1 << 30
OLDEST, SKEW = datetime(2000, 1, 1, tzinfo=UTC), timedelta(minutes=10)
PRODUCER = "database-dump"  # whatever stands for it: what it gives is what that hook would


@dataclass(frozen=True, slots=True)
class Tarball:
    """A tarball that somebody wants to bring in: its SHA-256 in hex, and the time of the backup in it."""

    path: Path
    size: int
    sha256: str
    time: datetime
    project: str
    """Whose it is, as newer scripts have it in the directory's name; empty when nobody said."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was in a tarball, in a directory of ours; the registry is there when the script could export it."""

    directory: Path
    dump: Artifact
    registry: Artifact | None
    metadata: dict[str, str]


class _Told:
    """A file that says how far it has been read."""

    def __init__(self, file: IO[bytes], before: int, advance: Advance) -> None:
        self._file = file
        self._done = before
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        data = self._file.read(size)
        self._done += len(data)
        self._advance(self._done)
        return data


def look_at(path: Path) -> Tarball:
    """Say of when a tarball is. Raises SourceError for a file that is none, or has no date, or one that cannot be."""
    directory, metadata = _outside(path)
    project, found = _dated(directory)
    time = found or _instant(metadata.get("created_at", "")) or timestamp_in(path.name)
    if time is None:
        raise SourceError(
            f"nothing in or about {path.name} says of when it is: put its date into its name, as the script does:"
            " backup-2026-05-26-013327.tar.gz"
        )
    if not OLDEST < time < datetime.now(UTC) + SKEW:
        raise SourceError(f"{path.name} is dated {time:%Y-%m-%d %H:%M:%SZ}, which cannot be: give it its own date")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Tarball(path, file.tell(), digest, time, project)


def unpack(tarball: Tarball, directory: Path, progress: Progress) -> Unpacked:
    """Unpack a tarball into an empty directory of ours; nothing but the three files is taken.

    Raises SourceError for one that is damaged, hostile or holds no dump, PreflightError when there is no room.
    """
    found: dict[str, Artifact] = {}
    metadata: dict[str, str] = {}
    name = tarball.path.name
    with open_members(tarball.path) as members:
        for member in members:
            _refuse_too_large(member, name)
            if member.name == METADATA:
                metadata = read_metadata(b"".join(member.pieces))
            elif member.name in (DUMP, REGISTRY):
                check_space(directory, member.size, f"{member.name} of {name}")
                staging = Staging(directory, PRODUCER, {member.name: member.size}, progress)
                found[member.name] = _written(staging, member, name)
            else:
                logger.info("%s: %s is passed over: it is no part of a backup", name, member.name)
    if tarball.path.stat().st_size != tarball.size:
        raise SourceError(f"{name} is still being written: bring it in when it is whole")
    if DUMP not in found:
        raise SourceError(f"{name} holds no {DUMP}: it is none of the Server's backups")
    return Unpacked(directory, found[DUMP], found.get(REGISTRY), metadata)


def read_metadata(data: bytes) -> dict[str, str]:
    """Read lines of key=value; comments, and lines that are none, say nothing. Values may stand in quotes."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        key, is_pair, value = line.partition("=")
        if is_pair and not line.lstrip().startswith("#"):
            found[key.strip()] = value.strip().strip("\"'")
    return found


def metadata_text(facts: Mapping[str, str], comment: str) -> str:
    """Write lines of key=value; what is not known stands there empty, as the script leaves it."""
    return "".join([f"# {comment}\n", *(f"{key}={value}\n" for key, value in facts.items())])


def timestamp_in(text: str) -> datetime | None:
    """Give the last thing in a text that is a time."""
    return _dated(text)[1]


def refuse_existing(path: Path) -> None:
    """Refuse a file that is there already, or has no directory to be in. Raises UsageError."""
    if path.is_symlink() or path.exists():
        raise UsageError(f"{path} exists already: name another file")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no directory: make it first")


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that is only ours to read, under another name until it is on disk; never in another's place.

    Raises UsageError when there is one of that name, PreflightError when it cannot be written.
    """
    refuse_existing(path)
    try:
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.link(file.name, path)
        _write_to_disk(path.parent)
    except FileExistsError:
        refuse_existing(path)
    except OSError as error:
        raise PreflightError(f"{path} cannot be written: {error.strerror}: choose another place") from error


def pack(out: IO[bytes], time: datetime, files: Iterable[tuple[str, Path | bytes]], advance: Advance) -> None:
    """Write a tarball of these files, dated `time`, as the Server's restore script takes it.

    What is packed twice is the same bytes. `advance` is told how many bytes are packed.
    """
    directory = tarfile.TarInfo(time.strftime(TIMESTAMP_FORMAT))
    directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o700, int(time.timestamp())
    with (
        gzip.GzipFile(fileobj=out, mode="wb", filename="", compresslevel=6, mtime=directory.mtime) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        archive.addfile(directory)
        for name, content in files:
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                member = tarfile.TarInfo(f"{directory.name}/{name}")
                member.size, member.mode, member.mtime = file.seek(0, os.SEEK_END), 0o600, directory.mtime
                file.seek(0)
                archive.addfile(member, _Told(file, zipped.tell(), advance))


def _outside(path: Path) -> tuple[str, dict[str, str]]:
    """Give the name of the directory in a tarball and, when that is no date, the metadata."""
    directory = ""
    with open_members(path) as members:
        for member in members:
            directory = member.directory
            if timestamp_in(directory) is not None:
                break
            _refuse_too_large(member, path.name)
            if member.name == METADATA:
                return directory, read_metadata(b"".join(member.pieces))
    return directory, {}


def _dated(text: str) -> tuple[str, datetime | None]:
    """Part a text into its last time and what stands before that."""
    for match in reversed(list(TIMESTAMP.finditer(text))):
        with suppress(ValueError):  # the 31st of February
            time = datetime.strptime("".join(match.groups()), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            return text[: match.start()].rstrip("-_."), time
    return "", None


def _instant(text: str) -> datetime | None:
    with suppress(ValueError, OverflowError):
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    return None


def _refuse_too_large(member: Member, archive: str) -> None:
    """Refuse what is larger than such a file ever is; for the dump itself the room decides."""
    most = LARGEST_BYTES.get(member.name, LARGEST_OTHER_BYTES)
    if member.name != DUMP and member.size > most:
        raise SourceError(f"{archive} says that {member.name!r} has {member.size} bytes: it is not to be trusted")


def _written(staging: Staging, member: Member, archive: str) -> Artifact:
    with staging.write(member.name) as file:
        for piece in member.pieces:
            if not file.size and member.name == DUMP and not piece.startswith(MAGIC):
                raise SourceError(
                    f"{archive}: {DUMP} does not begin as a dump of pg_dump does, but with {piece[:40]!r}: what stood"
                    " in the way of its output is in it"
                )
            file.write(piece)
    if not file.size and member.name == DUMP:
        raise SourceError(f"{archive}: {DUMP} is empty: there is nothing in it to bring in")
    return file.artifact()


def _write_to_disk(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
