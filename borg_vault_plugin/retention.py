"""Retention: which archives of a series go, by Borg's own rules, less those that must never go.

Borg's `prune --dry-run --list` with the exact pattern is the plan. The newest good, the last verified, the last
drilled and the pinned archives are spared in addition to the rule and do not count against it. With nothing spared
Borg prunes as it planned; else the rest is deleted by name. What is freed is compacted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from borg_vault_plugin.archive import Archive, Series
from borg_vault_plugin.borg import Inventory, Repository
from borg_vault_plugin.history import Event, History, happened_now
from borg_vault_plugin.report import Action, Fate

logger = logging.getLogger(__name__)

LAST_EVENTS = {"verified": "last verified", "drilled": "last drilled"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What retention will do in one repository."""

    repository_id: str
    archives: tuple[Archive, ...]
    fates: tuple[Fate, ...]

    def names(self, action: Action) -> tuple[str, ...]:
        """Give the names of the archives with this fate."""
        return tuple(fate.archive for fate in self.fates if fate.action == action)


def plan(
    repository: Repository, inventory: Inventory, series: Series, keep: Mapping[str, int], history: History
) -> Plan:
    """Say for every plainly named archive of a series whether it stays, and why. Raises RepositoryError."""
    planned = repository.prune_plan(series.glob, keep)
    archives = tuple(archive for archive in inventory.archives if archive.id in planned)
    protected = protections(archives, history.events(), inventory.repository_id)
    fates = tuple(
        _fate(repository.name, archive, planned[archive.id].kept_by, protected.get(archive.id)) for archive in archives
    )
    return Plan(inventory.repository_id, archives, fates)


def apply(repository: Repository, series: Series, keep: Mapping[str, int], history: History, planned: Plan) -> None:
    """Remove what a plan removes, remember it, and free the space. Raises RepositoryError."""
    removed = planned.names("remove")
    if not removed:
        return
    going = [archive for archive in planned.archives if archive.name in removed]
    # Said before it is done: whoever is killed in between must not suspect a stranger.
    history.append(*(_removal("removing", planned.repository_id, archive, keep) for archive in going))
    if planned.names("spare"):
        repository.delete(removed)
    else:
        repository.prune(series.glob, keep)
    for archive in going:
        logger.info("removed %s from %s", archive.name, repository.name)
        history.append(_removal("removed", planned.repository_id, archive, keep))
    repository.compact()


def protections(archives: Iterable[Archive], events: Iterable[Event], repository_id: str) -> dict[str, str]:
    """Give the ids of the archives that must never go, each with the reason."""
    present = {archive.id: archive for archive in archives}
    about = [one for one in events if one.repository == repository_id and one.archive_id in present]
    last: dict[str, str] = {}
    for event in about:
        if event.event in LAST_EVENTS and event.archive_id and event.verdict in (None, "good", "passed"):
            last[event.event] = event.archive_id
    reasons = pinned(about)
    reasons |= {archive_id: LAST_EVENTS[event] for event, archive_id in last.items()}
    good = [archive for archive in present.values() if archive.verdict == "good"] or list(present.values())
    if good:
        reasons[max(good, key=lambda archive: (archive.time, archive.name)).id] = "newest good"
    return reasons


def pinned(events: Iterable[Event]) -> dict[str, str]:
    """Give the ids of the archives that an operator has pinned, each with the reason."""
    reasons: dict[str, str] = {}
    for event in events:
        if event.event == "pinned" and event.archive_id:
            reasons[event.archive_id] = f"pinned: {event.reason}"
        elif event.event == "unpinned" and event.archive_id:
            reasons.pop(event.archive_id, None)
    return reasons


def rule_text(keep: Mapping[str, int]) -> str:
    """Say a rule in words."""
    units = {
        "keep": "newest",
        "keep_daily": "daily",
        "keep_weekly": "weekly",
        "keep_monthly": "monthly",
        "keep_yearly": "yearly",
    }
    return ", ".join(f"{count} {units[name]}" for name, count in keep.items())


def _fate(repository: str, archive: Archive, kept_by: str | None, protected: str | None) -> Fate:
    if kept_by is not None:
        return Fate(repository, archive.name, "keep", kept_by)
    if protected is not None:
        return Fate(repository, archive.name, "spare", protected)
    return Fate(repository, archive.name, "remove", "no rule keeps it")


def _removal(
    happening: Literal["removing", "removed"], repository_id: str, archive: Archive, keep: Mapping[str, int]
) -> Event:
    reason = f"retention keeps {rule_text(keep)}"
    return happened_now(happening, archive.name, repository_id, archive_id=archive.id, reason=reason)
