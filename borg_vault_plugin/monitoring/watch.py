"""Watching a run: its plugins hear how it begins and how it ends, whichever way, and nothing they do changes it."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import msgspec
import pluggy

from borg_vault_plugin import plugins
from borg_vault_plugin.archive import SetName, Verdict
from borg_vault_plugin.config import Settings
from borg_vault_plugin.errors import ConfigError, PreflightError
from borg_vault_plugin.monitoring.figures import figures
from borg_vault_plugin.monitoring.runs import Begun, Ended, Failed, remember_ids, remember_run
from borg_vault_plugin.redaction import redacted
from borg_vault_plugin.report import Attested, Backup, FilesBackup, Unheard
from borg_vault_plugin.wording import visible

logger = logging.getLogger(__name__)

TAIL_LINES = 50
INTERRUPTED = 130
Report = TypeVar("Report", bound=Backup | FilesBackup | Attested)


@dataclass(frozen=True, slots=True)
class Watch:
    """One run that is watched."""

    settings: Settings
    manager: pluggy.PluginManager
    begun: Begun
    log: Tail


class Tail(logging.Handler):
    """Keeps the last lines that were told, for whoever hears how the run ended."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self._lines.append(record.getMessage())

    def lines(self) -> tuple[str, ...]:
        """Give the lines without any secret."""
        return tuple(visible(redacted(line)) for line in self._lines)


def watched(
    settings: Settings,
    set_name: SetName,
    work: Callable[[pluggy.PluginManager], Report],
    *,
    handed_over: Collection[Verdict] = (),
) -> Report:
    """Load the plugins, do the work of a run, and let them hear of it; raises what loading and the work raise.

    When somebody else goes on with a set of these verdicts, only what keeps him from that is told.
    """
    manager = plugins.load_plugins(settings)
    with _tail() as log:
        watch = Watch(settings, manager, Begun(_label(settings, set_name), set_name, datetime.now(UTC)), log)
        unheard = () if handed_over else _started(watch)
        try:
            report = work(manager)
        except BaseException as error:
            _ended(watch, _failure(set_name, error))
            raise
        handed = not isinstance(report, Attested) and report.verdict in handed_over
        unheard += (
            _measured(settings, manager, partial(_remember, settings, report)) if handed else _ended(watch, report)
        )
    return replace(report, notifications=unheard or msgspec.UNSET)


def refresh(settings: Settings, ids: Mapping[str, str] | None = None) -> None:
    """Let plugins hear the figures anew, after something was added to history; what goes wrong is only a warning.

    `ids` are those of repositories by their names, where somebody else has stored the archives.
    """
    if settings.monitoring.prometheus is None and not settings.plugins:
        return
    try:
        manager = plugins.load_plugins(settings)
    except ConfigError as error:
        logger.warning("the figures could not be passed on: %s", error)
    else:
        _measured(settings, manager, partial(remember_ids, settings, ids or {}))


def _started(watch: Watch) -> tuple[Unheard, ...]:
    told = {"begun": watch.begun, "monitoring": watch.settings.monitoring}
    return plugins.notify(watch.manager, "backup_started", told)


def _ended(watch: Watch, report: Ended) -> tuple[Unheard, ...]:
    log = watch.log.lines()
    told = {"report": report, "begun": watch.begun, "log": log, "monitoring": watch.settings.monitoring}
    unheard = plugins.notify(watch.manager, "backup_finished", told)
    return unheard + _measured(watch.settings, watch.manager, partial(_remember, watch.settings, report))


def _measured(settings: Settings, manager: pluggy.PluginManager, remember: Callable[[], None]) -> tuple[Unheard, ...]:
    """Remember what is known only now, and let plugins hear all figures; where nobody asks for them do nothing."""
    if not manager.hook.figures_changed.get_hookimpls():
        return ()
    try:
        remember()
        told = {"figures": figures(settings, datetime.now(UTC)), "monitoring": settings.monitoring}
    except Exception as error:  # noqa: BLE001 - the run is over, and its result stands
        logger.warning("the figures could not be passed on: %s", error)
        return (Unheard("figures", str(error)),)
    return plugins.notify(manager, "figures_changed", told)


def _remember(settings: Settings, report: Ended) -> None:
    remember_run(settings, settings.series(report.set), report, datetime.now(UTC))
    if isinstance(report, Backup | FilesBackup):
        made = {event.archive_id: event.repository for event in settings.history().events() if event.event == "created"}
        stored = {one.repository: one.archive_id for one in report.repositories}
        remember_ids(settings, {name: made[archive_id] for name, archive_id in stored.items() if archive_id in made})


def _failure(set_name: SetName, error: BaseException) -> Failed:
    if isinstance(error, KeyboardInterrupt):
        return Failed(set_name, "interrupted", INTERRUPTED)
    code = getattr(error, "exit_code", None)  # an Error has one, and so has what a signal makes
    text = f"{type(error).__name__}: {error}" if code is None else str(error)
    otherwise = PreflightError.exit_code if isinstance(error, OSError) else 1
    return Failed(set_name, visible(redacted(text)), otherwise if code is None else code)


def _label(settings: Settings, set_name: SetName) -> str:
    try:
        return settings.series(set_name).label
    except ConfigError:  # the run itself says so
        return ""


@contextlib.contextmanager
def _tail() -> Iterator[Tail]:
    program, tail = logging.getLogger("borg_vault_plugin"), Tail()
    program.addHandler(tail)
    try:
        yield tail
    finally:
        program.removeHandler(tail)
