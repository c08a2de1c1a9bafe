"""Runs are heard of elsewhere: good nights, suspect ones, failed ones; and a deaf listener harms nothing."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_cli import COMMAND, SECONDS, RunCli, Said
from fix_damage import cut
from fix_history import LABEL, Server, WriteConfig
from fix_http import Listener
from fix_installation import installed
from fix_plugin import InstallPlugin
from fix_repository import PASSPHRASE
from fix_shelf import LABEL as LABEL_OF_FILES
from fix_shelf import Shelf
from fix_vault import Vault

from borg_vault_plugin.monitoring.watch import Tail
from borg_vault_plugin.redaction import remember_secret

pytest_plugins = ("fix_server", "fix_good_night", "fix_listener", "fix_sets")

PING = '[monitoring.healthchecks]\nurl = { env = "PING_URL" }\n'
NOTICE = '[monitoring.apprise]\nurls = [{ env = "NOTICE_URL" }]\n'
RunFiles = Callable[..., Said]
SECRET = "5f1c2b7e-8a4d-4b9c-9a3e-70c1d2e3f405"


@pytest.fixture
def pinged(listener: Listener, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch) -> Listener:
    """A listener that the configuration names as a check."""
    monkeypatch.setenv("PING_URL", f"{listener.url}/{SECRET}")
    write_config(LABEL + PING)
    return listener


def lose(server: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the program look for a database that is not there."""
    monkeypatch.setenv("DATABASE_URL", server.url.replace(server.database, "gone"))


def test_a_good_night_pings_start_and_success_with_the_log(seasoned: Server, pinged: Listener) -> None:
    document = seasoned.night()
    assert pinged.paths == [f"/{SECRET}/start", f"/{SECRET}"]
    assert {one.method for one in pinged.received} == {"POST"}
    assert pinged.received[0].body == ""
    assert f"stored {document['archive']} in default" in pinged.received[1].body
    assert "notifications" not in document


def test_a_quiet_run_sends_the_same_log(server: Vault, pinged: Listener, run_cli: RunCli) -> None:
    assert server.database
    assert run_cli("-q", "create", exit_code=0).stdout.startswith("prod-")
    assert "snapshot of" in pinged.received[1].body


def test_a_suspect_night_is_a_failure_and_says_what_was_found(seasoned: Server, pinged: Listener) -> None:
    seasoned.damage(cut)
    document = seasoned.night(exit_code=10)
    assert pinged.paths == [f"/{SECRET}/start", f"/{SECRET}/fail"]
    assert f"stored {document['archive']}.suspect in default" in pinged.received[1].body


