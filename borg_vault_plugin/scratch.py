"""Scratch directories: private, gone at the end, and found by the next run when this one is killed before its end.

A scratch directory is locked (flock) for as long as its process lives. One of ours that is not locked has lost its
process; whoever makes the next one beside it removes it, since it may hold a restored copy of a database.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from borg_vault_plugin.errors import PreflightError

logger = logging.getLogger(__name__)

PREFIX, RUN_PREFIX = "bv-", "run-"
SETTLED_SECONDS = 60.0  # a directory younger than this may belong to a process that is about to lock it


@contextlib.contextmanager
def scratch_directory(place: Path) -> Iterator[Path]:
    """Make a directory of mode 0700 in `place`; on leaving it is gone with all it holds, whoever owns that.

    Raises PreflightError when it cannot be made.
    """
    _remove_abandoned(place)
    try:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    except OSError as error:
        raise PreflightError(f"cannot make a directory in {place}: {error.strerror}") from error
    with _locked(directory):
        try:
            yield directory
        finally:
            _remove(directory)


@contextlib.contextmanager
def held(directory: Path) -> Iterator[Path]:
    """Give a path that leads to a directory as it is now, also for children, whatever is put in its place later.

    Raises OSError when a link stands there, or in the place of the private directory that it is in. An OSError inside
    names the directory, and not the path that was given for it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # What is above that is its owner's, who may call a link bv-backups.
        above = (directory, *directory.parents)
        ours = next((one for one in above if one.name.startswith((PREFIX, RUN_PREFIX))), directory)
        refuse_link(ours)
        # A child changes its directory before it lets go of what it has inherited.
        yield Path(f"/proc/self/fd/{descriptor}")
    except OSError as error:
        if isinstance(error.filename, str):
            error.filename = error.filename.replace(f"/proc/self/fd/{descriptor}", str(directory), 1)
        raise
    finally:
        os.close(descriptor)


def refuse_link(directory: Path) -> None:
    """Raise NotADirectoryError when a symbolic link stands in a directory's place."""
    if directory.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))


def private_place(place: Path) -> Path:
    """Have a directory for scratch directories, of mode 0700 if it is not there. Raises PreflightError."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PreflightError(f"cannot make {place}: {error.strerror}: mend that, or set staging_directory") from error
    return place


def abandoned(place: Path) -> Iterator[Path]:
    """Give the scratch directories of ours in `place` whose processes are gone; each is locked while it is given."""
    for path in sorted(place.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_uid == os.geteuid() and time.time() - found.st_mtime > SETTLED_SECONDS:
                with _locked(path):
                    yield path


def _remove_abandoned(place: Path) -> None:
    for path in abandoned(place):
        logger.info("removing %s, which a run that was killed has left", path)
        _remove(path)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock on a directory; raises OSError when it is somebody's, or no directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        logger.warning("could not remove all of %s: remove it by hand", directory)
