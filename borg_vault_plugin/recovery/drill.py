"""The story of a drill: an archive is restored where it touches nothing, and has to give back what was backed up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from borg_vault_plugin.archive import Archive
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.gate import Rules
from borg_vault_plugin.manifest import program_version
from borg_vault_plugin.predecessor import HEADS, Predecessors
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.recovery.drill_report import CHECKS, Check, Drill, Minutes, Outcome, worst
from borg_vault_plugin.recovery.ground import NamedServer, named_ground, source_major, throwaway_ground
from borg_vault_plugin.recovery.proof import look_at_files, prove_database, read_dump, several, verify_chain
from borg_vault_plugin.recovery.rebuild import archived_scripts, rebuild, role_names, scripts_beside
from borg_vault_plugin.recovery.target import Target, exact_clients
from borg_vault_plugin.sealed_set import SealedSet, open_set
from borg_vault_plugin.survey import Survey, take_survey
from borg_vault_plugin.wording import plural

__all__ = ["Check", "Drill", "Extraction", "NamedServer", "Rehearsal", "drill"]

IN_DATABASE = ("database", "registry", "export", "collations")
NOT_RESTORED = "no database was restored"


@dataclass(frozen=True, slots=True)
class Extraction:
    """A set as it lies in a directory, and how it came there."""

    name: str
    """By which it was asked for."""
    directory: Path
    seconds: float = 0.0
    problem: str | None = None
    """Why the archive could not be extracted, or not whole."""
    archive: Archive | None = None
    """The archive that it was extracted from; None for a directory that somebody else filled."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Where a drill happens, and what the archive is held against."""

    staging: Path
    """Where a server of our own is made, if its account can reach that."""
    anchors: Sequence[str] = ()
    accepted: Mapping[str, str] = field(default_factory=dict)
    """Reasons by the ids of findings that an operator has acknowledged."""
    predecessors: Predecessors = field(default_factory=Predecessors)
    """The good archives before this one."""
    server: NamedServer | None = None
    """A server that the operator names, instead of one of our own."""
    jobs: int | None = None
    """How many processes restore; by default one for each processor."""
    progress: Progress = unseen


def drill(extraction: Extraction, rehearsal: Rehearsal) -> Drill:
    """Prove what was extracted: look at its files, restore them, compare, export again, verify.

    Raises PreflightError when there is no room or no right to restore, SourceError when the server that the operator
    named cannot be reached. Whatever else goes wrong is in the document.
    """
    minutes = Minutes()
    sealed = _opened(extraction, minutes)
    if sealed is not None:
        look_at_files(sealed, minutes, rehearsal.progress, extraction.archive)
        if _dump_is_whole(sealed, minutes):
            _rehearse(sealed, rehearsal, minutes)
        else:
            minutes.skip(("restore", *IN_DATABASE), minutes.checks["dump"].detail)
        rules = Rules(rehearsal.predecessors, dict(rehearsal.accepted), rehearsal.anchors)
        verify_chain(sealed, rules, minutes, rehearsal.progress)
    return _document(extraction, sealed, minutes)


def _opened(extraction: Extraction, minutes: Minutes) -> SealedSet | None:
    if extraction.problem is not None:
        minutes.note("files", "failed", extraction.problem)
        return None
    try:
        return open_set(extraction.directory)
    except NotCheckedError as error:
        minutes.skip(CHECKS, str(error))
        return None


def _dump_is_whole(sealed: SealedSet, minutes: Minutes) -> bool:
    elsewhere = sealed.manifest.database_elsewhere
    if elsewhere is not None:
        minutes.skip(["dump"], f"its provider holds the database, in {elsewhere}")
        return False
    try:
        clients = exact_clients(source_major(sealed))
    except NotCheckedError as error:
        minutes.skip(["dump"], str(error))
        return False
    return read_dump(sealed, clients, minutes)


