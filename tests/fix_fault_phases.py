"""Runs that stand still at a phase of their work, until the test lets them go on.

Before Borg, a run stands still because the server's answer is held back or because a plugin waits; from then on because
the Borg process at work is stopped.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fix_fault_run import Process, Run, segments
from fix_repository import PlainRepository

MID_COPY = 20_000
SMALL_BYTES = 1000
BULK_BYTES = 32 << 20
STORED_BYTES = 2 << 20

# Stages as many random bytes as a file says, and waits in verify_staging until it gets a lock.
PLUGIN = """
import fcntl, os
from pathlib import Path

PLACE = Path({place!r})

@hookimpl
def collect_artifacts(snapshot, staging):
    with staging.write("badge.bin") as file:
        file.write(os.urandom(int((PLACE / "bulk").read_text())))
    return [file.artifact()]

@hookimpl
def verify_staging(staging):
    with (PLACE / "gate").open() as gate:
        (PLACE / f"waiting-{{os.getpid()}}").touch()
        fcntl.flock(gate, fcntl.LOCK_SH)
    return []
"""

# What Borg is doing, by how words of its command line begin.
BORG_PHASES = {
    "looking into the repository": ["list", "--consider-checkpoints"],
    "beginning to store": ["create"],
    "comparing": ["list", "--json-lines"],
    "renaming": ["rename"],
    "looking at what was renamed": ["list", "--consider-checkpoints"],
    "planning to prune": ["prune", "--dry-run"],
    "compacting": ["compact"],
}


class Gate:
    """Where runs wait between staging and Borg; `place` holds what the plugin looks at."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.place = place
        self._file = (place / "gate").open("w")
        self.stage(SMALL_BYTES)

    def shut(self) -> None:
        """Let every run that comes from now on wait."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def open(self) -> None:
        """Let everybody through, now and from now on."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Open it for good."""
        self._file.close()

    def has(self, run: Run) -> bool:
        """Say whether a run has come here."""
        return (self.place / f"waiting-{run.pid}").exists()

    def stage(self, size: int) -> None:
        """Say how many random bytes the plugin stages."""
        (self.place / "bulk").write_text(str(size), "utf-8")


@dataclass(frozen=True, slots=True)
class Paused:
    """A run that stands still; `child` is the process that the program waits for, if it waits for one."""

    run: Run
    go_on: Callable[[], None]
    child: Process | None = None

    @property
    def culprit(self) -> Process:
        """The process that the program waits for."""
        assert self.child is not None
        return self.child


class Pause(Protocol):
    """Starts a run of `create` that stands still at a phase."""

    def __call__(self, phase: str, *words: str) -> Paused:
        """Start it with these options, and give it when it stands still."""
        ...


def storing(run: Run, repository: PlainRepository) -> Process:
    """Wait until Borg has a part of the set in the repository's files, and give its process."""
    before = sum(segments(repository).values())
    borg = run.child("create")
    run.until(lambda: sum(segments(repository).values()) > before + STORED_BYTES, "Borg stores")
    return borg


def stopped(run: Run, borg: Process) -> Paused:
    borg.stop()
    return Paused(run, borg.go_on, borg)
