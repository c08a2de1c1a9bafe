"""Finding plugins and calling them: each in a thread of its own, every failure with the plugin's name."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import pluggy
import psycopg

from borg_vault_plugin import hookspecs
from borg_vault_plugin.database import explain
from borg_vault_plugin.errors import ConfigError, ContendedError, Error, SourceError
from borg_vault_plugin.snapshot import Snapshot
from borg_vault_plugin.staging import Artifact, Staging

if TYPE_CHECKING:
    from borg_vault_plugin.report import Backup, Finding

logger = logging.getLogger(__name__)

BUILT_IN = ("database-dump", "key-registry", "audit-chain")
JOIN_SECONDS = 10.0


def load_plugins(names: Iterable[str]) -> pluggy.PluginManager:
    """Load the built-in hooks and the named third-party plugins.

    Raises ConfigError, naming the plugin, when one is not installed, cannot be imported, hooks nothing, or hooks
    something that does not exist.
    """
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    installed = {point.name: point for point in entry_points(group=hookspecs.GROUP)}
    for name in dict.fromkeys((*BUILT_IN, *names)):
        if name not in installed:
            known = ", ".join(sorted(set(installed) - set(BUILT_IN))) or "none"
            raise ConfigError(f"plugin {name!r} is not installed: third-party plugins found here: {known}")
        _register(manager, installed[name])
    return manager


def collect(
    manager: pluggy.PluginManager,
    snapshot: Snapshot,
    staging: Staging,
    *,
    timeout: timedelta,
    alongside: Callable[[], object] = lambda: None,
) -> list[Artifact]:
    """Let every plugin write its artifacts, side by side, and give them sorted by path.

    `alongside` waits for what else reads from the snapshot. The first failure abandons the others.
    Raises SourceError that names the plugin.
    """
    results: queue.SimpleQueue[tuple[str, list[Artifact] | BaseException]] = queue.SimpleQueue()
    threads = []
    for impl in manager.hook.collect_artifacts.get_hookimpls():
        view = replace(staging, producer=impl.plugin_name)
        # A daemon: a hook that hangs must not keep the program from ending.
        threads.append(
            threading.Thread(
                target=_collect_one,
                args=(manager, impl.plugin, snapshot, view, results),
                name=impl.plugin_name,
                daemon=True,
            )
        )
    try:
        for thread in threads:
            thread.start()
        artifacts = _gathered(results, {thread.name for thread in threads}, timeout)
        alongside()
        return artifacts
    finally:
        snapshot.abandon()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))


def verify(manager: pluggy.PluginManager, staging: Staging) -> tuple[Finding, ...]:
    """Let every plugin look at the staged set, and give all findings. Raises SourceError that names the plugin."""
    findings: list[Finding] = []
    for impl in manager.hook.verify_staging.get_hookimpls():
        try:
            answers = _only(manager, "verify_staging", impl.plugin)(staging=staging)
            findings += [finding for answer in answers for finding in answer]
        except Exception as error:
            raise _failure(impl.plugin_name, error) from error
    return tuple(findings)


def announce(manager: pluggy.PluginManager, report: Backup) -> None:
    """Tell every plugin how the backup ended; one that fails is reported and ignored."""
    for impl in manager.hook.backup_finished.get_hookimpls():
        try:
            _only(manager, "backup_finished", impl.plugin)(report=report)
        except Exception as error:  # noqa: BLE001 - a notification must never fail a backup
            logger.warning("plugin %s could not announce the backup: %s", impl.plugin_name, error)


def _register(manager: pluggy.PluginManager, point: EntryPoint) -> None:
    try:
        plugin = point.load()
        manager.register(plugin, name=point.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ConfigError(f"plugin {point.name} does not fit: {' '.join(str(error).split())}") from error
    except Exception as error:
        raise ConfigError(f"plugin {point.name} cannot be loaded: {type(error).__name__}: {error}") from error
    if not manager.get_hookcallers(plugin):
        raise ConfigError(f"plugin {point.name} hooks nothing: mark a function with @hookimpl")


def _collect_one(
    manager: pluggy.PluginManager,
    plugin: object,
    snapshot: Snapshot,
    staging: Staging,
    results: queue.SimpleQueue[tuple[str, list[Artifact] | BaseException]],
) -> None:
    try:
        answers = _only(manager, "collect_artifacts", plugin)(snapshot=snapshot, staging=staging)
        # A hook written as a generator has run nothing yet: it is drained here, while the snapshot is open.
        artifacts = [_checked(artifact) for answer in answers for artifact in answer]
        results.put((staging.producer, artifacts))
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which names the plugin
        results.put((staging.producer, error))


def _checked(artifact: object) -> Artifact:
    if not isinstance(artifact, Artifact):
        raise SourceError(f"it returned {type(artifact).__name__} for an artifact: return what `artifact()` gives")
    return artifact


def _gathered(
    results: queue.SimpleQueue[tuple[str, list[Artifact] | BaseException]], awaited: set[str], timeout: timedelta
) -> list[Artifact]:
    deadline = time.monotonic() + timeout.total_seconds()
    artifacts: list[Artifact] = []
    while awaited:
        try:
            name, outcome = results.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            late = ", ".join(sorted(awaited))
            raise SourceError(
                f"hook {late} did not finish within {timeout}: mend it, or raise database.timeout"
            ) from None
        if isinstance(outcome, BaseException):
            raise _failure(name, outcome) from outcome
        if not outcome:
            raise SourceError(f"hook {name} wrote nothing: a hook that has nothing to add must not be configured")
        awaited.discard(name)
        artifacts += outcome
    return sorted(artifacts, key=lambda artifact: artifact.path)


def _failure(name: str, error: BaseException) -> SourceError:
    if isinstance(error, psycopg.Error):
        return SourceError(f"hook {name}: {explain(error)}")
    if isinstance(error, ContendedError):
        return error
    if isinstance(error, Error):
        return SourceError(f"hook {name}: {error}")
    return SourceError(f"hook {name} failed: {type(error).__name__}: {' '.join(str(error).split())}")


def _only(manager: pluggy.PluginManager, hook: str, plugin: object) -> pluggy.HookCaller:
    """Give a caller of one hook that calls one plugin only, so that a failure has a name."""
    others = [other for other in manager.get_plugins() if other is not plugin]
    return manager.subset_hook_caller(hook, others)
