"""What `status` knows, as rows: how old the last backup, drill and check are, and where the repositories' keys are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from borg_vault_plugin import acceptance, status
from borg_vault_plugin.archive import SetName
from borg_vault_plugin.borg import Inventory
from borg_vault_plugin.config import Settings
from borg_vault_plugin.doctor.checks import Check, found, not_checked, ok
from borg_vault_plugin.doctor.repositories import Inventories
from borg_vault_plugin.history import Event
from borg_vault_plugin.status import Look

CHECK_OLD = timedelta(days=40)  # longer than any month


def look(settings: Settings, inventories: Inventories, looks: list[Look]) -> Iterator[Check]:
    """Read history, and put together in `looks` what is asked about ages."""
    history = settings.history()
    events = tuple(history.events())
    accepted = acceptance.accepted_findings(history)
    looks.append(Look(settings, events, accepted, inventories, datetime.now(UTC)))
    since = f"known since {events[0].time:%Y-%m-%d}" if events else "nothing has happened yet"
    yield ok("history", str(history.path), since)


def age(look: Look, name: SetName) -> Iterator[Check]:
    """Say how old the last backup of a set is, and what is wrong with what is stored."""
    known = status.set_status(look, name)
    stored_in = look.settings.repository_names(name)
    unread = [repository for repository in stored_in if isinstance(look.inventories[repository], str)]
    if unread and known.archive is None and not known.attested:
        yield not_checked("backup", name, f"repository {', '.join(unread)} could not be read")
        return
    for problem in known.problems:
        detail, _, advice = problem.rpartition(": ")
        yield found("backup.problem", name, detail or advice, advice if detail else _again(name, problem))
    if not known.problems and known.time is not None:
        yield ok("backup", name, f"{known.archive or 'attested'}, {_days(look.now - known.time)}")


def drilled(look: Look) -> Iterator[Check]:
    """Say how old the last drill is; one that is overdue is among what is wrong with the set."""
    last, longest = status.set_status(look, "database").last_drill, look.settings.sets.database.max_drill_age
    if last is not None:
        yield ok("drill", "database", f"the last one that passed is {_days(look.now - last)}")
    elif longest is None:
        said = "no drill has passed: whether a backup can be restored is not known"
        yield found("drill.never", "database", said, "run `borg-vault drill`, and set max_drill_age")


def key(look: Look, name: str) -> Iterator[Check]:
    """Say whether a repository's key was exported, and is elsewhere."""
    events = _events(look, name)
    if events is None:
        yield not_checked("key", name, "the repository could not be read")
        return
    exported = next((one for one in reversed(events) if one.event == "key_exported"), None)
    problems = tuple(status.key_problems(name, exported))
    for problem in problems:
        detail, _, advice = problem.partition(": ")
        yield found("key.never" if exported is None else "key.here", name, detail, advice)
    if exported is not None and not problems:
        yield ok("key", name, f"exported on {exported.time:%Y-%m-%d}, and no longer on this host")


def checked(look: Look, name: str) -> Iterator[Check]:
    """Say how old Borg's own check of a repository is."""
    events = _events(look, name)
    if events is None:
        yield not_checked("check", name, "the repository could not be read")
        return
    checks = [event for event in events if event.event == "checked"]
    problems = tuple(status.check_problems(name, checks))
    last = max((event.time for event in checks if event.verdict == "passed"), default=None)
    for problem in problems:
        detail, _, advice = problem.partition(": ")
        yield found("check.failed", name, detail, advice)
    if not problems and last is not None and look.now - last <= CHECK_OLD:
        yield ok("check", name, f"passed, {_days(look.now - last)}")
    elif not problems:
        said = "never checked by Borg" if last is None else f"the last check that passed is {_days(look.now - last)}"
        yield found("check.old", name, said, f"run `borg-vault check -r {name}`, once a month")


def _events(look: Look, name: str) -> Sequence[Event] | None:
    """Give what happened to a repository; None when nobody can tell which one it is."""
    inventory = look.inventories[name]
    if not isinstance(inventory, Inventory):
        return None
    return [event for event in look.events if event.repository == inventory.repository_id]


def _again(name: SetName, problem: str) -> str:
    create = "create" if name == "database" else f"create --set {name}"
    return f"run `borg-vault {'drill' if 'drill' in problem else create}`, and find out why nothing else did"


def _days(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours / 24:.1f} days old" if hours >= 48 else f"{hours:.1f} hours old"
