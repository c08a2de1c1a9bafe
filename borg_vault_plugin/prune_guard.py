"""`prune-guard`: would somebody else's `borg prune` hurt? Asked of Borg, with exactly its options, before it runs.

It would when it removes what our own retention spares, when it keeps nothing, when history does not explain what is in
the repository, or when nobody knows which archives are good. What it may remove stands in history afterwards, so that
whatever else disappears is noticed; in the repository nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from borg_vault_plugin import acceptance, ledger
from borg_vault_plugin.archive import Archive
from borg_vault_plugin.borg import Inventory, Planned, Pruning
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import recognised
from borg_vault_plugin.errors import RefusedError
from borg_vault_plugin.history import Event, happened_now
from borg_vault_plugin.report import Finding
from borg_vault_plugin.repositories import open_repositories
from borg_vault_plugin.retention import pinned, protections

ADVICE = {
    "newest good": "let it keep more, or find out why no newer one is good",
    "last verified": "verify a newer one first, with `borg-vault verify`",
    "last drilled": "drill a newer one first, with `borg-vault drill`",
}
PINNED = "unpin it first, with `borg-vault unpin`"


@dataclass(frozen=True, slots=True)
class Guarded:
    """The document of `prune-guard --json`: what a prune would do, and why it must not."""

    repository: str
    allowed: bool
    looked_at: int
    """How many archives the prune looks at."""
    removes: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Archives that history does not explain and nobody has accepted."""

    @property
    def exit_code(self) -> int:
        """The exit code of the run."""
        return 0 if self.allowed else RefusedError.exit_code


@dataclass(frozen=True, slots=True)
class Plan:
    """What a prune would do in one repository, by the ids of the archives; `inventory` tells what each holds."""

    inventory: Inventory
    planned: Mapping[str, Planned]

    def removed(self) -> tuple[Archive, ...]:
        """Give the archives that would go."""
        return tuple(one for one in self.inventory.archives if one.id in self.planned and not self._keeps(one))

    def is_kept_elsewhere(self, archive: Archive) -> bool:
        """Whether another archive with the same set stays."""
        digest = archive.described.get("manifest")
        others = (one for one in self.inventory.archives if one.described.get("manifest") == digest)
        return digest is not None and any(one.id not in self.planned or self._keeps(one) for one in others)

    def _keeps(self, archive: Archive) -> bool:
        return self.planned[archive.id].kept_by is not None


def guard(settings: Settings, name: str, pruning: Pruning) -> Guarded:
    """Say whether a prune would hurt in a repository. Raises RepositoryError."""
    if pruning.keeps_nothing:
        return Guarded(
            name, allowed=False, looked_at=0, removes=(), reasons=("it would keep nothing: say what to keep",)
        )
    (repository,) = open_repositories(settings, (name,))
    inventory = repository.inventory()
    planned = repository.prune_plan_of(pruning.words())
    findings = _unexplained(settings, name, inventory, planned)
    plan = Plan(recognised(inventory, settings.history()), planned)
    reasons = tuple(_reasons(settings, plan))
    allowed = not reasons and not findings
    if allowed:
        _remember(settings, inventory, plan, pruning)
    removes = tuple(one.name for one in plan.removed())
    return Guarded(name, allowed=allowed, looked_at=len(planned), removes=removes, reasons=reasons, findings=findings)


def _unexplained(
    settings: Settings, name: str, inventory: Inventory, planned: Mapping[str, Planned]
) -> tuple[Finding, ...]:
    """Give what history does not explain, of our archives and of those that others made, and nobody has accepted."""
    history, now = settings.history(), datetime.now(UTC)
    events = tuple(history.events())
    found = {one.id: one for one in ledger.check_others(inventory, planned, events, now)}
    for set_name in settings.sets.configured:
        found |= {one.id: one for one in ledger.check(inventory, settings.series(set_name), events, now)}
    acceptance.remember(history, f"prune in {name}", found.values())
    return acceptance.still_open(acceptance.marked(found.values(), acceptance.accepted_findings(history)))


def _reasons(settings: Settings, plan: Plan) -> Iterator[str]:
    """Say why a plan must not be carried out."""
    removed, events = plan.removed(), tuple(settings.history().events())
    protected: dict[str, str] = {}
    for set_name in settings.sets.configured:
        series = settings.series(set_name)
        ours = [one for one in plan.inventory.archives if series.owns(one.title)]
        protected |= protections(ours, events, plan.inventory.repository_id)
    if removed and not protected:
        yield "no archive in it is known to hold a set: nobody can say which are good: run `borg-vault confirm` first"
    protected |= pinned(events)
    for archive in (one for one in removed if one.id in protected):
        why = protected[archive.id]
        if why not in ADVICE:
            yield f"it would remove {archive.name}, {why}: {PINNED}"
        elif not plan.is_kept_elsewhere(archive):
            yield f"it would remove {archive.name}, the {why} one: {ADVICE[why]}"


def _remember(settings: Settings, inventory: Inventory, plan: Plan, pruning: Pruning) -> None:
    """Note which of ours may go now, and which are still there although they might have gone before."""
    history = settings.history()
    known = ledger.others_known(inventory, history.events())
    series = [settings.series(name) for name in settings.sets.configured]
    removed = {one.id for one in plan.removed()}
    notes: list[Event] = []
    for archive in plan.inventory.archives:
        happening: Literal["removing", "adopted"] = "removing" if archive.id in removed else "adopted"
        is_back = archive.id in known.leaving and archive.id not in known.present
        if any(of.owns(archive.title) for of in series) and (archive.id in removed or is_back):
            reason = f"another program keeps {' '.join(pruning.words())}" if archive.id in removed else None
            about = (archive.name, plan.inventory.repository_id)
            notes.append(happened_now(happening, *about, archive_id=archive.id, reason=reason))
    if notes:
        history.append(*notes)
