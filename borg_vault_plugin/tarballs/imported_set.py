"""From an unpacked tarball to a sealed set like ours: restored where it touches nothing, exported, judged.

The dump stays as it is. Chain, registry and counts come out of a throwaway server on which it was restored, by the
same hooks as every night's. Where no such server can run, the set holds what the tarball held, and is unverified.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pluggy

from borg_vault_plugin import plugins
from borg_vault_plugin.archive import Series
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.clients import find_clients
from borg_vault_plugin.config import Settings
from borg_vault_plugin.dump import check_dump
from borg_vault_plugin.errors import PreflightError, SourceError
from borg_vault_plugin.gate import Judgement, Rules
from borg_vault_plugin.hookspecs import hookimpl
from borg_vault_plugin.manifest import Manifest, Staged, seal
from borg_vault_plugin.preflight import Estimate, check_space
from borg_vault_plugin.progress import Progress
from borg_vault_plugin.properties import Properties, database_sql, roles_sql
from borg_vault_plugin.recovery.ground import throwaway_ground
from borg_vault_plugin.recovery.rebuild import Scripts, rebuild
from borg_vault_plugin.recovery.target import Target
from borg_vault_plugin.report import Continuity, Finding, Origin, staged_chain
from borg_vault_plugin.sealed_set import SealedSet
from borg_vault_plugin.snapshot import Facts
from borg_vault_plugin.stage import SET_DIRECTORY, Stage, Written, describe, seal_set, write_set
from borg_vault_plugin.staging import Artifact, Staging, staging_failures
from borg_vault_plugin.stopwatch import Stopwatch
from borg_vault_plugin.survey import Server, Survey
from borg_vault_plugin.tarballs.dump_header import DumpHeader, read_header
from borg_vault_plugin.tarballs.dump_properties import ask_for_properties, definitions, told_properties
from borg_vault_plugin.tarballs.tarball import DUMP, PRODUCER, REGISTRY, Tarball, Unpacked, unpack
from borg_vault_plugin.tarballs.tarball_registry import (
    differences,
    has_header,
    refuse_private_keys_in_csv,
    refuse_private_keys_in_dump,
)

logger = logging.getLogger(__name__)

KEPT_HOOKS = ("key-registry", "audit-chain")
# Per byte of dump: the chain is written once more, and a dump that pg_dump compressed grows.
CHAIN_SHARE, EXPANSION = 1, 6


@dataclass(frozen=True, slots=True)
class Incoming:
    """A tarball on its way to become an archive of a series."""

    tarball: Tarball
    settings: Settings
    series: Series
    private: Path
    lock: int
    rules: Rules
    progress: Progress


@dataclass(frozen=True, slots=True)
class Sighted:
    """A tarball that was unpacked and found to be whole."""

    unpacked: Unpacked
    header: DumpHeader
    facts: Facts
    origin: Origin
    told: Properties
    """What the dump tells of its database by itself."""
    script: str = field(repr=False)
    """What the dump defines; empty when nobody here can read it."""


@dataclass(frozen=True, eq=False)
class TarballHook:
    """The plugin that stands for the dump's: it gives what the tarball has, and compares the registries."""

    unpacked: Unpacked
    properties: Properties
    time: datetime

    @hookimpl
    def collect_artifacts(self, staging: Staging) -> Iterator[Artifact]:
        """Give the dump as it is, and the scripts as far as it tells."""
        os.link(self.unpacked.directory / DUMP, staging.directory / DUMP)
        yield self.unpacked.dump
        yield from _scripts(staging, self.properties)

    @hookimpl
    def verify_staging(self, staging: Staging) -> Iterator[Finding]:
        """Report in what the tarball's registry is not the one in its dump."""
        if self.unpacked.registry is not None:
            yield from differences(self.unpacked.directory / REGISTRY, staging.directory / REGISTRY, self.time)


def stage_tarball(incoming: Incoming, watch: Stopwatch) -> Staged[Manifest]:
    """Turn a tarball into a sealed set, as far verified as it can be here.

    Raises SourceError for one that is damaged, hostile, or holds a private key; PreflightError when there is no room.
    """
    with watch.phase("stage"), staging_failures(incoming.private):
        sighted = _sight(incoming)
        try:
            with _restored(incoming, sighted) as (target, properties):
                plan, staging, written = _exported(incoming, sighted, target, properties)
        except NotCheckedError as error:
            logger.warning("%s is not verified: %s", incoming.tarball.path.name, error)
            return _unverified(incoming, sighted, str(error))
    with watch.phase("verify"), staging_failures(incoming.private):
        return seal_set(plan, staging, written)


def _sight(incoming: Incoming) -> Sighted:
    """Unpack a tarball and look at everything that needs no server."""
    name, directory = incoming.tarball.path.name, incoming.private / "tarball"
    directory.mkdir(mode=0o700)
    unpacked = unpack(incoming.tarball, directory, incoming.progress)
    header = read_header(directory / DUMP)
    script = _script(directory / DUMP, header, name)
    unpacked = replace(unpacked, registry=_fit_registry(unpacked, name))
    told = told_properties(script, header.database) if script else _unknown(header.database)
    origin = Origin(name, incoming.tarball.sha256, unpacked.metadata)
    return Sighted(unpacked, header, _facts(incoming, header, unpacked), origin, told, script)


def _script(dump: Path, header: DumpHeader, archive: str) -> str:
    """Read a dump to its end, and give what it defines; nothing when nobody here can read it."""
    try:
        clients = find_clients(header.major)
    except PreflightError as error:
        logger.info("%s", error)
        return ""
    check_dump(dump, clients, ())
    refuse_private_keys_in_dump(dump, clients, archive)
    return definitions(clients, dump)


