"""`doctor`: everything that would make tonight's run or the bad day fail, in one table, without changing anything."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from fix_cli import COMMAND, SECONDS, RunCli
from fix_doctor import Patient, WriteConfig, read
from fix_shelf import files_in

from borg_vault_plugin.doctor.checks import WEIGHTS, Check, diagnosis
from borg_vault_plugin.doctor.table import lines

pytest_plugins = ("fix_server", "fix_good_night", "fix_patient")

PACKAGE = Path(__file__).parent.parent / "borg_vault_plugin" / "doctor"
HEALTHY = """
label = "prod"
trust_anchors = ["sha256:{anchor}"]
[repositories.default]
path = "{repository}"
passphrase = {{ env = "BORG_PASSPHRASE" }}
[sets.database]
keep = 7
max_drill_age = "8d"
[sets.provisioning]
path = "{provisioning}"
max_age = "99d"
keep = 7
[sets.keys]
attest = "true"
"""


def thriving(patient: Patient, place: Path) -> Patient:
    """Give a Server all that makes a complete backup."""
    (place / "provisioning").mkdir()
    (place / "provisioning" / "orgs.yaml").write_text("orgs: []\n", "utf-8")
    patient.write_config(
        HEALTHY.format(anchor="0" * 64, repository=patient.repository.path, provisioning=place / "provisioning")
    )
    patient.run("create", "--set", "provisioning", exit_code=0)
    patient.run("create", "--set", "keys", exit_code=0)
    patient.note("drilled", archive=patient.repository.names()[0], verdict="passed")
    patient.note("checked", verdict="passed")
    return patient


def test_a_server_that_has_everything_is_green(patient: Patient, tmp_path: Path) -> None:
    thriving(patient, tmp_path)
    seen = patient.seen()
    assert [row for row in seen.rows if row.state != "ok"] == []
    said = patient.run("doctor", exit_code=0).stdout.splitlines()
    assert said[-1] == "Nothing would fail."
    assert len(said) == len(seen.rows) + 3


def test_nothing_is_changed(patient: Patient, tmp_path: Path) -> None:
    thriving(patient, tmp_path)
    patient.seen()
    before = files_in(tmp_path)
    tables = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"  # autovacuum writes others
    written = patient.vault.value(tables)
    patient.seen()
    after = files_in(tmp_path)
    noise = ("cache", "security", "stdout")  # where Borg itself keeps what it has seen of a repository
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert [path for path in changed if not any(word in path for word in noise)] == []
    assert patient.vault.value(tables) == written


def test_the_table_is_aligned_and_says_what_failed_and_what_to_do(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_PASSPHRASE", "wrong")
    said = patient.run("doctor", exit_code=7)
    table = said.stdout.splitlines()
    column = table[0].index("WHAT IT IS, AND WHAT TO DO")
    assert table[0].split()[:2] == ["STATE", "CHECK"]
    assert all(line[column - 1] == " " and line[column] != " " for line in table[1:-2])
    (failed,) = [number for number, line in enumerate(table) if line.startswith("FAILED")]
    assert re.match(r"FAILED +repository +default: ", table[failed])
    assert table[failed + 1].strip() == "-> give the right passphrase"
    assert re.fullmatch(
        r"1 thing would fail, with \d warnings: mend what says FAILED, then run `borg-vault doctor` again\.", table[-1]
    )
    assert said.stderr == ""


def test_on_a_terminal_it_is_coloured_and_as_wide_as_that(patient: Patient) -> None:
    patient.write_config('label = "prod"\n[sets.database]\nkeep = 7\nmax_age = "1s"\n')
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "doctor"], stdout=theirs, env={**os.environ, "COLUMNS": "90", "TERM": "xterm"}
    ) as run:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # the other end is closed
            pass
        assert run.wait(SECONDS) == 7
    os.close(ours)
    text = said.decode()
    assert "\x1b[31m\x1b[1mFAILED" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", "")
    sentences = [line for line in plain.splitlines() if "/" not in line]  # a path is not broken
    assert max(map(len, sentences[:-1])) <= 90


def test_without_anything_configured_it_says_what_to_do_first(run_cli: RunCli, tmp_path: Path) -> None:
    seen = read(run_cli("doctor", "--json", exit_code=7).document)
    failure = seen.only_failure()
    assert (failure.name, failure.detail) == ("configuration", "neither a database nor a repository is named")
    assert failure.advice == (
        "set DATABASE_URL, BORG_REPO and BORG_PASSPHRASE (or write a configuration file), then run `borg-vault init`"
        " and `borg-vault create`"
    )
    assert "everything else" in {row.name for row in seen.rows if row.state == "not_checked"}
    assert not (tmp_path / "xdg_state_home" / "borg-vault").exists()


def test_the_environment_alone_is_enough(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BORG_VAULT_CONFIG")
    patient.run("create", exit_code=0)
    seen = patient.seen()
    assert seen.one("configuration").subject == "the environment"
    assert seen.one("repository").state == "ok"


@pytest.mark.parametrize(
    ("text", "detail"),
    [("colour = 'blue'", "colour is not a setting"), ("[database", "cannot be read"), ("[sets.keys]", "sets.keys")],
)
def test_a_configuration_that_cannot_be_used_is_a_row(
    text: str, detail: str, run_cli: RunCli, write_config: WriteConfig
) -> None:
    write_config(text)
    failure = read(run_cli("doctor", "--json", exit_code=7).document).only_failure()
    assert failure.name == "configuration"
    assert detail in failure.told


def test_a_configuration_that_others_may_write_is_a_row(run_cli: RunCli, write_config: WriteConfig) -> None:
    path = write_config("")
    path.chmod(0o666)
    failure = read(run_cli("doctor", "--json", exit_code=7).document).only_failure()
    assert failure.detail == f"configuration {path} can be written by others"
    assert failure.advice == f"run chmod go-w {path}"


def test_every_weight_is_given_to_something_and_nothing_else_decides() -> None:
    text = "".join(path.read_text("utf-8") for path in PACKAGE.glob("*.py") if path.name != "checks.py")
    keys = set(re.findall(r'"([a-z_]+\.[a-z_]+)"', text))
    assert set(WEIGHTS) <= keys
    assert not re.search(r'state="(failed|warning)"', text)


def test_what_could_not_be_checked_is_no_failure_and_no_success() -> None:
    row = Check("room", "nas", "not_checked", "it is on another host")
    found = diagnosis((row,))
    assert (found.healthy, found.exit_code) == (True, 0)
    assert "not checked  room" in [line.text for line in lines(found, None)][1]
