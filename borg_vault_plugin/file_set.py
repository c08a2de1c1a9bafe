"""The sets that are files: `provisioning` and `keys`; or, in place of keys, an attestation that they are safe."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pluggy

from borg_vault_plugin import plugins, preflight
from borg_vault_plugin.config import Settings
from borg_vault_plugin.delivery import Request, Run, deliver, make_ready, prune_after
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.file_tree import git_revision, output_of, size_below
from borg_vault_plugin.history import Event
from borg_vault_plugin.key_scan import refuse_private_keys_in
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.manifest import FORMAT, FilesManifest, Staged, program_version, seal
from borg_vault_plugin.monitoring.watch import watched
from borg_vault_plugin.preflight import Estimate
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Attested, FilesBackup, Pruned, Stored
from borg_vault_plugin.sections import KeysSet, ProvisioningSet
from borg_vault_plugin.split import refuse_together
from borg_vault_plugin.staging import (
    Artifact,
    Staging,
    check_complete,
    private_directory,
    staging_failures,
    sweep_staging,
)
from borg_vault_plugin.stopwatch import Stopwatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Files:
    """What one of these sets is made of."""

    hook: str
    arguments: dict[str, object]
    origin: str
    """Where it comes from, for the manifest."""
    size: int
    revision: str | None = None


def create_files(settings: Settings, request: Request, progress: Progress = unseen) -> FilesBackup | Attested:
    """Back up a set of files, or have the keys attested. Raises Error as `create` of the database does."""
    work = partial(_create, settings, request, progress)
    if request.dry_run:
        return work(plugins.load_plugins(settings))
    return watched(settings, request.set_name, work)


def _create(
    settings: Settings, request: Request, progress: Progress, manager: pluggy.PluginManager
) -> FilesBackup | Attested:
    refuse_together(settings)
    rule = settings.sets.rule(request.set_name)
    if isinstance(rule, KeysSet) and rule.attest is not None:
        return _attest(settings, rule.attest, request)
    series = settings.series(request.set_name)
    watch = Stopwatch()
    with run_lock(settings.state_directory, series.prefix) as lock:
        run = Run(settings, request, series, settings.history(), lock, progress)
        place = settings.staging_parent / series.prefix
        sweep_staging(place)
        files = _provisioning(rule) if isinstance(rule, ProvisioningSet) else _keys(rule)
        estimate = Estimate(files.size, 0)
        ready, failed = make_ready(run, run.repositories(), estimate)
        if request.dry_run:
            would_store = [Stored(one.repository.name, "would_store") for one in ready]
            return _report(_manifest(run, files, ()), (*would_store, *failed), prune_after(run, ready), watch)
        preflight.check_space(place, estimate.staged, "staging")
        with private_directory(place) as private:
            staged = _stage(run, manager, files, private, watch)
            with watch.phase("store"):
                stored, holding = deliver(run, ready, staged)
        with watch.phase("prune"):
            pruned = prune_after(run, holding)
    return _report(staged.manifest, (*stored, *failed), pruned, watch)


def _attest(settings: Settings, command: str, request: Request) -> Attested:
    series = settings.series(request.set_name)
    if request.dry_run:
        return Attested(request.set_name, None, command)
    output_of(command, "the attestation of the keys")
    now = datetime.now(UTC)
    settings.history().append(Event(time=now, event="attested", archive=series.prefix, reason=command))
    return Attested(request.set_name, now, command)


def _provisioning(rule: ProvisioningSet) -> Files:
    directory = rule.directory
    arguments: dict[str, object] = {"directory": directory}
    return Files("collect_provisioning", arguments, str(directory), size_below(directory), git_revision(directory))


def _keys(rule: object) -> Files:
    if not isinstance(rule, KeysSet):
        raise TypeError("no set of keys")
    arguments: dict[str, object] = {"paths": rule.paths, "command": rule.command}
    return Files("collect_keys", arguments, "keys", sum(map(_size, rule.paths)))


def _size(path: Path) -> int:
    try:
        return size_below(path) if path.is_dir() else path.stat().st_size
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}: mend sets.keys.paths") from error


def _stage(
    run: Run, manager: pluggy.PluginManager, files: Files, private: Path, watch: Stopwatch
) -> Staged[FilesManifest]:
    directory = private / "set"
    directory.mkdir(mode=0o700)
    staging = Staging(directory, "borg-vault", progress=run.progress)
    with watch.phase("stage"), staging_failures(directory):
        timeout = run.settings.database.timeout
        artifacts = tuple(plugins.collect_files(manager, files.hook, staging, files.arguments, timeout=timeout))
    with watch.phase("verify"), staging_failures(directory):
        check_complete(directory, artifacts)
        if run.request.set_name == "provisioning":
            refuse_private_keys_in(directory, artifacts, run.settings.allow)
        manifest = _manifest(run, files, artifacts)
        return Staged(manifest, seal(directory, manifest), directory)


def _manifest(run: Run, files: Files, artifacts: Iterable[Artifact]) -> FilesManifest:
    now = datetime.now(UTC)
    return FilesManifest(
        format=FORMAT,
        program=program_version(),
        label=run.series.label,
        set=run.series.set_name,
        archive=run.series.name(now),
        verdict="good",
        time=now,
        origin=files.origin,
        revision=files.revision,
        artifacts=tuple(artifacts),
    )


def _report(
    manifest: FilesManifest, stored: tuple[Stored, ...], pruned: tuple[Pruned, ...], watch: Stopwatch
) -> FilesBackup:
    return FilesBackup(
        archive=manifest.archive,
        set=manifest.set,
        verdict=manifest.verdict,
        repositories=stored,
        artifacts=manifest.artifacts,
        revision=manifest.revision,
        pruned=pruned,
        seconds=watch.total(),
    )
