"""Who holds the lock of a local repository, as Borg's own files say (Borg 1.4 documentation, internals, "Lock files").

`lock.exclusive/` is a directory with one empty file `<host>.<process>-<thread, hex>`; `lock.roster` is JSON with a list
of [host, process, thread] for each of `shared` and `exclusive`. Nothing is changed here: breaking a lock is for people.
"""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HOLDER = re.compile(r"(?P<host>.+)\.(?P<process>\d+)-[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a repository's lock: on which host, as Borg calls that, and since when."""

    host: str
    process: int
    exclusive: bool
    since: datetime

    @property
    def is_dead(self) -> bool:
        """Whether the process was one of this host, and is gone; of other hosts nobody here knows."""
        return self.host == _this_host() and not Path(f"/proc/{self.process}").exists()

    def __str__(self) -> str:
        kind = "" if self.exclusive else ", reading"
        return f"process {self.process} on {self.host.partition('@')[0]} since {self.since:%Y-%m-%d %H:%M:%SZ}{kind}"


def lock_holders(repository: Path) -> tuple[Holder, ...]:
    """Give the holders of a repository's lock, those who keep everybody out first; OSError when it cannot be read."""
    holders = {(one.host, one.process): one for one in (*_readers(repository), *_owners(repository))}
    return tuple(sorted(holders.values(), key=lambda one: not one.exclusive))


def _owners(repository: Path) -> Iterator[Holder]:
    directory = repository / "lock.exclusive"
    for path in directory.iterdir() if directory.is_dir() else ():
        match = HOLDER.fullmatch(path.name)
        if match:
            yield Holder(match["host"], int(match["process"]), exclusive=True, since=_changed(path))


def _readers(repository: Path) -> Iterator[Holder]:
    roster = repository / "lock.roster"
    try:
        entries = json.loads(roster.read_text("utf-8")).get("shared", [])
    except (FileNotFoundError, ValueError):  # Borg takes one that it cannot read for an empty one
        return
    for host, process, _ in entries:
        yield Holder(str(host), int(process), exclusive=False, since=_changed(roster))


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _this_host() -> str:
    """Give this host's name as Borg puts it into locks (Borg 1.4 documentation, BORG_HOST_ID)."""
    return os.environ.get("BORG_HOST_ID") or f"{_full_name()}@{uuid.getnode()}"


def _full_name() -> str:
    """Give the canonical name of this host; Borg does not ask socket.getfqdn, which prefers other names."""
    name = socket.gethostname()
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM, flags=socket.AI_CANONNAME)
    except OSError:
        return name
    return next((entry[3] for entry in found if entry[3]), name)
