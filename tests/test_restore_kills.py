"""A restore that is killed leaves either database under the live name, open; one that is ended leaves nothing."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import psycopg
import pytest
from fix_cli import RunCli
from fix_fault_run import Run, StartRun, eventually
from fix_restore import Rescue
from psycopg import sql

pytest_plugins = ("fix_server", "fix_rescue", "fix_faults")

# Stands still in pg_restore, and nowhere else.
SLOW = (
    """CREATE FUNCTION slowly(integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('application_name') = 'pg_restore' THEN PERFORM pg_catalog.pg_sleep(60); END IF;
    RETURN true; END $$""",
    "CREATE TABLE slow (a integer CHECK (public.slowly(a)))",
    "INSERT INTO slow VALUES (1)",
)
WAITS = """
SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE NOT l.granted AND l.mode = 'AccessExclusiveLock' AND l.locktype = 'object'
   AND a.application_name = 'borg-vault'"""


@contextlib.contextmanager
def held(rescue: Rescue, database: str) -> Iterator[None]:
    """Keep anybody from renaming a database, and let everybody connect to it."""
    with contextlib.closing(psycopg.connect(rescue.vault.cluster.conninfo())) as holding:
        holding.execute(sql.SQL("COMMENT ON DATABASE {} IS 'held'").format(sql.Identifier(database)))
        yield


def waits_for_its_name(rescue: Rescue, run: Run) -> None:
    """Wait until a run is in the middle of its swap, where somebody holds it up."""

    def look() -> bool:
        with rescue.on_server() as connection:
            row = connection.execute(WAITS).fetchone()
        return row is not None and row[0] > 0

    run.until(look, "the swap waits for a database")


def nobody_is_left(rescue: Rescue) -> None:
    """Wait until the server has noticed that the run is gone."""

    def look() -> bool:
        with rescue.on_server() as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('borg-vault', 'pg_restore')"
            row = connection.execute(query).fetchone()
        return row == (0,)

    eventually(look, "the server has ended the run's sessions")


def killed(run: Run) -> None:
    run.signal(signal.SIGKILL)
    run.popen.wait(20)
    eventually(lambda: not run.survivors(), "no child survives it")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_while_it_restores_it_leaves_nothing(
    rescue: Rescue, run_cli: RunCli, start: StartRun, number: signal.Signals
) -> None:
    rescue.vault.execute(*SLOW)
    run_cli("create", exit_code=0)
    with rescue.without_roles():
        before = rescue.roles()
        run = start("restore", "--swap", "--yes")
        run.child("--exit-on-error")
        run.signal(number)
        run.ended(128 + number)
        assert rescue.databases() == {rescue.live}
        assert rescue.roles() == before
    assert list((rescue.state / "staging").glob("*/*")) == []
    assert rescue.open(rescue.live)


def test_killed_while_it_restores_the_live_database_is_untouched(
    rescue: Rescue, run_cli: RunCli, start: StartRun
) -> None:
    rescue.vault.execute(*SLOW)
    run_cli("create", exit_code=0)
    before = rescue.digests()
    run = start("restore", "--swap", "--yes", "--database", f"{rescue.live} half")
    run.child("--exit-on-error")
    killed(run)
    nobody_is_left(rescue)
    assert (rescue.digests(), rescue.open(rescue.live)) == (before, True)
    assert f"{rescue.live} half" in rescue.databases()
    # What is half there takes nobody's place, and is in nobody's way.
    run_cli("restore", "--swap", "--yes", "--database", f"{rescue.live} half", exit_code=10)
    assert rescue.digests() == before
    document = run_cli(
        "restore", rescue.nights.newer, "--swap", "--yes", "--accept-loss", "--json", exit_code=0
    ).document
    assert document["swapped"]


def test_killed_in_the_middle_of_the_swap_the_old_database_is_live_and_open(
    rescue: Rescue, run_cli: RunCli, start: StartRun
) -> None:
    restored = run_cli("restore", "--json", exit_code=0).document["database"]
    rescue.vault.execute("INSERT INTO notes VALUES (2, 'written since')")
    before = rescue.digests()
    for holding in (rescue.live, restored):
        with held(rescue, holding):
            run = start("restore", "--swap", "--yes", "--database", restored)
            waits_for_its_name(rescue, run)
            killed(run)
        nobody_is_left(rescue)
        assert rescue.databases() == {rescue.live, restored}
        assert rescue.open(rescue.live)
        assert rescue.open(restored)
        assert rescue.digests() == before
    # The next run finds nothing that it would have to mend.
    run_cli("restore", "--swap", "--yes", "--database", restored, exit_code=0)
    assert rescue.digests() != before


def test_a_swap_that_somebody_holds_up_is_given_up_and_told(rescue: Rescue, run_cli: RunCli) -> None:
    before = rescue.digests()
    restored = run_cli("restore", "--json", exit_code=0).document["database"]
    with held(rescue, rescue.live):
        said = run_cli("restore", "--swap", "--yes", "--database", restored, exit_code=4)
    assert f"{rescue.live} could not be renamed, and is as it was; {restored} is there still: " in said.stderr
    assert rescue.digests() == before
    assert rescue.open(rescue.live)


def test_killed_after_the_swap_the_restored_database_is_live_and_open(
    rescue: Rescue, run_cli: RunCli, start: StartRun
) -> None:
    restored = run_cli("restore", "--json", exit_code=0).document["database"]
    expected = rescue.digests()
    rescue.vault.execute("DELETE FROM notes")
    run = start("restore", "--swap", "--yes", "--database", restored)
    eventually(lambda: restored not in rescue.databases(), "the names have changed")
    killed(run)
    assert rescue.digests() == expected
    assert rescue.open(rescue.live)
    (previous,) = rescue.databases() - {rescue.live}
    assert not rescue.open(previous)
    run_cli("restore", exit_code=0)


def test_an_interruption_during_the_swap_comes_too_late(rescue: Rescue, run_cli: RunCli, start: StartRun) -> None:
    restored = run_cli("restore", rescue.nights.older, "--accept-loss", "--json", exit_code=0).document["database"]
    words = ("restore", rescue.nights.older, "--accept-loss", "--swap", "--yes", "--database", restored)
    with held(rescue, rescue.live):
        run = start(*words)
        waits_for_its_name(rescue, run)
        run.signal(signal.SIGTERM)
        run.until(lambda: "SIGTERM comes too late" in run.said().stdout, "the signal has arrived")
    said = run.ended(0)
    assert f"PASSED: {rescue.nights.older} is {rescue.live} on " in said.stdout
    assert [event["archive"] for event in rescue.history("swapped", "rewound")] == [rescue.nights.older] * 2
