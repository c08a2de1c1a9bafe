"""Retention: which archives of a series go, by Borg's own rules, and the space that they free."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from borg_vault_plugin.archive import Series
from borg_vault_plugin.borg import Repository
from borg_vault_plugin.errors import RepositoryError
from borg_vault_plugin.report import Pruned

logger = logging.getLogger(__name__)


def prune(repository: Repository, series: Series, keep: Mapping[str, int], *, dry_run: bool = False) -> Pruned:
    """Apply a rule to the plainly named archives of one series, then free the space.

    A repository that fails is reported, so that the others go on.
    """
    try:
        planned = set(repository.prune_plan(series.glob, keep))
        removed = tuple(archive.name for archive in repository.archives(glob=series.glob) if archive.id in planned)
        if removed and not dry_run:
            repository.prune(series.glob, keep)
            repository.compact()
    except RepositoryError as error:
        logger.error("%s", error)
        return Pruned(repository.name, error=str(error))
    for name in removed:
        logger.info("%s %s from %s", "would remove" if dry_run else "removed", name, repository.name)
    return Pruned(repository.name, removed)
