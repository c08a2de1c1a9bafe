"""The story of a backup: lock, preflight, one staged set, one archive per repository, retention, report."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path

import pluggy

from borg_vault_plugin import acceptance, plugins, preflight
from borg_vault_plugin.archive import Series
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import recognised
from borg_vault_plugin.database import Source
from borg_vault_plugin.delivery import (
    Ready,
    Request,
    Run,
    deliver,
    make_ready,
    prune_after,
    prune_all,
    remember,
)
from borg_vault_plugin.gate import Rules
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.monitoring.watch import watched
from borg_vault_plugin.predecessor import find_predecessors
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Backup, Continuity, Pruning, Stored, snapshot_facts, staged_chain
from borg_vault_plugin.snapshot import open_snapshot
from borg_vault_plugin.split import refuse_together
from borg_vault_plugin.stage import Stage, stage
from borg_vault_plugin.staging import private_directory, sweep_staging
from borg_vault_plugin.stopwatch import Stopwatch

logger = logging.getLogger(__name__)


def create(settings: Settings, request: Request, progress: Progress = unseen) -> Backup:
    """Back up the database set: stage it once, store it in every repository, prune.

    Raises Error before anything is stored; a repository that fails later is in the report, and the others go on.
    """
    work = partial(_create, settings, request, progress)
    return work(plugins.load_plugins(settings)) if request.dry_run else watched(settings, request.set_name, work)


def prune(settings: Settings, request: Request) -> Pruning:
    """Apply retention to the archives of one set, under the run lock."""
    series = settings.series(request.set_name)
    with run_lock(settings.state_directory, series.prefix) as lock:
        run = Run(settings, request, series, settings.history(), lock, unseen)
        outcomes = prune_all(run)
    return Pruning(tuple(pruned for pruned, _ in outcomes), tuple(fate for _, fates in outcomes for fate in fates))


def _create(settings: Settings, request: Request, progress: Progress, manager: pluggy.PluginManager) -> Backup:
    refuse_together(settings)
    source = settings.source()
    for notice in source.notices:
        logger.info("%s", notice)
    series = Series(settings.label_for(source), request.set_name)
    watch = Stopwatch()
    with run_lock(settings.state_directory, series.prefix) as lock:
        run = Run(settings, request, series, settings.history(), lock, progress)
        place = settings.staging_parent / series.prefix
        sweep_staging(place)
        repositories = run.repositories()
        estimate = preflight.check_source(source, dumps=settings.database.dumps)
        ready, failed = make_ready(run, repositories, estimate)
        if request.dry_run:
            return _rehearse(run, source, ready, failed, watch)
        preflight.check_space(place, estimate.staged, "staging")
        with private_directory(place) as private:
            rules = _rules(run, ready, private)
            database, allow = settings.database, settings.allow
            plan = Stage(source, series, database, manager, private, lock, estimate, rules, progress, allow)
            staged = stage(plan, watch)
            with watch.phase("store"):
                stored, holding = deliver(run, ready, staged)
            remember(run, staged, stored)
        with watch.phase("prune"):
            pruned = prune_after(run, holding)
    return staged.manifest.report(watch.total(), (*stored, *failed), pruned)


def _rules(run: Run, ready: list[Ready], private: Path) -> Rules:
    """Say what tonight's set is held against."""
    looked_into = [(one.repository, recognised(one.inventory, run.history)) for one in ready]
    word = acceptance.word_of(run.history, run.series)
    predecessors = find_predecessors(looked_into, run.series, run.evidence, private, word)
    return Rules(predecessors, word.accepted, run.settings.trust_anchors)


def _rehearse(run: Run, source: Source, ready: list[Ready], failed: list[Stored], watch: Stopwatch) -> Backup:
    """Say what a run would do: it takes the locks and the snapshot, and writes nothing."""
    lock_timeout = run.settings.database.lock_timeout
    with (
        tempfile.TemporaryDirectory(prefix="borg-vault-") as private,
        open_snapshot(source, lock_timeout=lock_timeout, private=Path(private), pass_fds=(run.lock,)) as snapshot,
    ):
        facts = snapshot.facts
    would_store = [Stored(one.repository.name, "would_store") for one in ready]
    pruned = prune_after(run, ready)
    return Backup(
        archive=run.series.name(facts.time),
        verdict="unverified",
        repositories=(*would_store, *failed),
        artifacts=(),
        counts={},
        chain=staged_chain(()),
        continuity=Continuity(),
        snapshot=snapshot_facts(facts),
        pruned=pruned,
        seconds=watch.total(),
    )
