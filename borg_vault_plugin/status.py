"""`status`: do we have a complete, restorable backup? The three things side by side, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from borg_vault_plugin import acceptance, ledger
from borg_vault_plugin.acceptance import Accepted
from borg_vault_plugin.archive import SETS, Archive, Series, SetName
from borg_vault_plugin.borg import Inventory
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import recognised
from borg_vault_plugin.errors import Error
from borg_vault_plugin.history import SKEW, Event
from borg_vault_plugin.predecessor import newest_good
from borg_vault_plugin.repositories import open_repositories
from borg_vault_plugin.sections import DatabaseSet, KeysSet, SetRule
from borg_vault_plugin.split import refuse_together

STALE_EXIT_CODE = 13


@dataclass(frozen=True, slots=True)
class SetStatus:
    """What is known of one of the three things; ages in seconds, None where there is nothing."""

    set: SetName
    archive: str | None
    repositories: tuple[str, ...]
    """Those that hold the last good archive."""
    time: datetime | None
    """Of the last good archive, or of the last attestation."""
    age_seconds: float | None
    max_age_seconds: float | None
    attested: bool
    last_drill: datetime | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepositoryStatus:
    """What is known of one repository."""

    repository: str
    last_check: datetime | None
    key_exported: datetime | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """The document of `status --json`."""

    complete: bool
    sets: tuple[SetStatus, ...]
    repositories: tuple[RepositoryStatus, ...]
    history_since: datetime | None
    """What was removed before is not known."""

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        return 0 if self.complete else STALE_EXIT_CODE


@dataclass(frozen=True, slots=True)
class Look:
    """What `status` looks at: the configuration, what every repository holds or why it cannot be read, history."""

    settings: Settings
    events: Sequence[Event]
    accepted: Accepted
    inventories: dict[str, Inventory | str]
    now: datetime


def status(settings: Settings) -> Status:
    """Look at every set and every repository; one that cannot be read is a problem in the result, and no error.

    Raises ConfigError for a configuration that brings keys and database together.
    """
    refuse_together(settings)
    history = settings.history()
    inventories = {name: _inventory(settings, name) for name in settings.repositories}
    accepted = acceptance.accepted_findings(history)
    look = Look(settings, tuple(history.events()), accepted, inventories, datetime.now(UTC))
    sets = tuple(set_status(look, name) for name in SETS)
    repositories = tuple(_repository_status(look, name) for name in inventories)
    problems = [*(one.problems for one in sets), *(one.problems for one in repositories)]
    complete = not any(problems)
    return Status(complete, sets, repositories, look.events[0].time if look.events else None)


def _inventory(settings: Settings, name: str) -> Inventory | str:
    try:
        return recognised(open_repositories(settings, (name,))[0].inventory(), settings.history())
    except Error as error:
        return str(error)


def set_status(look: Look, name: SetName) -> SetStatus:
    """Say what is known of one set."""
    rule: SetRule | None = getattr(look.settings.sets, name)
    if rule is None:
        told = f"nothing says where they are backed up: add [sets.{name}] to the configuration"
        return SetStatus(name, None, (), None, None, None, attested=False, last_drill=None, problems=(told,))
    if isinstance(rule, KeysSet) and rule.attest is not None:
        return _attested(look, name, rule)
    return _archived(look, name, rule)


def _archived(look: Look, name: SetName, rule: SetRule) -> SetStatus:
    series, there = look.settings.series(name), _readable(look, name)
    good = {repository: _newest_good(look, inventory, series) for repository, inventory in there.items()}
    newest = max((one for one in good.values() if one), key=lambda archive: archive.time, default=None)
    time = newest.time if newest else None
    drilled = _last_drill(look, series) if name == "database" else None
    return SetStatus(
        set=name,
        archive=newest.name if newest else None,
        repositories=tuple(where for where, one in good.items() if newest and one and one.title == newest.title),
        time=time,
        age_seconds=_age(look, time),
        max_age_seconds=rule.max_age.total_seconds(),
        attested=False,
        last_drill=drilled,
        problems=(
            *_staleness(look, time, rule.max_age, f"there is no good archive: run `{_create(name)}`"),
            *(_lagging(look, good, rule.max_age) if time and look.now - time <= rule.max_age else ()),
            *(_drill_staleness(look, drilled, rule.max_drill_age) if isinstance(rule, DatabaseSet) else ()),
            *_unexplained(look, there, series),
        ),
    )


def _readable(look: Look, name: SetName) -> dict[str, Inventory]:
    """Give what is in the repositories of a set, where it can be read."""
    inventories = {repository: look.inventories[repository] for repository in look.settings.repository_names(name)}
    return {name: inventory for name, inventory in inventories.items() if isinstance(inventory, Inventory)}


def _newest_good(look: Look, inventory: Inventory, series: Series) -> Archive | None:
    """Give the newest good archive; one that is dated in the future would hide that no other is made."""
    return newest_good((one for one in inventory.archives if one.time <= look.now + SKEW), series)


def _lagging(look: Look, good: dict[str, Archive | None], longest: timedelta) -> Iterator[str]:
    """Tell of repositories that are left behind while others are not."""
    for repository, archive in good.items():
        if archive is None:
            yield f"repository {repository} has no good archive"
        elif look.now - archive.time > longest:
            yield f"the last good archive in repository {repository} is {_words(look.now - archive.time)} old"


def _unexplained(look: Look, there: dict[str, Inventory], series: Series) -> Iterator[str]:
    """Tell of archives that history does not explain, and that nobody has accepted."""
    for repository, inventory in there.items():
        found = acceptance.marked(ledger.check(inventory, series, look.events, look.now), look.accepted)
        for finding in acceptance.still_open(found):
            yield f"{finding.where} in repository {repository} {finding.detail}: see `borg-vault prune --dry-run`"


def _attested(look: Look, name: SetName, rule: SetRule) -> SetStatus:
    ours = (one for one in look.events if one.event == "attested" and one.archive == look.settings.series(name).prefix)
    time = max((one.time for one in ours), default=None)
    problems = tuple(_staleness(look, time, rule.max_age, f"never attested: run `{_create(name)}`"))
    age, longest = _age(look, time), rule.max_age.total_seconds()
    return SetStatus(name, None, (), time, age, longest, attested=True, last_drill=None, problems=problems)


def _staleness(look: Look, time: datetime | None, longest: timedelta, absent: str) -> Iterator[str]:
    if time is None:
        yield absent
    elif look.now - time > longest:
        yield f"{_words(look.now - time)} old, and may be {_words(longest)}"


def _drill_staleness(look: Look, drilled: datetime | None, longest: timedelta | None) -> Iterator[str]:
    if longest is not None and drilled is None:
        yield "no drill has passed: run `borg-vault drill`"
    elif longest is not None and drilled is not None and look.now - drilled > longest:
        yield f"the last drill that passed is {_words(look.now - drilled)} old, and may be {_words(longest)}"


def _repository_status(look: Look, name: str) -> RepositoryStatus:
    inventory = look.inventories[name]
    if isinstance(inventory, str):
        return RepositoryStatus(name, None, None, (inventory,))
    mine = [event for event in look.events if event.repository == inventory.repository_id]
    checks = [event for event in mine if event.event == "checked"]
    passed = max((event.time for event in checks if event.verdict == "passed"), default=None)
    exported = next((one for one in reversed(mine) if one.event == "key_exported"), None)
    problems = (*check_problems(name, checks), *key_problems(name, exported))
    return RepositoryStatus(name, passed, exported.time if exported else None, problems)


def check_problems(name: str, checks: Sequence[Event]) -> Iterator[str]:
    """Tell of a check that failed; only one of everything, which has no reason to be shorter, makes up for it."""
    failed = max((event.time for event in checks if event.verdict != "passed"), default=None)
    passed = [event.time for event in checks if event.verdict == "passed" and event.reason is None]
    if failed is not None and not any(time > failed for time in passed):
        yield f"its check of {failed:%Y-%m-%d} failed: mend it, then run `borg-vault check -r {name}`"


def key_problems(name: str, exported: Event | None) -> Iterator[str]:
    """Tell of a key that was not exported, or that is no safer than the repository."""
    if exported is None:
        yield f"its key was never exported: run `borg-vault init -r {name} --key-out FILE` and keep the file elsewhere"
    elif exported.where is not None and Path(exported.where).exists():
        yield f"its exported key is still on this machine: move {exported.where} elsewhere"


def _last_drill(look: Look, series: Series) -> datetime | None:
    titles = {one.archive_id: one.holds for one in look.events if one.event == "confirmed"}
    passed = (one for one in look.events if one.event == "drilled" and one.verdict == "passed")
    return max((one.time for one in passed if series.owns(titles.get(one.archive_id) or one.archive)), default=None)


def _create(name: SetName) -> str:
    return "borg-vault create" if name == "database" else f"borg-vault create --set {name}"


def _age(look: Look, time: datetime | None) -> float | None:
    return None if time is None else round((look.now - time).total_seconds(), 3)


def _words(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
