"""Finding plugins and calling them: each in a thread of its own, every failure with the plugin's name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar, cast

import pluggy
import psycopg

from borg_vault_plugin import hookspecs
from borg_vault_plugin.config import Settings
from borg_vault_plugin.database import explain
from borg_vault_plugin.errors import ConfigError, ContendedError, Error, SourceError
from borg_vault_plugin.redaction import SHORTEST_SHOWN, redacted
from borg_vault_plugin.report import Finding, Unheard
from borg_vault_plugin.sections import DUMP_PLUGIN
from borg_vault_plugin.side_by_side import TaskFailedError, TasksLateError, side_by_side
from borg_vault_plugin.snapshot import Snapshot
from borg_vault_plugin.staging import FULL, STAGING_ADVICE, Artifact, Staging

logger = logging.getLogger(__name__)

BUILT_IN = (DUMP_PLUGIN, "key-registry", "audit-chain", "provisioning-files", "key-files")
# What the sections of [monitoring] turn on; each may need the extra of the section's name.
MONITORS = {"healthchecks": "healthchecks-ping", "apprise": "apprise-notice", "prometheus": "prometheus-textfile"}
NOTICES = {
    "backup_started": "announce the backup",
    "backup_finished": "announce the backup",
    "figures_changed": "pass the figures on",
}
NOTIFICATION = timedelta(seconds=12)
BESIDE = "table-digests"  # no plugin: what counts the tables while the plugins write
Beside = TypeVar("Beside")


def load_plugins(settings: Settings) -> pluggy.PluginManager:
    """Load the built-in hooks and the third-party plugins that the configuration names.

    Raises ConfigError, naming the plugin, when one is not installed, cannot be imported, hooks nothing, or hooks
    something that does not exist; and when what stands in for the dump is not among them.
    """
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    installed = {point.name: point for point in entry_points(group=hookspecs.GROUP)}
    for name in _wanted(settings):
        if name not in installed:
            known = ", ".join(sorted(set(installed) - {*BUILT_IN, *MONITORS.values()})) or "none"
            raise ConfigError(f"plugin {name!r} is not installed: third-party plugins found here: {known}")
        _register(manager, installed[name])
    _refuse_without_dump(manager, settings.database.dump)
    return manager


def collect(
    manager: pluggy.PluginManager,
    snapshot: Snapshot,
    staging: Staging,
    *,
    timeout: timedelta,
    beside: Callable[[], Beside],
) -> tuple[list[Artifact], Beside]:
    """Let every plugin write its artifacts, side by side, and give them sorted by path.

    `beside` runs at the same time, and what it returns is given, too. The first failure abandons the others.
    Raises SourceError that names the plugin.
    """
    tasks: dict[str, Callable[[], object]] = {BESIDE: beside}
    over = threading.Event()
    for impl in manager.hook.collect_artifacts.get_hookimpls():
        view = replace(staging, producer=impl.plugin_name, over=over)
        tasks[impl.plugin_name] = partial(_collect_one, manager, impl.plugin, snapshot, view)

    def abandon() -> None:
        over.set()
        snapshot.abandon()

    results = _in_time(tasks, timeout, abandon)
    other = cast(Beside, results.pop(BESIDE))
    for name, found in results.items():
        if not found:
            raise SourceError(f"hook {name} wrote nothing: a hook that has nothing to add must not be configured")
    artifacts = [artifact for found in results.values() for artifact in cast(list[Artifact], found)]
    return sorted(artifacts, key=lambda artifact: artifact.path), other


def collect_files(
    manager: pluggy.PluginManager,
    hook: str,
    staging: Staging,
    arguments: Mapping[str, object],
    *,
    timeout: timedelta,
) -> list[Artifact]:
    """Let every plugin that knows this set write its files, one after the other, and give them sorted by path.

    Raises SourceError that names the plugin.
    """
    artifacts: list[Artifact] = []
    for impl in getattr(manager.hook, hook).get_hookimpls():
        view = replace(staging, producer=impl.plugin_name, over=threading.Event())
        answers = partial(_only(manager, hook, impl.plugin), staging=view, **arguments)
        task = partial(_artifacts, answers, impl.plugin_name)
        # Ours stop at once when the program is told to end, and their commands have times of their own.
        is_ours = impl.plugin_name in BUILT_IN
        found = _here(impl.plugin_name, task) if is_ours else _within(timeout, impl.plugin_name, task, view)
        artifacts += cast(list[Artifact], found)
    if not artifacts:
        raise SourceError(f"there is nothing to store: {hook} of {', '.join(BUILT_IN[-2:])} found no file")
    return sorted(artifacts, key=lambda artifact: artifact.path)


def verify(manager: pluggy.PluginManager, staging: Staging, *, timeout: timedelta) -> tuple[Finding, ...]:
    """Let every plugin look at the staged set, and give all findings. Raises SourceError that names the plugin."""
    findings: list[Finding] = []
    for impl in manager.hook.verify_staging.get_hookimpls():
        view = replace(staging, over=threading.Event())
        answers = partial(_only(manager, "verify_staging", impl.plugin), staging=view)
        findings += cast("list[Finding]", _within(timeout, impl.plugin_name, partial(_findings, answers), view))
    return tuple(findings)


def notify(manager: pluggy.PluginManager, hook: str, arguments: Mapping[str, object]) -> tuple[Unheard, ...]:
    """Call one of the hooks that only pass something on; a plugin that fails or hangs is reported and given back."""
    unheard: list[Unheard] = []
    for impl in getattr(manager.hook, hook).get_hookimpls():
        task = partial(_only(manager, hook, impl.plugin), **arguments)
        try:
            side_by_side({impl.plugin_name: task}, timeout=NOTIFICATION, abandon=lambda: None, patience=0)
        except TaskFailedError as failed:
            unheard.append(
                Unheard(impl.plugin_name, _in_one_line(failed.error, shortest=1) or type(failed.error).__name__)
            )
        except TasksLateError:
            unheard.append(Unheard(impl.plugin_name, f"it did not finish within {NOTIFICATION}"))
    for one in unheard:
        logger.warning("plugin %s could not %s: %s", one.plugin, NOTICES[hook], one.error)
    return tuple(unheard)


def _wanted(settings: Settings) -> Iterator[str]:
    dump = settings.database.dump
    if dump != DUMP_PLUGIN and (dump in BUILT_IN or dump not in settings.plugins):
        raise ConfigError(f"database.dump is {dump!r}, which is none of plugins: name a third-party plugin in both")
    monitors = {name for section, name in MONITORS.items() if getattr(settings.monitoring, section) is not None}
    for section, name in MONITORS.items():
        if name in settings.plugins and name not in monitors:
            raise ConfigError(f"plugin {name} is turned on by its section: write [monitoring.{section}]")
    others = (name for name in BUILT_IN if name != DUMP_PLUGIN)
    yield from dict.fromkeys((*others, dump, *settings.plugins, *sorted(monitors)))


def _refuse_without_dump(manager: pluggy.PluginManager, name: str) -> None:
    if all(impl.plugin_name != name for impl in manager.hook.collect_artifacts.get_hookimpls()):
        raise ConfigError(f"plugin {name} cannot be database.dump: it does not hook collect_artifacts")


def _register(manager: pluggy.PluginManager, point: EntryPoint) -> None:
    try:
        plugin = point.load()
        manager.register(plugin, name=point.name)
        manager.check_pending()
    except ModuleNotFoundError as error:
        raise _absent(point.name, error) from error
    except pluggy.PluginValidationError as error:
        raise ConfigError(f"plugin {point.name} does not fit: {_in_one_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"plugin {point.name} cannot be loaded: {type(error).__name__}: {_in_one_line(error)}"
        ) from error
    if not manager.get_hookcallers(plugin):
        raise ConfigError(f"plugin {point.name} hooks nothing: mark a function with @hookimpl")


def _absent(name: str, error: ModuleNotFoundError) -> ConfigError:
    for section, monitor in MONITORS.items():
        if name == monitor:
            return ConfigError(f"[monitoring.{section}] needs an extra: run pip install 'borg-vault-plugin[{section}]'")
    return ConfigError(f"plugin {name} cannot be loaded: {type(error).__name__}: {_in_one_line(error)}")


def _collect_one(manager: pluggy.PluginManager, plugin: object, snapshot: Snapshot, staging: Staging) -> list[Artifact]:
    answers = partial(_only(manager, "collect_artifacts", plugin), snapshot=snapshot, staging=staging)
    return _artifacts(answers, staging.producer)


def _artifacts(answers: Callable[[], Iterable[Iterable[object]]], producer: str) -> list[Artifact]:
    return [_checked(artifact, producer) for artifact in _all(answers)]


def _findings(answers: Callable[[], Iterable[Iterable[object]]]) -> list[Finding]:
    found = _all(answers)
    for one in found:
        if not isinstance(one, Finding):
            raise SourceError(f"it returned {type(one).__name__} for a finding: return Finding(code, where, detail)")
    return cast("list[Finding]", found)


def _all(answers: Callable[[], Iterable[Iterable[object]]]) -> list[object]:
    # A hook written as a generator has run nothing yet: it is drained here, while whoever called still waits.
    return [item for answer in answers() for item in answer]


def _here(name: str, task: Callable[[], object]) -> object:
    try:
        return task()
    except (Exception, SystemExit) as error:
        raise _failure(name, error) from error


def _within(timeout: timedelta, name: str, task: Callable[[], object], view: Staging) -> object:
    """Give what one plugin returns; one that is late may write nothing more. Raises SourceError that names it."""
    return _in_time({name: task}, timeout, view.over.set)[name]


def _in_time(
    tasks: Mapping[str, Callable[[], object]], timeout: timedelta, abandon: Callable[[], None]
) -> dict[str, object]:
    try:
        return side_by_side(tasks, timeout=timeout, abandon=abandon)
    except TaskFailedError as failed:
        raise _failure(failed.name, failed.error) from failed.error
    except TasksLateError as late:
        names = ", ".join(late.names)
        raise SourceError(f"hook {names} did not finish within {timeout}: mend it, or raise database.timeout") from None


def _checked(artifact: object, producer: str) -> Artifact:
    """Give an artifact back as its producer's own, whatever it says itself."""
    if not isinstance(artifact, Artifact):
        raise SourceError(f"it returned {type(artifact).__name__} for an artifact: return what `artifact()` gives")
    return replace(artifact, producer=producer)


def _failure(name: str, error: BaseException) -> SourceError:
    if isinstance(error, psycopg.Error):
        return SourceError(f"hook {name}: {explain(error)}")
    if isinstance(error, ContendedError) or (name == BESIDE and isinstance(error, SourceError)):
        return error
    if isinstance(error, Error):
        return SourceError(f"hook {name}: {error}")
    if isinstance(error, OSError) and error.errno in FULL:
        return SourceError(f"hook {name}: {error.strerror}: {STAGING_ADVICE}")
    return SourceError(f"hook {name} failed: {type(error).__name__}: {_in_one_line(error)}")


def _in_one_line(error: BaseException, shortest: int = SHORTEST_SHOWN) -> str:
    """Give what an error says; a secret with two blanks in it would not be found once they are one."""
    return " ".join(redacted(str(error), shortest=shortest).split())


def _only(manager: pluggy.PluginManager, hook: str, plugin: object) -> pluggy.HookCaller:
    """Give a caller of one hook that calls one plugin only, so that a failure has a name."""
    others = [other for other in manager.get_plugins() if other is not plugin]
    return manager.subset_hook_caller(hook, others)
