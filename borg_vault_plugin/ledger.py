"""The ledger: what is in a repository against what history knows, asked before anything is pruned.

Retention chooses by names and dates, and whoever can add or remove archives chooses with it: one that is dated in the
future pushes a good one out, one that disappeared is no longer counted. So nothing is pruned while there is an archive
that history does not explain, until an operator does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from borg_vault_plugin.archive import Archive, Series
from borg_vault_plugin.borg import Inventory
from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.history import SKEW, Event, History, happened_now
from borg_vault_plugin.report import Finding

MADE = ("intended", "created", "adopted")
PRESENT = ("created", "adopted", "confirmed")
GONE = ("removing", "removed")


@dataclass(slots=True)
class Known:
    """What history knows of one repository."""

    seen: bool = False
    present: dict[str, Event] = field(default_factory=dict)
    """Archives that should be there, by id."""
    leaving: set[str] = field(default_factory=set)
    """Ids of those that a run of ours meant to remove: they may be there or not."""
    intents: dict[str, set[str | None]] = field(default_factory=dict)
    """Digests of the manifests that were to be stored, by the archive's name."""


def check(inventory: Inventory, series: Series, events: Iterable[Event], now: datetime) -> Iterator[Finding]:
    """Report every archive of a series that history does not explain."""
    known = _known(_made_in(inventory, series), events)
    ours = [archive for archive in inventory.archives if series.owns(archive.name)]
    there, names = {archive.id for archive in ours}, {archive.name: archive for archive in ours}
    for event in known.present.values():
        if event.archive_id not in there:
            yield _missing(event, names.get(event.archive))
    expected = {event.archive for event in known.present.values()}
    for archive in ours:
        if archive.time > now + SKEW:
            yield _finding(Code.RETENTION_ARCHIVE_FUTURE, archive, f"is dated {archive.time:%Y-%m-%d %H:%M:%SZ}")
        if (
            known.seen
            and archive.id not in known.present
            and archive.id not in known.leaving
            and archive.name not in expected
            and not _intended(archive, known)
        ):
            yield _finding(Code.RETENTION_ARCHIVE_UNKNOWN, archive, "no run of this host made it")


def check_others(
    inventory: Inventory, planned: Collection[str], events: Iterable[Event], now: datetime
) -> Iterator[Finding]:
    """Report what history does not explain of archives that other programs made.

    `planned` are the ids of those that a prune looks at: whatever they hold, one from the future pushes another out.
    """
    known = others_known(inventory, events)
    there, names = {one.id for one in inventory.archives}, {one.name: one for one in inventory.archives}
    for event in known.present.values():
        if event.archive_id not in there:
            yield _missing(event, names.get(event.archive))
    for archive in inventory.archives:
        if archive.id in planned and archive.time > now + SKEW:
            yield _finding(Code.RETENTION_ARCHIVE_FUTURE, archive, f"is dated {archive.time:%Y-%m-%d %H:%M:%SZ}")


def others_known(inventory: Inventory, events: Iterable[Event]) -> Known:
    """Give what history knows of the archives that other programs made and that were confirmed."""
    mine = [event for event in events if event.repository == inventory.repository_id]
    confirmed = {event.archive_id for event in mine if event.event == "confirmed"}
    return _known(lambda event: event.archive_id in confirmed, mine)


def adopt(inventory: Inventory, series: Series, history: History) -> None:
    """Note all archives of a repository that this host sees for the first time: from now on they are known."""
    if _known(_made_in(inventory, series), history.events()).seen:
        return
    ours = [archive for archive in inventory.archives if series.owns(archive.name)]
    if ours:
        history.append(*(_adoption(inventory.repository_id, archive) for archive in ours))


def _adoption(repository_id: str, archive: Archive) -> Event:
    return happened_now("adopted", archive.name, repository_id, archive_id=archive.id, verdict=archive.verdict)


def _made_in(inventory: Inventory, series: Series) -> Callable[[Event], bool]:
    return lambda event: event.repository == inventory.repository_id and series.owns(event.archive)


def _known(is_about: Callable[[Event], bool], events: Iterable[Event]) -> Known:
    known = Known()
    for event in events:
        if not is_about(event):
            continue
        known.seen = known.seen or event.event in MADE
        if event.event == "intended":
            known.intents.setdefault(event.archive, set()).add(event.manifest)
        elif event.event in PRESENT and event.archive_id is not None:
            known.present[event.archive_id] = event
        elif event.event in GONE and event.archive_id is not None:
            known.present.pop(event.archive_id, None)
            if event.event == "removing":
                known.leaving.add(event.archive_id)
    return known


def _intended(archive: Archive, known: Known) -> bool:
    """Whether a run of ours meant to make this archive and was killed before it could say that it did."""
    digest = archive.described.get("manifest", "").removeprefix("sha256:")
    return digest in known.intents.get(archive.name, set())


def _missing(event: Event, other: Archive | None) -> Finding:
    where = f"archive {event.archive}"
    if other is not None:
        detail = f"has the id {other.id}, history knows {event.archive_id}"
        return Finding(Code.RETENTION_ARCHIVE_CHANGED, where, detail)
    detail = f"of {event.time:%Y-%m-%d %H:%M:%SZ} is gone, and no run of this host removed it ({event.archive_id})"
    return Finding(Code.RETENTION_ARCHIVE_MISSING, where, detail)


def _finding(code: Code, archive: Archive, detail: str) -> Finding:
    return Finding(code, f"archive {archive.name}", f"{detail} ({archive.id})")
