"""Probes of this host: where state and staging are, what other runs left or hold, and whether a drill could run."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from borg_vault_plugin.account import server_account
from borg_vault_plugin.archive import Series
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.config import Settings
from borg_vault_plugin.doctor.checks import Check, found, not_checked, ok, refused
from borg_vault_plugin.errors import PreflightError
from borg_vault_plugin.preflight import Estimate, check_space
from borg_vault_plugin.recovery.ground import FLOOR_BYTES, GROWTH, find_distribution
from borg_vault_plugin.scratch import RUN_PREFIX, abandoned

LEAST_STATE_BYTES = 1 << 20
NAMELESS, NAME_IT = "this user number has no name", "add it to /etc/passwd (of the image, in a container)"
SHOWN_LEFTOVERS = 3


def existing(directory: Path) -> Path:
    """Give a directory, or the nearest one above it that is there."""
    return next(place for place in (directory, *directory.absolute().parents) if place.exists())


def unusable(directory: Path) -> str | None:
    """Say why nothing can be written in a directory; nothing is written to find out."""
    place = existing(directory)
    if not place.is_dir():
        return f"{place} is no directory"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"{place} cannot be written" + ("" if place == directory else f", and {directory} is not there yet")
    figures = os.statvfs(place)
    if figures.f_bavail * figures.f_frsize < LEAST_STATE_BYTES or (figures.f_files and not figures.f_favail):
        return f"the file system of {place} is full"
    return None


def state_directory(settings: Settings) -> Iterator[Check]:
    """Look at where history, locks and evidence are."""
    directory = settings.state_directory
    why = unusable(directory)
    if why is not None:
        yield found("state.unusable", str(directory), why, "mend it, free space there, or set state_directory")
        return
    mode = stat.S_IMODE(directory.stat().st_mode) if directory.exists() else 0
    if mode & 0o077:
        said = f"others may look into it or change it (mode {mode:04o})"
        yield found("state.open", str(directory), said, f"run chmod 700 {directory}")
    else:
        yield ok("state", str(directory), "writable" if directory.exists() else "will be made by the first run")


def account() -> Iterator[Check]:
    """Ask for the name of the user that runs this, which Borg writes into every archive."""
    name = _name_of_user() or os.environ.get("LOGNAME") or os.environ.get("USER")
    if name:
        yield ok("account", "this user", name)
    else:
        yield found("account.nameless", "this user", f"{NAMELESS}, and Borg wants one", "set USER, or " + NAME_IT)


def staging_directory(settings: Settings, estimate: Estimate | None) -> Iterator[Check]:
    """Look at where tonight's set is written, and whether it has room."""
    directory = settings.staging_parent
    why = unusable(directory)
    if why is not None:
        yield found("staging.unusable", str(directory), why, "mend it, free space there, or set staging_directory")
        return
    if estimate is None:
        yield not_checked("staging", str(directory), "how much tonight's set takes is not known without the database")
        return
    try:
        check_space(directory, estimate.staged, "staging")
    except PreflightError as error:
        yield refused("staging.full", str(directory), error)
    else:
        free = shutil.disk_usage(existing(directory)).free
        yield ok("staging", str(directory), f"needs {_megabytes(estimate.staged)}, {_megabytes(free)} are free")


@dataclass(frozen=True, slots=True)
class Running:
    """A run that holds its lock: who holds it, as the lock's file says, and since when."""

    holder: str
    since: datetime


def running(settings: Settings, series: Series) -> Running | None:
    """Say which run holds the lock of a series, by the kernel's list of locks: taking it could fail a run."""
    path = settings.state_directory / f"{series.prefix}.lock"
    try:
        file = path.stat()
        listed = Path("/proc/locks").read_text("utf-8").splitlines()
        holder = path.read_text("utf-8").strip()
    except OSError:
        return None
    # The inode alone: on btrfs the list and stat(2) disagree about the device.
    if not any(f":{file.st_ino} " in line for line in listed if " FLOCK " in line and "->" not in line):
        return None
    return Running(holder or "somebody", datetime.fromtimestamp(file.st_mtime, UTC))


def run_lock(settings: Settings, series: Series) -> Iterator[Check]:
    """Look whether a run is going on, and whether it goes on for too long."""
    run = running(settings, series)
    if run is None:
        yield ok("run", series.prefix, "none is going on")
    elif datetime.now(UTC) - run.since > settings.database.timeout:
        said = f"{run.holder} still holds its lock, and the next run cannot begin"
        yield found("run.late", series.prefix, said, "end that process and its children")
    else:
        yield ok("run", series.prefix, f"going on: {run.holder}")


def leftovers(settings: Settings, series: Series) -> Iterator[Check]:
    """Look for what killed runs, drills and demonstrations have left; nothing is removed here."""
    left: list[Path] = []
    for one in (Series(series.label, name) for name in settings.sets.configured):
        if running(settings, one) is None:
            left += sorted((settings.staging_parent / one.prefix).glob(f"{RUN_PREFIX}*"))
    for place in {settings.staging_parent, *settings.staging_parent.glob("@*"), Path(tempfile.gettempdir())}:
        left += abandoned(place)
    if left:
        more = f" and {len(left) - SHOWN_LEFTOVERS} more" if len(left) > SHOWN_LEFTOVERS else ""
        said = f"{', '.join(map(str, left[:SHOWN_LEFTOVERS]))}{more}: left by a run that was killed"
        yield found("leftovers.found", series.prefix, said, "nothing: the next run removes them")
    else:
        yield ok("leftovers", series.prefix, "none")


def drill_ground(settings: Settings, major: int | None, estimate: Estimate | None) -> Iterator[Check]:
    """Ask whether a drill of tonight's archive could run here: a server of its major, an account for it, room."""
    weight = "drill.impossible" if settings.sets.database.max_drill_age is None else "drill.demanded"
    if not settings.database.dumps:
        yield not_checked("drill", "this host", "there is no dump that it could restore")
        return
    if _name_of_user() is None:
        yield found(weight, "this host", f"{NAMELESS}, and PostgreSQL's initdb wants one", NAME_IT)
        return
    if major is None or estimate is None:
        why = "which server and how much room it takes is not known without the database"
        yield not_checked("drill", "this host", why)
        return
    subject, needed = f"PostgreSQL {major}", estimate.staged + FLOOR_BYTES + GROWTH * estimate.dump
    try:
        distribution = find_distribution(major)
        account = server_account(isolated_network=True)
        check_space(settings.staging_parent, needed, "a drill")
    except (NotCheckedError, PreflightError) as error:
        yield refused(weight, subject, error)
        return
    network = "without a network" if account.isolated_network else "with the host's network, which cannot be taken away"
    yield ok("drill", subject, f"a server in {distribution.bin}, {network}; room for it: {_megabytes(needed)}")


def _name_of_user() -> str | None:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:,.0f} MB"
