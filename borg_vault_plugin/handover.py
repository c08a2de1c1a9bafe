"""`stage DIR`: a sealed set in a directory, for other people's `borg create`.

The set is staged beside DIR and takes its place in one step, and only when its verdict is good or was allowed; so DIR
holds one whole set at any time.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pluggy

from borg_vault_plugin import acceptance, preflight
from borg_vault_plugin.acceptance import Word
from borg_vault_plugin.archive import Series, Verdict
from borg_vault_plugin.borg import Inventory, Repository
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import recognised
from borg_vault_plugin.errors import PreflightError, RepositoryError, UsageError
from borg_vault_plugin.exchange import put_in_place
from borg_vault_plugin.gate import Rules
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.manifest import Manifest, Staged
from borg_vault_plugin.monitoring.watch import watched
from borg_vault_plugin.predecessor import (
    Evidence,
    find_predecessors,
    is_acknowledged,
    read_evidence,
    still_counts,
)
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Backup
from borg_vault_plugin.repositories import open_repositories
from borg_vault_plugin.sealed_set import SealedSet, is_set
from borg_vault_plugin.stage import Stage, stage
from borg_vault_plugin.staging import private_directory, sweep_staging
from borg_vault_plugin.stopwatch import Stopwatch

logger = logging.getLogger(__name__)


def stage_into(
    settings: Settings, directory: Path, allow: Collection[Verdict] = (), progress: Progress = unseen
) -> Backup:
    """Stage a set and let it take the place of a directory, unless its verdict is neither good nor allowed.

    Raises UsageError for a directory that is in use for something else, and Error as `create` does.
    """
    work = partial(_stage_into, settings, directory, allow, progress)
    return watched(settings, "database", work, handed_over=("good", *allow))


def _stage_into(
    settings: Settings,
    directory: Path,
    allow: Collection[Verdict],
    progress: Progress,
    manager: pluggy.PluginManager,
) -> Backup:
    directory = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would follow a symbolic link
    _refuse_unfit(directory)
    source = settings.source()
    series = Series(settings.label_for(source), "database")
    watch = Stopwatch()
    with run_lock(settings.state_directory, series.prefix) as lock:
        place = directory.parent / f".{directory.name}.borg-vault"
        sweep_staging(place)
        estimate = preflight.check_source(source, dumps=settings.database.dumps)
        preflight.check_space(place, estimate.staged, "staging")
        with _gone_when_empty(place), private_directory(place) as private:
            rules = _rules(settings, series, directory, private, lock)
            database, known = settings.database, settings.allow
            plan = Stage(source, series, database, manager, private, lock, estimate, rules, progress, known)
            staged = stage(plan, watch)
            _hand_over(settings, staged, directory, allow)
    return staged.manifest.report(watch.total())


@contextlib.contextmanager
def _gone_when_empty(place: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            place.rmdir()


def _refuse_unfit(directory: Path) -> None:
    """Refuse what must not be replaced: anything but a sealed set of ours, an empty directory, or nothing."""
    if directory.is_symlink():
        raise UsageError(f"{directory} is a symbolic link, which Borg would store as a link: name the directory itself")
    if not directory.parent.is_dir():
        raise UsageError(f"{directory.parent} is no directory: make it first")
    if directory.exists() and (not directory.is_dir() or directory.is_mount()):
        raise UsageError(f"{directory} is a mount point or no directory, and cannot be replaced: name one below it")
    if directory.exists() and any(directory.iterdir()) and not is_set(directory):
        raise UsageError(f"{directory} holds something else than a staged set: name an empty or a new directory")


def _rules(settings: Settings, series: Series, directory: Path, private: Path, lock: int) -> Rules:
    looked_into, reasons = _look_into(settings, lock)
    word = acceptance.word_of(settings.history(), series)
    evidence = Evidence(settings.evidence_directory)
    there, unread = _set_there(directory, series, word, evidence)
    found = find_predecessors(looked_into, series, evidence, private, word, there=there)
    if found.sets:  # as in `create`, a repository that is away keeps nobody from the others
        for reason in reasons:
            logger.warning("the set is not compared with what is there: %s", reason)
        reasons = []
    predecessors = replace(found, reasons=(*reasons, *unread, *found.reasons))
    return Rules(predecessors, word.accepted, settings.trust_anchors)


def _look_into(settings: Settings, lock: int) -> tuple[list[tuple[Repository, Inventory]], list[str]]:
    """List the configured repositories; one that cannot be read is a reason why continuity is not checked."""
    if not settings.names_repositories:
        return [], []
    looked_into: list[tuple[Repository, Inventory]] = []
    reasons: list[str] = []
    for repository in open_repositories(settings, settings.repository_names("database"), pass_fds=(lock,)):
        try:
            looked_into.append((repository, recognised(repository.inventory(), settings.history())))
        except (RepositoryError, PreflightError) as error:
            reasons.append(str(error))
    return looked_into, reasons


def _set_there(directory: Path, series: Series, word: Word, evidence: Evidence) -> tuple[SealedSet | None, list[str]]:
    """Give the set that must be extended: what is in the directory or, when that does not count, the last good one.

    One that cannot be read, or is not remembered, is a reason why continuity is not checked.
    """
    if not is_set(directory):
        return None, []
    try:
        there = read_evidence(directory)
    except NotCheckedError as error:
        return None, [f"the set in {directory}: {error}"]
    counts = there.manifest.verdict == "good" or is_acknowledged(there, word)
    if counts and still_counts(there.manifest.snapshot.time, series, word.rewind):
        return there, []
    remembered = evidence.newest_good(series, word.rewind)
    before = there.manifest.continuity.previous
    if remembered is None and before is not None and word.rewind is None:
        return None, [f"the set in {directory} is {there.manifest.verdict}, and {before} before it is not known here"]
    return remembered, []


def _hand_over(settings: Settings, staged: Staged[Manifest], directory: Path, allow: Collection[Verdict]) -> None:
    manifest = staged.manifest
    acceptance.remember(settings.history(), manifest.archive, manifest.findings)
    if manifest.verdict == "good" or manifest.verdict in allow:
        put_in_place(staged.directory, directory)
        if manifest.verdict == "good":
            Evidence(settings.evidence_directory).keep(directory)
        logger.info("%s holds %s now", directory, manifest.archive)
    else:
        logger.warning("%s is as it was: the new set is %s", directory, manifest.verdict)
