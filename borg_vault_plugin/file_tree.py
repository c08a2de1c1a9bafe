"""The files below a directory, for hooks that store them: all of them, or an error that names what is in the way."""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from borg_vault_plugin import process
from borg_vault_plugin.errors import SourceError

logger = logging.getLogger(__name__)

GIT = ".git"
GIT_SECONDS, COMMAND_SECONDS = 60.0, 600.0


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One regular file: its path below the directory, and where its content is."""

    relative: str
    path: Path


def files_below(directory: Path) -> Iterator[FoundFile]:
    """Give every file below a directory, by name; git's own are left out.

    A symbolic link is followed when it leads to something inside the directory, as in a mounted ConfigMap. Raises
    SourceError for one that leads out of it, for what is no regular file, and for what cannot be read.
    """
    top = directory.resolve()
    if not top.is_dir():
        raise SourceError(f"{directory} is no directory: mend its path")
    yield from _files_in(top, "", (top,))


def size_below(directory: Path) -> int:
    """Add up the sizes of a directory's files, in bytes. Raises SourceError."""
    return sum(found.path.stat().st_size for found in files_below(directory))


def git_revision(directory: Path) -> str | None:
    """Give the revision that a checkout stands at, and whether anything differs from it; None when it is no checkout.

    Somebody else's checkout is not looked into for changes: its configuration could have git run programs as us.
    """
    git = shutil.which("git")
    there = any((place / GIT).exists() for place in (directory.resolve(), *directory.resolve().parents))
    if git is None or not there:
        return None
    revision = _git(git, directory, "-c", "safe.directory=*", "rev-parse", "HEAD")
    if not revision:
        return None
    changed = _git(git, directory, "--no-optional-locks", "status", "--porcelain", "--ignored", "--", ".")
    if changed is None:
        return f"{revision}, local changes not looked for"
    return f"{revision} with local changes" if changed else revision


def output_of(
    command: str, what: str, *, seconds: float = COMMAND_SECONDS, kept: process.Kept = contextlib.nullcontext
) -> bytes:
    """Run an operator's command without a shell and give its standard output. Raises SourceError.

    `kept` is told of the child while it runs, as `process.run` has it.
    """
    environment = process.plain_environment()
    try:
        done = process.run(shlex.split(command), env=environment, timeout=seconds, kept=kept)
    except (OSError, ValueError, IndexError, process.TimeoutExpired) as error:
        raise SourceError(f"{what}, {command!r}, cannot be run: {error}") from error
    if done.returncode:
        raise SourceError(f"{what}, {command!r}, failed with {process.ending(done.returncode)}: run it by hand")
    return done.stdout


def _git(git: str, directory: Path, *words: str) -> str | None:
    try:
        done = process.run([git, "-C", str(directory), *words], env=process.plain_environment(), timeout=GIT_SECONDS)
    except (OSError, process.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def _files_in(place: Path, below: str, trail: tuple[Path, ...]) -> Iterator[FoundFile]:
    """Give the files in a directory; `trail` are the directories that led to it, the whole one first."""
    try:
        names = sorted(path.name for path in place.iterdir() if path.name != GIT)
    except OSError as error:
        raise SourceError(f"{place} cannot be read: {error.strerror}: mend its permissions") from error
    for name in names:
        path, relative = place / name, _storable(f"{below}{name}")
        target = _inside(path, trail[0]) if path.is_symlink() else path
        if target in trail:
            logger.info("%s leads back to %s, and is not followed", path, target)
        elif target.is_dir():
            yield from _files_in(target, f"{relative}/", (*trail, target))
        else:
            yield FoundFile(relative, _readable(target))


def _readable(path: Path) -> Path:
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            with path.open("rb"):
                return path
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}: mend its permissions") from error
    raise SourceError(f"{path} is no regular file, which cannot be stored: take it out of the directory")


def _storable(relative: str) -> str:
    if not relative.isprintable():
        raise SourceError(f"{relative!r} has a name that cannot be stored: name it in UTF-8 and printable characters")
    return relative


def _inside(path: Path, top: Path) -> Path:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise SourceError(f"{path} is a symbolic link that leads nowhere: mend or remove it") from error
    if not target.is_relative_to(top):
        raise SourceError(f"{path} is a symbolic link that leads out of {top}: store the file itself there")
    return target
