"""What a dump looks like from afar, for people: its entries day by day, and how each signing key was used.

Nothing is verified here; a profile says what the rows claim. It holds so many days and keys and not more, whatever a
dump contains: the rest is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import msgspec

from borg_vault_plugin.chain.entries import LONGEST_SHOWN, shown
from borg_vault_plugin.chain.rows import Era, RegistryRow
from borg_vault_plugin.chain.source import DumpFile, dump_files, open_rows
from borg_vault_plugin.chain.times import EPOCH, milliseconds

MOST_DAYS = 10_000
MOST_KEYS = 1_000
DAY = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A signing key as the registry lists it, and the entries that name it; instants in milliseconds since 1970."""

    key_id: str
    algorithm: str
    status: str
    activated: int | None
    """None: no lower bound, or unreadable."""
    retired: int | None
    """None: no upper bound, or unreadable."""
    entries: int = 0
    first: int | None = None
    """When the first of these entries was written; None when there is none with a readable time."""
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """Counts of a dump's entries; every entry is in exactly one of days, other_days and undated."""

    entries: int
    days: tuple[tuple[date, int], ...]
    """Entries of each UTC day that has any, oldest first; at most MOST_DAYS."""
    other_days: int
    """Entries of days beyond that limit."""
    undated: int
    """Entries whose time of writing is not readable."""
    first: int | None
    """When the first entry was written, in milliseconds since 1970."""
    last: int | None
    keys: tuple[KeyUse, ...]
    """The registry, oldest activation first; at most MOST_KEYS."""
    other_keys: int
    """Rows of the registry that are not among `keys`: beyond the limit, or without a key id."""
    unnamed: int
    """Entries that name no key."""
    unknown: int
    """Entries that name a key that is not among `keys`."""


class Written(msgspec.Struct, frozen=True, gc=False):
    """The two columns of audit_vault that a profile needs."""

    signing_key_id: object = None
    created_at: object = None


@dataclass(slots=True)
class Uses:
    """How often something occurred, and when first and last."""

    entries: int = 0
    first: int | None = None
    last: int | None = None

    def count(self, instant: int | None) -> None:
        """Count an entry written at that instant, if it is known."""
        self.entries += 1
        if instant is not None:
            self.first = instant if self.first is None or instant < self.first else self.first
            self.last = instant if self.last is None or instant > self.last else self.last


@dataclass(slots=True)
class Counts:
    """What has been counted so far."""

    keys: Mapping[str, Uses]
    days: Counter[int] = field(default_factory=Counter)
    """By the number of the day since 1970."""
    all: Uses = field(default_factory=Uses)
    other_days: int = 0
    undated: int = 0
    unnamed: int = 0
    unknown: int = 0

    def count(self, row: Written) -> None:
        """Count an entry."""
        instant = milliseconds(row.created_at)
        self.all.count(instant)
        self._count_day(instant)
        # The first era also wrote an empty text for no key.
        if row.signing_key_id is None or row.signing_key_id == "":
            self.unnamed += 1
        elif isinstance(row.signing_key_id, str) and row.signing_key_id in self.keys:
            self.keys[row.signing_key_id].count(instant)
        else:
            self.unknown += 1

    def _count_day(self, instant: int | None) -> None:
        if instant is None:
            self.undated += 1
        elif (day := instant // DAY) in self.days or len(self.days) < MOST_DAYS:
            self.days[day] += 1
        else:
            self.other_days += 1


def profile_of(directory: Path, era: Era | None) -> Profile:
    """Read a dump once and count what it holds. Raises NotCheckedError when a file is missing or not readable."""
    _, files = dump_files(directory, era)
    registry, other_keys = _registry(files["vault_signing_keys"])
    counts = Counts({key_id: Uses() for key_id in registry})
    with open_rows(files["audit_vault"], Written) as source:
        for row in source.rest():
            counts.count(row)
    keys = (
        replace(key, entries=uses.entries, first=uses.first, last=uses.last)
        for key, uses in zip(registry.values(), counts.keys.values(), strict=True)
    )
    return Profile(
        entries=counts.all.entries,
        days=tuple((EPOCH.date() + timedelta(days=day), counts.days[day]) for day in sorted(counts.days)),
        other_days=counts.other_days,
        undated=counts.undated,
        first=counts.all.first,
        last=counts.all.last,
        keys=tuple(sorted(keys, key=_age)),
        other_keys=other_keys,
        unnamed=counts.unnamed,
        unknown=counts.unknown,
    )


def _registry(dump_file: DumpFile) -> tuple[dict[str, KeyUse], int]:
    """Give the keys by their id, of two with one id the later, and how many other rows there are."""
    keys: dict[str, KeyUse] = {}
    others = 0
    with open_rows(dump_file, RegistryRow) as source:
        for row in source.rest():
            key = _unused_key(row)
            if key is not None and (key.key_id in keys or len(keys) < MOST_KEYS):
                keys[key.key_id] = key
            else:
                others += 1
    return keys, others


def _unused_key(row: RegistryRow) -> KeyUse | None:
    """Give a row's key, its columns cut to what can be shown; None when its id is none, or longer than any is."""
    if not isinstance(row.key_id, str) or len(row.key_id) > LONGEST_SHOWN:
        return None
    return KeyUse(
        key_id=row.key_id,
        algorithm=shown(row.algorithm),
        status=shown(row.status),
        activated=milliseconds(row.activated_at),
        retired=milliseconds(row.retired_at),
    )


def _age(key: KeyUse) -> tuple[bool, int, str]:
    """Sort by activation; keys without one come first, as those that were always valid."""
    return key.activated is not None, key.activated or 0, key.key_id
