"""All that a restore decides before anything is touched: which archive, which server, which names, and what is lost."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from borg_vault_plugin.archive import PARTIAL, Archive, Series
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.clients import Clients
from borg_vault_plugin.config import Settings
from borg_vault_plugin.database import Connection, explain
from borg_vault_plugin.errors import PreflightError, RefusedError, RepositoryError, SourceError, UsageError
from borg_vault_plugin.lookup import LATEST, Stored, extraction_place, find_archive
from borg_vault_plugin.manifest import Manifest
from borg_vault_plugin.recovery.demands import refuse_unable
from borg_vault_plugin.recovery.destination import (
    Destination,
    checked_name,
    derived_name,
    is_home,
    look_at,
    server_named,
)
from borg_vault_plugin.recovery.loss import Loss, Newer, lost_from_live, lost_to_archive
from borg_vault_plugin.recovery.printed import archived_definitions
from borg_vault_plugin.recovery.swap import Names, obstacles
from borg_vault_plugin.recovery.target import Target, exact_clients
from borg_vault_plugin.scratch import scratch_directory
from borg_vault_plugin.sealed_set import SealedSet, open_set
from borg_vault_plugin.session import open_session
from borg_vault_plugin.staging import MANIFEST
from borg_vault_plugin.wording import plural

logger = logging.getLogger(__name__)

MAJOR = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Request:
    """What one restore was asked to do; `call` is how the program was called, for the commands that come next."""

    archive: str = LATEST
    database: str | None = None
    to: str | None = None
    swap: bool = False
    accept_loss: bool = False
    call: tuple[str, ...] = ("borg-vault",)


@dataclass(frozen=True, slots=True)
class Case:
    """One restore: where from, where to, and under which names."""

    settings: Settings
    request: Request
    series: Series
    stored: Stored
    destination: Destination
    clients: Clients
    names: Names
    is_there: bool
    """Whether a database of that name was there already, to be proven and swapped."""

    @property
    def archive(self) -> str:
        """The archive's name."""
        return self.stored.archive.name

    @property
    def plain_archive(self) -> str:
        """What ours of this set is called, without what says that it was not finished."""
        return self.stored.archive.title.removesuffix(PARTIAL)

    @property
    def is_good(self) -> bool:
        """Whether the archive is a good one; others are restored only by name."""
        return self.series.is_good(self.stored.archive)

    @property
    def server(self) -> str:
        """Where the server is, for people."""
        return self.destination.server.place


def decide(settings: Settings, request: Request) -> Case:
    """Decide what can be decided before the archive is extracted, and touch nothing.

    Raises UsageError, ConfigError, RepositoryError, SourceError when the server cannot be reached, PreflightError.
    """
    source = server_named(settings, request.to)
    wanted = None if request.database is None else checked_name(request.database)
    stored, series = find_archive(settings, request.archive), settings.series()
    refuse_other_sets(stored.archive)
    warn_of(series, stored.archive)
    _refuse_elsewhere(settings, stored)
    destination = look_at(source, home=is_home(settings, source))
    names = _names(destination, wanted)
    try:
        with open_session(destination.server) as server:
            there = server.execute("SELECT FROM pg_database WHERE datname = %s", [names.restored]).fetchone()
            clients = exact_clients(destination.major, needs_tls=source.needs_tls, container=source.container)
            case = Case(settings, request, series, stored, destination, clients, names, is_there=there is not None)
            _refuse(case, server)
    except psycopg.Error as error:
        raise SourceError(f"database {source.address}: {explain(error)}") from error
    except NotCheckedError as error:
        raise PreflightError(str(error)) from error
    return case


def decide_about_set(case: Case, target: Target, sealed: SealedSet) -> None:
    """Decide whether the server can take this set, and whether our role may do what is to be done.

    Raises PreflightError, SourceError.
    """
    try:
        definitions = archived_definitions(sealed, target)
        with target.on_server() as server:
            refuse_unable(server, sealed.manifest.survey, definitions, case.server)
    except psycopg.Error as error:
        raise SourceError(f"database {target.server.address}: {explain(error)}") from error
    except NotCheckedError as error:
        raise PreflightError(f"{case.server}: {error}") from error


def refuse_newer_dump(case: Case, manifest: Manifest) -> None:
    """Raise PreflightError when the dump was made by, or from, a newer PostgreSQL than the server is."""
    made_by = max(_major(manifest.snapshot.server_version), _major(manifest.clients))
    if made_by > case.destination.major:
        raise PreflightError(
            f"{case.archive} holds a dump of PostgreSQL {made_by}, which PostgreSQL {case.destination.major} on"
            f" {case.server} does not take: name a server of that major with --to"
        )


def losses(case: Case, sealed: SealedSet, newer: Newer, private: Path) -> tuple[Loss, ...]:
    """Say what the newest good archive and the live database hold that this set does not."""
    found = [Loss("a repository", sealed.manifest.snapshot.time, reason=reason) for reason in newer.reasons]
    if newer.stored is not None:
        found.append(lost_to_archive(case.settings, sealed, newer.stored, private))
    live = case.destination.live
    if live.state == "server":
        found.append(lost_from_live(sealed, case.destination.live_source))
    elif live.state == "closed":
        found.append(Loss(f"the live database {live.name}", sealed.manifest.snapshot.time, reason=live.reason))
    return tuple(found)


