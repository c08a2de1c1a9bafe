"""The way in: tarballs of the Server's backup script become archives, dated as they were, oldest first.

Each is held against the newest good archive that is older than it, so a series of nights grows as if this program had
made them. One that is damaged does not stop the others; one that is there already is passed over, unless nobody could
verify it then and that can be done now.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from borg_vault_plugin import acceptance
from borg_vault_plugin.archive import SUFFIX, Archive, Series, comment
from borg_vault_plugin.borg import Inventory
from borg_vault_plugin.config import Settings
from borg_vault_plugin.delivery import Ready, Request, Run, deliver, make_ready, remember
from borg_vault_plugin.errors import Error, RepositoryError, UsageError, smallest_exit_code
from borg_vault_plugin.gate import Rules
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.manifest import Manifest, Staged
from borg_vault_plugin.predecessor import find_predecessors
from borg_vault_plugin.preflight import Estimate
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Backup, Stored
from borg_vault_plugin.split import refuse_together
from borg_vault_plugin.staging import private_directory, sweep_staging
from borg_vault_plugin.stopwatch import Stopwatch
from borg_vault_plugin.tarballs.imported_set import Incoming, stage_tarball
from borg_vault_plugin.tarballs.tarball import Tarball, look_at

logger = logging.getLogger(__name__)

Standing = Literal["free", "taken", "unverified", "there"]
"""Of a tarball in a repository: not there, its name is another's, there but unverified, there."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file; `backup` tells of its archive what `create` tells of one."""

    file: str
    status: Literal["imported", "there", "failed"]
    archive: str | None = None
    error: str | None = None
    exit_code: int = 0
    backup: Backup | None = None


