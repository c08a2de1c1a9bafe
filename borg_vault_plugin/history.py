"""History: what happened to our archives, one JSON object per line, only ever appended to.

An intent is written before Borg runs and its result after, so that a run that was killed in between can be told apart
from somebody else's archive. Losing the file loses the memory of what was removed, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from borg_vault_plugin.errors import ConfigError
from borg_vault_plugin.foreign import UNREADABLE, Instant

Happening = Literal[
    "intended",
    "created",
    "removing",
    "removed",
    "swept",
    "verified",
    "drilled",
    "pinned",
    "unpinned",
    "found",
    "accepted",
    "rewound",
    "adopted",
    "restored",
    "swapped",
    "checked",
    "attested",
    "key_exported",
    "confirmed",
]

SKEW = timedelta(minutes=10)
"""How far the clocks of hosts may be apart."""
RESULTS: tuple[Happening, ...] = ("verified", "drilled", "checked")
"""What other hosts can find out about archives."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened; `repository` is Borg's id of the repository, in hex, where it is about one."""

    time: Instant
    event: Happening
    archive: str
    repository: str = ""
    archive_id: str | None = None
    manifest: str | None = None
    verdict: str | None = None
    reason: str | None = None
    """For a removal the rule, for a pin or an acceptance what its operator said."""
    finding: str | None = None
    """The id of what was found or accepted; `code`, `where` and `hash` say what that is."""
    holds: str | None = None
    """What an archive of ours with the set that was confirmed would be called; `where` is the set's directory there."""
    snapshot: Instant | None = None
    """When that set's snapshot was taken."""
    size: int | None = None
    """Of that set, in bytes."""
    code: str | None = None
    where: str | None = None
    hash: str | None = None
    database: str | None = None
    """The name of a database that was restored."""
    server: str | None = None
    """Where that is, as host:port; never a password."""
    rpo_seconds: float | None = None
    rto_seconds: float | None = None

    def line(self) -> bytes:
        """Give the event as its line in a history."""
        return msgspec.json.encode(self) + b"\n"


def happened_now(
    happening: Happening,
    archive: str,
    repository: str = "",
    *,
    archive_id: str | None = None,
    manifest: str | None = None,
    verdict: str | None = None,
    reason: str | None = None,
) -> Event:
    """Make the event of something that happens at this moment."""
    return Event(
        time=datetime.now(UTC),
        event=happening,
        archive=archive,
        repository=repository,
        archive_id=archive_id,
        manifest=manifest,
        verdict=verdict,
        reason=reason,
    )


@dataclass(frozen=True, slots=True)
class History:
    """The history of this host, in a file."""

    path: Path

    def append(self, *events: Event) -> None:
        """Write events, durably; raises ConfigError when that is impossible."""
        lines = b"".join(event.line() for event in events)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                _append_whole(descriptor, lines)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigError(f"history {self.path} cannot be written: {error.strerror}: free space there") from error

    def events(self) -> Iterator[Event]:
        """Give every event, oldest first; lines that are none (a torn one) are passed over. Raises ConfigError."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"history {self.path} cannot be read: {error.strerror}: give it back to us") from error
        yield from events_in(data)

    def add(self, lines: bytes) -> int:
        """Take in results from another host's history, each once, none from the future; give how many were new."""
        known = {event.line() for event in self.events()}
        latest = datetime.now(UTC) + SKEW  # one dated later would hide that none is found out any more
        results = (event for event in events_in(lines) if event.event in RESULTS and event.time <= latest)
        fresh = {event.line(): event for event in results if event.line() not in known}
        if fresh:
            self.append(*fresh.values())
        return len(fresh)

    def last_drills(self) -> dict[tuple[str, str], datetime]:
        """Give when each archive, by ids of repository and archive, was last drilled and passed."""
        return {
            (event.repository, event.archive_id): event.time
            for event in self.events()
            if event.event == "drilled" and event.verdict == "passed" and event.archive_id is not None
        }


def events_in(data: bytes) -> Iterator[Event]:
    """Give the events in a history's bytes."""
    decoder = msgspec.json.Decoder(Event)
    for line in data.splitlines():
        with contextlib.suppress(*UNREADABLE, OverflowError):
            event = decoder.decode(line)
            event.time.astimezone(UTC)  # in its own zone an instant can be the last of the calendar
            yield event


def _append_whole(descriptor: int, lines: bytes) -> None:
    """Append all of these lines or nothing, durably."""
    size = os.fstat(descriptor).st_size
    # A line that a crash cut short must not swallow the next one.
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    rest = memoryview(b"\n" + lines if torn else lines)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
