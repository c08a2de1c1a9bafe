"""The split: encryption keys and the database may not end up in one place, whatever the configuration says.

A dump without the keys is opaque but safe, the keys without the database are useless; together they are everything.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from borg_vault_plugin.archive import Archive, SetName
from borg_vault_plugin.config import Settings
from borg_vault_plugin.database import source_from_environment
from borg_vault_plugin.errors import ConfigError
from borg_vault_plugin.secret import SecretReference

APART: tuple[SetName, SetName] = ("keys", "database")
ADVICE = "whoever gets one would have both: give the keys a place and a passphrase of their own"

# A repository on another host, as Borg reads it (Borg 1.4 documentation, Repository URLs).
HOST = r"(?:(?P<user>[^@:/]+)@)?(?P<host>\[[0-9a-fA-F:.]+\]|[^:/\[\]]+)"
URL = re.compile(rf"ssh://{HOST}(?::\d+)?(?P<path>/.*)", re.DOTALL)
SCP = re.compile(rf"{HOST}:(?!//)(?P<path>.+)", re.DOTALL)
HOME = re.compile(r"/?~(?P<user>[^/]*)/(?P<path>.*)|/\./(?P<here>.*)", re.DOTALL)
THIS_HOST = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a repository is: host (empty: this one) and directory, normalised."""

    host: str
    directory: PurePosixPath
    home_of: str | None = None
    """The user whose home directory a relative one is below; empty when that is not said, None for an absolute one."""

    def overlaps(self, other: Place) -> bool:
        """Whether two places are, or may be, the same, or one inside the other."""
        if self.host != other.host:
            return False
        here, there = self.directory, other.directory
        if (self.home_of is None) != (other.home_of is None):  # nobody knows where that home is
            absolute, relative = (here, there) if self.home_of is None else (there, here)
            return absolute.parts[-len(relative.parts) :] == relative.parts
        if self.home_of and other.home_of and self.home_of != other.home_of:
            return False
        return here == there or here in there.parents or there in here.parents


def refuse_together(settings: Settings) -> None:
    """Refuse a configuration that brings keys and database together. Raises ConfigError that names both sets."""
    one, other = APART
    for shared in _shared(settings, _repositories_of(settings, one), _repositories_of(settings, other)):
        raise ConfigError(f"the sets {one} and {other} share {shared}: {ADVICE}")


def refuse_same_repository(
    settings: Settings, set_name: SetName, repository: str, repository_id: str, archives: Iterable[Archive] = ()
) -> None:
    """Refuse a repository that is the other set's: by name, place, passphrase, or by what is or was stored there.

    Raises ConfigError that names both sets.
    """
    if set_name not in APART:
        return
    other: SetName = "keys" if set_name == "database" else "database"
    together = f"the sets {set_name} and {other} share"
    for shared in _shared(settings, (repository,), _repositories_of(settings, other)):
        raise ConfigError(f"{together} {shared}: {ADVICE}")
    series = settings.series(other)
    stored = (
        event.holds or event.archive
        for event in settings.history().events()
        if event.repository == repository_id and event.event in ("created", "adopted", "confirmed")
    )
    for name in (*(archive.name for archive in archives), *stored):
        if series.owns(name):
            raise ConfigError(f"{together} repository {repository}, which has {name}: {ADVICE}")


def _repositories_of(settings: Settings, set_name: SetName) -> tuple[str, ...]:
    """Name the repositories that a set is stored in: none when it is not backed up from here, or only attested."""
    if set_name == "keys":
        keys = settings.sets.keys
        return () if keys is None or keys.attest is not None else settings.repository_names("keys")
    named = settings.database.url is not None or source_from_environment(os.environ) is not None
    return settings.repository_names(set_name) if named else settings.sets.database.repositories


def _shared(settings: Settings, ones: tuple[str, ...], others: tuple[str, ...]) -> Iterator[str]:
    """Say what repositories of two sets have in common."""
    for one in ones:
        for other in others:
            if one == other:
                yield f"repository {one}"
            first, second = settings.repositories[one], settings.repositories[other]
            if first.passphrase and second.passphrase and _normal(first.passphrase) == _normal(second.passphrase):
                yield f"the passphrase of repositories {one} and {other} ({first.passphrase})"
            if place_of(first.path).overlaps(place_of(second.path)):
                yield f"a place: repositories {one} and {other} ({first.path}, {second.path})"


def _normal(reference: SecretReference) -> object:
    """Give what is equal for two references to one secret."""
    if reference.file is not None:
        return "file", os.path.realpath(reference.file)
    return reference if reference.command is None else ("command", *reference.command.split())


def place_of(path: str) -> Place:
    """Say where a repository is."""
    remote = URL.fullmatch(path) or (None if "://" in path else SCP.fullmatch(path))
    if remote is None:
        local = Path(path.removeprefix("file://"))
        with contextlib.suppress(RuntimeError):  # a user that is not there
            local = local.expanduser()
        return Place("", PurePosixPath(os.path.realpath(local)))
    host = remote["host"].strip("[]").rstrip(".").lower()
    host = "" if host in (*THIS_HOST, socket.gethostname().lower()) else host
    user, directory = remote["user"] or "", remote["path"]
    home = HOME.fullmatch(directory)
    if home is not None:
        below = home["path"] if home["path"] is not None else home["here"]
        return Place(host, _directory(below), home["user"] or user)
    if not directory.startswith("/"):
        return Place(host, _directory(directory), user)
    return Place(host, PurePosixPath(os.path.realpath(directory)) if not host else _directory(directory))


def _directory(path: str) -> PurePosixPath:
    return PurePosixPath(posixpath.normpath(f"/{path.lstrip('/')}" if path.startswith("/") else path or "."))
