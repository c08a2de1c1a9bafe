"""History: what happened to our archives, one JSON object per line, only ever appended to.

An intent is written before Borg runs and its result after, so that a run that was killed in between can be told apart
from somebody else's archive. Losing the file loses the memory of what was removed, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from borg_vault_plugin.errors import ConfigError

Happening = Literal["intended", "created", "removed", "swept", "verified", "drilled", "pinned", "unpinned"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to one archive; `repository` is Borg's id of the repository, in hex."""

    time: datetime
    event: Happening
    repository: str
    archive: str
    archive_id: str | None = None
    manifest: str | None = None
    verdict: str | None = None
    reason: str | None = None
    """For a removal the rule, for a pin what its operator said."""


@dataclass(frozen=True, slots=True)
class History:
    """The history of this host, in a file."""

    path: Path

    def append(self, event: Event) -> None:
        """Write one event, durably; raises ConfigError when that is impossible."""
        line = msgspec.json.encode(event) + b"\n"
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                _append_whole(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigError(f"history {self.path} cannot be written: {error.strerror}: free space there") from error

    def events(self) -> Iterator[Event]:
        """Give every event, oldest first; lines that are none (a torn one) are passed over."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        decoder = msgspec.json.Decoder(Event)
        for line in lines:
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError:
                continue


def _append_whole(descriptor: int, line: bytes) -> None:
    """Append all of a line or nothing, durably."""
    size = os.fstat(descriptor).st_size
    # A line that a crash cut short must not swallow the next one.
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    rest = memoryview(b"\n" + line if torn else line)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
