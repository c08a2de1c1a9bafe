"""Nights of the script come in, dated as they were, each extending the one before; then comes a night of ours."""

from __future__ import annotations

import fcntl
import hashlib
import signal
import subprocess
import time
from pathlib import Path

from fix_cli import COMMAND
from fix_tarball import PIN, PROJECT, VERSION, Operator, unpacked

from borg_vault_plugin.history import History

pytest_plugins = ("fix_server", "fix_script_nights")


def test_archives_are_dated_as_the_tarballs_were_whatever_the_order_on_the_command_line(convert: Operator) -> None:
    archives = convert.repository.archives()
    assert [one["name"] for one in archives] == [night.archive for night in convert.nights]
    assert [one["start"] for one in archives] == [f"{night.time:%Y-%m-%dT%H:%M:%S.000000}" for night in convert.nights]
    assert [one["archive"] for one in convert.document["files"]] == [night.archive for night in convert.nights]


def test_each_night_extends_the_one_before_and_every_signature_is_verified(convert: Operator) -> None:
    backups = [one["backup"] for one in convert.document["files"]]
    names = [night.archive for night in convert.nights]
    assert [one["verdict"] for one in backups] == ["good"] * 3
    assert [one["continuity"]["previous"] for one in backups] == [None, *names[:-1]]
    assert [one["continuity"]["verdict"] for one in backups] == ["not_applicable", "passed", "passed"]
    assert all(one["chain"]["signatures_checked"] and not one["chain"]["signatures_carried"] for one in backups)


def test_an_imported_archive_holds_the_same_files_as_one_of_ours(convert: Operator) -> None:
    ours = convert.run("create", "--json", "--no-prune", exit_code=0).document
    theirs = convert.document["files"][-1]["backup"]
    kinds = [
        {(one["path"], one["producer"], one["rows"]) for one in document["artifacts"]} for document in (ours, theirs)
    ]
    assert kinds[0] == kinds[1]
    same = [{one["path"]: one["sha256"] for one in document["artifacts"]} for document in (ours, theirs)]
    assert {path for path in same[0] if same[0][path] != same[1][path]} <= {"db.dump", "roles.sql", "database.sql"}


def test_the_dump_stays_as_it_was_to_the_byte(convert: Operator, tmp_path: Path) -> None:
    night = convert.nights[0]
    dump = unpacked(night.tarball, tmp_path / "unpacked") / "db.dump"
    assert convert.repository.read(night.archive, "db.dump") == dump.read_bytes()


def test_the_manifest_says_where_a_set_came_from(convert: Operator) -> None:
    oldest, newest = convert.nights[0], convert.nights[-1]
    assert convert.manifest(oldest.archive)["origin"] == {
        "file": oldest.tarball.name,
        "sha256": hashlib.sha256(oldest.tarball.read_bytes()).hexdigest(),
        "metadata": {},
    }
    metadata = convert.manifest(newest.archive)["origin"]["metadata"]
    assert (
        metadata.items() >= {"compose_project": PROJECT, "agledger_version": VERSION, "agledger_image_pin": PIN}.items()
    )
    assert {"created_at", "database_token", "wal_lsn"} < metadata.keys()


def test_the_manifest_tells_of_the_source_and_not_of_the_throwaway_server(convert: Operator) -> None:
    vault, night = convert.script.vault, convert.nights[-1]
    snapshot = convert.manifest(night.archive)["snapshot"]
    assert snapshot["time"] == f"{night.time:%Y-%m-%dT%H:%M:%SZ}"
    assert snapshot["database"] == vault.database
    assert snapshot["system_identifier"] == vault.value("SELECT system_identifier::text FROM pg_control_system()")
    assert snapshot["server_version"] == vault.value("SELECT current_setting('server_version')").split()[0]
    assert convert.manifest(convert.nights[0].archive)["snapshot"]["system_identifier"] is None


def test_every_table_is_counted_as_it_was_that_night(convert: Operator) -> None:
    night = convert.nights[1]
    counted = {
        f"{one['schema']}.{one['name']}": one["rows"] for one in convert.manifest(night.archive)["survey"]["tables"]
    }
    was = {name: count for name, (count, _) in night.digests.items()}
    assert counted
    assert {name: was[name] for name in counted} == counted


def test_history_has_the_intent_and_the_result_of_each(convert: Operator) -> None:
    events = list(History(Path(convert.repository.path.parent, "xdg_state_home/borg-vault/history.ndjson")).events())
    for happening in ("intended", "created"):
        assert [one.archive for one in events if one.event == happening] == [one.archive for one in convert.nights]


def test_a_night_of_ours_extends_the_newest_and_carries_what_was_proved(convert: Operator) -> None:
    tonight = convert.run("create", "--json", "--no-prune", exit_code=0).document
    assert (tonight["verdict"], tonight["continuity"]["verdict"]) == ("good", "passed")
    assert tonight["continuity"]["previous"] == convert.nights[-1].archive
    assert tonight["chain"]["signatures_carried"] > 0
    assert len(convert.repository.names()) == 4


def test_nothing_is_pruned_by_an_import_and_retention_then_takes_the_oldest(convert: Operator) -> None:
    assert len(convert.repository.names()) == 3
    tonight = convert.run("create", "--json", "--keep", "3", exit_code=0).document
    assert tonight["pruned"][0]["removed"] == [convert.nights[0].archive]


def test_an_imported_archive_passes_its_drill(convert: Operator) -> None:
    drilled = convert.run("drill", "--json", convert.nights[1].archive, exit_code=0).document
    assert drilled["verdict"] == "passed"
    assert {check["verdict"] for check in drilled["checks"]} == {"passed"}


def test_what_is_there_already_is_passed_over_with_a_notice(convert: Operator) -> None:
    before = convert.repository.archives()
    said = convert.run("import", *(night.tarball for night in convert.nights[:2]), exit_code=0)
    assert f"{convert.nights[0].tarball.name} is there already, as {convert.nights[0].archive}" in said.stdout
    assert "2 tarballs: 2 there already" in said.stdout
    assert convert.repository.archives() == before


def test_one_file_under_two_names_is_imported_once(newcomer: Operator, tmp_path: Path) -> None:
    night = newcomer.script.nights[0]
    (tmp_path / "copy.tar.gz").write_bytes(night.tarball.read_bytes())
    found = newcomer.bring_in(night.tarball, tmp_path / "copy.tar.gz")
    assert [one["status"] for one in found] == ["imported", "there"]
    assert newcomer.repository.names() == [night.archive]


def test_an_import_that_was_killed_is_taken_up_again(newcomer: Operator, tmp_path: Path) -> None:
    nights, state = newcomer.script.nights[:2], tmp_path / "xdg_state_home" / "borg-vault"
    command = [str(COMMAND), "import", *(str(night.tarball) for night in nights)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        history = state / "history.ndjson"
        while not (history.exists() and b'"intended"' in history.read_bytes()):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    with (state / "prod.lock").open() as lock:  # its children hold it, and die a moment later
        fcntl.flock(lock, fcntl.LOCK_EX)
    newcomer.run("import", *(night.tarball for night in nights), exit_code=0)
    assert newcomer.repository.names() == [night.archive for night in nights]
    assert [one["comment"].split()[0] for one in newcomer.repository.archives()] == ["verdict=good"] * 2
    assert not list((state / "staging").rglob("run-*"))
