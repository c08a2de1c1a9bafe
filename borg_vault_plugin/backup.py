"""The story of a backup: lock, snapshot, hooks, staging, seal, one archive per repository, retention, report."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pluggy

from borg_vault_plugin import plugins, retention
from borg_vault_plugin.archive import PARTIAL, Archive, Series, Verdict, comment
from borg_vault_plugin.borg import Repository, Storing
from borg_vault_plugin.config import Settings
from borg_vault_plugin.database import Source
from borg_vault_plugin.errors import RepositoryError
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.manifest import FORMAT, Manifest, Sealed, program_version, seal
from borg_vault_plugin.report import (
    Backup,
    Continuity,
    Pruned,
    Pruning,
    Stored,
    chain_counts,
    snapshot_facts,
    unverified_chain,
)
from borg_vault_plugin.repositories import open_repositories
from borg_vault_plugin.snapshot import Facts, open_snapshot
from borg_vault_plugin.staging import Artifact, Staging, check_complete, private_directory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What one `create` was asked to do beyond the configuration."""

    repositories: tuple[str, ...] = ()
    keep: Mapping[str, int] | None = None
    prune: bool = True
    dry_run: bool = False
    borg_options: tuple[str, ...] = ()


@dataclass
class Stopwatch:
    """Seconds by phase of a run."""

    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("stage", "verify", "store", "prune"), 0.0))

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside to one phase."""
        begun = time.monotonic()
        yield
        self.seconds[name] += round(time.monotonic() - begun, 3)

    def total(self) -> dict[str, float]:
        """Give all phases and the whole."""
        return self.seconds | {"total": round(time.monotonic() - self.started, 3)}


@dataclass(frozen=True, slots=True)
class Staged:
    """What a run staged: the manifest and every file, sealed."""

    manifest: Manifest
    sealed: Sealed
    directory: Path


def create(settings: Settings, request: Request) -> Backup:
    """Back up the database set: stage it once, store it in every repository, prune.

    Raises Error before anything is stored; a repository that fails later is in the report, and the others go on.
    """
    source = settings.source()
    for notice in source.notices:
        logger.info("%s", notice)
    series = Series(settings.label_for(source), "database")
    manager = plugins.load_plugins(settings.plugins)
    watch = Stopwatch()
    with run_lock(settings.state_directory, series.prefix) as lock:
        repositories = open_repositories(settings, request.repositories, pass_fds=(lock,))
        reachable, unreachable = _look_into(repositories, series)
        with private_directory(settings.staging_parent) as private:
            with watch.phase("stage"):
                staged = _stage(settings, source, series, manager, private, lock, dry_run=request.dry_run)
            with watch.phase("store"):
                stored = [_store(repository, staged, request) for repository in reachable]
        with watch.phase("prune"):
            pruned = _prune(settings, series, reachable, stored, request)
    report = _report(staged, (*stored, *unreachable), pruned, watch)
    plugins.announce(manager, report)
    return report


def _look_into(repositories: list[Repository], series: Series) -> tuple[list[Repository], list[Stored]]:
    """Open each repository before the first byte is staged, and sweep what a killed run left in it."""
    reachable: list[Repository] = []
    unreachable: list[Stored] = []
    for repository in repositories:
        try:
            _sweep(repository, series, repository.archives())
            reachable.append(repository)
        except RepositoryError as error:
            if repository is repositories[-1] and not reachable:
                raise
            logger.error("%s", error)
            unreachable.append(Stored(repository.name, "failed", error=str(error)))
    return reachable, unreachable


def _sweep(repository: Repository, series: Series, archives: list[Archive]) -> None:
    leftovers = [one.name for one in archives if one.name.endswith(PARTIAL) and series.owns(one.name.removesuffix(PARTIAL))]
    if leftovers:
        logger.info("removing %s from %s, left by a run that was cut short", ", ".join(leftovers), repository.name)
        repository.delete(leftovers)


def _stage(
    settings: Settings,
    source: Source,
    series: Series,
    manager: pluggy.PluginManager,
    private: Path,
    lock: int,
    *,
    dry_run: bool,
) -> Staged:
    directory = private / "set"
    directory.mkdir(mode=0o700)
    with open_snapshot(
        source, lock_timeout=settings.database.lock_timeout, private=private, pass_fds=(lock,)
    ) as snapshot:
        logger.info(
            "database %s, PostgreSQL %s, snapshot of %s",
            snapshot.facts.database, snapshot.facts.server_version, f"{snapshot.facts.time:%Y-%m-%d %H:%M:%SZ}",
        )  # fmt: skip
        artifacts = []
        if not dry_run:
            artifacts = plugins.collect(
                manager, snapshot, Staging(directory, "borg-vault"), timeout=settings.database.timeout
            )
    check_complete(directory, artifacts)
    manifest = _manifest(series, snapshot.facts, f"pg_dump {snapshot.clients.version}", tuple(artifacts))
    return Staged(manifest, seal(directory, manifest), directory)


def _manifest(series: Series, facts: Facts, clients: str, artifacts: tuple[Artifact, ...]) -> Manifest:
    verdict: Verdict = "unverified"
    return Manifest(
        format=FORMAT,
        program=program_version(),
        label=series.label,
        set=series.set_name,
        archive=series.name(facts.time),
        verdict=verdict,
        snapshot=snapshot_facts(facts),
        clients=clients,
        artifacts=artifacts,
        counts=chain_counts(artifacts),
        chain=unverified_chain(artifacts),
        continuity=Continuity(),
    )


def _store(repository: Repository, staged: Staged, request: Request) -> Stored:
    if request.dry_run:
        logger.info("would store %s in %s", staged.manifest.archive, repository.name)
        return Stored(repository.name, "would_store")
    begun = time.monotonic()
    try:
        stored = _store_whole(repository, staged, request.borg_options)
    except RepositoryError as error:
        logger.error("%s", error)
        return Stored(repository.name, "failed", seconds=round(time.monotonic() - begun, 3), error=str(error))
    logger.info("stored %s in %s", staged.manifest.archive, repository.name)
    return stored


def _store_whole(repository: Repository, staged: Staged, options: tuple[str, ...]) -> Stored:
    """Store under a temporary name, compare what Borg lists with what was sealed, and only then give the plain name."""
    begun = time.monotonic()
    manifest, expected = staged.manifest, staged.sealed.sizes()
    described = comment(manifest.verdict, staged.sealed.manifest_sha256, manifest.set)
    partial = manifest.archive + PARTIAL
    paths = tuple(sorted(expected))
    sizes = repository.store(Storing(partial, manifest.snapshot.time, described, staged.directory, paths, options))
    if repository.listing(partial) != expected:
        raise RepositoryError(f"repository {repository.name}: {partial} does not hold what was staged: look at its disk")
    repository.rename(partial, manifest.archive)
    archive_id = next((one.id for one in repository.archives(glob=manifest.archive)), None)
    seconds = round(time.monotonic() - begun, 3)
    return Stored(
        repository.name, "stored", archive_id, sizes.original, sizes.compressed, sizes.deduplicated, seconds
    )


def _prune(
    settings: Settings, series: Series, repositories: list[Repository], stored: list[Stored], request: Request
) -> tuple[Pruned, ...]:
    """Prune where the new archive is safely stored, and nowhere else."""
    if not request.prune:
        return ()
    keep = request.keep or settings.sets.database.counts()
    good = {one.repository for one in stored if one.status != "failed"}
    return tuple(
        retention.prune(repository, series, keep, dry_run=request.dry_run)
        for repository in repositories
        if repository.name in good
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


def prune(settings: Settings, request: Request) -> Pruning:
    """Apply retention to the archives of the database set, under the run lock."""
    series = Series(settings.label_for(settings.source()), "database")
    keep = request.keep or settings.sets.database.counts()
    with run_lock(settings.state_directory, series.prefix) as lock:
        repositories = open_repositories(settings, request.repositories, pass_fds=(lock,))
        return Pruning(tuple(retention.prune(one, series, keep, dry_run=request.dry_run) for one in repositories))
