"""Servers that go down, come back, or replay a conflict under a backup."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

import psycopg
import pytest
from fix_cli import RunCli
from fix_fault_phases import MID_COPY
from fix_fault_proxy import CHAIN, Proxy, proxy_before
from fix_fault_run import Run, StartRun, eventually, only_line, segments
from fix_repository import PlainRepository, announce
from fix_standby import standby_of
from fix_vault import Vault, copied, template_of

from borg_vault_plugin.cluster import Cluster, Distribution, throwaway_cluster
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.sample import SampleVault

pytest_plugins = ("fix_server", "fix_faults")

# What the other hook writes last, while the dump (the chain) is held back.
WRITTEN = ("wrote chain/vault_key_statements.ndjson", "wrote db.dump")
SETTINGS = {"max_connections": "30", "shared_buffers": "32MB", "autovacuum": "off"}


@pytest.fixture(scope="module")
def fragile(newest: Distribution) -> Iterator[Cluster]:
    """A cluster that tests may break, as long as it runs again when they end."""
    with throwaway_cluster(newest, settings=SETTINGS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def fragile_template(fragile: Cluster) -> SampleVault:
    """The vault of the second era, loaded into it."""
    return template_of(fragile, "v2")


@pytest.fixture
def fragile_vault(
    fragile: Cluster, fragile_template: SampleVault, repository: PlainRepository, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Vault]:
    """A Server on it, whose environment says everything that a backup needs."""
    with copied(fragile, "v2", fragile_template) as vault:
        announce(monkeypatch, vault, repository)
        yield vault


def killed(cluster: Cluster) -> None:
    os.kill(cluster.pid, signal.SIGKILL)


def crashed(cluster: Cluster) -> None:
    os.kill(cluster.pid, signal.SIGQUIT)


def restarted(cluster: Cluster) -> None:
    os.kill(cluster.pid, signal.SIGINT)


def run_again(cluster: Cluster) -> None:
    """Start the cluster once the last process of the one before has ended."""
    cluster.stop(immediate=True)

    def started() -> bool:
        with suppress(SourceError):
            cluster.start()
            return True
        return False

    eventually(started, "the cluster runs again")


class Began(Protocol):
    """Starts a run that stands still."""

    def __call__(self, vault: Vault, sign: bytes) -> AbstractContextManager[tuple[Run, Proxy]]:
        """Start a run whose answer to this query is on its way, until the proxy lets go of it."""
        ...


@pytest.fixture
def began(start: StartRun, monkeypatch: pytest.MonkeyPatch) -> Began:
    """Starter of runs that stand still in the middle of an answer."""

    @contextmanager
    def begin(vault: Vault, sign: bytes) -> Iterator[tuple[Run, Proxy]]:
        with proxy_before(vault.cluster) as proxy, monkeypatch.context() as through_proxy:
            through_proxy.setenv("DATABASE_URL", proxy.url(vault))
            proxy.hold(sign, after=MID_COPY)
            run = start("create", "--no-prune")
            run.until(proxy.reached.is_set, "the answer is held back")
            run.until(lambda: WRITTEN[sign == CHAIN] in run.said().stdout, "all others have written what they write")
            yield run, proxy

    return begin


@pytest.mark.parametrize("fate", [killed, crashed, restarted])
def test_a_server_that_goes_down_ends_the_run_and_the_next_one_goes_well(
    fate: Callable[[Cluster], None], fragile_vault: Vault, began: Began, repository: PlainRepository, run_cli: RunCli
) -> None:
    before = segments(repository)
    with began(fragile_vault, CHAIN) as (run, proxy):
        fate(fragile_vault.cluster)
        eventually(lambda: not reachable(fragile_vault.cluster), "the server is down")
        proxy.release()
        assert "run again" in only_line(run.ended(4))
    assert segments(repository) == before
    run_again(fragile_vault.cluster)
    run_cli("create", "--no-prune", exit_code=0)


def reachable(cluster: Cluster) -> bool:
    try:
        psycopg.connect(cluster.conninfo()).close()
    except psycopg.OperationalError:
        return False
    return True


# The dump of a table that is larger than what is on its way, and an export that is not.
SESSIONS = {"dump": b"COPY public.bulk ", "chain": CHAIN}
# A session that waits for its client cannot be cancelled before that, so that it has not been counted yet.
CONFLICT = """
SELECT EXISTS (SELECT FROM pg_stat_database_conflicts WHERE datname = '{database}' AND {column} > 0)
    OR EXISTS (SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted)
    OR EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event LIKE 'RecoveryConflict%')"""

# What happens on the primary, and which kind of conflict that is on a standby.
CONFLICTS = {
    "rows that the backup still sees are cleared away": (
        ["UPDATE orgs SET name = name || '!'", "VACUUM orgs"],
        "confl_snapshot",
    ),
    "a table that the backup has locked is altered": (
        ["ALTER TABLE audit_vault ADD remark text"],
        "confl_lock",
    ),
}


@pytest.fixture(scope="module")
def standby(fragile: Cluster) -> Iterator[Cluster]:
    """A standby of the fragile cluster that never makes the replay of changes wait for queries."""
    with standby_of(fragile, settings={"max_standby_streaming_delay": "0", "hot_standby_feedback": "off"}) as standby:
        yield standby


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_conflict_with_recovery_ends_the_run_and_says_what_to_do(
    conflict: str, session: str, standby: Cluster, fragile_vault: Vault, began: Began
) -> None:
    fragile_vault.execute("CREATE TABLE bulk AS SELECT repeat(md5(n::text), 1000) FROM generate_series(1, 200) n")
    replica = Vault(standby, fragile_vault.database, fragile_vault.sample)
    eventually(lambda: has_replayed(fragile_vault, standby), "the standby has it all")
    statements, column = CONFLICTS[conflict]
    with began(replica, SESSIONS[session]) as (run, proxy):
        fragile_vault.execute(*statements)
        eventually(lambda: replica.value(CONFLICT.format(column=column, database=replica.database)), "a conflict")
        proxy.release()
        line = only_line(run.ended(4))
    assert "raise max_standby_streaming_delay on the standby, or back up the primary" in line


def has_replayed(primary: Vault, standby: Cluster) -> bool:
    lsn = primary.value("SELECT pg_current_wal_flush_lsn()")
    with psycopg.connect(standby.conninfo()) as connection:
        replayed = connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn]).fetchone()
    return replayed == (True,)
