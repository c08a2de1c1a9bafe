"""Where a drill happens: a server of its own that leaves nothing behind, or one that is as it was before."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import installed_distributions
from fix_artifacts import BackedUp
from fix_drill import Nights, Rehearse, by_name, plain_set, reseal, with_verdict
from fix_fault_disk import mounted
from fix_vault import Vault, connect, new_database, role, url_of

from borg_vault_plugin.account import server_account
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.cluster import Cluster, Distribution, throwaway_cluster
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.errors import PreflightError, SourceError
from borg_vault_plugin.recovery.drill import Drill, Extraction, NamedServer, Rehearsal, drill
from borg_vault_plugin.recovery.ground import FLOOR_BYTES, find_distribution, make_ready, source_of
from borg_vault_plugin.recovery.rebuild import discard
from borg_vault_plugin.recovery.target import exact_clients, target_on
from borg_vault_plugin.sealed_set import open_set

pytest_plugins = ("fix_server", "fix_backed_up", "fix_nights")

DATABASES = "SELECT datname FROM pg_database ORDER BY 1"
ROLES = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"


def inventory(cluster: Cluster) -> list[list[tuple[str, ...]]]:
    with connect(cluster.conninfo()) as connection:
        return [connection.execute(query.encode()).fetchall() for query in (DATABASES, ROLES)]


@pytest.fixture(scope="module")
def elsewhere(newest: Distribution) -> Iterator[Cluster]:
    """Somebody's server of the newest PostgreSQL that has never seen the vault."""
    with throwaway_cluster(newest) as cluster:
        yield cluster


def named(cluster: Cluster, name: str = "drill of night", *, url: str | None = None) -> NamedServer:
    return NamedServer(source_from_url(url or cluster.url()), name)


