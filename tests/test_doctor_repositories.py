"""`doctor` and the repositories: who holds one, whether it opens, what is in it, and where its key is."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fix_cli import Said
from fix_doctor import Patient, read
from fix_fault_disk import MountDisk
from fix_installation import installed
from fix_port import free_port
from fix_repository import SECONDS, PlainRepository, initialised
from fix_shelf import Sshd

from borg_vault_plugin.borg import find_borg

pytest_plugins = ("fix_server", "fix_good_night", "fix_patient", "fix_sets", "fix_faults", "fix_sshd")

HOUR = timedelta(hours=1)
CONFIG = 'label = "prod"\n[sets.database]\nkeep = 7\n[repositories.default]\npath = "{path}"\n'


@contextmanager
def holding(repository: PlainRepository) -> Iterator[int]:
    """Have a live Borg hold a repository's lock, and give its process."""
    ready, hold = f"echo ready; exec sleep {SECONDS:.0f}", [str(find_borg().program), "with-lock", "::", "sh", "-c"]
    with subprocess.Popen(
        [*hold, ready], env=repository.environment(), stdout=subprocess.PIPE, start_new_session=True
    ) as borg:
        assert borg.stdout is not None
        assert borg.stdout.readline() == b"ready\n"
        try:
            yield borg.pid
        finally:
            os.killpg(borg.pid, signal.SIGKILL)


def held_by(repository: PlainRepository, *, age: timedelta) -> None:
    """Have somebody on another host read a repository since then."""
    roster = repository.path / "lock.roster"
    roster.write_text(json.dumps({"shared": [["elsewhere.example@1", 4711, 0]]}), "utf-8")
    then = (datetime.now(UTC) - age).timestamp()
    os.utime(roster, (then, then))


def test_a_live_borg_that_holds_the_lock_is_named_and_left_alone(patient: Patient) -> None:
    with holding(patient.repository) as process:
        seen = patient.seen()
        assert (patient.repository.path / "lock.exclusive").is_dir()
    lock = seen.one("lock")
    name = socket.gethostname()
    assert lock.state == "warning"
    assert re.fullmatch(rf"process {process} on {name} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\dZ", lock.detail)
    assert lock.advice == "nothing: a run waits for it (0:10:00)"
    repository = seen.one("repository")
    assert repository.state == "not_checked"
    assert repository.detail.startswith(f"cannot be looked into while process {process} on {name} since ")


def test_a_lock_that_is_held_longer_than_a_run_waits_fails(patient: Patient) -> None:
    held_by(patient.repository, age=HOUR)
    failure = patient.failure()
    assert failure.name == "lock"
    assert failure.detail.startswith("process 4711 on elsewhere.example since ")
    assert failure.detail.endswith(", reading, longer than a run waits (0:10:00)")
    assert failure.advice == "end that process, or `borg break-lock` when you are sure that it is gone"
    assert (patient.repository.path / "lock.roster").exists()


def test_how_long_a_run_waits_is_the_operators_word(patient: Patient) -> None:
    patient.write_config(CONFIG.format(path=patient.repository.path) + 'lock_wait = "2h"\n')
    held_by(patient.repository, age=HOUR)
    assert patient.seen().one("lock").state == "warning"


def test_the_lock_of_a_dead_borg_of_this_host_is_no_failure(patient: Patient) -> None:
    with holding(patient.repository) as process:
        pass
    (left,) = (patient.repository.path / "lock.exclusive").iterdir()
    assert f".{process}-" in left.name
    lock = patient.seen().one("lock")
    assert (lock.state, lock.advice) == ("warning", "nothing: the next Borg removes it")
    assert lock.detail.endswith("which is gone")


def _gone(patient: Patient, _patch: pytest.MonkeyPatch) -> None:
    patient.repository.path.rename(patient.repository.path.with_name("elsewhere"))


