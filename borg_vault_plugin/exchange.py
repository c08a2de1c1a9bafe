"""Putting a directory in another's place in one step, so that nobody ever sees half of either."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from borg_vault_plugin.errors import PreflightError

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h; renameat2(2)


def put_in_place(new: Path, place: Path) -> None:
    """Give a complete directory its final name; what was there before is under the old name of `new` afterwards.

    Everything in it is on disk before. Raises PreflightError when this file system cannot do that, OSError.
    """
    _write_to_disk(new)
    if place.exists():
        _exchange(new, place)
    else:
        new.rename(place)
    _sync(place.parent)


def _exchange(new: Path, place: Path) -> None:
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    if renameat2(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(place), RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        raise PreflightError(f"the file system of {place} cannot exchange directories: choose another place")
    raise OSError(number, os.strerror(number), str(place))


def _write_to_disk(directory: Path) -> None:
    for parent, _, names in os.walk(directory):
        for name in names:
            _sync(Path(parent) / name)
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
