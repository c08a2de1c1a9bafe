"""Staging: the private directory of one run, in which hooks write artifacts, sealed by its manifest.

An artifact is written under a temporary name, hashed on the way, and renamed when it is complete; so whatever has a
final name here is whole. The directory is 0700, files are 0600. Sealing checks that what the hooks returned is what is
there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from borg_vault_plugin.errors import PreflightError, SourceError
from borg_vault_plugin.progress import Advance, Progress, unseen
from borg_vault_plugin.scratch import RUN_PREFIX, held, refuse_link

MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
INSTRUCTIONS = "RESTORE.txt"
logger = logging.getLogger(__name__)

TELL_EVERY_BYTES = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)
STAGING_ADVICE = "free space there, or set staging_directory"
OURS = (MANIFEST, CHECKSUMS, INSTRUCTIONS)
Identities = dict[str, tuple[int, int, int, int]]
"""Inode, size in bytes, time of last change of the content, and of anything: nobody but the clock sets that one."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file that a hook wrote: path below staging, size in bytes, SHA-256 in hex, producer, rows if it has any."""

    path: str
    size: int
    sha256: str
    producer: str
    rows: int | None = None
    database_in: str | msgspec.UnsetType = msgspec.UNSET
    """Where the database itself is, when this stands in for its dump: in which snapshot of which provider, say."""


class ArtifactFile:
    """An artifact while it is written; `artifact` is set when its `with` ends well."""

    def __init__(self, stream: IO[bytes], path: str, producer: str, advance: Advance, over: threading.Event) -> None:
        self._stream = stream
        self._advance = advance
        self._over = over
        self._digest = hashlib.sha256()
        self.path = path
        self.producer = producer
        self.size = 0
        self._told = 0
        self.rows: int | None = None
        self.database_in: str | msgspec.UnsetType = msgspec.UNSET

    def write(self, data: bytes | memoryview) -> int:
        """Write and hash the next bytes. Raises SourceError when nobody waits for them any more."""
        _refuse_after(self._over)
        self._digest.update(data)
        self._stream.write(data)
        self.size += len(data)
        if self.size >= self._told + TELL_EVERY_BYTES:
            self._told = self.size
            self._advance(self.size)
        return len(data)

    def artifact(self) -> Artifact:
        """Give what is known about the artifact; call it after the `with` has ended."""
        return Artifact(self.path, self.size, self._digest.hexdigest(), self.producer, self.rows, self.database_in)


@dataclass(frozen=True, slots=True)
class Staging:
    """The private directory of one run, as one producer sees it."""

    directory: Path
    producer: str
    expected: Mapping[str, int] = field(default_factory=dict)
    """Estimated sizes of artifacts by their path, for progress."""
    progress: Progress = unseen
    over: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when nobody waits for the producer any more: what it writes then would be left behind."""

    @contextlib.contextmanager
    def write(self, path: str) -> Iterator[ArtifactFile]:
        """Write one artifact at this relative path; it gets its name when the `with` ends without an exception.

        Raises SourceError when the path leads out of staging or is taken.
        """
        plain = checked_path(path)
        with staging_failures(self.directory):
            _refuse_after(self.over)
            with held(self.directory) as place:
                # Each below the other, and never staging itself, which is gone when a run has ended.
                for parent in reversed(plain.parents[:-1]):
                    (place / parent).mkdir(mode=0o700, exist_ok=True)
                    refuse_link(place / parent)
                yield from self._written(path, place / plain)

    def _written(self, path: str, target: Path) -> Iterator[ArtifactFile]:
        temporary = target.with_name(f".{target.name}.partial")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            raise SourceError(f"artifact {path} is written twice: give each artifact a name of its own") from None
        with (
            os.fdopen(descriptor, "wb", buffering=1 << 20) as stream,
            self.progress(path, self.expected.get(path)) as advance,
        ):
            artifact_file = ArtifactFile(stream, path, self.producer, advance, self.over)
            yield artifact_file
        # link fails where rename would silently replace another producer's artifact
        try:
            os.link(temporary, target, follow_symlinks=False)
        except FileExistsError:
            raise SourceError(f"artifact {path} is written twice: give each artifact a name of its own") from None
        temporary.unlink()
        logger.info("wrote %s, %s bytes", path, f"{artifact_file.size:,}")


def _refuse_after(over: threading.Event) -> None:
    if over.is_set():
        raise SourceError("the run was abandoned")


def checked_path(path: str) -> PurePosixPath:
    """Check that a path is relative, plain, and not one of the names that sealing uses; raises SourceError."""
    pure = PurePosixPath(path)
    plain = path == str(pure) and not pure.is_absolute() and ".." not in pure.parts and path.isprintable()
    hidden = pure.parts[:1] and pure.parts[0].startswith(".")
    if not plain or path in (".", *OURS) or hidden or re.fullmatch(r"\..*\.partial", pure.name):
        raise SourceError(f"artifact path {path!r} is not a plain path below staging: a hook must stay inside")
    return pure


@contextlib.contextmanager
def staging_failures(directory: Path) -> Iterator[None]:
    """Turn a full file system, and whatever fails below a directory, into a SourceError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise SourceError(f"staging in {directory}: {error.strerror}: {STAGING_ADVICE}") from error
        name = Path(error.filename) if isinstance(error.filename, str) else None
        if name is not None and (name.is_relative_to(directory) or name == directory.parent):
            said = f"{error.filename}: {error.strerror}: look who changed it, and run again"
            raise SourceError(f"staging in {directory}: {said}") from error
        raise