def _wrong_passphrase(_patient: Patient, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("BORG_PASSPHRASE", "wrong")


def _no_passphrase(_patient: Patient, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("BORG_PASSPHRASE")


def _no_descriptor(_patient: Patient, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("BORG_PASSPHRASE")
    patch.setenv("BORG_PASSPHRASE_FD", "999")


def _no_repository(patient: Patient, _patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(patient.repository.path)
    patient.repository.path.mkdir()
    (patient.repository.path / "file").touch()


def _unencrypted(patient: Patient, _patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(patient.repository.path)
    initialised(patient.repository.path, patient.repository.base, encryption="none")


def _unreachable(patient: Patient, _patch: pytest.MonkeyPatch) -> None:
    patient.write_config(CONFIG.format(path=f"ssh://127.0.0.1:{free_port()}/./vault"))


@pytest.mark.parametrize(
    ("trouble", "detail", "advice"),
    [
        (_gone, "does not exist", "create it with `borg-vault init`, or mend its path"),
        (_wrong_passphrase, "Passphrase supplied in", "give the right passphrase"),
        (_no_passphrase, "repository default has no passphrase", "set BORG_PASSPHRASE, BORG_PASSCOMMAND"),
        (_no_descriptor, "descriptor 999 cannot be read", "Bad file descriptor"),
        (_no_repository, "is not a valid repository", "what is there is no Borg repository"),
        (_unencrypted, "repository default", "make an encrypted one with `borg-vault init`"),
        (_unreachable, "Connection closed by remote host", "look at the network, at ssh, and for borg on that host"),
    ],
)
def test_a_repository_that_cannot_be_used_is_told_with_what_to_do(
    trouble: Callable[[Patient, pytest.MonkeyPatch], None],
    detail: str,
    advice: str,
    patient: Patient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trouble(patient, monkeypatch)
    seen = patient.seen(exit_code=7)
    failure = seen.only_failure()
    assert failure.name == "repository"
    assert detail in failure.detail
    assert advice in failure.advice
    assert {"backup", "key", "check"} <= {row.name for row in seen.rows if row.state == "not_checked"}


def test_a_repository_that_cannot_be_written_is_told(
    patient: Patient, run_unprivileged: Callable[..., Said], tmp_path: Path
) -> None:
    for directory in (patient.repository.path, patient.repository.path / "data"):
        directory.chmod(0o500)
    seen = read(run_unprivileged("doctor", "--json", exit_code=7).document)
    told = [row.told for row in seen.rows if row.name == "repository" and row.state == "failed"]
    assert (
        f"{tmp_path}/repository cannot be written by this user: give this user the right, or mount it for writing"
        in told
    )


def test_a_repository_that_cannot_be_read_is_told_and_is_no_bug(
    patient: Patient, run_unprivileged: Callable[..., Said], tmp_path: Path
) -> None:
    (patient.repository.path / "lock.exclusive").mkdir()
    (patient.repository.path / "lock.exclusive").chmod(0)
    seen = read(run_unprivileged("doctor", "--json", exit_code=7).document)
    assert (
        "lock",
        f"{tmp_path}/repository/lock.exclusive cannot be read: Permission denied: mend it, or its permissions",
    ) in seen.of("failed")
    assert not [row for row in seen.rows if "bug" in row.advice]


def test_a_repository_without_room_is_told_with_numbers(patient: Patient, mount_disk: MountDisk) -> None:
    disk = mount_disk("small", size="8m")
    shutil.copytree(patient.repository.path, disk.path / "repository")
    patient.write_config(CONFIG.format(path=disk.path / "repository"))
    disk.fill(but=400_000)
    patient.repository.path.rename(patient.repository.path.with_name("moved"))
    failures = [row for row in patient.seen(exit_code=7).rows if row.state == "failed"]
    assert "repository" in {row.name for row in failures}
    (full,) = [row for row in failures if "needs about" in row.detail]
    assert full.name == "repository"
    assert re.search(r"needs about \d+ MB, but \d+ MB are free$", full.detail)


@pytest.mark.parametrize("ending", [".partial", ".partial.checkpoint", ".partial.checkpoint.1"])
def test_an_archive_of_a_run_that_was_cut_short_is_told(patient: Patient, ending: str) -> None:
    name = f"prod-2026-05-01T00:00:00Z{ending}"
    patient.repository.add(name)
    assert patient.warnings()["leftovers"] == f"{name}: of a run that was cut short: nothing: the next run removes it"


def test_a_key_that_was_never_exported_is_told(patient: Patient) -> None:
    events = [event for event in patient.history().events() if event.event != "key_exported"]
    (patient.state / "history.ndjson").write_bytes(b"".join(event.line() for event in events))
    failure = patient.failure()
    assert (failure.name, failure.detail) == ("key", "its key was never exported")
    assert failure.advice == "run `borg-vault init -r default --key-out FILE` and keep the file elsewhere"


def test_a_key_that_is_still_here_is_a_warning(patient: Patient, tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    patient.note("key_exported", where=str(tmp_path / "key"))
    assert patient.warnings()["key"] == f"its exported key is still on this machine: move {tmp_path}/key elsewhere"


def test_the_key_of_another_repository_does_not_count(patient: Patient) -> None:
    events = [event for event in patient.history().events() if event.event != "key_exported"]
    (patient.state / "history.ndjson").write_bytes(b"".join(event.line() for event in events))
    patient.note("key_exported", repository="0" * 64, where="/media/safe/key")
    assert patient.failure().name == "key"


def test_the_age_of_borgs_check_is_told(patient: Patient) -> None:
    assert patient.warnings()["check"] == "never checked by Borg: run `borg-vault check -r default`, once a month"
    patient.note("checked", verdict="passed", age=50 * 24 * HOUR)
    assert patient.warnings()["check"].startswith("the last check that passed is 50.0 days old")
    patient.note("checked", verdict="failed", age=3 * HOUR)
    failure = patient.failure()
    assert failure.name == "check"
    assert failure.told.endswith(" failed: mend it, then run `borg-vault check -r default`")
    patient.note("checked", verdict="passed")
    assert patient.seen().one("check").told == "passed, 1.0 hours old"


def test_a_backup_that_is_too_old_fails(patient: Patient) -> None:
    patient.write_config('label = "prod"\n[sets.database]\nkeep = 7\nmax_age = "1s"\n')
    failure = patient.failure()
    assert failure.name == "backup"
    assert "hours old, and may be 0.0 hours" in failure.detail
    assert failure.advice == "run `borg-vault create`, and find out why nothing else did"


def test_without_any_backup_the_first_is_what_to_do(patient: Patient) -> None:
    for name in patient.repository.names():
        patient.repository.borg("delete", f"::{name}")
    (patient.state / "history.ndjson").unlink()
    patient.note("key_exported", where="/media/safe/key")
    failure = patient.failure()
    assert (failure.name, failure.told) == ("backup", "there is no good archive: run `borg-vault create`")


def test_an_archive_that_history_does_not_explain_fails_since_it_stops_retention(patient: Patient) -> None:
    patient.repository.add_at("2026-05-01T00:00:00", "prod-2026-05-01T00:00:00Z", comment="verdict=good")
    failure = patient.failure()
    assert failure.name == "backup"
    assert "no run of this host made it" in failure.detail
    assert failure.advice == "see `borg-vault prune --dry-run`"


def test_a_drill_that_is_demanded_and_overdue_fails(patient: Patient) -> None:
    assert "no drill has passed" in patient.warnings()["drill"]
    patient.write_config('label = "prod"\n[sets.database]\nkeep = 7\nmax_drill_age = "8d"\n')
    failure = patient.failure()
    assert (failure.name, failure.told) == ("backup", "no drill has passed: run `borg-vault drill`")
    patient.note("drilled", archive=patient.repository.names()[0], verdict="passed", age=9 * 24 * HOUR)
    assert patient.failure().advice == "run `borg-vault drill`, and find out why nothing else did"
    patient.note("drilled", archive=patient.repository.names()[0], verdict="passed")
    assert ("drill", "the last one that passed is 1.0 hours old") in patient.seen().of("ok")


def test_a_repository_on_another_host_is_asked_and_its_disk_and_lock_are_not_known(
    patient: Patient, sshd: Sshd
) -> None:
    path = sshd.served / "repository"
    shutil.move(patient.repository.path, path)
    patient.write_config(CONFIG.format(path=sshd.url(path)))
    seen = patient.seen()
    assert seen.one("repository").detail.startswith(f"{sshd.url(path)}: encrypted, 1 archive")
    assert {row.name: row.detail for row in seen.rows if row.state == "not_checked"} == {
        "lock": "it is on another host",
        "room": "it is on another host",
    }
    with holding(replace(patient.repository, path=path)):
        seen = patient.seen()
    assert ("lock", "somebody holds it, and only its own host can say who: nothing: a run waits for it (0:10:00)") in (
        seen.of("warning")
    )


def test_a_rule_that_nobody_has_set_is_a_warning(patient: Patient) -> None:
    patient.write_config('label = "prod"\n')
    assert patient.warnings()["retention"] == (
        "nobody has said how many to keep: 7 newest: set keep in [sets.database]"
    )


def test_an_append_only_repository_is_told(patient: Patient) -> None:
    patient.write_config(CONFIG.format(path=patient.repository.path) + "append_only = true\n")
    seen = patient.seen()
    assert seen.one("repository").detail.endswith(", append-only: nothing is pruned there")
    assert not [row for row in seen.rows if row.name == "retention"]


def test_one_repository_that_fails_does_not_hide_another(patient: Patient, tmp_path: Path) -> None:
    patient.write_config(
        CONFIG.format(path=patient.repository.path) + f'[repositories.second]\npath = "{tmp_path}/nowhere"\n'
    )
    seen = patient.seen(exit_code=7)
    assert seen.only_failure().subject == "second"
    assert [row.state for row in seen.rows if (row.name, row.subject) == ("repository", "default")] == ["ok"]


@pytest.mark.usefixtures("patient")
def test_without_borg_the_repositories_are_not_looked_into(tmp_path: Path) -> None:
    one = installed(tmp_path / "installation", borg=False, embedded=("pginstall18",))
    failure = read(one.run("doctor", "--json", exit_code=7, env={}).document).only_failure()
    assert (failure.name, failure.detail) == ("borg", "Borg 1.4 is needed, found none")
    one.put("borg", "echo 'borg 2.0.0b25'")
    failure = read(one.run("doctor", "--json", exit_code=7, env={}).document).only_failure()
    assert failure.detail == f"Borg 1.4 is needed, found {one.path}/borg (borg 2.0.0b25)"
    assert failure.advice == "run pip install 'borg-vault-plugin[borg]'"
