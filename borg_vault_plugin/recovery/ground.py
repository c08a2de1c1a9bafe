"""Where a drill happens: a throwaway server of the source's major, or one that the operator names.

The throwaway server is ours alone, on a private socket and, where the system allows it, without a network; it is gone
at the end, and when we are killed before, the next drill removes what is left. On a server that the operator names the
drill has a database that must not exist before; that one, and the roles that were made for it, are dropped at the end.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from borg_vault_plugin.account import server_account
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.cluster import (
    Cluster,
    Distribution,
    embedded_distributions,
    system_distributions,
    throwaway_cluster,
)
from borg_vault_plugin.database import Connection, Source, explain
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.preflight import check_space
from borg_vault_plugin.recovery.demands import decide, demand, lacking
from borg_vault_plugin.recovery.printed import archived_definitions
from borg_vault_plugin.recovery.rebuild import DUMP, discard
from borg_vault_plugin.recovery.target import Target, exact_clients, target_on
from borg_vault_plugin.scratch import private_place, scratch_directory
from borg_vault_plugin.sealed_set import SealedSet

logger = logging.getLogger(__name__)

# Per byte of dump: tables take less than their rows as text, indexes and the log of writing come on top.
GROWTH, FLOOR_BYTES = 2, 384 << 20
# For one that writes once and is thrown away. A dump of many tables is made under a lock on each.
RESTORING = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "maintenance_work_mem": "128MB",
    "max_locks_per_transaction": "1024",
}


@dataclass(frozen=True, slots=True)
class NamedServer:
    """A server that the operator names; `source` leads to a database that is there, `name` is the drill's own."""

    source: Source
    name: str


def source_major(sealed: SealedSet) -> int:
    """Give the major version of the server that a set comes from."""
    return int(sealed.manifest.snapshot.server_version.partition(".")[0])


@contextlib.contextmanager
def throwaway_ground(sealed: SealedSet, staging: Path) -> Iterator[Target]:
    """Run a server of our own, with a place for every tablespace; it is gone at the end.

    Raises PreflightError when there is no room for it, NotCheckedError when there is no such server here, when it does
    not start, or when it lacks something that the set needs.
    """
    distribution = find_distribution(source_major(sealed))
    clients = exact_clients(distribution.major)
    place = server_account(isolated_network=True).reachable_place(private_place(staging))
    check_space(place, needed_space(sealed), "a drill")
    with _started(distribution, place) as cluster:
        private = cluster.directory / "clients"
        private.mkdir(mode=0o700)
        target = target_on(source_of(cluster), sealed.manifest.survey.properties.name, clients, private, own=True)
        make_ready(sealed, target, cluster)
        yield target


def make_ready(sealed: SealedSet, target: Target, cluster: Cluster) -> None:
    """Make room for a set on a server of our own. Raises NotCheckedError when it has failed, or lacks something."""
    definitions = archived_definitions(sealed, target)
    try:
        with target.on_server() as server:
            server.execute("DROP DATABASE postgres")  # the archive's database may be called that
            _make_tablespaces(server, cluster, definitions.tablespaces())
            demand(lacking(server, sealed.manifest.survey, definitions))
    except psycopg.Error as error:
        raise NotCheckedError(f"the throwaway server has failed: {explain(error)}") from error


@contextlib.contextmanager
def named_ground(sealed: SealedSet, named: NamedServer, staging: Path) -> Iterator[Target]:
    """Use a server that the operator names; afterwards nothing is left there that was made for the drill.

    Raises NotCheckedError for a server of another major or without what the set needs, PreflightError when the database
    exists or our role may not do what is to be done, SourceError when the server cannot be reached.
    """
    clients = exact_clients(source_major(sealed), needs_tls=named.source.needs_tls, container=named.source.container)
    with scratch_directory(private_place(staging)) as private:
        target = target_on(named.source, named.name, clients, private, own=False)
        decide(sealed, target)
        try:
            yield target
        finally:
            discard(target)


def find_distribution(major: int) -> Distribution:
    """Find a server of exactly this major, the system's own before an embedded one. Raises NotCheckedError."""
    found = [*system_distributions(), *embedded_distributions()]
    for distribution in found:
        if distribution.major == major:
            return distribution
    listing = ", ".join(sorted({str(one.major) for one in found})) or "none at all"
    raise NotCheckedError(f"no PostgreSQL {major} server here: found {listing}: install postgresql-{major}")


def needed_space(sealed: SealedSet) -> int:
    """Estimate how many bytes a throwaway server with the set restored takes, at most and roughly."""
    dump = sealed.files.get(DUMP)
    return FLOOR_BYTES + GROWTH * (dump.size if dump else 0)


def source_of(cluster: Cluster) -> Source:
    """Say how to reach a cluster; what an operator's environment says about other servers has no part in it."""
    place = conninfo_to_dict(cluster.conninfo("template1"))
    reached = {name: str(value) for name, value in place.items() if name != "password"}
    return Source({"hostaddr": "", "options": "", **reached}, cluster.password)


@contextlib.contextmanager
def _started(distribution: Distribution, place: Path) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        running = throwaway_cluster(distribution, parent=place, settings=RESTORING, isolated_network=True)
        try:
            cluster = stack.enter_context(running)
        except SourceError as error:
            raise NotCheckedError(str(error)) from error
        if not cluster.account.isolated_network:
            logger.warning("the drill's server could not be cut off from the network: it runs the archive's code")
        yield cluster


def _make_tablespaces(server: Connection, cluster: Cluster, names: set[str]) -> None:
    for number, name in enumerate(sorted(names), start=1):
        place = cluster.directory / f"tablespace-{number}"
        place.mkdir(mode=0o700)
        cluster.account.give(place)
        server.execute(
            sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(sql.Identifier(name), sql.Literal(str(place)))
        )