def refuse_loss(case: Case, lost: tuple[Loss, ...], newer: Newer) -> None:
    """Raise RefusedError when something would be lost, and nobody has said that it may.

    Beside the live database nothing is lost; there it counts only that the archive is not the newest good one.
    """
    swapping = [one for one in lost if not one.is_empty or (newer.stored and one.where == newer.stored.archive.name)]
    beside = [one for one in lost if newer.stored is not None and one.where == newer.stored.archive.name]
    counting = swapping if case.request.swap else beside
    if counting and not case.request.accept_loss:
        told = "; ".join(map(loss_text, counting))
        raise RefusedError(
            f"{case.archive} is not the newest state: {told}: add --accept-loss to restore it all the same"
        )


def loss_text(loss: Loss) -> str:
    """Say what would be lost, in one line."""
    if not loss.is_known:
        return f"what {loss.where} holds more is not known ({loss.reason})"
    if loss.is_empty:
        return f"{loss.where} holds no entry, chain or key more"
    counts = (
        plural(loss.entries or 0, "entry", "entries"),
        plural(loss.chains or 0, "chain"),
        plural(loss.keys or 0, "key"),
    )
    return f"{loss.where} holds {', '.join(counts)} more, written after {loss.since:%Y-%m-%d %H:%M:%S} UTC"


def refuse_other_sets(archive: Archive) -> None:
    """Raise UsageError for an archive that holds no database."""
    held = archive.described.get("set", "database")
    if held != "database":
        raise UsageError(f"{archive.name} holds the {held} set, and no database: take it out with `borg extract`")


def refuse_without_dump(archive: str, sealed: SealedSet) -> None:
    """Raise UsageError, saying where the database is, for an archive that holds no dump of it."""
    elsewhere = sealed.manifest.database_elsewhere
    if elsewhere is not None:
        raise UsageError(f"{archive} holds no dump: the database is in {elsewhere}: restore it there, see RESTORE.txt")


def warn_of(series: Series, archive: Archive) -> None:
    """Warn of an archive that is not a good one, which nobody gets who does not name it."""
    if series.is_good(archive):
        return
    if archive.name.endswith(PARTIAL):
        doubt = "was never finished or compared with what was staged"
    elif not series.owns(archive.title):
        doubt = f"is no archive of {series.prefix}"
    else:
        doubt = f"is {archive.verdict or 'not known to be good'}: its manifest.json says why"
    logger.warning("%s %s", archive.name, doubt)


def _refuse_elsewhere(settings: Settings, stored: Stored) -> None:
    """Look into the manifest before the server is asked, which may be what was lost."""
    name = stored.archive.name
    with scratch_directory(extraction_place(settings)) as scratch:
        try:
            stored.extract(scratch, [MANIFEST])
            sealed = open_set(scratch)
        except (NotCheckedError, RepositoryError):  # told when the whole archive is looked at
            return
    refuse_without_dump(name, sealed)


def _names(destination: Destination, wanted: str | None) -> Names:
    live, now = destination.live, datetime.now(UTC)
    if wanted == live.name:
        raise UsageError(
            f"--database {wanted} is the live database, into which nothing is ever restored: name a new one, and let it"
            " take its place with --swap"
        )
    previous = None if live.state == "absent" else derived_name(live.name, "before", now)
    return Names(live.name, wanted or derived_name(live.name, "restored", now), previous)


def _refuse(case: Case, server: Connection) -> None:
    live, request = case.destination.live, case.request
    if request.swap:
        refused = list(_against_swap(case, server))
        if refused:
            raise PreflightError(f"{live.name} on {case.server} cannot be swapped: {'; '.join(refused)}")
    elif case.is_there:
        raise PreflightError(
            f"database {case.names.restored} on {case.server} is there already: name one that is not (or, if made"
            " of this archive: --swap proves it once more, and lets it take the live one's place)"
        )
    if live.state in ("other", "closed") and request.database is None:
        raise PreflightError(f"{_strange(case)}: name the new database with --database to restore beside it")


def _against_swap(case: Case, server: Connection) -> Iterator[str]:
    if not case.series.owns(case.plain_archive):
        yield f"{case.archive} is no archive of {case.series.prefix}"
    if case.destination.live.state in ("other", "closed"):
        yield f"{_strange(case)}: rename it by hand, if it is to make room"
    if not case.destination.is_aside:
        yield "no other database lets us in to rename it from: let us connect to postgres"
    yield from obstacles(server, case.names)


def _strange(case: Case) -> str:
    live = case.destination.live
    if live.state == "closed":
        return f"database {live.name} on {case.server} cannot be looked into ({live.reason})"
    return f"database {live.name} on {case.server} is no Server's (it has tables, but neither records nor audit_vault)"


def _major(version: str) -> int:
    found = MAJOR.search(version)
    return int(found[0]) if found else 0
