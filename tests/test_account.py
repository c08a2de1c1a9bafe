"""What a server runs as: never root, never more than it needs, and able to reach what it needs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest
from fix_standby import standby_of
from psycopg import sql

from borg_vault_plugin.account import server_account
from borg_vault_plugin.cluster import Distribution, throwaway_cluster
from borg_vault_plugin.errors import PreflightError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs under another account")
both_accounts = pytest.mark.parametrize("as_nobody", [False, True], ids=["unused", "nobody"])


@needs_root
def test_root_runs_it_as_nobody_where_that_is_asked_for(newest: Distribution) -> None:
    with throwaway_cluster(newest, as_nobody=True) as cluster:
        assert Path(f"/proc/{cluster.pid}").stat().st_uid == 65534


@needs_root
@both_accounts
def test_code_inside_the_server_is_not_root(newest: Distribution, *, as_nobody: bool) -> None:
    with (
        tempfile.NamedTemporaryFile(dir="/var/tmp") as of_root,
        throwaway_cluster(newest, as_nobody=as_nobody) as cluster,
    ):
        Path(of_root.name).chmod(0o644)
        with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql.SQL("COPY (SELECT 1) TO {}").format(of_root.name))
            connection.execute("CREATE TABLE seen (line text)")
            connection.execute("COPY seen FROM PROGRAM 'grep -E ^NoNewPrivs /proc/self/status | cut -f2'")
            assert connection.execute("SELECT line FROM seen").fetchone() == ("1",)


def network_can_be_taken_away(*, as_nobody: bool) -> bool:
    """Say whether the system lets us, whichever way it is done."""
    ways = [] if os.geteuid() == 0 and as_nobody else [["unshare", "--user", "--map-current-user", "--net", "true"]]
    ways += [["unshare", "--net", "true"]] if os.geteuid() == 0 else []
    return any(subprocess.run(way, check=False, stderr=subprocess.DEVNULL).returncode == 0 for way in ways)


@both_accounts
def test_an_isolated_server_sees_no_network(newest: Distribution, *, as_nobody: bool) -> None:
    with throwaway_cluster(newest, isolated_network=True, as_nobody=as_nobody) as cluster:
        assert cluster.account.isolated_network == network_can_be_taken_away(as_nobody=as_nobody)
        if not cluster.account.isolated_network:
            return
        with psycopg.connect(cluster.conninfo()) as connection:
            connection.execute("CREATE TABLE seen (line text)")
            connection.execute("COPY seen FROM PROGRAM 'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d \" \"'")
            assert connection.execute("SELECT line FROM seen").fetchall() == [("lo",)]


@needs_root
@both_accounts
def test_what_the_account_cannot_reach_is_copied(newest: Distribution, tmp_path: Path, *, as_nobody: bool) -> None:
    package = newest.bin.parents[1]
    for directory in (package / newest.bin.parent.name, package.with_name(f"{package.name}.libs")):
        shutil.copytree(directory, tmp_path / directory.relative_to(package.parent), symlinks=True)
    tmp_path.chmod(0o700)
    os.umask(0o077)
    hidden = Distribution(newest.major, tmp_path / newest.bin.relative_to(package.parent))
    with throwaway_cluster(hidden, parent=tmp_path, as_nobody=as_nobody) as cluster:
        assert cluster.programs.is_relative_to(cluster.directory)
        assert not cluster.directory.is_relative_to(tmp_path)
        with standby_of(cluster) as standby, psycopg.connect(standby.conninfo()) as connection:
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@needs_root
def test_programs_that_run_nowhere_else_are_named(tmp_path: Path) -> None:
    programs = tmp_path / "package" / "distribution" / "bin"
    programs.mkdir(parents=True)
    (programs / "postgres").write_text("#!/bin/false\n", "utf-8")
    with pytest.raises(PreflightError, match="runs under no account but root's: install another one"):
        server_account().reachable_programs(programs, tmp_path / "copies")