def test_a_failed_night_says_why(
    server: Vault, pinged: Listener, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(server, monkeypatch)
    said = run_cli("create", exit_code=4).stderr
    assert pinged.paths == [f"/{SECRET}/start", f"/{SECRET}/fail"]
    last = pinged.received[1].body.splitlines()[-1]
    assert last == f"{said.strip().removeprefix('borg-vault: ')} (exit code 4)"


def test_a_run_that_its_configuration_keeps_from_beginning_is_told_too(
    pinged: Listener, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "nonsense")
    run_cli("create", exit_code=3)
    assert pinged.paths == [f"/{SECRET}/start", f"/{SECRET}/fail"]
    assert pinged.received[1].body.endswith("(exit code 3)")


def test_a_run_that_is_ended_says_so(seasoned: Server, pinged: Listener, state: Path) -> None:
    with subprocess.Popen([COMMAND, "create"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + SECONDS
        while not list((state / "staging").glob("*/run-*/set")) and time.monotonic() < deadline:
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=SECONDS)
    assert running.returncode == 128 + signal.SIGTERM
    assert pinged.paths == [f"/{SECRET}/start", f"/{SECRET}/fail"]
    assert "ended by SIGTERM (exit code 143)" in pinged.received[1].body
    assert seasoned.repository.names() == [seasoned.name]


def test_a_rehearsal_tells_nobody(server: Vault, pinged: Listener, run_cli: RunCli) -> None:
    assert server.database
    run_cli("create", "--dry-run", exit_code=0)
    assert pinged.paths == []


def test_a_listener_that_is_gone_changes_nothing_about_the_backup(
    seasoned: Server, pinged: Listener, closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PING_URL", f"{closed_port}/{SECRET}")
    document = seasoned.night(warning="plugin healthchecks-ping could not announce the backup: ")
    assert (document["verdict"], pinged.paths) == ("good", [])
    assert [one["plugin"] for one in document["notifications"]] == ["healthchecks-ping"] * 2
    assert "Connection refused" in document["notifications"][0]["error"]
    assert document["archive"] in seasoned.repository.names()


def test_what_is_sent_holds_no_secret(
    server: Vault, pinged: Listener, install_plugin: InstallPlugin, write_config: WriteConfig, run_cli: RunCli
) -> None:
    password = server.url.split(":")[2].split("@")[0] if "@" in server.url else ""
    install_plugin("""
import logging, os
@hookimpl
def collect_artifacts(snapshot, staging):
    logger = logging.getLogger("borg_vault_plugin.badge")
    logger.info("passphrase %s", os.environ["BORG_PASSPHRASE"])
    logger.info("server %s", os.environ["DATABASE_URL"])
    logger.info("mirror postgresql://someone:s3cret@elsewhere/db")
    logger.info("check %s", os.environ["PING_URL"])
    raise SourceError("cannot ping " + os.environ["PING_URL"].rpartition("/")[2])
""")
    write_config('plugins = ["badge"]\n' + LABEL + PING)
    run_cli("create", exit_code=4)
    body = pinged.received[1].body
    assert all(secret not in body for secret in (PASSPHRASE, server.url, SECRET, "s3cret") if secret)
    assert not password or password not in body
    assert "passphrase ***\nserver ***\nmirror postgresql://***@elsewhere/db\ncheck ***\n" in body
    assert body.endswith("hook badge: cannot ping *** (exit code 4)")


def test_a_secret_is_found_in_the_log_before_it_is_made_visible() -> None:
    remember_secret("correct\thorse")
    log = Tail()
    log.handle(logging.makeLogRecord({"msg": "it is correct\thorse\a"}))
    assert log.lines() == ("it is ***⟨U+0007⟩",)


def test_the_end_of_a_long_log_is_sent_in_whole_letters(
    provisioned: Shelf, tree: Path, pinged: Listener, install_plugin: InstallPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin("""
import logging, os
@hookimpl
def collect_provisioning(directory, staging):
    for number in range(200):
        logging.getLogger("borg_vault_plugin.badge").info("line %d %s", number, "é" * 500)
    raise SourceError(os.environ["ENDING"])
""")
    provisioned.configure(f"plugins = ['badge']\n[sets.provisioning]\npath = '{tree}'\n{PING}", nas="")
    for ending in ("enough", "enough!"):  # the cut goes through a letter of two bytes in one of them
        monkeypatch.setenv("ENDING", ending)
        provisioned.run("create", "--set", "provisioning", exit_code=4)
        body = pinged.received[-1].body
        assert len(body.encode()) <= 10_000
        assert "line 199 " in body
        assert "line 149 " not in body
        assert body.endswith(f"hook badge: {ending} (exit code 4)")
    assert len(pinged.received) == 2


@pytest.fixture
def run_files(provisioned: Shelf, tree: Path, pinged: Listener, monkeypatch: pytest.MonkeyPatch) -> RunFiles:
    """Run of the set `provisioning`, which has a check of its own."""
    monkeypatch.setenv("PING_URL", f"{pinged.url}/key/vault-{{set}}?create=1")

    def run(*words: str, config: str = PING, **outcome: Any) -> Said:
        provisioned.configure(f"[sets.provisioning]\npath = '{tree}'\n{config}", nas="")
        return provisioned.run("create", "--set", "provisioning", "--no-prune", *words, **outcome)

    return run


def test_each_set_can_have_a_check_of_its_own(run_files: RunFiles, pinged: Listener) -> None:
    run_files(exit_code=0)
    assert pinged.paths == ["/key/vault-provisioning/start?create=1", "/key/vault-provisioning?create=1"]


def test_a_server_that_fails_is_asked_again(run_files: RunFiles, pinged: Listener) -> None:
    pinged.status = 503
    said = run_files(
        exit_code=0, warning="plugin healthchecks-ping could not announce the backup: HTTP Error 503"
    ).stderr
    assert (len(pinged.received), len(said.splitlines())) == (4, 2)


def test_a_server_that_sends_on_is_followed(run_files: RunFiles, pinged: Listener) -> None:
    pinged.location = f"{pinged.url}/elsewhere"
    run_files(exit_code=0)
    assert pinged.paths[1:] == ["/elsewhere", "/key/vault-provisioning?create=1"]


def test_a_failed_run_keeps_its_own_exit_code_when_nobody_hears_of_it(
    run_files: RunFiles, pinged: Listener, tree: Path
) -> None:
    shutil.rmtree(tree)
    pinged.status = 404
    said = run_files(exit_code=4).stderr
    assert said.count("could not announce the backup: HTTP Error 404: Not Found") == 2
    assert len(pinged.received) == 2, "what the server refuses is not sent again"


def test_a_server_that_does_not_answer_is_waited_for_some_seconds_only(
    run_files: RunFiles, pinged: Listener, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tree)
    monkeypatch.setenv("PING_URL", f"{pinged.url}/{SECRET}")
    pinged.seconds = 6.0
    begun = time.monotonic()
    assert "could not announce the backup: no answer to the ping: timed out" in run_files(exit_code=4).stderr
    assert time.monotonic() - begun < 30


def test_the_ping_url_is_http_and_there(
    run_files: RunFiles, pinged: Listener, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tree)
    monkeypatch.setenv("PING_URL", "file:///etc/passwd")
    assert "is none of http or https: mend monitoring.healthchecks.url" in run_files(exit_code=4).stderr
    monkeypatch.delenv("PING_URL")
    assert "the ping URL: env PING_URL gives nothing: put the secret there" in run_files(exit_code=4).stderr
    assert pinged.paths == []


def test_other_sets_do_not_make_up_for_a_missing_night(provisioned: Shelf, tree: Path, pinged: Listener) -> None:
    provisioned.configure(f"[sets.provisioning]\npath = '{tree}'\n{PING}", nas="")
    provisioned.run("create", "--set", "provisioning", exit_code=0)
    assert pinged.paths == []
    shutil.rmtree(tree)
    provisioned.run("create", "--set", "provisioning", exit_code=4)
    assert pinged.paths == [f"/{SECRET}/fail"]


def test_staging_for_somebody_else_tells_only_what_keeps_him_from_going_on(
    seasoned: Server, pinged: Listener, tmp_path: Path
) -> None:
    seasoned.run("stage", tmp_path / "set", exit_code=0)
    assert pinged.paths == []
    seasoned.damage(cut)
    seasoned.run("stage", tmp_path / "set", exit_code=10)
    assert pinged.paths == [f"/{SECRET}/fail"]
    seasoned.run("stage", tmp_path / "set", "--allow", "suspect", exit_code=0, warning="")
    assert pinged.paths == [f"/{SECRET}/fail"]


def test_an_older_plugin_hears_of_every_run(
    provisioned: Shelf, tree: Path, install_plugin: InstallPlugin, tmp_path: Path
) -> None:
    install_plugin(f"""
import json, pathlib
@hookimpl
def backup_finished(report):
    with pathlib.Path({str(tmp_path / "heard")!r}).open("a") as file:
        print(type(report).__name__, report.set, report.exit_code, file=file)
""")
    provisioned.configure(f"plugins = ['badge']\n[sets.provisioning]\npath = '{tree}'", nas="")
    provisioned.run("create", "--set", "provisioning", exit_code=0)
    shutil.rmtree(tree)
    provisioned.run("create", "--set", "provisioning", exit_code=4)
    assert (tmp_path / "heard").read_text().splitlines() == ["FilesBackup provisioning 0", "Failed provisioning 4"]


def test_a_plugin_that_hangs_is_left_behind(provisioned: Shelf, tree: Path, install_plugin: InstallPlugin) -> None:
    install_plugin("""
import time
@hookimpl
def backup_finished(report): time.sleep(60)
""")
    provisioned.configure(f"plugins = ['badge']\n[sets.provisioning]\npath = '{tree}'", nas="")
    begun = time.monotonic()
    warning = "plugin badge could not announce the backup: it did not finish within 0:00:12"
    document = provisioned.run("create", "--set", "provisioning", "--json", exit_code=0, warning=warning).document
    assert time.monotonic() - begun < 30
    assert [one["plugin"] for one in document["notifications"]] == ["badge"]


def notices(listener: Listener) -> list[dict[str, Any]]:
    """Give the documents that Apprise sent."""
    return [json.loads(one.body) for one in listener.received]


@pytest.fixture
def notified(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> Listener:
    """A listener that Apprise reaches."""
    monkeypatch.setenv("NOTICE_URL", listener.url.replace("http:", "json:") + f"/{SECRET}")
    return listener


def command(*words: str, exit_code: int) -> Said:
    """Run the installed command: Apprise is nothing to be loaded into this process."""
    done = subprocess.run([COMMAND, *words], check=False, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == exit_code, done.stderr
    return Said(done.stdout, done.stderr)


def test_apprise_tells_what_did_not_go_well(seasoned: Server, notified: Listener, write_config: WriteConfig) -> None:
    write_config(LABEL + NOTICE)
    seasoned.damage(cut)
    command("create", exit_code=10)
    (sent,) = notices(notified)
    assert (sent["title"], sent["type"]) == ("borg-vault: backup of prod database needs attention", "failure")
    assert "snapshot of" in sent["message"]
    assert sent["message"].endswith("exit code 10")


def test_apprise_tells_every_run_only_when_it_is_told_to(provisioned: Shelf, tree: Path, notified: Listener) -> None:
    files = f"[sets.provisioning]\npath = '{tree}'\n{NOTICE}"
    provisioned.configure(files, nas="")
    command("create", "--set", "provisioning", exit_code=0)
    assert notified.received == []
    provisioned.configure(f'{files}when = "always"', nas="")
    command("create", "--set", "provisioning", exit_code=0)
    shutil.rmtree(tree)
    said = command("create", "--set", "provisioning", exit_code=4).stderr
    first, second = notices(notified)
    assert (first["title"], first["type"]) == (
        f"borg-vault: backup of {LABEL_OF_FILES} provisioning is done",
        "success",
    )
    assert (second["title"], second["type"]) == (
        f"borg-vault: backup of {LABEL_OF_FILES} provisioning FAILED",
        "failure",
    )
    assert said.strip().removeprefix("borg-vault: ") in second["message"]
    assert len(said.splitlines()) == 1


def test_apprise_that_is_not_heard_is_told_in_one_line_without_the_url(
    provisioned: Shelf, tree: Path, notified: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioned.configure(f"[sets.provisioning]\npath = '{tree}'\n{NOTICE}when = 'always'", nas="")
    notified.status = 500
    said = command("create", "--set", "provisioning", "--json", exit_code=0)
    assert len(said.stderr.splitlines()) == 1
    assert "borg-vault: plugin apprise-notice could not announce the backup: " in said.stderr
    assert [one["plugin"] for one in said.document["notifications"]] == ["apprise-notice"]
    monkeypatch.setenv("NOTICE_URL", f"nosuchservice://{SECRET}/")
    unknown = command("create", "--set", "provisioning", "--json", exit_code=0)
    assert "Apprise does not know the URL in env NOTICE_URL: mend it" in unknown.stderr
    assert len(unknown.stderr.splitlines()) == 1
    assert all(SECRET not in text for one in (said, unknown) for text in (one.stdout, one.stderr))


@pytest.mark.parametrize(("section", "package"), [("apprise", "apprise"), ("prometheus", "prometheus_client")])
def test_an_extra_that_is_not_installed_is_asked_for(
    section: str, package: str, write_config: WriteConfig, tmp_path: Path
) -> None:
    one = installed(tmp_path / "installation")
    for path in (one.place / "lib").rglob(package):
        path.unlink()
    configured = {"apprise": NOTICE, "prometheus": f"[monitoring.prometheus]\ntextfile = '{tmp_path}/a.prom'\n"}
    write_config(LABEL + configured[section])
    said = one.run("create", exit_code=3, env=dict(os.environ)).stderr
    assert said == (
        f"borg-vault: [monitoring.{section}] needs an extra: run pip install 'borg-vault-plugin[{section}]'\n"
    )


def test_a_monitor_is_turned_on_by_its_section_and_by_nothing_else(run_cli: RunCli, write_config: WriteConfig) -> None:
    write_config('plugins = ["healthchecks-ping"]\n')
    said = run_cli("create", exit_code=3).stderr
    assert "plugin healthchecks-ping is turned on by its section: write [monitoring.healthchecks]" in said


def test_the_ping_url_never_stands_in_the_file(run_cli: RunCli, write_config: WriteConfig) -> None:
    write_config(f'[monitoring.healthchecks]\nurl = "https://hc-ping.com/{SECRET}"\n')
    said = run_cli("config", "validate", exit_code=3).stderr
    assert "monitoring.healthchecks.url" in said
    assert "not the secret itself" in said
    assert SECRET not in said
