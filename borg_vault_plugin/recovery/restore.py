"""The story of a restore: decide everything, rebuild beside the live database, prove it, and only then swap."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg

from borg_vault_plugin.acceptance import accepted_findings, rewind
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.config import Settings
from borg_vault_plugin.database import explain
from borg_vault_plugin.errors import ConfigError, RefusedError
from borg_vault_plugin.gate import Rules
from borg_vault_plugin.history import Event, Happening
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.lookup import extracted
from borg_vault_plugin.predecessor import Predecessors
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.recovery.decisions import (
    Case,
    Request,
    decide,
    decide_about_set,
    loss_text,
    losses,
    refuse_loss,
    refuse_newer_dump,
)
from borg_vault_plugin.recovery.destination import State
from borg_vault_plugin.recovery.drill_report import Check, Minutes, Outcome, worst
from borg_vault_plugin.recovery.loss import Loss, Newer, newer_than
from borg_vault_plugin.recovery.proof import look_at_files, prove_database, read_dump, several, verify_chain
from borg_vault_plugin.recovery.rebuild import DUMP, discard, rebuild, role_names, scripts_beside
from borg_vault_plugin.recovery.restore_report import (
    Restored,
    Step,
    beside_steps,
    drop_step,
    login_steps,
    swapped_steps,
    verify_step,
)
from borg_vault_plugin.recovery.swap import swap, undisturbed
from borg_vault_plugin.recovery.target import Target, target_on
from borg_vault_plugin.scratch import scratch_directory
from borg_vault_plugin.sealed_set import SealedSet, open_set
from borg_vault_plugin.session import open_session
from borg_vault_plugin.text import size

__all__ = ["Confirm", "Request", "Restored", "restore"]

logger = logging.getLogger(__name__)

OF_ARCHIVE, OF_DATABASE = ("files", "dump", "chain"), ("restore", "database", "registry", "export")
NOT_RESTORED = "nothing was restored"
STATES: dict[State, str] = {
    "absent": "is not there",
    "empty": "is empty",
    "server": "is a Server's",
    "other": "is no Server's",
    "closed": "cannot be looked into",
}

Confirm = Callable[[str, Sequence[str]], None]
"""Takes the live database's name and what will happen to it; raises UsageError unless somebody wants that."""


@dataclass(slots=True)
class Work:
    """One restore, and how far it has come."""

    case: Case
    minutes: Minutes
    progress: Progress
    lost: tuple[Loss, ...] = ()
    roles: tuple[str, ...] = ()
    """Roles that were made."""
    logins: tuple[str, ...] = ()
    """Roles that could log in when they were archived."""
    is_made: bool = False
    """Whether there is a restored database now."""
    is_swapped: bool = False
    must_rewind: bool = False
    """Whether continuity has still to be told that an older state was restored."""


def restore(settings: Settings, request: Request, confirm: Confirm, progress: Progress = unseen) -> Restored:
    """Restore an archive as a new database beside the live one, prove it, and swap the two if that is asked for.

    Raises Error before anything is touched, and SourceError when the swap fails, which leaves the live database as it
    was. What is wrong with the archive, or with what was restored, is in the document.
    """
    with contextlib.ExitStack() as stack:
        if request.swap:
            stack.enter_context(run_lock(settings.state_directory, settings.series().prefix))
            settings.history().append()  # a swap that cannot be recorded would be taken for tampering next night
        work = Work(decide(settings, request), Minutes(), progress)
        _tell_server(work.case)
        directory = stack.enter_context(extracted(settings, work.case.stored))
        private = stack.enter_context(scratch_directory(directory.parent))
        sealed = _whole_set(work, directory)
        if sealed is not None:
            _restore(work, sealed, private, confirm)
    return _document(work)


def _tell_server(case: Case) -> None:
    live, server = case.destination.live, case.destination.server
    logger.info("%s, PostgreSQL %d: %s %s", case.server, case.destination.major, live.name, STATES[live.state])
    logger.debug("connecting to %s, with %s", server.database, case.clients)


def _whole_set(work: Work, directory: Path) -> SealedSet | None:
    """Look whether the archive is whole and fits; give the set if it may be restored. Raises PreflightError."""
    case, minutes = work.case, work.minutes
    try:
        sealed = open_set(directory)
    except NotCheckedError as error:
        minutes.skip(OF_ARCHIVE, str(error))
        return None
    refuse_newer_dump(case, sealed.manifest)
    logger.info("%s was taken out of %s: looking whether it is whole", case.archive, case.stored.repository.name)
    rules = Rules(Predecessors(), accepted_findings(case.settings.history()), case.settings.trust_anchors)
    whole = look_at_files(sealed, minutes, work.progress, case.stored.archive)
    whole = read_dump(sealed, case.clients, minutes) and whole
    verified = verify_chain(sealed, rules, minutes, work.progress)
    if not verified and not case.is_good and not case.request.swap:
        logger.warning("the chain in %s does not verify: it is restored all the same, beside", case.archive)
        verified = True
    return sealed if whole and verified else None


def _restore(work: Work, sealed: SealedSet, private: Path, confirm: Confirm) -> None:
    case = work.case
    target = target_on(case.destination.server, case.names.restored, case.clients, private, own=False)
    if not case.is_there:
        decide_about_set(case, target, sealed)
    newer = newer_than(case.settings, case.stored)
    work.lost = losses(case, sealed, newer, private)
    for loss in work.lost:
        logger.info("%s", loss_text(loss))
    refuse_loss(case, work.lost, newer)
    if case.request.swap:
        confirm(case.names.live, list(_plan(work)))
    with _undone_if_interrupted(target):
        proven = _rebuild(work, sealed, target) and prove_database(sealed, target, work.minutes)
    if work.is_made and not case.is_there:
        _remember(work, "restored", case.names.restored)
    if proven and case.request.swap:
        if not case.request.accept_loss:
            _refuse_what_came_since(work, sealed, newer, private)
        work.must_rewind = newer.stored is not None
        _swap(work)


