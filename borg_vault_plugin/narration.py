"""What the program tells while it works: narration to stdout, warnings and errors to stderr.

borgmatic logs whatever a hook writes to stderr as an error, so a run that goes well writes nothing there.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from borg_vault_plugin.progress import Advance, Progress, unseen
from borg_vault_plugin.redaction import SHORTEST_SHOWN, redacted
from borg_vault_plugin.wording import visible

ROOT = logging.getLogger("borg_vault_plugin")
unprinted: list[OSError] = []
"""Why standard output did not take what was told."""


class _Current(logging.StreamHandler[TextIO]):
    """Writes to whatever sys.stdout or sys.stderr is at that moment."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - as logging has it
        """Go on when nobody can be told any more: a log on a full disk must not cost the backup."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and self._name == "stdout":
            unprinted.append(error)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = getattr(sys, self._name)
        super().emit(record)


class _Screen(io.TextIOBase):
    """A terminal that may go away: then nobody sees the bars, which is no reason for a run to end."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        """Say what letters it can show."""
        return self._terminal.encoding

    def isatty(self) -> bool:
        """Say that it is a terminal."""
        return True

    def write(self, text: str) -> int:
        """Show some text, if it can be."""
        with contextlib.suppress(OSError):
            self._terminal.write(text)
        return len(text)

    def flush(self) -> None:
        """Show what there is, if it can be."""
        with contextlib.suppress(OSError):
            self._terminal.flush()


class _Line(logging.Formatter):
    """One line, whatever is told; of what others may have worded (warnings, errors, tracebacks) without our secrets."""

    def format(self, record: logging.LogRecord) -> str:
        told = super().format(record)
        may_hold_secrets = record.levelno >= logging.WARNING or record.exc_info
        return visible(redacted(told, shortest=SHORTEST_SHOWN) if may_hold_secrets else told)


def begin(*, quiet: bool, verbose: bool) -> None:
    """Set up narration for this run."""
    telling, complaining = _Current("stdout"), _Current("stderr")
    telling.addFilter(lambda record: record.levelno < logging.WARNING)
    complaining.setLevel(logging.WARNING)
    telling.setFormatter(_Line())
    complaining.setFormatter(_Line("borg-vault: %(message)s"))
    ROOT.handlers = [telling, complaining]
    ROOT.propagate = False
    telling.setLevel(logging.WARNING if quiet else logging.NOTSET)
    ROOT.setLevel(logging.DEBUG if verbose else logging.INFO)
    # psycopg logs what went wrong after the error that is told; with no handler for it, Python writes it to stderr.
    logging.getLogger("psycopg").handlers = [logging.NullHandler()]


@contextlib.contextmanager
def muted(*, mute: bool) -> Iterator[None]:
    """Keep narration off stdout while a document is to stand there alone; warnings still go to stderr."""
    levels = [(handler, handler.level) for handler in ROOT.handlers]
    for handler, level in levels:
        handler.setLevel(max(level, logging.WARNING) if mute else level)
    try:
        yield
    finally:
        for handler, level in levels:
            handler.setLevel(level)


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show long steps as bars on a terminal, with their rate and the time that remains; elsewhere show nothing."""
    is_told = any(handler.level <= logging.INFO for handler in ROOT.handlers)
    if not sys.stderr.isatty() or not is_told:
        yield unseen
        return
    columns = (
        TextColumn("{task.description:32}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(file=cast(TextIO, _Screen(sys.stderr)))
    with Bars(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bars:
        yield _shown_by(bars)


def _shown_by(bars: Bars) -> Progress:
    @contextlib.contextmanager
    def step(name: str, total: int | None) -> Iterator[Advance]:
        task = bars.add_task(visible(name), total=total)
        try:
            yield lambda done: bars.update(task, completed=done)
        finally:
            bars.remove_task(task)

    return step
