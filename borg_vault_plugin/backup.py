"""The story of a backup: lock, preflight, one staged set, one archive per repository, retention, report."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from borg_vault_plugin import plugins, preflight, retention
from borg_vault_plugin.archive import Series, SetName
from borg_vault_plugin.borg import Inventory, Repository
from borg_vault_plugin.config import Settings
from borg_vault_plugin.database import Source
from borg_vault_plugin.errors import Error, PreflightError, RepositoryError
from borg_vault_plugin.history import History
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.preflight import Estimate
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Backup, Continuity, Fate, Pruned, Pruning, Stored, snapshot_facts, staged_chain
from borg_vault_plugin.repositories import open_repositories
from borg_vault_plugin.snapshot import open_snapshot
from borg_vault_plugin.stage import Stage, Staged, stage
from borg_vault_plugin.staging import private_directory, sweep_staging
from borg_vault_plugin.stopwatch import Stopwatch
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
class Run:
    """One run of this set: whoever holds it holds the run lock."""

    settings: Settings
    request: Request
    series: Series
    history: History
    lock: int
    progress: Progress

    @property
    def keep(self) -> Mapping[str, int]:
        """The retention rule."""
        return self.request.keep or self.settings.sets.database.counts()


@dataclass(frozen=True, slots=True)
class Ready:
    """A repository that was looked into before the first byte, with what is in it."""

    repository: Repository
    inventory: Inventory


def create(settings: Settings, request: Request, progress: Progress = unseen) -> Backup:
    """Back up the database set: stage it once, store it in every repository, prune.

    Raises Error before anything is stored; a repository that fails later is in the report, and the others go on.
    """
    source = settings.source()
    for notice in source.notices:
        logger.info("%s", notice)
    series = Series(settings.label_for(source), request.set_name)
    manager = plugins.load_plugins(settings.plugins)
    watch = Stopwatch()
    with run_lock(settings.state_directory, series.prefix) as lock:
        run = Run(settings, request, series, settings.history(), lock, progress)
        place = settings.staging_parent / series.prefix
        sweep_staging(place)
        repositories = open_repositories(settings, request.repositories, pass_fds=(lock,))
        estimate = preflight.check_source(source)
        ready, failed = _make_ready(run, repositories, estimate)
        if request.dry_run:
            return _rehearse(run, source, ready, failed, watch)
        preflight.check_space(place, estimate.staged, "staging")
        with private_directory(place) as private:
            staged = stage(Stage(source, series, settings.database, manager, private, lock, estimate, progress), watch)
            with watch.phase("store"):
                stored = [_store(run, one, staged) for one in ready]
        with watch.phase("prune"):
            pruned = _prune_after(run, ready, stored)
    report = _report(staged, (*stored, *failed), pruned, watch)
    plugins.announce(manager, report)
    return report


def prune(settings: Settings, request: Request) -> Pruning:
    """Apply retention to the archives of the database set, under the run lock."""
    series = Series(settings.label_for(settings.source()), request.set_name)
    with run_lock(settings.state_directory, series.prefix) as lock:
        run = Run(settings, request, series, settings.history(), lock, unseen)
        repositories = open_repositories(settings, request.repositories, pass_fds=(lock,))
        outcomes = [_prune_one(run, repository) for repository in repositories]
    return Pruning(tuple(pruned for pruned, _ in outcomes), tuple(fate for _, fates in outcomes for fate in fates))


def _make_ready(run: Run, repositories: list[Repository], estimate: Estimate) -> tuple[list[Ready], list[Stored]]:
    """Look into each repository before the first byte is staged; when none is ready, raise what ails the first."""
    ready: list[Ready] = []
    failed: list[Stored] = []
    errors: list[Error] = []
    for repository in repositories:
        try:
            ready.append(_look_into(run, repository, estimate))
        except (RepositoryError, PreflightError) as error:
            errors.append(error)
            failed.append(Stored(repository.name, "failed", error=str(error)))
    if not ready:
        raise errors[0]
    for ailing in failed:
        logger.error("%s", ailing.error)
    return ready, failed


def _look_into(run: Run, repository: Repository, estimate: Estimate) -> Ready:
    inventory = repository.inventory()
    if not run.request.dry_run:
        sweep(repository, run.series, inventory, run.history)
    is_first = not any(run.series.owns(archive.name) for archive in inventory.archives)
    preflight.check_repository_space(repository, estimate, is_first=is_first)
    return Ready(repository, inventory)


def _store(run: Run, ready: Ready, staged: Staged) -> Stored:
    return store(
        ready.repository,
        ready.inventory.repository_id,
        staged,
        options=run.request.borg_options,
        history=run.history,
        progress=run.progress,
    )


def _prune_after(run: Run, ready: list[Ready], stored: list[Stored]) -> tuple[Pruned, ...]:
    """Prune where the new archive is safely stored, and nowhere else."""
    if not run.request.prune:
        return ()
    safe = {one.repository for one in stored if one.status == "stored"}
    return tuple(_prune_one(run, one.repository)[0] for one in ready if one.repository.name in safe)


def _prune_one(run: Run, repository: Repository) -> tuple[Pruned, tuple[Fate, ...]]:
    """Apply retention in one repository; one that fails is in the result, so that the others go on."""
    try:
        plan = retention.plan(repository, run.series, run.keep, run.history)
        if not run.request.dry_run:
            retention.apply(repository, run.series, run.keep, run.history, plan)
    except RepositoryError as error:
        logger.error("%s", error)
        return Pruned(repository.name, error=str(error)), ()
    return Pruned(repository.name, plan.names("remove"), plan.names("spare")), plan.fates


def _rehearse(run: Run, source: Source, ready: list[Ready], failed: list[Stored], watch: Stopwatch) -> Backup:
    """Say what a run would do: it takes the locks and the snapshot, and writes nothing."""
    lock_timeout = run.settings.database.lock_timeout
    with (
        tempfile.TemporaryDirectory(prefix="borg-vault-") as private,
        open_snapshot(source, lock_timeout=lock_timeout, private=Path(private), pass_fds=(run.lock,)) as snapshot,
    ):
        facts = snapshot.facts
    would_store = [Stored(one.repository.name, "would_store") for one in ready]
    pruned = [_prune_one(run, one.repository)[0] for one in ready] if run.request.prune else []
    return Backup(
        archive=run.series.name(facts.time),
        verdict="unverified",
        repositories=(*would_store, *failed),
        artifacts=(),
        counts={},
        chain=staged_chain((), ()),
        continuity=Continuity(),
        snapshot=snapshot_facts(facts),
        pruned=tuple(pruned),
        seconds=watch.total(),
    )


def _report(staged: Staged, stored: tuple[Stored, ...], pruned: tuple[Pruned, ...], watch: Stopwatch) -> Backup:
    manifest = staged.manifest
    return Backup(
        archive=manifest.archive,
        verdict=manifest.verdict,
        repositories=stored,
        artifacts=manifest.artifacts,
        counts=manifest.counts,
        chain=manifest.chain,
        continuity=manifest.continuity,
        snapshot=manifest.snapshot,
        pruned=pruned,
        seconds=watch.total(),
    )