def _refuse_what_came_since(work: Work, sealed: SealedSet, newer: Newer, private: Path) -> None:
    """Look once more: while we worked, others may have, too. Raises RefusedError."""
    try:
        refuse_loss(work.case, losses(work.case, sealed, newer, private), newer)
    except RefusedError as error:
        waiting = f"{work.case.names.restored} is restored and proven, and waits beside"
        raise RefusedError(f"{error} ({waiting})") from error


def _plan(work: Work) -> Iterator[str]:
    """Tell what a swap will do."""
    names = work.case.names
    yield f"{work.case.archive} takes the place of {names.live} on {work.case.server}, once it is restored and proven"
    if names.previous is not None:
        yield f"every session of {names.live} is ended; it is called {names.previous} then, and takes no connections"


def _rebuild(work: Work, sealed: SealedSet, target: Target) -> bool:
    """Make the new database; one that cannot be finished is dropped again, before it fills the live one's disk."""
    case = work.case
    properties = sealed.manifest.survey.properties
    work.logins = tuple(role.name for role in properties.roles if "LOGIN" in role.attributes)
    if case.is_there:
        work.is_made = True
        work.minutes.note("restore", "not_applicable", f"{target.name} was there already")
        return True
    dump = sealed.files[DUMP].size
    logger.info("restoring as %s: db.dump has %s; nobody can ask the server for its space", target.name, size(dump))
    with work.progress("restore", None):
        finished = work.minutes.check("restore", partial(_rebuilt, sealed, target))
    if not finished:
        logger.warning("%s could not be finished: it is dropped, with the roles that were made for it", target.name)
        discard(target)
    work.is_made, work.roles = finished, tuple(target.made.roles)
    return finished


def _rebuilt(sealed: SealedSet, target: Target) -> Outcome:
    with target.on_server() as server:
        there = role_names(server)
    rebuilt = rebuild(sealed, target, scripts_beside(sealed.manifest.survey.properties, target.name, there))
    _analyse(target)
    said = f"; pg_restore remarked: {several(rebuilt.remarks)}" if rebuilt.remarks else ""
    return "passed", f"as {target.name}; {len(rebuilt.roles)} roles made{said}"


def _analyse(target: Target) -> None:
    """Give the planner statistics, which no dump holds: without them the first day is a slow one."""
    try:
        with open_session(target.database) as connection:
            connection.execute("ANALYZE")
    except psycopg.Error as error:
        logger.warning("%s could not be analysed: %s", target.name, explain(error))


@contextlib.contextmanager
def _undone_if_interrupted(target: Target) -> Iterator[None]:
    """Leave nothing of a database that nobody has proven."""
    try:
        yield
    except BaseException:
        if target.made.databases or target.made.roles:
            discard(target)
        raise


def _swap(work: Work) -> None:
    case = work.case
    with undisturbed():
        swap(case.destination.server, case.names)
        work.is_swapped = True
        logger.info("%s is what was restored now", case.names.live)
        _remember(work, "swapped", case.names.live)
        if work.must_rewind and case.destination.is_home:
            _rewind(work)


def _rewind(work: Work) -> None:
    case = work.case
    reason = f"restored as {case.names.live}; what was there before is {case.names.previous or 'gone'}"
    try:
        rewind(case.settings.history(), case.series, case.plain_archive, reason)
        work.must_rewind = False
    except ConfigError as error:
        logger.error("%s", error)


def _remember(work: Work, happening: Happening, database: str) -> None:
    """Write down what happened; the swap, if there was one, is not undone because that cannot be done."""
    case = work.case
    event = Event(
        time=datetime.now(UTC),
        event=happening,
        archive=case.archive,
        repository=case.stored.repository_id,
        archive_id=case.stored.archive.id,
        verdict=worst(_checks(work)),
        database=database,
        server=case.server,
        where=case.names.previous if happening == "swapped" else None,
    )
    try:
        case.settings.history().append(event)
    except ConfigError as error:
        logger.error("%s", error)


def _checks(work: Work) -> tuple[Check, ...]:
    names = (*OF_ARCHIVE, *OF_DATABASE)
    return tuple(work.minutes.checks.get(name) or Check(name, "not_checked", NOT_RESTORED, 0.0) for name in names)


def _document(work: Work) -> Restored:
    case, checks = work.case, _checks(work)
    database = case.names.live if work.is_swapped else case.names.restored
    without_password = tuple(role for role in work.roles if role in work.logins)
    return Restored(
        archive=case.archive,
        database=database if work.is_made else None,
        server=case.server,
        verdict=worst(checks),
        checks=checks,
        roles_created=work.roles,
        roles_without_password=without_password,
        swapped=work.is_swapped,
        previous_database=case.names.previous if work.is_swapped else None,
        lost=work.lost,
        next=tuple(_next(work, without_password, proven=worst(checks) == "passed")),
    )


def _next(work: Work, without_password: tuple[str, ...], *, proven: bool) -> Iterator[Step]:
    case = work.case
    if not work.is_made:
        if "restore" not in work.minutes.checks:  # so it is the archive
            yield verify_step(case)
    elif not proven:
        if not case.is_there:
            yield drop_step("drop it, when you have looked at it", case.names.restored)
    else:
        yield from login_steps(without_password)
        yield from swapped_steps(case, rewind=work.must_rewind) if work.is_swapped else beside_steps(case, work.lost)
