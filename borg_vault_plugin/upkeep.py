"""What operators do to repositories between backups: check them, pin archives, keep the key safe."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from borg_vault_plugin.acceptance import demand_reason
from borg_vault_plugin.borg import Repository
from borg_vault_plugin.config import Settings
from borg_vault_plugin.errors import Error, PreflightError, RepositoryError, UsageError, smallest_exit_code
from borg_vault_plugin.history import happened_now
from borg_vault_plugin.report import CheckVerdict
from borg_vault_plugin.repositories import open_repositories

logger = logging.getLogger(__name__)

PARTIAL = "for {} at most"


@dataclass(frozen=True, slots=True)
class Checked:
    """What Borg's own check of one repository came to."""

    repository: str
    verdict: CheckVerdict
    whole: bool
    """Whether everything was looked at, and not only for some time."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Checks:
    """The document of `check --json`."""

    repositories: tuple[Checked, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0 when every repository passed."""
        return smallest_exit_code(RepositoryError.exit_code for one in self.repositories if one.error)


def check(settings: Settings, names: tuple[str, ...], longest: timedelta | None) -> Checks:
    """Let Borg check repositories, for so long at most, and remember when; one that fails does not stop the others."""
    return Checks(tuple(_check(settings, repository, longest) for repository in open_repositories(settings, names)))


def pin(settings: Settings, archive: str, reason: str) -> tuple[str, ...]:
    """Keep retention from an archive, wherever it is; give the repositories. Raises UsageError, RepositoryError."""
    demand_reason(reason)
    return _mark(settings, archive, "pinned", reason)


def unpin(settings: Settings, archive: str) -> tuple[str, ...]:
    """Leave an archive to retention again; give the repositories. Raises UsageError, RepositoryError."""
    return _mark(settings, archive, "unpinned", None)


def _check(settings: Settings, repository: Repository, longest: timedelta | None) -> Checked:
    error = _failure(repository, longest)
    verdict: CheckVerdict = "passed" if error is None else "failed"
    if error is not None:
        logger.error("%s", error)
    with contextlib.suppress(Error):  # one that cannot even say which it is was not looked at
        reason = PARTIAL.format(longest) if longest is not None else None
        event = happened_now("checked", repository.name, repository.id(), verdict=verdict, reason=reason)
        settings.history().append(event)
    return Checked(repository.name, verdict, longest is None, error)


def _failure(repository: Repository, longest: timedelta | None) -> str | None:
    try:
        repository.check(longest)
    except (RepositoryError, PreflightError) as error:
        return str(error)
    return None


def _mark(
    settings: Settings, archive: str, happening: Literal["pinned", "unpinned"], reason: str | None
) -> tuple[str, ...]:
    """Mark an archive wherever it is, and only then say which repository could not be read."""
    there: list[str] = []
    errors: list[RepositoryError] = []
    for repository in open_repositories(settings, ()):
        try:
            inventory = repository.inventory()
        except RepositoryError as error:
            errors.append(error)
            continue
        for found in inventory.archives:
            if found.name == archive:
                event = happened_now(happening, archive, inventory.repository_id, archive_id=found.id, reason=reason)
                settings.history().append(event)
                there.append(repository.name)
    if errors:
        raise errors[0]
    if not there:
        raise UsageError(f"there is no archive {archive}: see `borg-vault list`")
    return tuple(there)
