"""From a sealed set to archives: the repositories of a run, what is stored in each, and retention there.

A set is staged once and the same bytes go into every repository. One that fails never stops the others.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from borg_vault_plugin import acceptance, ledger, preflight, retention, split
from borg_vault_plugin.archive import Series, SetName
from borg_vault_plugin.borg import Inventory, Repository, open_repository
from borg_vault_plugin.config import Settings
from borg_vault_plugin.errors import ConfigError, Error, PreflightError, RepositoryError
from borg_vault_plugin.history import History
from borg_vault_plugin.manifest import FilesManifest, Manifest, Staged
from borg_vault_plugin.predecessor import Evidence
from borg_vault_plugin.preflight import Estimate
from borg_vault_plugin.progress import Progress
from borg_vault_plugin.report import Fate, Finding, Pruned, Stored
from borg_vault_plugin.store import store, sweep

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What one run was asked to do beyond the configuration."""

    set_name: SetName = "database"
    repositories: tuple[str, ...] = ()
    keep: Mapping[str, int] | None = None
    prune: bool = True
    dry_run: bool = False
    borg_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """The repositories of a run, and by their names what keeps others from being opened."""

    repositories: tuple[Repository, ...]
    errors: dict[str, Error]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a set: whoever holds it holds the run lock."""

    settings: Settings
    request: Request
    series: Series
    history: History
    lock: int
    progress: Progress

    @property
    def evidence(self) -> Evidence:
        """What this host keeps of the archives that it made."""
        return Evidence(self.settings.evidence_directory)

    def keep(self, repository: Repository) -> Mapping[str, int]:
        """Give the retention rule in one repository."""
        return self.request.keep or self.settings.keep_rule(self.request.set_name, repository.name)

    def repositories(self) -> Opened:
        """Open the repositories that were asked for, or all that the set goes to.

        One whose passphrase cannot be had is among the errors; when that is so of all, it is raised.
        """
        names = self.request.repositories or self.settings.repository_names(self.request.set_name)
        opened: list[Repository] = []
        errors: dict[str, Error] = {}
        for name, repository in self.settings.repositories_named(names).items():
            try:
                opened.append(open_repository(name, repository, pass_fds=(self.lock,)))
            except ConfigError as error:
                errors[name] = error
        if not opened:
            raise _together(errors)
        return Opened(tuple(opened), errors)


@dataclass(frozen=True, slots=True)
class Ready:
    """A repository that was looked into, with what is in it."""

    repository: Repository
    inventory: Inventory


def make_ready(run: Run, opened: Opened, estimate: Estimate) -> tuple[list[Ready], list[Stored]]:
    """Look into each repository before the first byte is staged; when none is ready, raise what ails them."""
    ready: list[Ready] = []
    errors = dict(opened.errors)
    for repository in opened.repositories:
        try:
            ready.append(_look_into(run, repository, estimate))
        except (RepositoryError, PreflightError) as error:
            errors[repository.name] = error
    if not ready:
        raise _together(errors)
    for ailing in errors.values():
        logger.error("%s", ailing)
    return ready, [Stored(name, "failed", error=str(error)) for name, error in errors.items()]


def _together(errors: dict[str, Error]) -> Error:
    """Make one error of what ails several repositories."""
    first, *_ = errors.values()
    return type(first)("; ".join(map(str, errors.values())))


def deliver(
    run: Run, ready: list[Ready], staged: Staged[Manifest] | Staged[FilesManifest]
) -> tuple[list[Stored], list[Ready]]:
    """Store a set in every repository that is ready, and give those that hold it now."""
    outcomes: list[Stored] = []
    holding: list[Ready] = []
    for one in ready:
        stored, inventory = store(
            one.repository,
            one.inventory.repository_id,
            staged,
            options=run.request.borg_options,
            history=run.history,
            progress=run.progress,
        )
        outcomes.append(stored)
        holding += [Ready(one.repository, inventory)] if inventory is not None else []
    return outcomes, holding


def remember(run: Run, staged: Staged[Manifest], stored: list[Stored]) -> None:
    """Keep what the next night needs: what was found, and the evidence of a good set that is stored somewhere."""
    manifest = staged.manifest
    acceptance.remember(run.history, manifest.archive, manifest.findings)
    if manifest.verdict == "good" and any(one.status == "stored" for one in stored):
        run.evidence.keep(staged.directory)


def prune_after(run: Run, ready: list[Ready]) -> tuple[Pruned, ...]:
    """Prune, if that was asked for, in repositories that hold what the run made."""
    return tuple(prune_one(run, one.repository, one.inventory)[0] for one in ready if run.request.prune)


def prune_all(run: Run) -> list[tuple[Pruned, tuple[Fate, ...]]]:
    """Apply retention in every repository of a run."""
    opened = run.repositories()
    unopened = [(Pruned(name, error=str(error)), ()) for name, error in opened.errors.items()]
    return [*(prune_one(run, repository) for repository in opened.repositories), *unopened]


def prune_one(run: Run, repository: Repository, inventory: Inventory | None = None) -> tuple[Pruned, tuple[Fate, ...]]:
    """Apply retention in one repository; one that fails or refuses is in the result, so that the others go on."""
    if repository.settings.append_only:
        logger.info("repository %s is append-only: nothing is pruned there", repository.name)
        return Pruned(repository.name, skipped="append-only"), ()
    keep = run.keep(repository)
    try:
        inventory = inventory or repository.inventory()
        refused = _unexplained(run, repository.name, inventory)
        if refused:
            return Pruned(repository.name, refused=refused), ()
        plan = retention.plan(repository, inventory, run.series, keep, run.history)
        if not run.request.dry_run:
            retention.apply(repository, run.series, keep, run.history, plan)
    except RepositoryError as error:
        logger.error("%s", error)
        return Pruned(repository.name, error=str(error)), ()
    return Pruned(repository.name, plan.names("remove"), plan.names("spare")), plan.fates


def _look_into(run: Run, repository: Repository, estimate: Estimate) -> Ready:
    inventory = repository.inventory()
    split.refuse_same_repository(
        run.settings, run.request.set_name, repository.name, inventory.repository_id, inventory.archives
    )
    if not run.request.dry_run:
        ledger.adopt(inventory, run.series, run.history)
        sweep(repository, run.series, inventory, run.history)
    is_first = not any(run.series.owns(archive.name) for archive in inventory.archives)
    preflight.check_repository_space(repository, estimate, is_first=is_first)
    return Ready(repository, inventory)


def _unexplained(run: Run, repository: str, inventory: Inventory) -> tuple[Finding, ...]:
    """Give the archives that history does not explain and nobody has accepted: they stop retention."""
    if not run.request.dry_run:
        ledger.adopt(inventory, run.series, run.history)
    found = tuple(ledger.check(inventory, run.series, run.history.events(), datetime.now(UTC)))
    acceptance.remember(run.history, f"{run.series.prefix} in {repository}", found)
    open_findings = acceptance.still_open(acceptance.marked(found, acceptance.accepted_findings(run.history)))
    for finding in open_findings:
        logger.error("retention in %s: %s %s [id %s]", repository, finding.where, finding.detail, finding.id)
    return open_findings
