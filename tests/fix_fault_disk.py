"""Small disks: file systems in memory, of a size and with room for as many files as a test says."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

FILLER = "filler"
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Disk:
    """A small file system."""

    path: Path

    @property
    def free(self) -> int:
        """Bytes that are free."""
        return shutil.disk_usage(self.path).free

    def fill(self, *, but: int = 0) -> None:
        """Write until no more than so many bytes are free."""
        with (self.path / FILLER).open("ab") as filler:
            size = filler.tell()
            # Whoever else writes there may be faster: then less is free than a moment ago.
            while (wanted := (size + self.free - but) // PAGE_BYTES * PAGE_BYTES) > 0:
                try:
                    os.posix_fallocate(filler.fileno(), 0, wanted)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                else:
                    break

    def make_room(self) -> None:
        """Remove what filled it."""
        (self.path / FILLER).unlink()


class MountDisk(Protocol):
    """Mounts small disks."""

    def __call__(self, name: str, *, size: str, files: int = 1000) -> Disk:
        """Mount one of a size such as 8m, with room for so many files."""
        ...


@contextlib.contextmanager
def mounted(path: Path, *, size: str, files: int) -> Iterator[Disk]:
    """Mount a small disk; skip the test where that is not allowed."""
    path.mkdir()
    options = f"size={size},nr_inodes={files},mode=0700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
