"""Probes of the repositories: Borg, and of each repository whether it opens, who holds it, its room and its rules."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from borg_vault_plugin import store
from borg_vault_plugin.archive import SetName
from borg_vault_plugin.borg import (
    Holder,
    Inventory,
    Repository,
    find_borg,
    local_directory,
    lock_holders,
    open_repository,
)
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import recognised
from borg_vault_plugin.doctor.checks import Check, found, not_checked, ok, refused
from borg_vault_plugin.doctor.configuration import backed_up
from borg_vault_plugin.doctor.host import running
from borg_vault_plugin.errors import ConfigError, PreflightError, RepositoryError, RepositoryLockedError
from borg_vault_plugin.preflight import Estimate, check_repository_space
from borg_vault_plugin.retention import rule_text
from borg_vault_plugin.sections import RepositorySettings
from borg_vault_plugin.split import refuse_same_repository
from borg_vault_plugin.wording import plural

IMPATIENT = {"lock_wait": timedelta(seconds=2), "timeout": timedelta(seconds=30)}
Inventories = dict[str, Inventory | str]
"""What is in each repository by its name, or why that is not known."""


def borg() -> Iterator[Check]:
    """Look for Borg."""
    program = find_borg()
    yield ok("borg", "this host", f"Borg {program.version}, {program.program}")


def repository(settings: Settings, name: str, inventories: Inventories) -> Iterator[Check]:
    """Open a repository and put what is in it into `inventories`."""
    inventories[name] = "it was not looked into"
    opened = _open(settings, name)
    holders = lock_holders(opened.directory) if opened.directory is not None else ()
    holder = next((one for one in holders if one.exclusive and not one.is_dead), None)
    if holder is not None:
        inventories[name] = f"{holder} holds its lock"
        yield not_checked("repository", name, f"cannot be looked into while {holder} holds its lock")
        return
    try:
        inventory = opened.inventory()
    except RepositoryLockedError as error:
        inventories[name] = str(error)
        advice = f"nothing: a run waits for it ({settings.repositories[name].lock_wait})"
        yield found("lock.held", name, "somebody holds it, and only its own host can say who", advice)
        return
    except (RepositoryError, PreflightError) as error:
        inventories[name] = str(error)
        yield refused("repository.unusable", name, error)
        return
    inventories[name] = inventory
    with contextlib.suppress(ConfigError):  # a history that cannot be read has a row of its own
        inventories[name] = recognised(inventory, settings.history())
    archives = plural(len(inventory.archives), "archive")
    told = f"{opened.settings.path}: encrypted, {archives}"
    yield ok(
        "repository", name, told + (", append-only: nothing is pruned there" if opened.settings.append_only else "")
    )


def lock(settings: Settings, name: str) -> Iterator[Check]:
    """Say who holds a repository's lock: nobody breaks it here."""
    directory = _located(settings, name)
    if directory is None:
        yield not_checked("lock", name, "it is on another host")
        return
    holders = lock_holders(directory)
    if not holders:
        yield ok("lock", name, "free")
    for holder in holders:
        yield _held(name, holder, settings.repositories[name])


def writable(settings: Settings, name: str) -> Iterator[Check]:
    """Ask whether Borg could write in a local repository."""
    directory = _located(settings, name)
    if directory is not None and directory.exists():
        parts = [path for path in (directory, directory / "data") if path.exists()]
        closed = [path for path in parts if not os.access(path, os.W_OK | os.X_OK)]
        if closed:
            said = f"{closed[0]} cannot be written by this user"
            yield found("repository.read_only", name, said, "give this user the right, or mount it for writing")


def room(settings: Settings, name: str, inventory: Inventory | str, estimate: Estimate | None) -> Iterator[Check]:
    """Ask whether tonight's set fits into a repository."""
    if name not in settings.repository_names("database"):
        return
    if _located(settings, name) is None:
        yield not_checked("room", name, "it is on another host")
    elif isinstance(inventory, str) or estimate is None:
        yield not_checked("room", name, "how much tonight's set takes is not known without database and repository")
    else:
        first = not any(settings.series().owns(archive.title) for archive in inventory.archives)
        try:
            check_repository_space(_open(settings, name), estimate, is_first=first)
        except PreflightError as error:
            yield refused("repository.full", name, error)
        else:
            yield ok("room", name, "tonight's set fits")


def leftovers(settings: Settings, name: str, inventory: Inventory | str) -> Iterator[Check]:
    """Look for archives of runs that were cut short."""
    if isinstance(inventory, str):
        return
    for series in map(settings.series, _sets_in(settings, name)):
        left = [one.name for one in store.leftovers(series, inventory)]
        if left and running(settings, series) is None:
            said = f"{', '.join(left)}: of a run that was cut short"
            yield found("leftovers.found", name, said, "nothing: the next run removes it")


def apart(settings: Settings, name: str, inventory: Inventory | str) -> Iterator[Check]:
    """Ask whether keys and database come together in a repository."""
    if isinstance(inventory, str):
        return
    try:
        any(settings.history().events())
    except ConfigError:  # that has a row of its own
        return
    for set_name in _sets_in(settings, name):
        try:
            refuse_same_repository(settings, set_name, name, inventory.repository_id, inventory.archives)
        except ConfigError as error:
            yield refused("split.broken", name, error)


def rules(settings: Settings, name: str) -> Iterator[Check]:
    """Say which retention rule holds for each set in a repository."""
    if settings.repositories[name].append_only:
        return
    for set_name in _sets_in(settings, name):
        keep = rule_text(settings.keep_rule(set_name, name))
        if settings.repositories[name].has_counts or settings.sets.rule(set_name).has_counts:
            yield ok("retention", f"{set_name} in {name}", f"keeps {keep}")
        else:
            said = f"nobody has said how many to keep: {keep}"
            yield found("retention.default", f"{set_name} in {name}", said, f"set keep in [sets.{set_name}]")


def _held(name: str, holder: Holder, settings: RepositorySettings) -> Check:
    if holder.is_dead:
        return found("lock.dead", name, f"{holder}, which is gone", "nothing: the next Borg removes it")
    if datetime.now(UTC) - holder.since > settings.lock_wait:
        advice = "end that process, or `borg break-lock` when you are sure that it is gone"
        return found("lock.stuck", name, f"{holder}, longer than a run waits ({settings.lock_wait})", advice)
    return found("lock.held", name, f"{holder}", f"nothing: a run waits for it ({settings.lock_wait})")


def _open(settings: Settings, name: str) -> Repository:
    """Get ready to ask a repository something, without the patience of a run."""
    return open_repository(name, settings.repositories[name].model_copy(update=IMPATIENT))


def _located(settings: Settings, name: str) -> Path | None:
    return local_directory(name, settings.repositories[name])


def _sets_in(settings: Settings, name: str) -> tuple[SetName, ...]:
    """Name the sets that are stored in a repository."""
    keys = settings.sets.keys
    stored = (one for one in backed_up(settings) if one != "keys" or (keys is not None and keys.attest is None))
    return tuple(one for one in stored if name in settings.repository_names(one))