def _rehearse(sealed: SealedSet, rehearsal: Rehearsal, minutes: Minutes) -> None:
    with contextlib.ExitStack() as ground:
        begun = time.monotonic()
        try:
            target = ground.enter_context(_ground(sealed, rehearsal))
        except NotCheckedError as error:
            minutes.skip(("restore", *IN_DATABASE), str(error))
            return
        minutes.has_server(begun)
        if not minutes.check("restore", partial(_restore, sealed, target, rehearsal, minutes)):
            minutes.skip(IN_DATABASE, NOT_RESTORED)
            return
        prove_database(sealed, target, minutes)
        minutes.check("collations", partial(_compare_versions, sealed, target))


def _ground(sealed: SealedSet, rehearsal: Rehearsal) -> AbstractContextManager[Target]:
    if rehearsal.server is None:
        return throwaway_ground(sealed, rehearsal.staging)
    return named_ground(sealed, rehearsal.server, rehearsal.staging)


def _restore(sealed: SealedSet, target: Target, rehearsal: Rehearsal, minutes: Minutes) -> Outcome:
    with rehearsal.progress("restore", None):
        with target.on_server() as server:
            number, there = server.info.server_version, role_names(server)
        minutes.versions["drill server"] = f"{number // 10000}.{number % 10000}"
        beside = partial(scripts_beside, sealed.manifest.survey.properties, target.name, there)
        rebuilt = rebuild(sealed, target, archived_scripts(sealed) if target.own else beside(), jobs=rehearsal.jobs)
    where = "a throwaway server" if target.own else target.server.address
    said = f"; pg_restore remarked: {several(rebuilt.remarks)}" if rebuilt.remarks else ""
    roles = f"{plural(len(rebuilt.roles), 'role')} made, unable to log in"
    return "passed", f"as {target.name} on {where}, PostgreSQL {minutes.versions['drill server']}; {roles}{said}"


def _compare_versions(sealed: SealedSet, target: Target) -> Outcome:
    """Other versions are no failure: a restore builds every index anew."""
    archived = _versions(sealed.manifest.survey)
    with target.reading() as connection:
        here = _versions(take_survey(connection, major=target.clients.major))
    other = [
        f"{name} is {here.get(name, 'not here')}, was {was}" for name, was in archived.items() if here.get(name) != was
    ]
    if other:
        return "passed", f"warning: versions differ: {several(other)}"
    return (
        ("passed", f"{plural(len(archived), 'version')} as in the source")
        if archived
        else ("not_applicable", "there are none")
    )


def _versions(survey: Survey) -> dict[str, str]:
    collations = {f"collation {one.name}": one.version for one in survey.collations}
    return collations | {f"extension {one.name}": one.version for one in survey.extensions}


def _document(extraction: Extraction, sealed: SealedSet | None, minutes: Minutes) -> Drill:
    checks = minutes.all_checks()
    manifest = None if sealed is None else sealed.manifest
    versions = {"borg-vault": program_version().partition(" ")[2]}
    if manifest is not None:
        versions |= {"source server": manifest.snapshot.server_version, "source client": manifest.clients}
    age = None if manifest is None else max(0.0, (minutes.time - manifest.snapshot.time).total_seconds())
    return Drill(
        archive=extraction.name,
        verdict=worst(checks),
        checks=checks,
        rpo_seconds=None if age is None else round(age, 3),
        rto_seconds=None if minutes.recovered is None else round(extraction.seconds + minutes.recovered, 3),
        head=None if sealed is None else _head(sealed, minutes),
        time=minutes.time,
        snapshot=None if manifest is None else manifest.snapshot.time,
        phases=minutes.phases(extraction.seconds),
        versions=versions | minutes.versions,
        findings=tuple(minutes.findings),
    )


def _head(sealed: SealedSet, minutes: Minutes) -> str | None:
    """Name the heads, if they are proven: the files are whole, the database gives them back, and the chain verifies."""
    if any(minutes.checks[name].verdict != "passed" for name in ("files", "export", "chain")):
        return None
    chain, heads = sealed.manifest.chain, sealed.files[HEADS]
    return f"{chain.chains} chains, {chain.entries} entries; {HEADS} sha256:{heads.sha256}"
