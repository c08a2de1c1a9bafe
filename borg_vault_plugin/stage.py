"""Staging a set: preflight, one snapshot, every hook and the survey side by side, verification, seal."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pluggy
import psycopg

from borg_vault_plugin import plugins
from borg_vault_plugin.archive import Series
from borg_vault_plugin.chain.ranges import begin_processes
from borg_vault_plugin.database import Connection, Source, answering, explain
from borg_vault_plugin.errors import ContendedError, SourceError
from borg_vault_plugin.gate import Judgement, Rules, judge
from borg_vault_plugin.key_scan import refuse_private_keys_in
from borg_vault_plugin.manifest import DUMP, FORMAT, Manifest, Staged, program_version, seal
from borg_vault_plugin.preflight import Estimate
from borg_vault_plugin.progress import Progress
from borg_vault_plugin.report import Origin, chain_counts, snapshot_facts
from borg_vault_plugin.sections import Allowed, DatabaseSettings
from borg_vault_plugin.snapshot import Facts, Snapshot, open_snapshot
from borg_vault_plugin.staging import (
    Artifact,
    Staging,
    changed,
    check_complete,
    identities,
    staging_failures,
)
from borg_vault_plugin.stopwatch import Stopwatch
from borg_vault_plugin.survey import Survey, count_tables, take_survey

logger = logging.getLogger(__name__)

SET_DIRECTORY = "set"


@dataclass(frozen=True, slots=True)
class Written:
    """What the hooks wrote from one snapshot, and what was counted beside it."""

    facts: Facts
    pg_dump: str | None
    """Its version; None when something stands in for the dump."""
    artifacts: tuple[Artifact, ...]
    survey: Survey
    origin: Origin | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Stage:
    """What staging a set needs: where it comes from, where it goes, who writes it and how far it has come."""

    source: Source
    series: Series
    settings: DatabaseSettings
    manager: pluggy.PluginManager
    private: Path
    lock: int
    estimate: Estimate
    rules: Rules
    progress: Progress
    allow: tuple[Allowed, ...] = ()
    """Files of third-party hooks that may look like private keys."""


def stage(stage: Stage, watch: Stopwatch) -> Staged[Manifest]:
    """Write a set from one snapshot, judge it, and seal it. Raises SourceError, PreflightError."""
    directory = stage.private / SET_DIRECTORY
    staging = Staging(directory, "borg-vault", stage.estimate.by_path(), stage.progress)
    begin_processes(stage.estimate.chain)
    with watch.phase("stage"), staging_failures(directory):
        written = write_set(stage, staging)
    with watch.phase("verify"), staging_failures(directory):
        return seal_set(stage, staging, written)


def write_set(stage: Stage, staging: Staging) -> Written:
    """Let the hooks write from one snapshot; start over once when a migration came between. Raises SourceError."""
    try:
        return _write(stage, staging)
    except ContendedError as error:
        logger.info("%s; starting over", error)
        shutil.rmtree(staging.directory)
        return _write(stage, staging)


def seal_set(stage: Stage, staging: Staging, written: Written) -> Staged[Manifest]:
    """Judge what the hooks wrote, and seal it with its verdict. Raises SourceError."""
    before, builtin = identities(staging.directory), plugins.BUILT_IN
    others = [artifact for artifact in written.artifacts if artifact.producer not in builtin]
    refuse_private_keys_in(staging.directory, others, stage.allow)
    findings = plugins.verify(stage.manager, staging, timeout=stage.settings.timeout)
    judgement = judge(staging.directory, written.artifacts, findings, stage.rules, stage.progress)
    check_complete(staging.directory, written.artifacts)
    manifest = describe(stage.series, written, judgement)
    sealed = seal(staging.directory, manifest)
    meddled = changed(before, sealed.identities)
    if meddled is not None:
        raise SourceError(f"{meddled} changed in staging while it was verified: a hook must be done when it returns")
    return Staged(manifest, sealed, staging.directory)


def _write(stage: Stage, staging: Staging) -> Written:
    settings = stage.settings
    staging.directory.mkdir(mode=0o700)
    with open_snapshot(
        stage.source, lock_timeout=settings.lock_timeout, private=stage.private, pass_fds=(stage.lock,)
    ) as snapshot:
        _tell(stage, snapshot)
        artifacts, survey = _collect(stage, snapshot, staging)
    check_complete(staging.directory, artifacts)
    if not settings.dumps:
        _refuse_nowhere(settings.dump, artifacts)
    version = snapshot.clients.version if settings.dumps else None
    return Written(snapshot.facts, version, tuple(artifacts), survey)


def _refuse_nowhere(plugin: str, artifacts: Iterable[Artifact]) -> None:
    """Refuse a set that neither holds the database nor says where that is."""
    if not any(artifact.path == DUMP or artifact.database_in for artifact in artifacts):
        raise SourceError(f"hook {plugin} is database.dump, but no artifact of it says where the database is")


def _tell(stage: Stage, snapshot: Snapshot) -> None:
    facts = snapshot.facts
    standby = ", a standby" if facts.in_recovery else ""
    client = f"pg_dump {snapshot.clients.version}" if stage.settings.dumps else f"{stage.settings.dump} for a dump"
    logger.info("database %s, PostgreSQL %s%s, %s", facts.database, facts.server_version, standby, client)
    if stage.settings.dumps:
        logger.debug("pg_dump %s", snapshot.clients)
    logger.info("snapshot of %s, %d tables", f"{facts.time:%Y-%m-%d %H:%M:%SZ}", len(snapshot.tables))


def _collect(stage: Stage, snapshot: Snapshot, staging: Staging) -> tuple[list[Artifact], Survey]:
    """Let the hooks write while the tables are counted; whichever fails first ends the others."""
    facts = snapshot.facts
    with _surveying(snapshot) as connection, answering(connection, stage.source):
        survey = take_survey(connection, major=facts.major)

    def count() -> Survey:
        if not stage.settings.table_digests:
            return survey
        with _surveying(snapshot) as connection:
            return count_tables(connection, survey, in_recovery=facts.in_recovery)

    return plugins.collect(stage.manager, snapshot, staging, timeout=stage.settings.timeout, beside=count)


@contextlib.contextmanager
def _surveying(snapshot: Snapshot) -> Iterator[Connection]:
    try:
        with snapshot.connection() as connection:
            yield connection
    except psycopg.Error as error:
        raise SourceError(f"the survey of database {snapshot.facts.database} failed: {explain(error)}") from error


def describe(series: Series, written: Written, judgement: Judgement) -> Manifest:
    """Make the manifest of a set that was judged."""
    return Manifest(
        format=FORMAT,
        program=program_version(),
        label=series.label,
        set=series.set_name,
        archive=series.name(written.facts.time),
        verdict=judgement.verdict,
        snapshot=snapshot_facts(written.facts),
        clients=f"pg_dump {written.pg_dump}" if written.pg_dump else "no pg_dump",
        artifacts=written.artifacts,
        counts=chain_counts(written.artifacts),
        chain=judgement.chain,
        continuity=judgement.continuity,
        survey=written.survey,
        read_logs=judgement.read_logs,
        origin=written.origin,
    )
