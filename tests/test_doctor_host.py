"""`doctor` and this host: where state and staging are, what killed runs left, and what the operator has said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fix_cli import COMMAND, SECONDS, Said
from fix_doctor import Found, Patient, read
from fix_fault_disk import MountDisk
from fix_plugin import InstallPlugin

from borg_vault_plugin.lock import run_lock

pytest_plugins = ("fix_server", "fix_good_night", "fix_patient", "fix_sets", "fix_faults")

CONFIG = 'label = "prod"\n{top}\n[sets.database]\nkeep = 7\n'
HELD = """
import time
from pathlib import Path
from borg_vault_plugin.lock import run_lock
with run_lock(Path({state!r}), "prod"):
    print("held", flush=True)
    time.sleep(60)
"""


def of_a_set(patient: Patient, section: str) -> None:
    """Configure a set beside the database."""
    patient.write_config(CONFIG.format(top="") + section)


def test_a_state_directory_that_cannot_be_used_is_told(patient: Patient, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    patient.write_config(
        CONFIG.format(top=f'state_directory = "{tmp_path}/file/state"\nstaging_directory = "{tmp_path}"')
    )
    state, history = patient.seen(exit_code=7).of("failed")
    assert state == ("state", f"{tmp_path}/file is no directory: mend it, free space there, or set state_directory")
    assert history[0] == "history"


def test_a_state_directory_that_others_may_enter_is_a_warning(patient: Patient) -> None:
    patient.state.chmod(0o755)
    assert patient.warnings()["state"] == (
        f"others may look into it or change it (mode 0755): run chmod 700 {patient.state}"
    )


def test_a_full_disk_of_state_is_told(patient: Patient, mount_disk: MountDisk) -> None:
    disk = mount_disk("state", size="2m")
    disk.fill()
    patient.write_config(CONFIG.format(top=f'state_directory = "{disk.path}"\nstaging_directory = "/tmp"'))
    failures = dict(patient.seen(exit_code=7).of("failed"))
    assert failures["state"].startswith(f"the file system of {disk.path} is full: ")


def test_too_little_room_for_staging_is_told_with_numbers(patient: Patient, mount_disk: MountDisk) -> None:
    disk = mount_disk("staging", size="3m")
    patient.write_config(CONFIG.format(top=f'staging_directory = "{disk.path}"'))
    before = disk.free
    seen = patient.seen(exit_code=7)
    failure = seen.only_failure()
    assert failure.name == "staging"
    assert re.fullmatch(rf"staging in {disk.path} needs about \d+ MB, but 3 MB are free", failure.detail)
    assert re.fullmatch(r"free \d+ MB there, or choose another place", failure.advice)
    drill = next(row for row in seen.rows if row.name == "drill" and row.subject.startswith("PostgreSQL"))
    assert (drill.state, drill.detail.startswith(f"a drill in {disk.path} needs about")) == ("warning", True)
    assert disk.free == before


def test_a_drill_that_is_demanded_and_cannot_run_fails(patient: Patient, mount_disk: MountDisk) -> None:
    disk = mount_disk("staging", size="64m")
    top = f'staging_directory = "{disk.path}"'
    patient.write_config(CONFIG.format(top=top) + 'max_drill_age = "8d"\n')
    patient.note("drilled", archive=patient.repository.names()[0], verdict="passed")
    failure = patient.failure()
    assert failure.name == "drill"
    assert failure.detail.startswith(f"a drill in {disk.path} needs about")


def test_a_staging_directory_that_cannot_be_written_is_told(
    patient: Patient, run_unprivileged: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    patient.write_config(CONFIG.format(top=f'staging_directory = "{tmp_path}/closed/staging"'))
    failures = read(run_unprivileged("doctor", "--json", exit_code=7).document).of("failed")
    said = f"{tmp_path}/closed cannot be written, and {tmp_path}/closed/staging is not there yet"
    assert ("staging", f"{said}: mend it, free space there, or set staging_directory") in failures


@pytest.mark.usefixtures("patient")
def test_a_user_without_a_name_is_told_since_borg_and_initdb_want_one() -> None:
    nameless = [
        "unshare",
        "--user",
        "--map-user=12345",
        "--map-group=12345",
        "--",
        "env",
        "-u",
        "USER",
        "-u",
        "LOGNAME",
    ]
    if subprocess.run([*nameless, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespace can be made here")

    def seen(*variables: str) -> Found:
        """Give what is found; the database cannot be reached by such a user."""
        command = [*nameless, *variables, str(COMMAND), "doctor", "--json"]
        done = subprocess.run(command, check=False, capture_output=True, timeout=SECONDS)
        assert (done.returncode, done.stderr) == (7, b"")
        return read(json.loads(done.stdout))

    nobody, advice = "this user number has no name", "add it to /etc/passwd (of the image, in a container)"
    found = seen()
    assert ("account", f"{nobody}, and Borg wants one: set USER, or {advice}") in found.of("failed")
    assert ("drill", f"{nobody}, and PostgreSQL's initdb wants one: {advice}") in found.of("warning")
    assert ("account", "backup") in seen("USER=backup").of("ok")


def test_a_run_that_is_going_on_is_no_failure(patient: Patient) -> None:
    with run_lock(patient.state, "prod"):
        row = patient.seen().one("run")
    assert re.fullmatch(rf"going on: process {os.getpid()} since .*Z", row.detail)
    assert row.state == "ok"
    assert patient.seen().one("run").detail == "none is going on"


def test_a_run_that_never_ends_fails(patient: Patient) -> None:
    script = HELD.format(state=str(patient.state))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"held\n"
        then = (datetime.now(UTC) - timedelta(hours=13)).timestamp()
        os.utime(patient.state / "prod.lock", (then, then))
        try:
            failure = patient.failure()
        finally:
            run.kill()
    assert failure.name == "run"
    assert re.fullmatch(
        rf"process {run.pid} since .* still holds its lock, and the next run cannot begin", failure.detail
    )
    assert failure.advice == "end that process and its children"


def test_what_a_killed_run_left_is_told_and_left_alone(patient: Patient) -> None:
    left = patient.state / "staging" / "prod" / "run-abc"
    left.mkdir(parents=True)
    assert patient.warnings()["leftovers"] == (
        f"{left}: left by a run that was killed: nothing: the next run removes them"
    )
    with run_lock(patient.state, "prod"):
        assert patient.seen().one("leftovers").detail == "none"
    assert left.exists()


@pytest.fixture
def abandoned() -> Iterator[Path]:
    """The directory of a server that lost its process an hour ago."""
    with tempfile.TemporaryDirectory(prefix="bv-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        then = (datetime.now(UTC) - timedelta(hours=1)).timestamp()
        os.utime(path, (then, then))
        yield path


def test_the_server_of_a_killed_drill_is_told(patient: Patient, abandoned: Path) -> None:
    assert str(abandoned) in patient.warnings()["leftovers"]
    assert abandoned.exists()


def test_a_plugin_that_does_not_load_is_told_and_the_others_too(
    patient: Patient, install_plugin: InstallPlugin
) -> None:
    install_plugin("raise OSError('no such device')")
    install_plugin("@hookimpl\ndef backup_finished(report):\n    pass\n", name="bell")
    patient.write_config(CONFIG.format(top='plugins = ["badge", "bell", "whistle"]'))
    rows = {row.subject: row for row in patient.seen(exit_code=7).rows if row.name == "plugin"}
    assert {name: row.state for name, row in rows.items()} == {"badge": "failed", "bell": "ok", "whistle": "failed"}
    assert "plugin badge cannot be loaded: OSError" in rows["badge"].told
    assert "no such device" in rows["badge"].told
    assert "plugin 'whistle' is not installed" in rows["whistle"].told
    patient.write_config(CONFIG.format(top='plugins = ["bell"]'))
    assert patient.seen().one("plugin").subject == "bell"


def test_what_only_fails_together_is_told(patient: Patient, install_plugin: InstallPlugin) -> None:
    install_plugin("@hookimpl\ndef backup_finished(report):\n    pass\n", name="bell")
    patient.write_config(
        'label = "prod"\nplugins = ["bell"]\n[database]\ndump = "whistle"\n[sets.database]\nkeep = 7\n'
    )
    rows = {row.subject: row for row in patient.seen(exit_code=7).rows if row.name == "plugin"}
    assert rows["bell"].state == "ok"
    assert rows["all"].detail == "database.dump is 'whistle', which is none of plugins"


def test_a_secret_that_everybody_may_read_is_a_warning_and_one_that_they_may_write_fails(
    patient: Patient, tmp_path: Path
) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text(patient.repository.passphrase + "\n", "utf-8")
    patient.write_config(
        CONFIG.format(top="")
        + f'[repositories.default]\npath = "{patient.repository.path}"\npassphrase = {{ file = "{secret}" }}\n'
    )
    secret.chmod(0o644)
    assert patient.warnings()["secrets"] == (f"{secret} can be read by everybody (mode 0644): run chmod o-rwx {secret}")
    secret.chmod(0o400)
    assert patient.seen().one("secrets").told == f"{secret}, mode 0400"
    secret.chmod(0o666)
    failures = patient.seen(exit_code=7).of("failed")
    assert failures[0][0] == "secrets"
    assert failures[0][1].endswith(f"can be written by others: run chmod go-w {secret}")


def test_without_trust_anchors_a_warning_says_what_signatures_prove(patient: Patient) -> None:
    assert patient.warnings()["anchors"].startswith("none is pinned: signatures prove that nothing was changed since")
    patient.write_config(CONFIG.format(top=f'trust_anchors = ["sha256:{"0" * 64}"]'))
    assert patient.seen().one("anchors").told == "1 key pinned"


def test_keys_and_database_in_one_place_fail(patient: Patient, tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    of_a_set(patient, f'[sets.keys]\npaths = ["{tmp_path}/key"]\n')
    failure = next(row for row in patient.seen(exit_code=7).rows if row.state == "failed")
    assert failure.name == "split"
    assert failure.detail.startswith("the sets keys and database share repository default: ")
    assert failure.advice == "give the keys a place and a passphrase of their own"


def test_provisioning_files_that_cannot_be_read_are_told(patient: Patient, tmp_path: Path) -> None:
    of_a_set(patient, f'[sets.provisioning]\npath = "{tmp_path}/nowhere"\n')
    told = [row.told for row in patient.seen(exit_code=7).rows if row.name == "provisioning"]
    assert told == [f"{tmp_path}/nowhere is no directory: mend its path"]
    (tmp_path / "nowhere").mkdir()
    told = [row.told for row in patient.seen(exit_code=7).rows if row.name == "provisioning"]
    assert told == ["there is no file in it: mend its path"]
    (tmp_path / "nowhere" / "rules.yaml").touch()
    told = [row.told for row in patient.seen(exit_code=7).rows if row.name == "provisioning"]
    assert told == ["1 file, all readable"]


def test_files_and_commands_of_the_keys_are_looked_for_and_not_run(patient: Patient, tmp_path: Path) -> None:
    def told(section: str) -> list[tuple[str, str]]:
        of_a_set(patient, f"[sets.keys]\n{section}\n")
        return [(row.state, row.told) for row in patient.seen(exit_code=7).rows if row.name == "keys"]

    assert told(f'paths = ["{tmp_path}/key"]') == [
        ("failed", "cannot be read: No such file or directory: mend sets.keys.paths")
    ]
    assert told('attest = "no-such-program --now"') == [
        ("failed", "there is no program no-such-program: mend sets.keys.attest")
    ]
    (state, said) = told(f'command = "touch {tmp_path}/run"')[0]
    assert (state, said.endswith("touch is there; it was not run")) == ("ok", True)
    assert not (tmp_path / "run").exists()


def test_a_set_that_is_not_configured_is_a_warning(patient: Patient) -> None:
    told = [(row.subject, row.advice) for row in patient.seen().rows if row.name == "set"]
    assert told == [
        ("provisioning", "add [sets.provisioning] to the configuration"),
        ("keys", "add [sets.keys] to the configuration"),
    ]


def test_a_database_whose_name_is_no_label_is_told(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    patient.vault.execute('CREATE DATABASE "my server"')
    monkeypatch.setenv("DATABASE_URL", patient.vault.cluster.url("my server"))
    patient.write_config("")
    seen = patient.seen(exit_code=7)
    assert seen.one("configuration").state == "failed"
    assert "cannot be a label" in seen.one("configuration").detail


def test_a_host_that_backs_up_only_keys_is_not_asked_for_a_database(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    of_a_set(patient, '[sets.keys]\nattest = "true"\n')
    patient.note("attested", archive="prod-keys", repository="")
    seen = patient.seen()
    assert (seen.one("server").state, seen.one("server").detail) == (
        "not_checked",
        "none is named: this host backs up other sets",
    )
    assert [row.subject for row in seen.rows if row.name == "backup"] == ["keys"]
    assert not [row for row in seen.rows if row.name == "retention"]


def test_a_probe_that_hangs_is_a_row_and_hides_nothing(patient: Patient, tmp_path: Path) -> None:
    """A named pipe without a writer: whoever opens it waits."""
    os.mkfifo(tmp_path / "key")
    of_a_set(patient, f'[sets.keys]\npaths = ["{tmp_path}/key"]\n')
    script = (
        "from borg_vault_plugin.doctor import probes; probes.PROBE_SECONDS = 2.0\n"
        "from borg_vault_plugin.cli import main; main(['doctor', '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, timeout=SECONDS)
    assert done.returncode == 7
    seen = read(json.loads(done.stdout))
    assert ("keys", "no answer within 2 s: find out what hangs there") in seen.of("failed")
    assert seen.one("server").state == "ok"