def test_a_server_of_our_own_that_fails_is_why_nothing_was_checked(
    nights: Nights, newest: Distribution, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sealed = open_set(nights.second)
    with throwaway_cluster(newest) as cluster:
        target = target_on(source_of(cluster), "night", exact_clients(newest.major), tmp_path, own=True)
        cluster.stop(immediate=True)
        with pytest.raises(NotCheckedError, match="the throwaway server has failed: "):
            make_ready(sealed, target, cluster)
        discard(target)
    assert caplog.messages == []  # nothing was made there, so there is nothing to drop by hand


def test_a_named_server_is_as_it_was_after_a_drill(nights: Nights, elsewhere: Cluster, rehearse: Rehearse) -> None:
    before = inventory(elsewhere)
    done = rehearse(nights.second, server=named(elsewhere))
    assert (done.verdict, with_verdict(done, "failed", "not_checked")) == ("passed", [])
    assert by_name(done)["restore"].detail.startswith("as drill of night on postgres on ")
    assert "1 role made, unable to log in" in by_name(done)["restore"].detail
    assert inventory(elsewhere) == before


def test_roles_that_are_there_stay_as_they_are(nights: Nights, elsewhere: Cluster, rehearse: Rehearse) -> None:
    with connect(elsewhere.conninfo()) as connection:
        connection.execute("CREATE ROLE agledger_app LOGIN CREATEDB")
        before = inventory(elsewhere)
        assert rehearse(nights.second, server=named(elsewhere)).verdict == "passed"
        kept = "SELECT rolcanlogin, rolcreatedb FROM pg_roles WHERE rolname = 'agledger_app'"
        assert connection.execute(kept).fetchone() == (True, True)
        assert inventory(elsewhere) == before
        connection.execute("DROP ROLE agledger_app")


def test_everything_hard_is_drilled_on_a_named_server(backed_up: BackedUp, rehearse: Rehearse) -> None:
    before = inventory(backed_up.cluster)
    done = rehearse(backed_up.directory, server=named(backed_up.cluster))
    assert (done.verdict, with_verdict(done, "failed", "not_checked")) == ("passed", [])
    assert inventory(backed_up.cluster) == before


def test_a_drill_that_fails_leaves_a_named_server_as_it_was(
    nights: Nights, second_night: Path, elsewhere: Cluster, rehearse: Rehearse
) -> None:
    before = inventory(elsewhere)
    nights.redump(second_night, "ALTER TABLE pgboss.job OWNER TO CURRENT_USER; DELETE FROM pgboss.job")
    reseal(second_night)
    done = rehearse(second_night, server=named(elsewhere))
    assert with_verdict(done, "failed") == ["database"]
    assert inventory(elsewhere) == before


def test_a_database_that_exists_is_refused(nights: Nights, elsewhere: Cluster, rehearse: Rehearse) -> None:
    with new_database(elsewhere) as name, pytest.raises(PreflightError, match=f"database {name} exists on that server"):
        rehearse(nights.second, server=named(elsewhere, name))


def test_a_server_that_does_not_answer_is_an_error(nights: Nights, rehearse: Rehearse, tmp_path: Path) -> None:
    nowhere = NamedServer(source_from_url(f"postgresql://u@/x?host={tmp_path}"), "drill")
    with pytest.raises(SourceError, match=r"^database x on /.*: .*No such file or directory: start the server"):
        rehearse(nights.second, server=nowhere)


def test_a_server_of_another_major_is_no_verdict(nights: Nights, rehearse: Rehearse) -> None:
    with throwaway_cluster(find_distribution(16)) as older:
        done = rehearse(nights.second, server=named(older))
    assert with_verdict(done, "not_checked") == ["restore", "database", "registry", "export", "collations"]
    assert "is a PostgreSQL 16, the archive's is 18" in by_name(done)["restore"].detail
    assert (done.verdict, done.exit_code) == ("not_checked", 11)


def test_rights_that_are_missing_are_told_all_at_once(nights: Nights, elsewhere: Cluster, rehearse: Rehearse) -> None:
    before = inventory(elsewhere)
    vault = Vault(elsewhere, "postgres", nights.vault.sample)
    with role(vault, grant=False) as name, pytest.raises(PreflightError) as refused:
        rehearse(nights.second, server=named(elsewhere, url=url_of(vault, name)))
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    assert said.endswith(
        " may not make a database (CREATEDB); make role agledger_app (CREATEROLE); hand things to role postgres, being"
        " no member; make event triggers (SUPERUSER, or what stands for it on a managed server)"
    )
    assert inventory(elsewhere) == before


def test_a_server_of_our_own_is_found_by_its_major() -> None:
    majors = sorted({found.major for _, found in installed_distributions()})
    assert [find_distribution(major).major for major in majors] == majors
    listing = ", ".join(map(str, majors))
    with pytest.raises(
        NotCheckedError, match=rf"^no PostgreSQL 12 server here: found {listing}: install postgresql-12$"
    ):
        find_distribution(12)
    with pytest.raises(NotCheckedError, match=r"^no pg_restore 12 here: found .*: install postgresql-client-12$"):
        exact_clients(12)


def test_what_the_environment_says_of_other_servers_leads_no_drill_astray(
    nights: Nights, rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"PGHOSTADDR": "192.0.2.1", "PGOPTIONS": "-c search_path=nowhere", "PGPASSWORD": "x", "PGDATABASE": "y"}
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    assert rehearse(nights.second).verdict == "passed"


@pytest.fixture
def own_place(latest_cluster: Cluster) -> Iterator[Path]:
    """A directory of the server's account."""
    place = latest_cluster.directory / "tablespace"
    place.mkdir(mode=0o700)
    latest_cluster.account.give(place)
    yield place
    shutil.rmtree(place)


def drilled(cluster: Cluster, database: str, staging: Path, tmp_path: Path) -> Drill:
    """Drill a database without a vault: what is about the vault cannot pass."""
    directory = plain_set(cluster, database, tmp_path / "set").directory
    return drill(Extraction("plain", directory), Rehearsal(staging))


def test_tablespaces_are_made(latest_cluster: Cluster, own_place: Path, staging: Path, tmp_path: Path) -> None:
    with connect(latest_cluster.conninfo()) as server:
        server.execute(f"CREATE TABLESPACE \"fast disk\" LOCATION '{own_place}'".encode())
        with new_database(latest_cluster) as name:
            with connect(latest_cluster.conninfo(name)) as connection:
                connection.execute('CREATE TABLE t (a integer) TABLESPACE "fast disk"; INSERT INTO t VALUES (1)')
            done = drilled(latest_cluster, name, staging, tmp_path)
        server.execute('DROP TABLESPACE "fast disk"')
    assert by_name(done)["database"].verdict == "passed", by_name(done)


def test_a_tablespace_that_a_named_server_lacks_is_named(
    nights: Nights, own_place: Path, elsewhere: Cluster, second_night: Path, rehearse: Rehearse
) -> None:
    with connect(nights.vault.cluster.conninfo()) as server:
        server.execute(f"CREATE TABLESPACE fast LOCATION '{own_place}'".encode())
        nights.redump(second_night, "CREATE TABLE t (a integer) TABLESPACE fast")
        server.execute("DROP TABLESPACE fast")
    reseal(second_night)
    done = rehearse(second_night, server=named(elsewhere))
    assert by_name(done)["restore"].detail == "this server lacks tablespace fast: install or make what is missing"
    assert done.verdict == "not_checked"


def test_a_database_may_be_called_postgres(newest: Distribution, staging: Path, tmp_path: Path) -> None:
    with throwaway_cluster(newest) as cluster:
        with connect(cluster.conninfo()) as connection:
            connection.execute("CREATE TABLE t (a integer)")
        done = drilled(cluster, "postgres", staging, tmp_path)
    assert by_name(done)["database"].verdict == "passed", by_name(done)


@pytest.fixture
def small_disk(staging: Path) -> Iterator[Callable[[str], Path]]:
    """Mounter of a small disk that the server's account can reach."""
    with contextlib.ExitStack() as disks:

        def mount(size: str) -> Path:
            place = disks.enter_context(mounted(staging / "disk", size=size, files=20_000)).path
            place.chmod(0o755)
            return place

        yield mount
    (staging / "disk").rmdir()


def test_a_disk_without_room_is_refused_with_numbers(nights: Nights, small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("64m")
    with pytest.raises(PreflightError, match=r"^a drill in .*/disk needs about \d+ MB, but 67 MB are free"):
        drill(Extraction("night", nights.second), Rehearsal(disk))
    assert list(disk.iterdir()) == []


# Stored as it was computed long ago; a restore computes it anew, and it has become long.
GROWN = (
    "CREATE FUNCTION wide() RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT repeat(''x'', 10)'",
    "CREATE TABLE growing (a integer, b text STORAGE EXTERNAL GENERATED ALWAYS AS (public.wide()) STORED)",
    "INSERT INTO growing SELECT generate_series(1, 60)",
    "CREATE OR REPLACE FUNCTION wide() RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT repeat(''x'', 10000000)'",
)


def test_a_disk_that_fills_up_is_no_verdict(
    nights: Nights, second_night: Path, small_disk: Callable[[str], Path]
) -> None:
    nights.redump(second_night, *GROWN)
    reseal(second_night)
    disk = small_disk(f"{FLOOR_BYTES // (1 << 20) + 16}m")
    done = drill(Extraction("night", second_night), Rehearsal(disk))
    assert with_verdict(done, "failed") == []
    assert "No space left on device" in by_name(done)["restore"].detail
    assert (done.verdict, done.exit_code) == ("not_checked", 11)
    assert list(disk.iterdir()) == []


DRILL = """
import json, sys
from pathlib import Path
from borg_vault_plugin.recovery.drill import Extraction, Rehearsal, drill
directory, staging = map(Path, json.loads(sys.argv[1]))
drill(Extraction("night", directory), Rehearsal(staging))
"""
SLOW = (
    "CREATE FUNCTION slow() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    "CREATE MATERIALIZED VIEW slowly AS SELECT public.slow() AS a",
    "CREATE OR REPLACE FUNCTION slow() RETURNS integer LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN 1; END'",
)


def running(words: str) -> list[int]:
    """List the processes whose command or title says this."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if words.encode() in path.read_bytes().replace(b"\0", b" ") and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


def until(what: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_drill_that_is_killed_leaves_nothing_after_the_next(
    ending: signal.Signals, nights: Nights, second_night: Path, staging: Path
) -> None:
    nights.redump(second_night, *SLOW)
    reseal(second_night)
    command = [sys.executable, "-c", DRILL, json.dumps([str(second_night), str(staging)])]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until(lambda: running("REFRESH"))
        process.send_signal(ending)
    until(lambda: not running(str(staging)) and not running("REFRESH"))
    for left in staging.iterdir():
        os.utime(left, (0, 0))  # as if it had been left long ago
    assert drill(Extraction("night", nights.second), Rehearsal(staging)).verdict == "passed"
    assert list(staging.iterdir()) == []


# Tells, as an error, what the archive's own code can see.
SPY = (
    "CREATE FUNCTION seen() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    "CREATE MATERIALIZED VIEW spying AS SELECT public.seen() AS a",
    """CREATE OR REPLACE FUNCTION seen() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'networks: %; user %',
            (SELECT string_agg(m[1], ',') FROM regexp_matches(pg_read_file('/proc/self/net/dev'), '(\\w+):', 'g') m),
            substring(pg_read_file('/proc/self/status') FROM 'Uid:\\s+(\\d+)');
        END $$""",
)


def test_what_an_archive_runs_has_no_network_and_is_not_root(
    nights: Nights, second_night: Path, rehearse: Rehearse
) -> None:
    nights.redump(second_night, *SPY)
    reseal(second_night)
    done = rehearse(second_night)
    assert with_verdict(done, "failed") == ["restore"]
    told = by_name(done)["restore"].detail
    assert "user 0" not in told
    if server_account(isolated_network=True).isolated_network:
        assert "networks: lo; user" in told
