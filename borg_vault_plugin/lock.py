"""The run lock: one run per set at a time.

An flock on a file, which children inherit: as long as a child of a killed run lives, the lock is held, so nobody
sweeps a staging directory that a `borg create` still reads. The file names its holder and stays; only the flock
counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from borg_vault_plugin.errors import ConfigError, LockedError


@contextlib.contextmanager
def run_lock(directory: Path, name: str) -> Iterator[int]:
    """Hold the lock of this name and give its descriptor, to be handed to children.

    Raises LockedError that names the holder, ConfigError when the directory cannot be used.
    """
    path = directory / f"{name}.lock"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(
            f"state directory {directory} cannot be used: {error.strerror}: set state_directory"
        ) from error
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "somebody"
            raise LockedError(f"another run holds {path}: {holder}: wait for it, or end it") from None
        _name_holder(descriptor, directory)
        yield descriptor


def _name_holder(descriptor: int, directory: Path) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}\n".encode(), 0)
    except OSError as error:
        raise ConfigError(
            f"state directory {directory} cannot be used: {error.strerror}: free space there, or set state_directory"
        ) from error
