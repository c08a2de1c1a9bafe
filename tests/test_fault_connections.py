"""Connections that are cut in the middle, or on which nothing comes any more, end a run with a line that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fix_fault_phases import MID_COPY
from fix_fault_proxy import CHAIN, DUMP, ESTIMATE, EXPORT, REGISTRY, SURVEY, Proxy
from fix_fault_run import LeftClean, StartRun, only_line
from fix_plugin import InstallPlugin
from fix_vault import Vault

pytest_plugins = ("fix_server", "fix_faults")

WriteConfig = Callable[[str], Path]

# Where in its work a run is struck: what its session says there, and how much of the answer it still gets.
PLACES = {
    "before the snapshot": (ESTIMATE, 0),
    "at the snapshot": (EXPORT, 0),
    "in the registry": (REGISTRY, 10),
    "in the survey": (SURVEY, 0),
    "in the middle of the dump": (DUMP, MID_COPY),
    "in the middle of the chain": (CHAIN, MID_COPY),
}

SILENT_PLACES = [place for place in PLACES if place != "in the registry"]
GIVEN_UP_SECONDS = 30

# The connection goes while a COPY is already ending with another error: psycopg has something to say about that, too.
CUT_OFF = """
from borg_vault_plugin.database import cut
@hookimpl
def collect_artifacts(snapshot, staging):
    with snapshot.connection() as connection, connection.cursor() as cursor:
        with cursor.copy("COPY (SELECT generate_series(1, 1000000)) TO STDOUT") as copy:
            copy.read()
            cut(connection)
            raise SourceError("that is enough")
"""


@pytest.mark.parametrize("place", PLACES)
def test_a_connection_that_is_cut_is_told_and_leaves_nothing(
    place: str, proxy: Proxy, start: StartRun, left_clean: LeftClean
) -> None:
    sign, after = PLACES[place]
    proxy.cut(sign, after=after)
    line = only_line(start("create").ended(4))
    assert proxy.reached.is_set()
    assert "server closed the connection unexpectedly: look at the server's log, then run again" in line
    left_clean()


@pytest.mark.usefixtures("server", "repository")
def test_of_two_errors_the_first_is_told(
    start: StartRun, install_plugin: InstallPlugin, write_config: WriteConfig
) -> None:
    install_plugin(CUT_OFF)
    write_config('plugins = ["badge"]\n')
    assert only_line(start("create").ended(4)) == "borg-vault: hook badge: that is enough"


@pytest.mark.parametrize("place", SILENT_PLACES)
def test_a_connection_on_which_nothing_comes_any_more_is_given_up(
    place: str, proxy: Proxy, start: StartRun, write_config: WriteConfig, left_clean: LeftClean
) -> None:
    write_config('[database]\ntimeout = "1s"\nlock_timeout = "1s"\n')
    sign, after = PLACES[place]
    proxy.hold(sign, after=after)
    run = start("create")
    run.until(proxy.reached.is_set, "nothing comes any more")
    assert "raise database.timeout" in only_line(run.ended(4, seconds=GIVEN_UP_SECONDS))
    left_clean()


def test_a_network_that_is_gone_for_good_ends_the_run(
    proxy: Proxy, start: StartRun, write_config: WriteConfig, left_clean: LeftClean
) -> None:
    write_config('[database]\ntimeout = "1s"\n')
    proxy.hold(CHAIN, after=MID_COPY, everywhere=True)
    run = start("create")
    run.until(proxy.reached.is_set, "nothing comes any more")
    assert "raise database.timeout" in only_line(run.ended(4, seconds=GIVEN_UP_SECONDS))
    left_clean()


def test_a_chain_dump_that_is_cut_short_keeps_its_predecessors_files(
    server: Vault, proxy: Proxy, start: StartRun, tmp_path: Path
) -> None:
    chain = tmp_path / "chain"
    start("dump-chain", chain).ended(0)
    before = {path.name: path.read_bytes() for path in chain.iterdir()}
    server.execute("UPDATE orgs SET name = name || '!'")
    proxy.cut(CHAIN, after=MID_COPY)
    line = only_line(start("dump-chain", chain).ended(4))
    assert "look at the server's log, then run again" in line
    assert {path.name: path.read_bytes() for path in chain.iterdir()} == before