@dataclass(frozen=True, slots=True)
class Imports:
    """The document of `import --json`: what became of every file, the oldest backup first."""

    files: tuple[Imported, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the run: the smallest of its files'."""
        return smallest_exit_code(one.exit_code for one in self.files)


def bring_in(
    settings: Settings, files: tuple[Path, ...], repositories: tuple[str, ...] = (), progress: Progress = unseen
) -> Imports:
    """Make an archive of every tarball, in every repository; nothing is pruned.

    Raises UsageError for tarballs of several Servers, and Error when nothing can be brought in at all; what is wrong
    with one file is in the result.
    """
    refuse_together(settings)
    tarballs, done = _looked_at(files)
    _refuse_mixed(tarballs)
    if tarballs:
        series, request = settings.series(), Request(repositories=repositories, prune=False)
        with run_lock(settings.state_directory, series.prefix) as lock:
            run = Run(settings, request, series, settings.history(), lock, progress)
            sweep_staging(settings.staging_parent / series.prefix)
            ready, failed = make_ready(run, run.repositories(), Estimate(sum(one.size for one in tarballs), 0))
            intake = Intake(run, ready, tuple(failed))
            done += [intake.bring(tarball) for tarball in tarballs]
    return Imports(tuple(done))


@dataclass(slots=True)
class Intake:
    """A run that brings tarballs in, with what is in its repositories by now."""

    run: Run
    ready: list[Ready]
    failed: tuple[Stored, ...]
    """Repositories that could not be looked into."""

    def bring(self, tarball: Tarball) -> Imported:
        """Make an archive of a tarball, wherever it is not one yet."""
        file, name = str(tarball.path), self.run.series.name(tarball.time)
        try:
            backup = self._archived(tarball)
        except Error as error:
            return _failed(tarball.path, error)
        if backup is None:
            logger.info("%s is there already, as %s", tarball.path.name, name)
            return Imported(file, "there", name, exit_code=RepositoryError.exit_code if self.failed else 0)
        stored = any(one.status == "stored" for one in backup.repositories)
        return Imported(file, "imported" if stored else "failed", name, None, backup.exit_code, backup)

    def _archived(self, tarball: Tarball) -> Backup | None:
        """Stage a tarball and store it; None when it is everywhere already."""
        standings = {one.repository.name: _standing(self.run.series, one.inventory, tarball) for one in self.ready}
        taken = tuple(
            _taken(name, self.run.series.name(tarball.time)) for name in standings if standings[name] == "taken"
        )
        if not {"free", "unverified"} & set(standings.values()):
            if taken:
                raise RepositoryError(str(taken[0].error))
            return None
        watch = Stopwatch()
        logger.info("%s becomes %s", tarball.path.name, self.run.series.name(tarball.time))
        with private_directory(self.run.settings.staging_parent / self.run.series.prefix) as private:
            staged = self._staged(tarball, private, watch)
            better = ("free",) if staged.manifest.verdict == "unverified" else ("free", "unverified")
            chosen = [one for one in self.ready if standings[one.repository.name] in better]
            if not chosen:
                return None
            with watch.phase("store"):
                stored, _ = deliver(self.run, chosen, staged)
            remember(self.run, staged, stored)
            self._note(staged, stored, tarball)
        return staged.manifest.report(watch.total(), (*stored, *taken, *self.failed))

    def _staged(self, tarball: Tarball, private: Path, watch: Stopwatch) -> Staged[Manifest]:
        run = self.run
        rules = self._rules(tarball, private)
        incoming = Incoming(tarball, run.settings, run.series, private, run.lock, rules, run.progress)
        return stage_tarball(incoming, watch)

    def _rules(self, tarball: Tarball, private: Path) -> Rules:
        """Hold a tarball against what is older, never against what came after it; every signature is verified."""
        looked_into = [(one.repository, _older(one.inventory, tarball)) for one in self.ready]
        word = acceptance.word_of(self.run.history, self.run.series)
        predecessors = find_predecessors(looked_into, self.run.series, self.run.evidence, private, word)
        return Rules(predecessors, word.accepted, self.run.settings.trust_anchors, carry=False)

    def _note(self, staged: Staged[Manifest], stored: list[Stored], tarball: Tarball) -> None:
        """Note for the next tarball that this one is there now."""
        manifest = staged.manifest
        ids = {one.repository: one.archive_id or "" for one in stored if one.status == "stored"}
        described = comment(manifest.verdict, staged.sealed.manifest_sha256, manifest.set, tarball.sha256)
        name = manifest.archive + SUFFIX[manifest.verdict]
        self.ready = [
            _with(one, Archive(name, ids[one.repository.name], manifest.time, described))
            if one.repository.name in ids
            else one
            for one in self.ready
        ]


def _looked_at(files: tuple[Path, ...]) -> tuple[list[Tarball], list[Imported]]:
    """Put the tarballs into the order of their backups; say of other files what is wrong with them."""
    tarballs: list[Tarball] = []
    unfit: list[Imported] = []
    for path in files:
        try:
            tarballs.append(look_at(path))
        except Error as error:
            unfit.append(_failed(path, error))
    return sorted(tarballs, key=lambda one: (one.time, one.path.name)), unfit


def _refuse_mixed(tarballs: list[Tarball]) -> None:
    """Refuse tarballs of several Servers, which a directory that they share may hold."""
    projects = sorted({one.project for one in tarballs} - {""})
    if len(projects) > 1:
        raise UsageError(
            f"these tarballs are of several projects, {', '.join(projects)}: import those of one Server under its label"
        )


def _failed(path: Path, error: Error) -> Imported:
    said = str(error) if path.name in str(error) else f"{path.name}: {error}"
    logger.error("%s", said)
    return Imported(str(path), "failed", error=said, exit_code=error.exit_code)


def _standing(series: Series, inventory: Inventory, tarball: Tarball) -> Standing:
    ours = [archive for archive in inventory.archives if series.owns(archive.name)]
    same = [archive for archive in ours if archive.described.get("tarball") == f"sha256:{tarball.sha256}"]
    if same:
        return "unverified" if all(archive.verdict == "unverified" for archive in same) else "there"
    names = {series.name(tarball.time) + suffix for suffix in SUFFIX.values()}
    return "taken" if any(archive.name in names for archive in ours) else "free"


def _taken(repository: str, name: str) -> Stored:
    error = f"repository {repository} has {name} already, which is not from this file: two backups have one date"
    return Stored(repository, "failed", error=error)


def _older(inventory: Inventory, tarball: Tarball) -> Inventory:
    return replace(inventory, archives=tuple(one for one in inventory.archives if one.time < tarball.time))


def _with(ready: Ready, archive: Archive) -> Ready:
    return replace(ready, inventory=replace(ready.inventory, archives=(*ready.inventory.archives, archive)))