def _fit_registry(unpacked: Unpacked, archive: str) -> Artifact | None:
    """Give the registry if it is one; the script itself drops one into which something else wrote."""
    if unpacked.registry is None or unpacked.registry.size == 0:
        return None
    path = unpacked.directory / REGISTRY
    refuse_private_keys_in_csv(path, archive)
    if not has_header(path):
        logger.warning("%s: %s does not begin with its header and is left out", archive, REGISTRY)
        return None
    return unpacked.registry


def _facts(incoming: Incoming, header: DumpHeader, unpacked: Unpacked) -> Facts:
    metadata = unpacked.metadata
    return Facts(
        id="",
        time=incoming.tarball.time,
        server_version=header.server_version,
        major=header.major,
        database=header.database,
        in_recovery=False,
        system_identifier=metadata.get("database_token", "").partition(":")[0] or None,
        wal_lsn=metadata.get("wal_lsn") or None,
    )


@contextlib.contextmanager
def _restored(incoming: Incoming, sighted: Sighted) -> Iterator[tuple[Target, Properties]]:
    """Restore the dump on a throwaway server. Raises NotCheckedError when that cannot be done here."""
    if not sighted.script:
        raise NotCheckedError(f"no pg_restore here reads a dump of pg_dump {sighted.header.pg_dump}")
    size, grown = sighted.unpacked.dump.size, EXPANSION if sighted.header.compressed else 1
    check_space(incoming.private, size * grown * (CHAIN_SHARE + 2), f"restoring {incoming.tarball.path.name}")
    with contextlib.ExitStack() as ground:
        try:
            provisional = _provisional(incoming, sighted)
            target = ground.enter_context(throwaway_ground(provisional, incoming.private))
            told = ask_for_properties(target, provisional.directory / DUMP, sighted.script, sighted.told)
            here = told.makeable
            rebuild(provisional, target, Scripts(roles_sql(here), database_sql(here, target.name)))
        except (SourceError, PreflightError) as error:
            raise NotCheckedError(f"{DUMP} could not be restored here: {error}") from error
        yield target, told.properties


def _provisional(incoming: Incoming, sighted: Sighted) -> SealedSet:
    """Give what is known before anything is restored as a set; its server is one that can restore the dump."""
    facts = replace(sighted.facts, server_version=sighted.header.pg_dump)
    written = Written(facts, sighted.header.pg_dump, (sighted.unpacked.dump,), _survey(sighted.told))
    return SealedSet(sighted.unpacked.directory, describe(incoming.series, written, _unjudged((), "")), "")


def _exported(
    incoming: Incoming, sighted: Sighted, target: Target, properties: Properties
) -> tuple[Stage, Staging, Written]:
    """Let the hooks write from the restored database, and say of it what the tarball said."""
    manager = _manager(TarballHook(sighted.unpacked, properties, sighted.facts.time))
    size = sighted.unpacked.dump.size
    plan = Stage(
        source=target.database,
        series=incoming.series,
        settings=incoming.settings.database,
        manager=manager,
        private=incoming.private,
        lock=incoming.lock,
        estimate=Estimate(size, size),
        rules=incoming.rules,
        progress=incoming.progress,
    )
    staging = Staging(incoming.private / SET_DIRECTORY, "borg-vault", progress=incoming.progress)
    written = write_set(plan, staging)
    return (
        plan,
        staging,
        replace(
            written,
            facts=sighted.facts,
            pg_dump=sighted.header.pg_dump,
            survey=replace(written.survey, properties=properties),
            origin=sighted.origin,
        ),
    )


def _manager(hook: TarballHook) -> pluggy.PluginManager:
    """Keep of the built-in hooks those that read a database like any other, and add the tarball's."""
    manager = plugins.load_plugins(Settings())
    for name, _plugin in manager.list_name_plugin():
        if name not in KEPT_HOOKS:
            manager.unregister(name=name)
    manager.register(hook, name=PRODUCER)
    return manager


def _unverified(incoming: Incoming, sighted: Sighted, reason: str) -> Staged[Manifest]:
    """Seal what the tarball held, with the reason why nobody knows more."""
    directory = incoming.private / SET_DIRECTORY
    directory.mkdir(mode=0o700)
    artifacts = tuple(sorted(_held(sighted, directory), key=lambda artifact: artifact.path))
    version, survey = sighted.header.pg_dump, _survey(sighted.told)
    written = Written(sighted.facts, version, artifacts, survey, sighted.origin)
    manifest = describe(incoming.series, written, _unjudged(written.artifacts, reason))
    return Staged(manifest, seal(directory, manifest), directory)


def _held(sighted: Sighted, directory: Path) -> Iterator[Artifact]:
    for artifact in (sighted.unpacked.dump, sighted.unpacked.registry):
        if artifact is not None:
            os.link(sighted.unpacked.directory / artifact.path, directory / artifact.path)
            yield artifact
    if sighted.script:
        yield from _scripts(Staging(directory, PRODUCER), sighted.told)


def _scripts(staging: Staging, properties: Properties) -> Iterator[Artifact]:
    texts = {"roles.sql": roles_sql(properties), "database.sql": database_sql(properties, properties.name)}
    for path, text in texts.items():
        with staging.write(path) as file:
            file.write(text.encode("utf-8"))
        yield file.artifact()


def _unjudged(artifacts: tuple[Artifact, ...], reason: str) -> Judgement:
    chain = replace(staged_chain(artifacts), reason=reason)
    return Judgement("unverified", chain, Continuity(reason=reason), ())


def _survey(properties: Properties) -> Survey:
    """Say what is to be compared when nothing was counted: only the database itself."""
    return Survey((), (), (), (), (), (), properties, Server(None, None))


def _unknown(database: str) -> Properties:
    return Properties(database, "", "", "libc", "", "", None, -1, None, None, (), (), ())
