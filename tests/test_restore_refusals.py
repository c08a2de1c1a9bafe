"""What a restore refuses before it touches anything: in one line, with a code of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import wanted_distribution
from fix_cli import RunCli
from fix_fault_disk import MountDisk
from fix_restore import CONFIG, OWNER, Rescue
from fix_vault import connect

from borg_vault_plugin.cluster import throwaway_cluster
from borg_vault_plugin.lock import run_lock

pytest_plugins = ("fix_server", "fix_rescue", "fix_faults")

SECRET = "hunter2-of-the-other-server"


def test_a_url_never_stands_on_a_command_line(rescue: Rescue, run_cli: RunCli) -> None:
    url = f"postgresql://postgres:{SECRET}@elsewhere/server"
    with rescue.untouched():
        for target in (url, f"host=elsewhere password={SECRET}"):
            said = run_cli("restore", "--to", target, "--json", exit_code=2)
            assert "everybody on this machine could read its password" in said.stderr
            assert SECRET not in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("words", "exit_code", "reason"),
    [
        (["--to", "nowhere"], 3, "there is no target named 'nowhere'"),
        (["--to", "env:NOT_SET"], 3, "--to: env NOT_SET gives nothing"),
        (["--to", "file:/nowhere"], 3, "/nowhere cannot be read"),
        (["--swap"], 2, "there is no terminal to ask on: add --yes"),
        (["--only", "chain", "/tmp/never", "--swap"], 2, "--only writes files and restores nothing"),
        (["--database", "x" * 64], 2, "1 to 63 bytes"),
        (["--database", "é" * 32], 2, "1 to 63 bytes"),
        (["--database", ""], 2, "1 to 63 bytes"),
        (["prod-2000-01-01T00:00:00Z"], 2, "see `borg-vault list`"),
    ],
)
def test_what_makes_no_sense_is_refused(
    rescue: Rescue, run_cli: RunCli, words: list[str], exit_code: int, reason: str
) -> None:
    with rescue.untouched():
        said = run_cli("restore", *words, exit_code=exit_code)
    assert reason in said.stderr
    assert said.stderr.count("\n") == 1


def test_nothing_is_restored_into_the_live_database(rescue: Rescue, run_cli: RunCli) -> None:
    with rescue.untouched():
        said = run_cli("restore", "--database", rescue.live, exit_code=2)
    assert f"--database {rescue.live} is the live database, into which nothing is ever restored" in said.stderr


def test_a_database_that_is_there_is_left_alone(rescue: Rescue, run_cli: RunCli) -> None:
    name = f"{rescue.live} taken"
    rescue.execute("CREATE DATABASE {}", name)
    with rescue.untouched():
        said = run_cli("restore", "--database", name, exit_code=7)
        assert f"database {name} on " in said.stderr
        assert "is there already" in said.stderr
        # Whatever its name: what does not hold what was archived takes nobody's place.
        said = run_cli("restore", "--database", name, "--swap", "--yes", exit_code=10)
        assert f"FAILED: {rescue.nights.newer} was held against {name} on " in said.stdout
        assert "DROP DATABASE" not in said.stdout
    assert rescue.history("restored") == []


def test_another_run_that_holds_the_lock_keeps_a_swap_away(rescue: Rescue, run_cli: RunCli) -> None:
    with rescue.untouched(), run_lock(rescue.state, "prod"):
        assert "another run holds" in run_cli("restore", "--swap", "--yes", exit_code=6).stderr


def test_a_server_that_is_not_there_is_named(rescue: Rescue, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELSEWHERE", f"postgresql://postgres:{SECRET}@/server?host=/nowhere")
    said = run_cli("restore", "--to", "env:ELSEWHERE", exit_code=4)
    assert "database server on /nowhere: " in said.stderr
    assert SECRET not in said.stderr
    assert rescue.history("restored") == []


def test_a_database_that_is_no_servers_is_restored_beside_only_under_a_name_that_was_given(
    rescue: Rescue, run_cli: RunCli
) -> None:
    rescue.vault.execute("ALTER EVENT TRIGGER audit_tables_stay DISABLE", "DROP TABLE records, audit_vault CASCADE")
    with rescue.untouched():
        assert "is no Server's" in run_cli("restore", exit_code=7).stderr
        assert "is no Server's" in run_cli("restore", "--swap", "--yes", "--database", "x", exit_code=7).stderr
    run_cli("restore", "--database", f"{rescue.live} beside", exit_code=0)


def test_a_database_that_cannot_be_looked_into_is_not_swapped(rescue: Rescue, run_cli: RunCli) -> None:
    rescue.execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", rescue.live)
    before = rescue.databases()
    for words in ([], ["--swap", "--yes"], ["--swap", "--yes", "--accept-loss"]):
        said = run_cli("restore", *words, exit_code=7)
        assert "cannot be looked into (it takes no connections)" in said.stderr
    assert rescue.databases() == before
    assert not rescue.open(rescue.live)


def test_an_older_server_does_not_take_the_dump(
    rescue: Rescue, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with throwaway_cluster(wanted_distribution("embedded-16"), settings={"max_connections": "20"}) as older:
        monkeypatch.setenv("OLDER", older.url("server"))
        said = run_cli("restore", "--to", "env:OLDER", exit_code=7)
        assert "holds a dump of PostgreSQL 18, which PostgreSQL 16 on" in said.stderr
        with connect(older.conninfo()) as connection:
            names = connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
    assert names == [("postgres",), ("template0",), ("template1",)]
    assert rescue.history("restored") == []


@contextlib.contextmanager
def reached_as(rescue: Rescue, monkeypatch: pytest.MonkeyPatch, options: str) -> Iterator[str]:
    role = f"operator of {rescue.live}"
    rescue.execute(f"CREATE ROLE {{}} LOGIN PASSWORD '{rescue.vault.cluster.password}' {options}", role)
    rescue.execute("GRANT pg_read_all_data TO {}", role)
    url = rescue.vault.url.replace(f"//{rescue.vault.cluster.user}:", f"//{role.replace(' ', '%20')}:")
    monkeypatch.setenv("DATABASE_URL", url)
    yield role
    rescue.execute("REVOKE pg_read_all_data FROM {}", role)
    rescue.execute("DROP ROLE {}", role)


def test_rights_that_are_missing_are_named_all_at_once(
    rescue: Rescue, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reached_as(rescue, monkeypatch, "BYPASSRLS") as role, rescue.untouched():
        said = run_cli("restore", exit_code=7).stderr
        for words in (
            f"role {role} of ",
            "make a database (CREATEDB)",
            "make event triggers",
            f"hand things to roles {OWNER}",
        ):
            assert words in said
        assert f"role {role} may not rename {rescue.live}" in run_cli("restore", "--swap", "--yes", exit_code=7).stderr


def test_a_role_that_may_make_databases_still_cannot_make_event_triggers(
    rescue: Rescue, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reached_as(rescue, monkeypatch, "CREATEDB BYPASSRLS") as role:
        rescue.execute("GRANT {}, {} TO {}", OWNER, "postgres", role)
        with rescue.untouched():
            assert "make event triggers" in run_cli("restore", exit_code=7).stderr
        rescue.execute("REVOKE {}, {} FROM {}", OWNER, "postgres", role)


def test_an_archive_with_a_file_that_was_changed_is_refused(rescue: Rescue, run_cli: RunCli) -> None:
    archive = rescue.store_altered(lambda directory: flip(directory / "vault-public-keys.csv"), sealed=False)
    with rescue.untouched():
        document = run_cli("restore", "--swap", "--yes", "--json", exit_code=10).document
    assert (document["archive"], document["database"], document["verdict"]) == (archive, None, "failed")
    files = document["checks"][0]
    assert files["verdict"] == "failed"
    assert "vault-public-keys.csv: SET_FILE_CHANGED" in files["detail"]
    assert document["next"][0]["command"] == f"borg-vault verify {archive}"


def test_a_dump_that_was_cut_in_half_is_refused(rescue: Rescue, run_cli: RunCli) -> None:
    def cut(directory: Path) -> None:
        dump = directory / "db.dump"
        dump.write_bytes(dump.read_bytes()[: dump.stat().st_size // 2])

    rescue.store_altered(cut)
    with rescue.untouched():
        said = run_cli("restore", exit_code=10).stdout
    assert "dump: failed: db.dump is not whole" in said
    assert "was not restored; nothing on" in said


def test_an_archive_that_is_not_what_its_comment_names_is_no_verdict(rescue: Rescue, run_cli: RunCli) -> None:
    archive = rescue.store_altered(lambda _directory: None)
    rescue.repository.borg("recreate", f"--comment=verdict=good manifest=sha256:{'0' * 64}", f"::{archive}")
    with rescue.untouched():
        said = run_cli("restore", exit_code=11).stdout
    assert "files: not checked: the manifest is not the one that the archive's comment names" in said


def test_an_archive_of_somebody_else_is_no_verdict_and_never_swapped(rescue: Rescue, run_cli: RunCli) -> None:
    rescue.repository.add("holiday-pictures")
    with rescue.untouched():
        said = run_cli("restore", "holiday-pictures", exit_code=11)
        assert "holiday-pictures is no archive of prod" in said.stderr
        said = run_cli("restore", "holiday-pictures", "--swap", "--yes", exit_code=7)
        assert "cannot be swapped: holiday-pictures is no archive of prod" in said.stderr


def test_an_archive_of_another_set_holds_no_database(rescue: Rescue, run_cli: RunCli, tmp_path: Path) -> None:
    rescue.repository.add_at("2026-01-01T00:00:00", "prod-keys-2026-01-01T00:00:00Z", comment="verdict=good set=keys")
    for words in ([], ["--only", "dump", tmp_path / "out"]):
        with rescue.untouched():
            said = run_cli("restore", "prod-keys-2026-01-01T00:00:00Z", *words, exit_code=2)
        assert "holds the keys set, and no database" in said.stderr


def test_a_swap_that_could_not_be_recorded_is_refused(rescue: Rescue, run_cli: RunCli) -> None:
    (rescue.state / "history.ndjson").unlink()
    (rescue.state / "history.ndjson").mkdir()
    with rescue.untouched():
        said = run_cli("restore", "--swap", "--yes", exit_code=3)
    assert "history.ndjson cannot be written" in said.stderr


def test_an_archive_that_does_not_fit_where_it_is_looked_at_is_refused(
    rescue: Rescue, run_cli: RunCli, write_config: Callable[[str], Path], mount_disk: MountDisk
) -> None:
    disk = mount_disk("small", size="200k")
    write_config(f'staging_directory = "{disk.path}"\n{CONFIG}')
    with rescue.untouched():
        said = run_cli("restore", exit_code=7)
    assert f"{rescue.nights.newer}, extracted in {disk.path}" in said.stderr


def test_without_a_good_archive_there_is_no_latest(rescue: Rescue, run_cli: RunCli) -> None:
    rescue.repository.borg("delete", "::", rescue.nights.older, rescue.nights.newer)
    with rescue.untouched():
        assert "there is no good archive of prod yet" in run_cli("restore", exit_code=2).stderr


def test_a_suspect_archive_is_restored_beside_with_a_warning_and_never_swapped(rescue: Rescue, run_cli: RunCli) -> None:
    suspect = rescue.nights.suspect
    with rescue.untouched():
        said = run_cli("restore", suspect, "--swap", "--yes", exit_code=10)
    assert f"{suspect} is suspect: its manifest.json says why" in said.stderr
    name = f"{rescue.live} suspect"
    said = run_cli("restore", suspect, "--database", name, exit_code=10)
    assert "does not verify: it is restored all the same, beside" in said.stderr
    assert "chain: failed: 1 findings: CHAIN_ACTOR_ATTRIBUTION_MISMATCH" in said.stdout
    assert "export: passed" in said.stdout
    assert f'DROP DATABASE "{name}"' in said.stdout
    assert name in rescue.databases()


def test_an_archive_that_was_never_finished_is_restored_only_by_its_name(rescue: Rescue, run_cli: RunCli) -> None:
    rescue.repository.borg("delete", f"::{rescue.nights.older}")
    rescue.repository.borg("rename", f"::{rescue.nights.newer}", f"{rescue.nights.newer}.partial")
    with rescue.untouched():
        run_cli("restore", exit_code=2)
    said = run_cli("restore", f"{rescue.nights.newer}.partial", exit_code=0, warning="was never finished or compared")
    assert "PASSED" in said.stdout


def test_what_cannot_be_proven_stays_beside(
    rescue: Rescue, run_cli: RunCli, write_config: Callable[[str], Path]
) -> None:
    write_config(f"{CONFIG}[database]\ntable_digests = false\n")
    run_cli("create", exit_code=0)
    before = rescue.digests()
    document = run_cli("restore", "--swap", "--yes", "--json", exit_code=11).document
    assert (document["verdict"], document["swapped"]) == ("not_checked", False)
    assert rescue.databases() == {rescue.live, document["database"]}
    assert rescue.digests() == before
    (step,) = document["next"]
    assert step["command"] == f'DROP DATABASE "{document["database"]}";'
    assert [event["verdict"] for event in rescue.history("restored")] == ["not_checked"]


def test_a_proof_that_fails_leaves_the_live_database_alone(rescue: Rescue, run_cli: RunCli) -> None:
    def claim_more_rows(directory: Path) -> None:
        manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
        next(table for table in manifest["survey"]["tables"] if table["name"] == "notes")["rows"] = 2
        (directory / "manifest.json").write_text(json.dumps(manifest), "utf-8")

    rescue.store_altered(claim_more_rows)
    before = rescue.digests()
    said = run_cli("restore", "--swap", "--yes", exit_code=10).stdout
    assert "database: failed: table public.notes has 1 rows, had 2" in said
    assert f"was restored as {rescue.live}_restored_" in said
    assert rescue.digests() == before
    assert rescue.open(rescue.live)
    assert len(rescue.databases()) == 2


def test_a_dump_that_does_not_restore_leaves_nothing(rescue: Rescue, run_cli: RunCli) -> None:
    # A check that looks for a table by the search path, as many do: pg_restore has none.
    rescue.vault.execute(
        "CREATE FUNCTION known(integer) RETURNS boolean LANGUAGE sql"
        " AS 'SELECT EXISTS (SELECT FROM notes WHERE number = $1)'",
        "CREATE TABLE citations (number integer CHECK (public.known(number)))",
        "INSERT INTO citations VALUES (1)",
    )
    run_cli("create", exit_code=0)
    with rescue.without_roles():
        before = rescue.roles()
        said = run_cli("restore", "--swap", "--yes", exit_code=10)
        assert "restore: failed: pg_restore 18" in said.stdout
        assert "could not be finished: it is dropped, with the roles that were made for it" in said.stderr
        assert "nothing on" in said.stdout
        assert rescue.databases() == {rescue.live}
        assert rescue.roles() == before
        assert rescue.open(rescue.live)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