@contextlib.contextmanager
def private_directory(parent: Path) -> Iterator[Path]:
    """Make a directory that only we can enter, and remove it with everything in it at the end."""
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=parent))
    except OSError as error:
        raise PreflightError(f"no directory can be made in {parent}: {error.strerror}: {STAGING_ADVICE}") from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep_staging(parent: Path) -> None:
    """Remove what killed runs left; call it only under the run lock, which their children would still hold."""
    for leftover in parent.glob(f"{RUN_PREFIX}*"):
        logger.info("removing %s, left by a run that was cut short", leftover)
        shutil.rmtree(leftover, ignore_errors=True)


def check_complete(directory: Path, artifacts: Iterable[Artifact]) -> None:
    """Check that staging holds exactly the returned artifacts: regular files of the size that was written.

    Raises SourceError that names the artifact and its producer, or the file that nobody returned.
    """
    expected: dict[str, Artifact] = {}
    for artifact in artifacts:
        if artifact.path in expected:
            raise SourceError(f"hook {artifact.producer} returned {artifact.path} twice: return each artifact once")
        expected[artifact.path] = artifact
    found = dict(_files(directory))
    for path, artifact in expected.items():
        entry = found.pop(path, None)
        if entry is None or not stat.S_ISREG(entry.st_mode):
            raise SourceError(f"hook {artifact.producer} returned {path}, but no such regular file is in staging")
        if entry.st_size != artifact.size:
            raise SourceError(
                f"hook {artifact.producer} returned {path} with {artifact.size} bytes, but it has {entry.st_size}"
            )
    if found:
        raise SourceError(f"staging holds {min(found)}, which no hook returned: a hook must return what it writes")


def identities(directory: Path) -> Identities:
    """Give what tells every file of a directory from whatever is written or put in its place later."""
    return {
        path: (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) for path, found in _files(directory)
    }


def changed(before: Identities, now: Identities) -> str | None:
    """Name a file that was changed, replaced or removed in between, if there is one."""
    return min((path for path in before if before[path] != now.get(path)), default=None)


def write_sealed(directory: Path, name: str, text: str) -> Artifact:
    """Write one of the files that seal a set (manifest, checksums, instructions)."""
    data = text.encode("utf-8")
    with held(directory) as place:
        descriptor = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
    return Artifact(name, len(data), hashlib.sha256(data).hexdigest(), "borg-vault")


def _files(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    for parent, directories, names in os.walk(directory):
        links = [name for name in directories if (Path(parent) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(parent) / name
            yield path.relative_to(directory).as_posix(), path.lstat()
