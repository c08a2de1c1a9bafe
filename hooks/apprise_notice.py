"""Notifications through Apprise, which knows a hundred services by their URLs: of failures, or of every run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import apprise

from borg_vault_plugin import Begun, Ended, Failed, Monitoring, SourceError, hookimpl, secret_url

LARGEST_BODY = 10_000


@hookimpl
def backup_finished(report: Ended, begun: Begun, log: Sequence[str], monitoring: Monitoring) -> None:
    """Send one notification to every URL."""
    settings = monitoring.apprise
    if settings is None or (settings.when == "failure" and not report.exit_code):
        return
    kind = apprise.NotifyType.FAILURE if report.exit_code else apprise.NotifyType.SUCCESS
    sender = apprise.Apprise()
    with _last_words() as words:
        for reference in settings.urls:
            if not sender.add(secret_url(reference, "a URL for Apprise")):
                raise SourceError(f"Apprise does not know the URL in {reference}: mend it")
        if not sender.notify(title=_title(report, begun), body=_body(report, log), notify_type=kind):
            raise SourceError(words[-1] if words else "Apprise could not deliver it")


def _title(report: Ended, begun: Begun) -> str:
    what = f"{begun.label} {begun.set}".strip()
    if isinstance(report, Failed):
        return f"borg-vault: backup of {what} FAILED"
    if report.exit_code:
        return f"borg-vault: backup of {what} needs attention"
    return f"borg-vault: backup of {what} is done"


def _body(report: Ended, log: Sequence[str]) -> str:
    last = [report.error] if isinstance(report, Failed) else []
    return "\n".join([*log, *last, f"exit code {report.exit_code}"])[-LARGEST_BODY:]


class _Words(logging.Handler):
    def __init__(self, words: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._words = words

    def emit(self, record: logging.LogRecord) -> None:
        self._words.append(record.getMessage())


@contextlib.contextmanager
def _last_words() -> Iterator[list[str]]:
    """Keep what Apprise complains of, instead of having it printed."""
    words: list[str] = []
    logger, handler = logging.getLogger("apprise"), _Words(words)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield words
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
